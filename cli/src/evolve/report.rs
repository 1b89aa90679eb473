//! Owns `evolve report`: how a job went, as one HTML page that stands alone, for the post-mortem and the ticket.
//!
//! ```text
//!   facts, certificate
//!   charts     objects a second · 99th percentile of live commits · live commits and conflicts a second
//!              shaded: while something slowed the workers down
//!   what slowed it down, for how long · the quarantine · what an undo has left
//! ```
//! Its numbers are those of the job's course (`zeolite_client::evolve::Course`), which workers write while they work. Not here: how a chart
//! is drawn (`chart`), how a job is told in words (`shown`).

use super::args::ReportArgs;
use super::shown;
use crate::chart::{Chart, Line, Mark, write_over_own};
use crate::moment;
use crate::output::{Out, count};
use crate::tame;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use zeolite_client::evolve::{self, CourseSample, JobRecord, Progress};
use zeolite_client::{Db, Tid};

/// What a report begins with: only such a file is written over.
const MARK: &str = "<!DOCTYPE html>\n<!-- zeolite evolve report 1 -->\n";
/// Columns of a chart.
const BUCKETS: usize = 200;
/// Objects of the quarantine, and groups that an undo has left, that a report lists.
const LISTED_MAX: u64 = 100;

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;max-width:900px;margin:24px auto;padding:0 16px;color:#111;background:#fff}\
h1{font-size:22px}h2{font-size:16px;margin-top:28px}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:3px 14px 3px 0;border-bottom:1px solid #e4e4e4;overflow-wrap:anywhere}\
th{white-space:nowrap;font-weight:600}svg{max-width:100%;height:auto}p{max-width:70ch}";

pub(super) async fn report(out: &Out, db: &Db, args: &ReportArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    let (progress, course) = (job.show().await?, job.course().await?);
    if out.is_json() {
        let points = |points: &[CourseSample]| points.iter().map(point_json).collect::<Vec<Value>>();
        return out.json(&json!({ "job": args.name, "work": points(&course.work), "undo": points(&course.undo) }));
    }
    let mut page = Page::new(&format!("evolve {}", args.name));
    page.facts(&shown::facts(&progress, "")[1..]);
    if let Some(certificate) = &progress.job.certificate {
        page.heading("Certificate");
        page.facts(&shown::certificate_facts(&progress.job, certificate)[1..]);
    }
    page.course("How it went", &course.work, started_unix_ms(&progress.job))?;
    if !course.undo.is_empty() {
        page.course("How it was taken back", &course.undo, course.undo[0].unix_ms())?;
    }
    page.left_over(&job, &progress).await?;
    let to = args.to.clone().unwrap_or_else(|| file_of(&args.name));
    write(&to, &page.end())?;
    if to != Path::new("-") {
        out.line(format!("wrote {}", to.display()));
    }
    Ok(())
}

/// When a job began; 0: it has not.
fn started_unix_ms(job: &JobRecord) -> u64 {
    u64::try_from(Tid(job.started).unix_nanos() / 1_000_000).unwrap_or(0)
}

fn point_json(point: &CourseSample) -> Value {
    json!({
        "unix_ms": point.unix_ms(),
        "counts": shown::counts_json(point.counts),
        "live_p99_us": point.live_p99_us,
        "quiet_p99_us": point.quiet_p99_us,
        "live_rate": point.live_rate,
        "conflict_rate": point.conflict_rate,
        "reason": point.why,
    })
}

/// A file in the directory where one is, with a name that any file system takes.
fn file_of(name: &str) -> PathBuf {
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().take(100).map(plain).collect();
    format!("evolve-{name}.html").into()
}

fn write(to: &Path, page: &str) -> Result<()> {
    match to == Path::new("-") {
        true => std::io::stdout().write_all(format!("{MARK}{page}").as_bytes()).context("writing the report"),
        false => write_over_own(to, MARK, page),
    }
}

/// The page while it is made.
struct Page(String);

impl Page {
    fn new(title: &str) -> Page {
        let title = escaped(title);
        let head = "<meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">";
        Page(format!(
            "<html lang=\"en\"><head>{head}<title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        ))
    }

    fn end(mut self) -> String {
        self.0 += "</body></html>\n";
        self.0
    }

    fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, "<h2>{}</h2>", escaped(text));
    }

    fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p>{}</p>", escaped(text));
    }

    fn facts(&mut self, facts: &[(&str, String)]) {
        let row = |(name, value): &(&str, String)| {
            format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), escaped(value))
        };
        self.0 += &format!("<table>\n{}</table>\n", facts.iter().map(row).collect::<String>());
    }

    fn table<const N: usize>(&mut self, titles: [&str; N], rows: Vec<[String; N]>) {
        let cells = |tag: &str, cells: &[String]| {
            let cell = |text: &String| format!("<{tag}>{}</{tag}>", escaped(text));
            format!("<tr>{}</tr>\n", cells.iter().map(cell).collect::<String>())
        };
        let head = cells("th", &titles.map(str::to_owned));
        let rows: String = rows.iter().map(|row| cells("td", row)).collect();
        self.0 += &format!("<table>\n{head}{rows}</table>\n");
    }

    fn course(&mut self, title: &str, points: &[CourseSample], began_ms: u64) -> Result<()> {
        self.heading(title);
        let Some(last) = points.last() else {
            self.paragraph("No course is kept: nothing was done yet, or it was one commit, or its workers were of an older version.");
            return Ok(());
        };
        let began = began_ms.min(points[0].unix_ms());
        let course = Buckets::of(points, began, last.unix_ms());
        for chart in course.charts() {
            self.0 += &chart.svg()?;
        }
        let reasons = reasons(points, began);
        if reasons.is_empty() {
            self.paragraph("Nothing slowed it down.");
        } else {
            let row = |(why, ms): (String, u64)| [why, moment::duration(ms)];
            self.table(["slowed down by", "for about"], reasons.into_iter().map(row).collect());
        }
        let conflicts = course.conflicts.iter().map(|(_, rate)| rate * course.width).sum::<f64>();
        let live = course.live.iter().map(|(_, rate)| rate * course.width).sum::<f64>();
        self.paragraph(&format!(
            "Live transactions meanwhile: about {} commits, and about {} that were refused for a conflict, whoever they met.",
            count(live.round() as u64),
            count(conflicts.round() as u64)
        ));
        Ok(())
    }

    async fn left_over(&mut self, job: &evolve::Job, progress: &Progress) -> Result<()> {
        let (bad, left) = (job.quarantine(LISTED_MAX).await?, job.not_undone(LISTED_MAX).await?);
        if !bad.is_empty() {
            let now = progress.counts.bad_now();
            self.heading(&format!("In the quarantine: {}", count(now.max(bad.len() as u64))));
            let row = |bad: &evolve::Bad| {
                [bad.cell().to_string(), bad.class.clone(), bad.version.to_string(), bad.error.clone()]
            };
            self.table(["object", "class", "version", "error"], bad.iter().map(row).collect());
        }
        if !left.is_empty() {
            self.heading("Left as it was by the undo");
            let row = |left: &evolve::NotUndone| [format!("{:016x}", left.tid), left.reason.clone()];
            self.table(["commit", "why"], left.iter().map(row).collect());
        }
        Ok(())
    }
}

