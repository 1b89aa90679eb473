//! Owns a job as it is drawn while it runs: a bar for the whole and one for each range that is held; a plain line now and
//! then where nothing can be drawn.

use super::shown;
use crate::output::Out;
use crate::progress::{Bar, Progress};
use std::collections::BTreeMap;
use zeolite_client::evolve::{self, Phase, RangeRecord};

/// Held ranges that are drawn; the others are told by `evolve show`.
const WORKERS_MAX: usize = 16;

pub(super) struct Board {
    progress: Progress,
    job: Bar,
    workers: BTreeMap<usize, Bar>,
    draws: bool,
}

impl Board {
    /// Of a job that is run, or taken back.
    pub(super) fn new(out: &Out, name: &str, phase: Phase) -> Board {
        let progress = Progress::new(out);
        let unit = if matches!(phase, Phase::Undoing | Phase::Undone) { "commits" } else { "objects" };
        let job = progress.bar(name, unit, 0).without_forecast();
        Board { progress, job, workers: BTreeMap::new(), draws: out.draws() }
    }

    pub(super) fn show(&mut self, now: &evolve::Progress) {
        let owed = shown::owed(now).map(|owed| format!(", {owed} owed")).unwrap_or_default();
        let state = shown::Line::of(now).text() + &owed;
        let forecast = format!("{}, {} left", shown::rate(now.rate), shown::left(now.left));
        let none = now.job.phase.is_over() || now.silent.is_some();
        self.job.remark(if none { state } else { format!("{state} · {forecast}") });
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
        self.job.finish();
    }
}
