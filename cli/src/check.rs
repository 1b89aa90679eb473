//! Owns `check`: one look at a server for Nagios, Zenoss and whoever else speaks the monitoring plugins' format.
//!
//! ```text
//!   ZEOLITE WARNING: free_percent is 9.1% (warning 15:); mode normal, ... | free_percent=9.1%;15:;5:;0;100 ...
//!   exit code   0 OK   1 WARNING   2 CRITICAL   3 UNKNOWN (the check itself could not be made)
//! ```
//! One line on standard output, whatever happens; the exit codes are the format's, not those of the other commands.
//! A server that does not answer is critical, and so is a poisoned store or a mode that the server took by itself; a mode
//! that an operator has set is a warning: it is meant, and it should not be forgotten.

mod measure;
mod range;

pub(crate) use measure::oldest_pin_s;

use crate::evolve::{Glance, JobCounts};
use crate::moment;
use crate::output::{Out, wrapped};
use crate::server::Server;
use clap::Args;
use measure::{ALL, Measure, Seen, number};
use range::Range;
use serde_json::json;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use zeolite_client::{Mode, ModeKind, Replication, Seat};

/// A check waits for an answer so long unless told otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(after_help = help())]
pub(crate) struct CheckArgs {
    /// A range outside of which a measure is a warning; NAME= for none
    #[arg(short, long = "warning", visible_alias = "warn", value_name = "NAME=RANGE")]
    warning: Vec<String>,
    /// A range outside of which it is critical; NAME= for none
    #[arg(short, long = "critical", visible_alias = "crit", value_name = "NAME=RANGE")]
    critical: Vec<String>,
    /// What it is to be: primary or follower; anything else is critical. For what elects or routes: exit code 0 or 1 says that it is that
    #[arg(long, value_name = "SEAT", value_parser = seat)]
    seat: Option<Seat>,
}

/// The column in which a measure is explained.
const HELP_AT: usize = 43;

fn help() -> String {
    let mut text = String::from(
        "Prints one line in the format of the monitoring plugins.\n\n\
         Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN\n\n\
         Ranges: 10 alerts above 10, 10: below 10, ~:10 above 10, 10:20 outside, @10:20 inside\n\n\
         Measures, with warning and critical unless told otherwise:\n",
    );
    for measure in ALL {
        let or_none = |text: &'static str| if text.is_empty() { "-" } else { text };
        let (warning, critical) = (or_none(measure.warning), or_none(measure.critical));
        let mut help = wrapped(measure.help, 80 - HELP_AT).into_iter();
        let first = help.next().unwrap_or_default();
        text += &format!("  {:<16} {warning:>11} {critical:>10}  {first}\n", measure.name);
        help.for_each(|line| text += &format!("{:HELP_AT$}{line}\n", ""));
    }
    text
}

/// How it is, the worse the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum State {
    Ok,
    Warning,
    Critical,
    Unknown,
}

impl State {
    pub(crate) fn text(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
            State::Unknown => "UNKNOWN",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            State::Ok => 0,
            State::Warning => 1,
            State::Critical => 2,
            State::Unknown => 3,
        }
    }
}

/// What a check found.
struct Verdict {
    state: State,
    text: String,
    performance: Vec<String>,
}

impl Verdict {
    fn without_numbers(state: State, text: impl Into<String>) -> Verdict {
        Verdict { state, text: text.into(), performance: Vec::new() }
    }

    fn tell(&self, out: &Out) -> ExitCode {
        let (state, code) = (self.state.text(), self.state.code());
        // A bar begins the performance data, a line feed the long text: neither may come from a banner or a reason.
        let text = self.text.replace('|', "/").replace(['\n', '\r'], " ");
        if out.is_json() {
            out.line(json!({ "state": state, "exit_code": code, "text": text, "performance": self.performance }));
        } else {
            let separator = if self.performance.is_empty() { "" } else { " | " };
            out.line(format_args!("ZEOLITE {state}: {text}{separator}{}", self.performance.join(" ")));
        }
        ExitCode::from(code)
    }
}

