//! Owns a script's operator: who plans jobs, looks at them, and steers them.
//!
//! ```text
//!   plan upgrade|touch [as NAME] [gate] [KEY=VALUE ..]     a job over all old pages (`touch`: over all pages); the later
//!   dry-run upgrade|touch                                  commands, and workers, mean the job that was planned last
//!   show · pause WHY · pause-for MS WHY · resume · retry · cancel WHY · set KEY=VALUE · undo
//!   quarantine · left (what an undo has left) · verify · ensure · forget
//!   felt N                  until the server tells so many live commits in its window
//!   until STATE | free (nobody has a range) | by WORKER | done N | undone N (chunks)
//! ```

use super::lane::{Kind, Lane, Stepwise};
use super::names::Names;
use std::sync::Arc;
use std::time::Duration;
use zeolite_client::collections::Counter;
use zeolite_client::evolve::{self, DryRunOptions, Job, NewJob, Part, Plan, Progress, RangeRecord};
use zeolite_client::{Cell, Db, Error, Oid};

pub(crate) type Lines = Result<Vec<String>, String>;

/// What was planned last.
#[derive(Clone)]
pub(crate) struct Planned {
    pub(crate) job: Job,
    pub(crate) kind: Kind,
}

/// An operator's client, and what it may touch.
pub(crate) struct Operator<'a> {
    pub(crate) db: &'a Db,
    pub(crate) planned: &'a mut Option<Planned>,
    pub(crate) names: &'a Names,
    pub(crate) counter: Counter,
}

