//! Owns what the screen of `top` shows: lines of text made of the last samples, without knowing the terminal.

use super::sample::{ClassRates, Sample};
use crate::evolve::JobLine;
use crate::moment;
use crate::output::{count, nanos, size};
use std::collections::VecDeque;

/// Samples that the small graphs go back.
const HISTORY: usize = 120;

/// How wide a name with its number is, and what is between two of them.
const PAIR: usize = 24;
const BETWEEN: usize = 3;

/// How a line stands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    Plain,
    Title,
    Quiet,
    Alarm,
}

/// One line, at most as wide as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

/// The samples so far, and what is wrong with the connection.
#[derive(Default)]
pub(crate) struct Screen {
    server: String,
    last: Option<Sample>,
    commits: VecDeque<f64>,
    p99_ms: VecDeque<f64>,
    trouble: Option<String>,
}

impl Screen {
    pub(crate) fn new(server: &str) -> Screen {
        Screen { server: server.to_owned(), ..Screen::default() }
    }

    /// A new sample; the server answers.
    pub(crate) fn add(&mut self, sample: Sample) {
        for (history, value) in
            [(&mut self.commits, sample.commits_per_s), (&mut self.p99_ms, sample.live_p99_us as f64 / 1e3)]
        {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(value);
        }
        self.last = Some(sample);
    }

    /// The server does not answer, or does again.
    pub(crate) fn set_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    /// All lines, for a reader with as much room as it takes, without the graphs of one moment.
    pub(crate) fn table(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        if let Some(sample) = &self.last {
            let title =
                format!("zeolite {} at {}   up {}", sample.version, self.server, moment::duration(sample.uptime_ms));
            let numbers = numbers(sample, usize::MAX).into_iter().map(|text| (Tone::Plain, text));
            let all = std::iter::once((Tone::Title, title)).chain(states(sample)).chain(numbers);
            lines.extend(
                all.chain(job_lines(sample))
                    .chain(class_lines(&sample.classes))
                    .map(|(tone, text)| Line { tone, text }),
            );
        }
        lines
    }

    /// The lines for a screen of this size.
    pub(crate) fn lines(&self, width: usize, height: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut add = |tone, text: String| lines.push(Line { tone, text });
        match &self.last {
            None => add(Tone::Title, format!("zeolite at {}: the first sample is on its way", self.server)),
            Some(sample) => {
                let up = moment::duration(sample.uptime_ms);
                add(Tone::Title, format!("zeolite {} at {}   up {up}   q quits", sample.version, self.server));
            }
        }
        if let Some(trouble) = &self.trouble {
            add(Tone::Alarm, format!("no answer, trying again: {trouble}"));
        }
        if let Some(sample) = &self.last {
            states(sample).into_iter().for_each(|(tone, text)| add(tone, text));
            numbers(sample, width).into_iter().for_each(|text| add(Tone::Plain, text));
            let graph_width = width.saturating_sub(30);
            add(Tone::Quiet, String::new());
            for (name, history) in [("commits/s", &self.commits), ("live p99 ms", &self.p99_ms)] {
                let top = history.iter().copied().fold(0.0, f64::max);
                add(Tone::Plain, format!("{name:<12}{}  max {top:.1}", graph(history, graph_width, top)));
            }
            let below = job_lines(sample).into_iter().chain(class_lines(&sample.classes));
            below.for_each(|(tone, text)| add(tone, text));
        }
        lines.truncate(height);
        lines.iter_mut().for_each(|line| line.text = line.text.chars().take(width).collect());
        lines
    }
}

/// Health and mode.
fn states(sample: &Sample) -> Vec<(Tone, String)> {
    let mut lines = Vec::new();
    if let Some(reason) = &sample.poisoned {
        lines.push((Tone::Alarm, format!("poisoned: {reason}; nothing is written any more")));
    }
    let normal = sample.mode == "normal";
    let mut text = format!("mode {}", sample.mode);
    if let Some(why) = &sample.mode_automatic {
        text += &format!(", set by the server: {why}");
    }
    if !sample.banner.is_empty() {
        text += &format!(", banner {:?}", sample.banner);
    }
    if let Some(until) = sample.mode_until_unix_ms {
        text += &format!(", until {}", moment::shown_unix_ms(until));
    }
    if sample.pack != "idle" {
        text += &format!("   pack: {}", sample.pack);
    }
    lines.push((if normal { Tone::Quiet } else { Tone::Alarm }, text));
    lines
}