/// Makes the check, prints its line.
pub(crate) async fn check(out: &Out, server: &Server, args: &CheckArgs) -> ExitCode {
    let thresholds = match Thresholds::of(args) {
        Ok(thresholds) => thresholds,
        Err(problem) => return Verdict::without_numbers(State::Unknown, problem).tell(out),
    };
    let limit = server.timeout;
    let began = Instant::now();
    let verdict = match tokio::time::timeout(limit, look(server)).await {
        Ok(Ok(mut seen)) => {
            // What is left of the time: the server has answered, and no evolve makes it one that has not.
            let rest = limit.saturating_sub(began.elapsed());
            seen.evolves = tokio::time::timeout(rest, evolves(server)).await.ok().and_then(Result::ok);
            judge(&seen, &thresholds, args.seat)
        }
        Ok(Err(error)) => Verdict::without_numbers(State::Critical, format!("{error:#}")),
        Err(_) => {
            let text = format!("no answer from {} within {} s", server.address, limit.as_secs());
            Verdict::without_numbers(State::Critical, text)
        }
    };
    verdict.tell(out)
}

/// The line could not be written: whoever reads the exit code alone is not told that all is well.
pub(crate) fn unsaid() -> ExitCode {
    ExitCode::from(State::Unknown.code())
}

/// The command line does not make sense: for this command and for `doctor` that is UNKNOWN, in the format.
pub(crate) fn usage(out: &Out, error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let words = std::env::args().skip(1);
    let command = words.into_iter().find(|word| matches!(word.as_str(), "check" | "doctor"));
    let command = command.as_deref().unwrap_or("check");
    Verdict::without_numbers(State::Unknown, format!("{first}; see zeolite {command} --help")).tell(out)
}

/// The check could not even begin.
pub(crate) fn broken(out: &Out, error: &anyhow::Error) -> ExitCode {
    Verdict::without_numbers(State::Unknown, format!("{error:#}")).tell(out)
}

async fn look(server: &Server) -> anyhow::Result<Seen> {
    let admin = server.admin().await?;
    let asked = Instant::now();
    let status = admin.status().await?;
    Ok(Seen { status, answer_ms: asked.elapsed().as_secs_f64() * 1e3, evolves: None })
}

async fn evolves(server: &Server) -> anyhow::Result<JobCounts> {
    Glance::connect(server, "check").await?.counts().await
}

/// The thresholds in force, by measure.
struct Thresholds(Vec<Threshold>);

#[derive(Clone, Default)]
struct Threshold {
    warning: Option<Range>,
    critical: Option<Range>,
    /// Named on the command line: then it must be known.
    asked_for: bool,
}

impl Threshold {
    /// Unless told otherwise.
    fn of(measure: &Measure) -> Threshold {
        let (warning, critical) = (measure::default(measure.warning), measure::default(measure.critical));
        Threshold { warning, critical, asked_for: false }
    }
}

impl Thresholds {
    fn of(args: &CheckArgs) -> Result<Thresholds, String> {
        let mut all: Vec<Threshold> = ALL.iter().map(Threshold::of).collect();
        for (texts, is_critical) in [(&args.warning, false), (&args.critical, true)] {
            for text in texts {
                let (name, range) = text.split_once('=').ok_or_else(|| format!("write NAME=RANGE, not {text:?}"))?;
                let at = ALL.iter().position(|measure| measure.name == name);
                let at = at.ok_or_else(|| format!("there is no measure {name:?}; see zeolite check --help"))?;
                let range = if range.is_empty() { None } else { Some(range.parse()?) };
                all[at].asked_for |= range.is_some();
                *(if is_critical { &mut all[at].critical } else { &mut all[at].warning }) = range;
            }
        }
        Ok(Thresholds(all))
    }
}

fn seat(text: &str) -> Result<Seat, String> {
    Seat::ALL.into_iter().find(|seat| seat.text() == text).ok_or_else(|| "write primary, follower or fenced".to_owned())
}