fn escaped(text: &str) -> String {
    tame::value(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A course in columns of one width: seconds from its beginning, and values.
struct Buckets {
    seconds: f64,
    width: f64,
    rate: Vec<(f64, f64)>,
    p99: Vec<(f64, f64)>,
    quiet: Vec<(f64, f64)>,
    live: Vec<(f64, f64)>,
    conflicts: Vec<(f64, f64)>,
    slowed: Vec<Mark>,
}

impl Buckets {
    fn of(points: &[CourseSample], began: u64, ended: u64) -> Buckets {
        let at = |point: &CourseSample| point.unix_ms().saturating_sub(began) as f64 / 1000.0;
        let seconds = (ended.saturating_sub(began) as f64 / 1000.0).max(1.0);
        let columns = BUCKETS.min(points.len().max(2));
        let width = seconds / columns as f64;
        let done: Vec<(f64, f64)> = std::iter::once((0.0, 0.0))
            .chain(points.iter().map(|point| (at(point), point.counts.done as f64)))
            .collect();
        let mut buckets = Buckets {
            seconds,
            width,
            rate: Vec::new(),
            p99: Vec::new(),
            quiet: Vec::new(),
            live: Vec::new(),
            conflicts: Vec::new(),
            slowed: Vec::new(),
        };
        for column in 0..columns {
            let (from, to) = (column as f64 * width, (column + 1) as f64 * width);
            let middle = (from + to) / 2.0;
            buckets.rate.push((middle, (between(&done, to) - between(&done, from)) / width));
            // A column without a sample is as the next one tells: a sample is of what was before it.
            let first = points.partition_point(|point| at(point) <= from);
            let end = points.partition_point(|point| at(point) <= to).max(first + 1).min(points.len());
            let within = &points[first.min(points.len() - 1)..end];
            let most = |value: fn(&CourseSample) -> u64| within.iter().map(value).max().unwrap_or(0) as f64 / 1000.0;
            let mean =
                |value: fn(&CourseSample) -> f64| within.iter().map(value).sum::<f64>() / within.len().max(1) as f64;
            let known = |value: f64| if value > 0.0 { value } else { f64::NAN };
            buckets.p99.push((middle, known(most(|point| point.live_p99_us))));
            buckets.quiet.push((middle, known(most(|point| point.quiet_p99_us))));
            buckets.live.push((middle, mean(|point| point.live_rate)));
            buckets.conflicts.push((middle, mean(|point| point.conflict_rate)));
            if within.iter().any(|point| !point.why.is_empty()) {
                buckets.slow(from, to);
            }
        }
        buckets
    }

    fn slow(&mut self, from: f64, to: f64) {
        match self.slowed.last_mut() {
            Some(last) if (last.to - from).abs() < 1e-9 => last.to = to,
            _ => self.slowed.push(Mark { from, to, name: String::new() }),
        }
    }

    fn charts(&self) -> [Chart<'_>; 3] {
        let line = |name, points: &[(f64, f64)]| Line { name, points: points.to_vec() };
        let chart = |title, lines, value| Chart {
            title,
            seconds: self.seconds,
            lines,
            marked: self.slowed.clone(),
            from: 0.0,
            value,
        };
        let a_second = |value: f64| {
            if value < 10.0 { format!("{value:.1}/s") } else { format!("{}/s", count(value.round() as u64)) }
        };
        let ms = |value: f64| if value < 10.0 { format!("{value:.1} ms") } else { format!("{value:.0} ms") };
        let felt = vec![line("beside it", &self.p99), line("in quiet seconds", &self.quiet)];
        let live = vec![line("commits", &self.live), line("refused for a conflict", &self.conflicts)];
        [
            chart("Objects a second (shaded: slowed down)", vec![line("objects", &self.rate)], a_second),
            chart("Live commits, 99th percentile", felt, ms),
            chart("Live transactions a second", live, a_second),
        ]
    }
}

/// A value between points, which are in order.
fn between(points: &[(f64, f64)], at: f64) -> f64 {
    let next = points.partition_point(|(second, _)| *second < at);
    match (next.checked_sub(1).map(|before| points[before]), points.get(next).copied()) {
        (Some((a, from)), Some((b, to))) if b > a => from + (to - from) * (at - a) / (b - a),
        (_, Some((_, value))) | (Some((_, value)), None) => value,
        (None, None) => 0.0,
    }
}

/// What slowed it down and for how long in milliseconds, the longest first; the numbers of a reason are left out.
fn reasons(points: &[CourseSample], began: u64) -> Vec<(String, u64)> {
    let mut before = began;
    let mut reasons: Vec<(String, u64)> = Vec::new();
    for point in points {
        let took = point.unix_ms().saturating_sub(before);
        before = before.max(point.unix_ms());
        if point.why.is_empty() {
            continue;
        }
        let kind = without_numbers(&point.why);
        match reasons.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, ms)) => *ms += took,
            None => reasons.push((kind, took)),
        }
    }
    reasons.sort_by_key(|(_, ms)| std::cmp::Reverse(*ms));
    reasons
}

/// `live p99 88081 us is over 81789 us` as `live p99 N us is over N us`: a number is a word of its own.
fn without_numbers(why: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches([',', ';', ':', '.']);
        let is_number =
            bare.starts_with(|c: char| c.is_ascii_digit()) && bare.chars().all(|c| c.is_ascii_digit() || c == '.');
        if is_number { format!("N{}", &word[bare.len()..]) } else { word.to_owned() }
    };
    why.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart_by_their_words() {
        assert_eq!(
            without_numbers("live p99 88081 us is over 81789 us, 1.5 times"),
            "live p99 N us is over N us, N times"
        );
        assert_eq!(without_numbers("low disk: 3.2 % is free,"), "low disk: N % is free,");
    }

    #[test]
    fn values_between_points_lie_on_the_line() {
        let points = [(0.0, 0.0), (10.0, 100.0), (10.0, 200.0), (20.0, 200.0)];
        assert_eq!([between(&points, 5.0), between(&points, 15.0), between(&points, 30.0)], [50.0, 200.0, 200.0]);
        assert_eq!(between(&[], 1.0), 0.0);
    }

    #[test]
    fn names_of_jobs_make_names_of_files() {
        assert_eq!(file_of("größe 💥/../x"), PathBuf::from("evolve-größe___.._x.html"));
    }
}