impl Operator<'_> {
    pub(crate) async fn run(&mut self, words: &[&str]) -> Lines {
        match words {
            ["plan", kind, rest @ ..] => return self.plan(kind, rest).await,
            ["dry-run", kind] => return self.dry_run(kind).await,
            ["until", fact @ ..] => return self.until(fact).await.map(|()| Vec::new()),
            ["felt", commits] => {
                let commits: u64 = commits.parse().map_err(|_| "felt N".to_owned())?;
                while self.db.pressure().is_none_or(|pressure| pressure.live_commits < commits) {
                    self.db.newest().await.map_err(|error| error.to_string())?;
                }
                return Ok(Vec::new());
            }
            _ => {}
        }
        let job = self.job()?;
        let done = match words {
            ["pause", why @ ..] => job.pause(&why.join(" "), 0).await,
            ["pause-for", ms, why @ ..] => {
                let ms: u64 = ms.parse().map_err(|_| format!("{ms:?} is not a number"))?;
                let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
                job.pause(&why.join(" "), now + ms).await
            }
            ["resume" | "retry"] => job.resume().await,
            ["cancel", why @ ..] => job.cancel(&why.join(" ")).await.map(|_| ()),
            ["set", setting] => {
                let (name, value) = setting.split_once('=').ok_or("set KEY=VALUE")?;
                job.set(name, value).await
            }
            ["undo"] => job.begin_undo().await,
            ["forget"] => evolve::forget(self.db, job.name()).await.map(|_| ()),
            _ => return self.look(&job, words).await,
        };
        Ok(done.err().map(|error| self.said(&error)).into_iter().collect())
    }

    fn job(&self) -> Result<Job, String> {
        Ok(self.planned.as_ref().ok_or("nothing was planned so far")?.job.clone())
    }

    fn said(&self, error: &Error) -> String {
        self.names.tame(&error.to_string())
    }

    async fn plan(&mut self, kind: &str, rest: &[&str]) -> Lines {
        let (name, rest) = match rest {
            ["as", name, rest @ ..] => (*name, rest),
            rest => (kind, rest),
        };
        let (mut new, kind) = new_job(name, kind)?;
        for word in rest {
            match word.split_once('=') {
                Some((key, value)) => new.settings.set(key, value).map_err(|error| error.to_string())?,
                None if *word == "gate" => new.gate = true,
                None => return Err(format!("a plan has no {word:?}")),
            }
        }
        match evolve::plan(self.db, new).await {
            Ok(job) => *self.planned = Some(Planned { job, kind }),
            Err(error) => return Ok(vec![self.said(&error)]),
        }
        Ok(Vec::new())
    }

    async fn dry_run(&self, kind: &str) -> Lines {
        let (new, kind) = new_job(kind, kind)?;
        let before = self.db.newest().await.map_err(|error| error.to_string())?;
        let step = Stepwise { lane: Arc::new(Lane::new(usize::MAX)), kind, counter: self.counter };
        let options = DryRunOptions::new().samples(1);
        let found = match evolve::dry_run(self.db, &new, &step, &options).await {
            Ok(found) => found,
            Err(error) => return Ok(vec![self.said(&error)]),
        };
        let counts = [
            ("stepped", found.stepped),
            ("would change", found.changed),
            ("would stay", found.kept),
            ("need nothing", found.found_done),
            ("would fail", found.bad),
            ("other writes", found.other_writes),
        ];
        let mut lines = vec![format!("of {}: {}", found.total, nonzero(&counts))];
        let errors = found.errors.iter();
        lines.extend(errors.map(|kind| format!("fails on {}: {}", kind.objects, self.names.tame(&kind.error))));
        for sample in &found.samples {
            let version = |record: &Option<zeolite_client::Record>| {
                record.as_ref().map_or("nothing".to_owned(), |record| format!("version {}", record.version))
            };
            let (old, new) = (version(&sample.old), version(&sample.new));
            lines.push(format!("sample {}: {old} becomes {new}", self.names.show_cell(&sample.cell)));
        }
        let after = self.db.newest().await.map_err(|error| error.to_string())?;
        lines.extend((after != before).then(|| "SOMETHING WAS COMMITTED".to_owned()));
        Ok(lines)
    }

    async fn look(&self, job: &Job, words: &[&str]) -> Lines {
        let shown = match words {
            ["show"] => job.show().await.map(|progress| self.show(&progress)),
            ["quarantine"] => job.quarantine(100).await.map(|bad| {
                let one = |bad: &evolve::Bad| {
                    let (page, class, version) = (self.names.show(Oid(bad.oid)), &bad.class, bad.version);
                    format!("{page}, {class} of version {version}: {}", self.names.tame(&bad.error))
                };
                or_nothing(bad.iter().map(one).collect())
            }),
            ["left"] => job.not_undone(100).await.map(|left| {
                let one = |left: &evolve::NotUndone| {
                    let cells = left.cells.iter().map(|(oid, key)| Cell::entry(Oid(*oid), key.clone()));
                    let cells: Vec<String> = cells.map(|cell| self.names.show_cell(&cell)).collect();
                    format!("{}: {}", cells.join(" and "), self.names.tame(&left.reason))
                };
                or_nothing(left.iter().map(one).collect())
            }),
            ["verify"] => job.verify(&[]).await.map(|verified| {
                let mut lines = vec![format!("{} looked at, {} problems", verified.objects, verified.problems_total)];
                lines.extend(verified.problems.iter().map(|problem| self.names.tame(problem)));
                lines
            }),
            ["ensure"] => job.ensure_done().await.map(|certificate| {
                let gate = if certificate.gate_tid == 0 { "no gate" } else { "gate closed" };
                vec![format!("done: {} objects, {} changed, {gate}", certificate.objects, certificate.changed)]
            }),
            _ => return Err(format!("an operator knows no command {:?}", words.join(" "))),
        };
        Ok(shown.unwrap_or_else(|error| vec![self.said(&error)]))
    }

    fn show(&self, progress: &Progress) -> Vec<String> {
        let old = progress.old.map(|old| format!(", {old} old")).unwrap_or_default();
        // Whether a killed worker counts as silent already depends on the moment.
        let state = match progress.silent {
            Some(_) => progress.word.text().to_owned(),
            None => self.names.tame(&progress.state()),
        };
        let mut lines = vec![format!("{state}: {} of {}{old}", progress.done, progress.total)];
        let counts = &progress.counts;
        let counts = [
            ("changed", counts.changed),
            ("kept", counts.kept),
            ("found done", counts.found_done),
            ("failed", counts.bad),
            ("healed", counts.healed),
            ("put off", counts.put_off),
            ("stepped again", counts.stepped_again),
            ("chunks", counts.chunks),
        ];
        lines.push(nonzero(&counts));
        for (number, range) in progress.ranges.iter().enumerate() {
            let name = if range.part == Part::Finish { "the end".to_owned() } else { format!("range {number}") };
            lines.push(format!("{name}: {}", self.show_range(range)));
        }
        if let Some(undo) = &progress.undo {
            let counts = [
                ("groups back", undo.counts.changed),
                ("left", undo.counts.bad),
                ("in another shape", undo.counts.kept),
                ("chunks", undo.counts.chunks),
            ];
            lines.push(format!("undo: {}, {}", nonzero(&counts), held_by(undo)));
        }
        lines
    }

    fn show_range(&self, range: &RangeRecord) -> String {
        let mut parts = Vec::new();
        if range.part != Part::Finish {
            parts.push(format!("{} of {}", range.counts.done, range.total));
        }
        let deferred: Vec<String> = range.deferred.iter().map(|(oid, _)| self.names.show(Oid(*oid))).collect();
        parts.extend((!deferred.is_empty()).then(|| format!("{} for later", deferred.join(", "))));
        parts.extend((range.pass > 0).then(|| format!("pass {}", range.pass)));
        parts.push(held_by(range));
        parts.join(", ")
    }

    /// Waits until the job says so.
    async fn until(&self, fact: &[&str]) -> Result<(), String> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        let reached: Box<dyn Fn(&Progress) -> bool + Send> = match fact {
            ["free"] => Box::new(|now| now.workers.is_empty() && now.undo.as_ref().is_none_or(|u| u.holder.is_empty())),
            ["by", worker] => {
                let worker = (*worker).to_owned();
                Box::new(move |now| now.workers.contains(&worker))
            }
            ["done", count] => {
                let count = number(count)?;
                Box::new(move |now| now.done >= count)
            }
            ["undone", chunks] => {
                let chunks = number(chunks)?;
                Box::new(move |now| now.undo.as_ref().is_some_and(|undo| undo.counts.chunks >= chunks))
            }
            [state] => {
                let state = (*state).to_owned();
                Box::new(move |now| now.state().starts_with(&state))
            }
            _ => return Err("until STATE | free | by WORKER | done N | undone N".into()),
        };
        let mut watch = self.job()?.watch();
        while let Some(now) = watch.next(Duration::ZERO).await.map_err(|error| error.to_string())? {
            if reached(&now) {
                return Ok(());
            }
        }
        Err("the database was closed".into())
    }
}