fn judge(seen: &Seen, thresholds: &Thresholds, wanted: Option<Seat>) -> Verdict {
    let mut alerts: Vec<(State, String)> = Vec::new();
    let mut performance = Vec::new();
    if let Some(why) = &seen.status.poisoned {
        let text = format!("poisoned: {why}; check the disk, then restart the server");
        alerts.push((State::Critical, text));
    }
    if let Some(why) = &seen.status.index_down {
        let text = format!("the index has failed and is made ready again: {why}; look at the disk if this stays");
        alerts.push((State::Critical, text));
    }
    // Where it has brought something down, that is told already.
    if let Some(what) = seen.status.disk_error.as_ref().filter(|_| alerts.is_empty()) {
        let text = format!(
            "the disk has failed ({} times since the start), and the server goes on: {what}; look at the disk",
            seen.status.disk_errors
        );
        alerts.push((State::Warning, text));
    }
    alerts.extend(seen.status.security_problem.iter().map(|why| (State::Warning, why.clone())));
    alerts.extend(of_copies(&seen.status.replication, wanted));
    let mode = &seen.status.mode;
    // A poisoned store is read-only because of that: one alert is enough.
    alerts.extend(of_mode(mode).filter(|_| alerts.is_empty() || mode.automatic.is_none()));
    for (measure, threshold) in ALL.iter().zip(&thresholds.0) {
        match measure.value(seen) {
            Some(value) => {
                alerts.extend(of_measure(measure, threshold, value));
                performance.push(datum(measure, threshold, value));
            }
            None if threshold.asked_for => {
                alerts.push((State::Unknown, format!("the server does not tell {}", measure.name)));
            }
            None => {}
        }
    }
    // Worst first; as they came among equals. What could not be measured does not hide what is known to be bad.
    let rank = |state: State| if state == State::Unknown { 1 } else { 2 * state.code() };
    alerts.sort_by_key(|(state, _)| std::cmp::Reverse(rank(*state)));
    let state = alerts.first().map_or(State::Ok, |(state, _)| *state);
    let mut texts: Vec<String> = alerts.into_iter().map(|(_, text)| text).collect();
    texts.push(summary(seen, mode));
    Verdict { state, text: texts.join("; "), performance }
}

fn of_mode(mode: &Mode) -> Option<(State, String)> {
    if mode.kind == ModeKind::Normal {
        return None;
    }
    let mut text = format!("mode {}", mode.kind);
    match &mode.automatic {
        Some(why) => text += &format!(", set by the server: {why}"),
        None if mode.banner.is_empty() => {}
        None => text += &format!(", {:?}", mode.banner),
    }
    Some((if mode.automatic.is_some() { State::Critical } else { State::Warning }, text))
}

/// How the database stands among its copies. What was asked for is said first.
fn of_copies(now: &Replication, wanted: Option<Seat>) -> Vec<(State, String)> {
    let mut alerts = Vec::new();
    if let Some(wanted) = wanted.filter(|wanted| *wanted != now.seat) {
        alerts.push((State::Critical, format!("it is {} and not {wanted}", now.seat)));
    }
    alerts.extend(now.problem.iter().map(|problem| (State::Critical, problem.clone())));
    if now.seat == Seat::Follower && !now.connected && now.problem.is_none() {
        alerts.push((State::Critical, format!("it does not hear its primary {}", now.primary)));
    }
    let there = now.followers.iter().filter(|one| one.connected).count() as u64;
    if now.seat == Seat::Primary && there < now.sync {
        let text =
            format!("{there} followers are there, and commits wait for {} (replication.sync): start one", now.sync);
        alerts.push((State::Critical, text));
    }
    alerts
}

fn of_measure(measure: &Measure, threshold: &Threshold, value: f64) -> Option<(State, String)> {
    let alert = |range: &Option<Range>, state: State| {
        let range = range.as_ref().filter(|range| range.alerts(value))?;
        let name = state.text().to_ascii_lowercase();
        let advice = if measure.advice.is_empty() { String::new() } else { format!(": {}", measure.advice) };
        Some((state, format!("{} is {} ({name} {range}){advice}", measure.name, measure.shown(value))))
    };
    alert(&threshold.critical, State::Critical).or_else(|| alert(&threshold.warning, State::Warning))
}

/// What a value of a measure is worth, by the thresholds that `check` has unless told otherwise: how bad it is, and in which words. None: it
/// is no alert.
pub(crate) fn standing(name: &str, value: f64) -> Option<(State, String)> {
    let measure = ALL.iter().find(|measure| measure.name == name)?;
    of_measure(measure, &Threshold::of(measure), value)
}

/// `label=value[UOM];warn;crit;min;max`
fn datum(measure: &Measure, threshold: &Threshold, value: f64) -> String {
    let range = |range: &Option<Range>| range.as_ref().map(Range::to_string).unwrap_or_default();
    let (least, most) = measure.bounds();
    let (warning, critical) = (range(&threshold.warning), range(&threshold.critical));
    let datum = format!("{}={}{};{warning};{critical};{least};{most}", measure.name, number(value), measure.unit);
    datum.trim_end_matches(';').to_owned()
}