/// In rows of four, or of what finds room.
fn numbers(sample: &Sample, width: usize) -> Vec<String> {
    let or_none = |value: Option<f64>, unit: &str| value.map_or("-".into(), |value| format!("{value:.1}{unit}"));
    let us = |us: u64| if us == 0 { "-".to_owned() } else { nanos(us * 1000) };
    let pairs = [
        [
            ("commits/s", rate(sample.commits_per_s)),
            ("conflicts/s", rate(sample.conflicts_per_s)),
            ("merges/s", rate(sample.merges_per_s)),
            ("loads/s", rate(sample.loads_per_s)),
        ],
        [
            ("live p50", us(sample.live_p50_us)),
            ("live p99", us(sample.live_p99_us)),
            ("quiet p99", us(sample.quiet_p99_us)),
            ("fsync p99", us(sample.fsync_p99_us)),
        ],
        [
            ("live queue", count(sample.queue_live)),
            ("batch queue", count(sample.queue_batch)),
            ("batch size", or_none(sample.batch_size, "")),
            ("cache hits", or_none(sample.cache_hit_percent, "%")),
        ],
        [
            ("sessions", count(sample.sessions)),
            ("prepared", count(sample.prepared)),
            ("pins", count(sample.pins)),
            ("pinned", size(sample.pinned_bytes)),
        ],
        [
            ("log", size(sample.log_bytes)),
            ("unsettled", size(sample.unsettled_bytes)),
            ("free", size(sample.free_bytes)),
            ("free part", or_none(sample.free_percent, "%")),
        ],
    ];
    let row = |row: &[(&str, String)]| {
        row.iter().map(|(name, value)| format!("{name:<12}{value:>9}   ")).collect::<String>().trim_end().to_owned()
    };
    let in_a_row = (width.saturating_add(BETWEEN) / PAIR).clamp(1, 4);
    pairs.concat().chunks(in_a_row).map(row).collect()
}

/// The evolves that are not over; nothing without any.
fn job_lines(sample: &Sample) -> Vec<(Tone, String)> {
    let Some(jobs) = sample.jobs.as_ref().filter(|jobs| !jobs.is_empty()) else { return Vec::new() };
    let row = |name: &str, done: &str, rate: &str, left: &str, state: &str| {
        let name: String = name.chars().take(31).collect();
        format!("{name:<32}{done:>8}{rate:>12}{left:>12}   {state}").trim_end().to_owned()
    };
    let of = |job: &JobLine| {
        let done = format!("{:.1}%", job.done_percent);
        let why = if job.reason.is_empty() { String::new() } else { format!(": {}", job.reason) };
        row(&job.job, &done, &job.rate_text(), &job.left_text(), &format!("{}{why}", job.state))
    };
    let mut lines = vec![(Tone::Quiet, String::new()), (Tone::Title, row("evolve", "done", "rate", "left", "state"))];
    lines.extend(jobs.iter().map(|job| (Tone::Plain, of(job))));
    if sample.jobs_more > 0 {
        lines.push((Tone::Quiet, format!("and {} more: zeolite evolve list", count(sample.jobs_more))));
    }
    lines
}

fn class_lines(classes: &[ClassRates]) -> Vec<(Tone, String)> {
    let busy: Vec<&ClassRates> = classes.iter().filter(|class| class.conflicts + class.merges > 0).collect();
    if busy.is_empty() {
        return vec![(Tone::Quiet, String::new()), (Tone::Quiet, "no conflicts and no merges since the start".into())];
    }
    let mut lines = vec![(Tone::Quiet, String::new())];
    let title = format!("{:<32}{:>12}{:>12}{:>12}{:>12}", "class", "conflicts/s", "merges/s", "conflicts", "merges");
    lines.push((Tone::Title, title));
    for class in busy {
        let name = if class.class.is_empty() { "(all others)" } else { class.class.as_str() };
        let name: String = name.chars().take(31).collect();
        let (conflicts_per_s, merges_per_s) = (rate(class.conflicts_per_s), rate(class.merges_per_s));
        let (conflicts, merges) = (count(class.conflicts), count(class.merges));
        lines.push((
            Tone::Plain,
            format!("{name:<32}{conflicts_per_s:>12}{merges_per_s:>12}{conflicts:>12}{merges:>12}"),
        ));
    }
    lines
}

/// A rate with decimals only where they say something.
fn rate(value: f64) -> String {
    if value >= 10.0 || value == 0.0 { count(value.round() as u64) } else { format!("{value:.1}") }
}