/// Small chunks of one size, and nothing that depends on a time, a disk or a machine.
fn new_job(name: &str, kind: &str) -> Result<(NewJob, Kind), String> {
    let (plan, kind) = match kind {
        "upgrade" => (Plan::below("Page", 2), Kind::Upgrade),
        "touch" => (Plan::class("Page"), Kind::Touch),
        other => return Err(format!("there is no step {other:?}; upgrade or touch")),
    };
    let mut new = NewJob::new(name, plan);
    let settings = &mut new.settings;
    (settings.ranges, settings.chunk_objects_start, settings.chunk_objects_max) = (1, 3, 3);
    (settings.chunk_target_ms, settings.chunk_ms_max) = (60_000, 600_000);
    (settings.disk_pause_percent, settings.disk_stop_percent) = (0.0, 0.0);
    Ok((new, kind))
}

fn held_by(range: &RangeRecord) -> String {
    match range.finished {
        true => "finished".into(),
        false if range.holder.is_empty() => "free".into(),
        false => format!("held by {}", range.holder),
    }
}

fn nonzero(counts: &[(&str, u64)]) -> String {
    let told: Vec<String> = counts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    if told.is_empty() { "nothing so far".into() } else { told.join(", ") }
}

fn or_nothing(lines: Vec<String>) -> Vec<String> {
    if lines.is_empty() { vec!["nothing".into()] } else { lines }
}