/// The few numbers that are worth a look when all is well.
fn summary(seen: &Seen, mode: &Mode) -> String {
    let mut text = String::new();
    if seen.status.replication.seat != Seat::Primary || seen.status.replication.term > 0 {
        text += &format!("{}, ", seen.status.replication.seat);
    }
    if mode.kind == ModeKind::Normal {
        text += "mode normal, ";
    }
    for name in ["live_p99_ms", "free_percent"] {
        let measure = ALL.iter().find(|measure| measure.name == name);
        if let Some((measure, value)) = measure.and_then(|measure| Some((measure, measure.value(seen)?))) {
            // Writing into a string cannot fail.
            let _ = write!(text, "{name} {}, ", measure.shown(value));
        }
    }
    text + &format!("up {}", moment::duration(seen.status.uptime_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_client::{Pressure, Status};

    fn args(warning: &[&str], critical: &[&str]) -> CheckArgs {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        CheckArgs { warning: owned(warning), critical: owned(critical), seat: None }
    }

    fn well() -> Status {
        Status { free_bytes: 40, disk_bytes: 100, ..Default::default() }
    }

    fn judged(status: Status, args: &CheckArgs) -> Verdict {
        judge(&Seen { status, answer_ms: 1.0, evolves: None }, &Thresholds::of(args).expect("thresholds"), args.seat)
    }

    #[test]
    fn the_worst_alert_decides_and_comes_first() {
        let pressure = Pressure { live_p99_us: 200_000, ..Default::default() };
        let status = Status { free_bytes: 4, pressure, ..well() };
        let verdict = judged(status.clone(), &args(&[], &[]));
        assert_eq!(verdict.state, State::Critical);
        assert!(verdict.text.starts_with("free_percent is 4% (critical 5:); live_p99_ms is 200ms (warning 100);"));
        assert!(verdict.performance.contains(&"free_percent=4%;15:;5:;0;100".to_owned()), "{:?}", verdict.performance);
        assert!(verdict.performance.contains(&"live_p99_ms=200ms;100;1000;0".to_owned()));
        let verdict = judged(status, &args(&["live_p99_ms="], &["free_percent=3:"]));
        assert_eq!(verdict.state, State::Warning, "{}", verdict.text);
        assert_eq!(judged(well(), &args(&[], &[])).state, State::Ok);
    }

    #[test]
    fn a_commit_ahead_of_the_clock_is_a_warning_that_says_what_to_do() {
        let with = |ahead_ms| judged(Status { ahead_ms, ..well() }, &args(&[], &[]));
        assert_eq!(with(60_000).state, State::Ok);
        let ahead = with(86_400_000);
        assert_eq!(ahead.state, State::Warning);
        assert!(ahead.text.starts_with("ahead_s is 86400s (warning 60): a commit was made"), "{}", ahead.text);
        assert!(ahead.text.contains("set it right"), "{}", ahead.text);
    }

    #[test]
    fn a_mode_is_a_warning_and_the_servers_own_is_critical() {
        let mode = |automatic: Option<&str>| Mode {
            kind: ModeKind::ReadOnly,
            banner: "back | at\nfive".into(),
            automatic: automatic.map(str::to_owned),
            ..Mode::default()
        };
        let with = |mode| judged(Status { mode, ..well() }, &args(&[], &[]));
        assert_eq!(with(mode(None)).state, State::Warning);
        let own = with(mode(Some("low disk")));
        assert_eq!(own.state, State::Critical);
        assert!(own.text.contains("set by the server: low disk"), "{}", own.text);
        let poisoned = judged(Status { poisoned: Some("a sync failed".into()), ..well() }, &args(&[], &[]));
        assert_eq!(poisoned.state, State::Critical);
        let (disk_errors, disk_error) = (3, Some("Read of log/a at 3: x".to_owned()));
        let failing = judged(Status { disk_errors, disk_error, ..well() }, &args(&[], &[]));
        assert!(failing.state == State::Warning && failing.text.contains("3 times"), "{}", failing.text);
        let no_index = judged(Status { index_down: Some("a page".into()), ..well() }, &args(&[], &[]));
        assert!(no_index.state == State::Critical && no_index.text.contains("a page"));
    }

    #[test]
    fn a_copy_that_does_not_follow_and_commits_that_wait_are_critical() {
        let with = |replication, seat| {
            let args = CheckArgs { seat, ..args(&[], &[]) };
            judged(Status { replication, ..well() }, &args)
        };
        let follower = |connected| Replication { seat: Seat::Follower, connected, ..Replication::default() };
        assert_eq!(with(follower(true), None).state, State::Ok);
        assert_eq!(with(follower(true), Some(Seat::Follower)).state, State::Ok);
        let other = with(follower(true), Some(Seat::Primary));
        assert!(
            other.state == State::Critical && other.text.starts_with("it is follower and not primary;"),
            "{}",
            other.text
        );
        assert_eq!(with(follower(false), None).state, State::Critical);
        let behind = Replication { behind_ms: 400_000, ..follower(true) };
        let behind = with(behind, None);
        assert!(behind.state == State::Critical && behind.text.starts_with("behind_s is 400s"), "{}", behind.text);
        let fenced = Replication { seat: Seat::Fenced, problem: Some("follow b".into()), ..Replication::default() };
        assert!(with(fenced, None).text.starts_with("follow b;"));
        assert_eq!(with(Replication { sync: 1, ..Replication::default() }, None).state, State::Critical);
        let waits = Replication { waiting: 3, waiting_ms: 20_000, ..Replication::default() };
        assert_eq!(with(waits, None).state, State::Critical);
    }

    #[test]
    fn a_certificate_that_ends_soon_and_a_file_that_is_wrong_are_told() {
        const DAY_MS: u64 = 86_400_000;
        let with = |days: u64| {
            let (unix_ms, certificate_expires_unix_ms) = (100 * DAY_MS, (100 + days) * DAY_MS);
            judged(Status { unix_ms, certificate_expires_unix_ms, ..well() }, &args(&[], &[]))
        };
        assert_eq!(
            [90, 13, 2, 0].map(|days| with(days).state),
            [State::Ok, State::Warning, State::Critical, State::Critical]
        );
        assert!(
            with(2).text.contains("tls.cert") && with(90).performance.contains(&"certificate_days=90;14:;3:;0".into())
        );
        let wrong = Status { security_problem: Some("half of a file".into()), ..well() };
        let wrong = judged(wrong, &args(&[], &[]));
        assert!(wrong.state == State::Warning && wrong.text.contains("half of a file"), "{}", wrong.text);
        assert!(!judged(well(), &args(&[], &[])).performance.iter().any(|datum| datum.starts_with("certificate")));
    }

    #[test]
    fn what_is_asked_for_and_not_known_is_unknown_but_hides_nothing() {
        let blind = Status::default();
        assert_eq!(judged(blind.clone(), &args(&[], &[])).state, State::Ok);
        let asked = args(&["free_percent=10:"], &[]);
        assert_eq!(judged(blind.clone(), &asked).state, State::Unknown);
        let poisoned = Status { poisoned: Some("x".into()), ..blind };
        assert_eq!(judged(poisoned, &asked).state, State::Critical);
    }

    #[test]
    fn an_evolve_that_has_failed_is_a_warning_and_one_that_runs_is_not() {
        let with = |failed, running| {
            let evolves = Some(JobCounts { failed, running, silent: 0, owing: 0 });
            let seen = Seen { status: well(), answer_ms: 1.0, evolves };
            judge(&seen, &Thresholds::of(&args(&[], &[])).expect("thresholds"), None)
        };
        assert_eq!(with(0, 3).state, State::Ok);
        let failed = with(1, 0);
        assert_eq!(failed.state, State::Warning);
        assert!(failed.text.starts_with("evolve_failed is 1 (warning 0);"), "{}", failed.text);
        assert!(failed.performance.contains(&"evolve_running=0;;;0".to_owned()), "{:?}", failed.performance);
        // Nobody knows: no alert, unless it was asked for.
        assert_eq!(judged(well(), &args(&[], &[])).state, State::Ok);
        assert_eq!(judged(well(), &args(&["evolve_failed=0"], &[])).state, State::Unknown);
    }

    #[test]
    fn thresholds_that_make_no_sense_are_refused() {
        for bad in ["free_percent", "no_such=1", "free_percent=x", "free_percent=9:1"] {
            assert!(Thresholds::of(&args(&[bad], &[])).is_err(), "{bad}");
        }
    }
}
