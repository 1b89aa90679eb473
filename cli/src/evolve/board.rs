//! Owns a job as it is drawn while it runs: a bar for the whole and one for each range that is held; a plain line now and
//! then where nothing can be drawn.

use super::shown;
use crate::output::Out;
use crate::progress::{Bar, Progress, Words};
use std::collections::BTreeMap;
use zeolite_client::evolve::{self, Phase, RangeRecord, State};

/// Held ranges that are drawn; the others are told by `evolve show`.
const WORKERS_MAX: usize = 16;

pub(super) struct Board {
    progress: Progress,
    job: Bar,
    /// Why it is as it is.
    why: Words,
    workers: BTreeMap<usize, Bar>,
    draws: bool,
}

impl Board {
    /// Of a job that is run, or taken back.
    pub(super) fn new(out: &Out, name: &str, phase: Phase) -> Board {
        let progress = Progress::new(out);
        let unit = if matches!(phase, Phase::Undoing | Phase::Undone) { "commits" } else { "objects" };
        let job = progress.bar(name, unit, 0).without_forecast();
        let why = progress.words();
        Board { progress, job, why, workers: BTreeMap::new(), draws: out.draws() }
    }

    pub(super) fn show(&mut self, now: &evolve::Progress) {
        let owed = shown::owed(now).map(|owed| format!(", {owed} owed")).unwrap_or_default();
        let mut line = shown::Line::of(now);
        if self.draws {
            self.why.say(&std::mem::take(&mut line.why));
        }
        let state = line.text() + &owed;
        self.job.remark(match forecast(now) {
            Some(forecast) => format!("{state} · {forecast}"),
            None => state,
        });
        self.job.set(now.done, now.total);
        if !self.draws {
            return;
        }
        let held: BTreeMap<usize, &RangeRecord> =
            now.ranges.iter().enumerate().filter(|(_, range)| !range.holder.is_empty()).take(WORKERS_MAX).collect();
        self.workers.retain(|number, bar| {
            let stays = held.contains_key(number);
            if !stays {
                bar.clear();
            }
            stays
        });
        for (number, range) in held {
            let bar = self
                .workers
                .entry(number)
                .or_insert_with(|| self.progress.bar(&format!("  range {number}"), "", range.total).without_forecast());
            let waits = if range.waits_for.is_empty() { "" } else { " waits: " };
            bar.remark(format!("{} {}{waits}{}", range.holder, shown::rate(range.rate), range.waits_for));
            bar.set(range.counts.done, range.total);
        }
    }

    /// The last state stays.
    pub(super) fn end(self) {
        self.workers.values().for_each(Bar::clear);
        self.why.clear();
        self.job.finish();
    }
}

/// How fast it is and how long it still takes; none where nobody is at work.
fn forecast(now: &evolve::Progress) -> Option<String> {
    let rests = now.job.phase.is_over() || now.silent.is_some() || now.word == State::Paused;
    let rate = shown::rate(now.rate);
    match now.left {
        _ if rests => None,
        Some(left) => Some(format!("{rate}, {} left", shown::left(Some(left)))),
        None => Some(format!("{rate}, finding its speed")),
    }
}
