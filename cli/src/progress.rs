//! Owns progress of long work: bars in a terminal, a plain line now and then elsewhere, nothing for programs.

use crate::output::{Out, count, wrapped};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Without a terminal, one line per bar at most this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A line that says the same as the one before it: at most this often.
const SAME_EVERY: Duration = Duration::from_secs(300);

/// The column in which words begin.
const WORDS_AT: usize = 2;

/// A group of bars that are drawn together.
pub(crate) struct Progress {
    how: How,
    bars: MultiProgress,
    columns: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Bars,
    Lines,
    Nothing,
}

impl Progress {
    pub(crate) fn new(out: &Out) -> Progress {
        let how = match (out.is_json(), out.draws()) {
            (true, _) => How::Nothing,
            (false, true) => How::Bars,
            (false, false) => How::Lines,
        };
        let target = if how == How::Bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let columns = crossterm::terminal::size().map_or(u16::MAX, |(columns, _)| columns);
        Progress { how, bars: MultiProgress::with_draw_target(target), columns }
    }

    /// Words that belong to the bars above them.
    pub(crate) fn words(&self) -> Words {
        let bar = self.bars.add(ProgressBar::no_length());
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
        Words { bar, columns: self.columns }
    }

    /// A bar towards a total; a total of 0 is not known yet.
    pub(crate) fn bar(&self, what: &str, unit: &'static str, total: u64) -> Bar {
        let bar = self.bars.add(ProgressBar::new(total));
        bar.set_style(style(total, unit, self.columns));
        bar.set_prefix(format!("{what:<10}"));
        Bar {
            how: self.how,
            what: what.to_owned(),
            unit,
            bar,
            columns: self.columns,
            forecasts: true,
            told: Mutex::new(None),
            remark: Mutex::new(String::new()),
        }
    }
}

/// A line of words below the bars that were made before it.
pub(crate) struct Words {
    bar: ProgressBar,
    columns: u16,
}

impl Words {
    /// Says this from now on, in two lines at most; nothing: the line goes.
    pub(crate) fn say(&self, text: &str) {
        let width = usize::from(self.columns).saturating_sub(WORDS_AT + 1).max(20);
        let lines = wrapped(text, width);
        let shown: Vec<String> = lines.iter().take(2).map(|line| format!("{:WORDS_AT$}{line}", "")).collect();
        self.bar.set_message(shown.join("\n"));
        self.bar.tick();
    }

    /// It is over.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// What does not fit is cut, never wrapped: the rest of a line would stay on the screen each time that it is drawn anew. So a narrow
/// terminal has a short bar, or none.
fn bar_width(columns: u16) -> u16 {
    match columns {
        100.. => 28,
        60.. => 10,
        _ => 1,
    }
}

fn style(total: u64, unit: &str, columns: u16) -> ProgressStyle {
    let bar = bar_width(columns);
    let template = match (total, unit) {
        (0, "") => "{prefix} {spinner} {wide_msg}".to_owned(),
        (0, unit) => format!("{{prefix}} {{spinner}} {{human_pos}} {unit} {{wide_msg}}"),
        (_, unit) => {
            format!(
                "{{prefix}} {{bar:{bar}}} {{percent:>3}}% {{human_pos}}/{{human_len}} {unit} {{eta:>4}} {{wide_msg}}"
            )
        }
    };
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

/// The same without a forecast, for work that has a better one of its own.
fn style_without_forecast(total: u64, unit: &str, columns: u16) -> ProgressStyle {
    let bar = bar_width(columns);
    // The remark needs the room.
    let unit = if columns < 100 { "" } else { unit };
    let template = match total {
        0 => format!("{{prefix}} {{spinner}} {{human_pos}} {unit} {{wide_msg}}"),
        _ => format!("{{prefix}} {{bar:{bar}}} {{percent:>3}}% {{human_pos}}/{{human_len}} {unit} {{wide_msg}}"),
    };
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

/// The line that was told last.
struct Told {
    at: Instant,
    line: String,
    done: u64,
}

impl Told {
    /// A line is due. One in which only numbers differ (the room on a disk) says the same, unless the work has gone on.
    fn is_due(&self, line: &str, done: u64) -> bool {
        let bare = |line: &str| line.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let is_same = self.done == done && bare(&self.line) == bare(line);
        self.at.elapsed() >= if is_same { SAME_EVERY } else { LINE_EVERY }
    }
}

/// One bar. All methods may be called from any task.
pub(crate) struct Bar {
    how: How,
    what: String,
    unit: &'static str,
    bar: ProgressBar,
    columns: u16,
    forecasts: bool,
    told: Mutex<Option<Told>>,
    remark: Mutex<String>,
}

impl Bar {
    /// Says nothing about how long it takes: its remarks do.
    pub(crate) fn without_forecast(mut self) -> Bar {
        self.forecasts = false;
        self.bar.set_style(style_without_forecast(self.bar.length().unwrap_or(0), self.unit, self.columns));
        self
    }

    /// Moves the bar; `total` may have become known or changed.
    pub(crate) fn set(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            let of = if self.forecasts { style } else { style_without_forecast };
            self.bar.set_style(of(total, self.unit, self.columns));
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        self.tell(false);
    }

    /// What is worth knowing now, after the numbers.
    pub(crate) fn remark(&self, text: String) {
        self.bar.set_message(text.clone());
        if let Ok(mut remark) = self.remark.lock() {
            *remark = text;
        }
    }

    /// The work is over; the bar stays where it is.
    pub(crate) fn finish(&self) {
        self.tell(true);
        self.bar.abandon();
    }

    /// The work is over as a whole, whatever its last step was: where lines were told, that is told.
    pub(crate) fn whole(&self) {
        let is_told = self.told.lock().is_ok_and(|told| told.is_some());
        self.remark("done".to_owned());
        self.bar.set_position(self.bar.length().unwrap_or(0));
        if is_told {
            self.tell(true);
        }
        self.clear();
    }

    /// The work is over and needs no trace.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn tell(&self, now: bool) {
        if self.how != How::Lines {
            return;
        }
        let Ok(mut told) = self.told.lock() else { return };
        let remark = self.remark.lock().map(|text| text.clone()).unwrap_or_default();
        let (done, total) = (count(self.bar.position()), self.bar.length().unwrap_or(0));
        let numbers = match (total, self.unit) {
            (0, "") => String::new(),
            (0, unit) => format!("{done} {unit} "),
            (total, unit) => format!("{done} of {} {unit} ", count(total)),
        };
        let line = format!("{}: {numbers}{remark}", self.what);
        let (line, done) = (line.trim_end().to_owned(), self.bar.position());
        if now || told.as_ref().is_none_or(|told| told.is_due(&line, done)) {
            Out::new(false).complain(&line);
            *told = Some(Told { at: Instant::now(), line, done });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_when_it_changes_and_then_seldom() {
        let told = |seconds: u64| Told {
            at: Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the machine has run so long"),
            line: "undo: 7 of 9 commits paused: low disk (14.6 % free)".into(),
            done: 7,
        };
        let same = "undo: 7 of 9 commits paused: low disk (14.4 % free)";
        assert!(!told(6).is_due(same, 7) && !told(200).is_due(same, 7) && told(301).is_due(same, 7));
        assert!(told(6).is_due("undo: 7 of 9 commits running", 7) && told(6).is_due(same, 8), "something else");
        assert!(!told(4).is_due("undo: 7 of 9 commits running", 7), "not faster than a person reads");
    }
}
