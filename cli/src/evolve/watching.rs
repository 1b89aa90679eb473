//! Owns `evolve watch`: a job as it changes, until it is over.

use super::board::Board;
use super::shown;
use crate::exit::ProblemFound;
use crate::output::Out;
use anyhow::Result;
use std::time::Duration;
use zeolite_client::Db;
use zeolite_client::evolve::{self, Job, JobWatch, Phase, Progress};

/// Changes that come faster are told together.
const LEAST: Duration = Duration::from_millis(250);
/// When nothing changes, the job is looked at this often: a worker that has died changes nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub(super) async fn watch(out: &Out, db: &Db, name: &str) -> Result<()> {
    let job = evolve::find(db, name).await?;
    let mut follow = Follow::new(&job);
    let mut board = Board::new(out, name, job.record().await?.phase);
    let last = loop {
        let now = follow.next().await?;
        if out.is_json() {
            out.json(&shown::progress_json(&now))?;
        }
        board.show(&now);
        if now.job.phase.is_over() || out.is_closed() {
            break now;
        }
    };
    board.end();
    verdict(out, &last)
}

/// A job's states, one after the other.
pub(super) struct Follow {
    job: Job,
    changes: JobWatch,
}

impl Follow {
    pub(super) fn new(job: &Job) -> Follow {
        Follow { job: job.clone(), changes: job.watch() }
    }

    pub(super) async fn next(&mut self) -> Result<Progress> {
        match tokio::time::timeout(LOOK_AGAIN, self.changes.next(LEAST)).await {
            Ok(next) => match next? {
                Some(progress) => Ok(progress),
                None => anyhow::bail!("the connection was closed"),
            },
            Err(_) => Ok(self.job.show().await?),
        }
    }
}

/// What a job that is over means to whoever has waited for it.
pub(super) fn verdict(out: &Out, last: &Progress) -> Result<()> {
    let job = &last.job;
    match (job.phase, &job.certificate) {
        (Phase::Done, Some(certificate)) => {
            if !out.is_json() {
                out.facts(&shown::certificate_facts(job, certificate));
                out.line(shown::counted(last.counts));
                out.facts(&shown::yielded(last));
            }
            Ok(())
        }
        // The reason says how much is not as it was before.
        (Phase::Undone, _) if job.reason.is_empty() => Ok(()),
        (Phase::Undone, _) => {
            let hint = format!("`zeolite evolve show {} --quarantine 0` lists them", shown::quoted(&job.name));
            Err(ProblemFound(format!("{}; {hint}", job.reason)).into())
        }
        _ => {
            let state = shown::Line::of(last).text();
            let hint = match job.phase {
                Phase::Failed => {
                    format!(
                        "; look with `zeolite evolve show {0}`, go on with `resume {0}` and `run`",
                        shown::quoted(&job.name)
                    )
                }
                _ => String::new(),
            };
            Err(ProblemFound(format!("evolve {:?} is {state}{hint}", job.name)).into())
        }
    }
}