/// The newest values as bars of eighths, right-aligned; the highest is `top`.
fn graph(values: &VecDeque<f64>, width: usize, top: f64) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = values.iter().skip(values.len().saturating_sub(width));
    let bar = |value: &f64| BARS[if top > 0.0 { ((value / top) * 8.0).round().clamp(0.0, 8.0) as usize } else { 0 }];
    format!("{:>width$}", shown.map(bar).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(screen: &Screen, width: usize, height: usize) -> Vec<String> {
        screen.lines(width, height).into_iter().map(|line| line.text).collect()
    }

    fn busy() -> Sample {
        let classes =
            vec![ClassRates { class: "Page".into(), conflicts_per_s: 2.5, conflicts: 9, ..Default::default() }];
        Sample { commits_per_s: 1234.4, live_p99_us: 2500, mode: "normal".into(), classes, ..Sample::default() }
    }

    #[test]
    fn a_sample_is_shown_and_nothing_is_wider_or_longer_than_the_screen() {
        let mut screen = Screen::new("here:1");
        assert!(texts(&screen, 80, 24)[0].contains("first sample"));
        screen.add(busy());
        let all = texts(&screen, 100, 40).join("\n");
        for part in ["commits/s       1,234", "live p99       2.5 ms", "Page", "2.5", "mode normal", "█"] {
            assert!(all.contains(part), "no {part:?} in\n{all}");
        }
        for width in [93, 92, 80, 45, 24] {
            let (all, wide) = (texts(&screen, width, 60).join("\n"), texts(&screen, 200, 60).join("\n"));
            for number in wide.lines().skip(2).take(5).flat_map(str::split_whitespace).filter(|word| word.contains('.'))
            {
                assert!(all.contains(number), "no {number} at {width} in\n{all}");
            }
            for name in ["loads/s", "fsync p99", "cache hits", "pinned", "free part"] {
                assert!(all.contains(name), "no {name} at {width} in\n{all}");
            }
        }
        for (width, height) in [(10, 3), (0, 0), (1, 1), (30, 5)] {
            let lines = screen.lines(width, height);
            assert!(lines.len() <= height && lines.iter().all(|line| line.text.chars().count() <= width));
        }
    }

    #[test]
    fn evolves_have_a_line_each_if_there_are_any() {
        let mut screen = Screen::new("here:1");
        screen.add(busy());
        assert!(!texts(&screen, 100, 40).join("\n").contains("evolve"));
        let job = JobLine {
            job: "pages-2".into(),
            state: "throttled".into(),
            reason: "live commits".into(),
            done_percent: 12.34,
            rate: 1200.0,
            left_ms: Some(90_000),
            ..JobLine::default()
        };
        screen.add(Sample { jobs: Some(vec![job]), jobs_more: 2, ..busy() });
        for all in [texts(&screen, 100, 40), screen.table().into_iter().map(|line| line.text).collect()] {
            let line = all.iter().find(|line| line.starts_with("pages-2")).expect("a line");
            assert!(line.contains("12.3%") && line.contains("1,200/s"), "{line}");
            assert!(line.ends_with("throttled: live commits"), "{line}");
            assert!(all.contains(&"and 2 more: zeolite evolve list".to_owned()), "{all:?}");
        }
    }

    #[test]
    fn what_is_wrong_stands_out() {
        let mut screen = Screen::new("here:1");
        let mode_automatic = Some("low disk".into());
        let poisoned = Some("a sync failed".into());
        screen.add(Sample { mode: "read-only".into(), mode_automatic, poisoned, banner: "soon".into(), ..busy() });
        screen.set_trouble(Some("refused".into()));
        let alarms: Vec<String> =
            screen.lines(100, 40).into_iter().filter(|line| line.tone == Tone::Alarm).map(|line| line.text).collect();
        assert_eq!(alarms.len(), 3, "{alarms:?}");
        assert!(alarms[0].contains("refused") && alarms[1].contains("a sync failed"), "{alarms:?}");
        assert!(alarms[2].contains("low disk") && alarms[2].contains("soon"), "{alarms:?}");
    }

    #[test]
    fn graphs_go_back_so_far_as_there_is_room() {
        let values: VecDeque<f64> = [0.0, 1.0, 2.0, 4.0].into();
        assert_eq!(graph(&values, 6, 4.0), "   ▂▄█");
        assert_eq!(graph(&values, 2, 4.0), "▄█");
        assert_eq!(graph(&values, 4, 0.0), "    ");
        let mut screen = Screen::new("here:1");
        (0..HISTORY + 9).for_each(|_| screen.add(busy()));
        assert_eq!(screen.commits.len(), HISTORY);
    }
}
