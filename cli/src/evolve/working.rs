//! Owns `evolve run` and `evolve undo`: a worker in this process, drawn while it works.
//!
//! ```text
//!   first Ctrl-C (or SIGTERM)   no new chunk; ends when the one under way is committed; the job can be resumed anywhere
//!   second                      ends at once; what was not committed did not happen
//! ```

use super::args::{RunArgs, UndoArgs};
use super::board::Board;
use super::shown;
use super::step;
use super::watching::{Follow, verdict};
use crate::exit::{Interrupted, ProblemFound};
use crate::output::Out;
use anyhow::{Context, Result};
use serde_json::json;
use std::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeolite_client::evolve::{self, Job, Phase, Report, Stop, Worker};
use zeolite_client::{Db, Error};

pub(super) async fn run(out: &Out, db: &Db, args: &RunArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    let record = job.record().await?;
    if record.phase == Phase::Undone {
        return Err(ProblemFound(format!("evolve {:?} was taken back; plan a new one", args.name)).into());
    }
    step::fits(&args.step, record.target.as_ref().map(|target| target.version))?;
    let chosen = step::chosen(out, &args.step, &args.name, usize::from(args.tasks))?;
    let worker = Worker::new(&job).named(super::here()).tasks(usize::from(args.tasks)).step_changed(args.step_changed);
    let stop = worker.stop_handle();
    let attended = attend(out, &job, worker.run_any(chosen.step.clone()), &stop).await;
    chosen.end().await;
    told(out, &job, attended?).await
}

pub(super) async fn undo(out: &Out, db: &Db, args: &UndoArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    job.begin_undo().await?;
    if args.no_wait {
        out.line(format_args!("evolve {:?} is to be undone; `zeolite evolve undo {0}` does it", args.name));
        return Ok(());
    }
    let worker = Worker::new(&job).named(super::here());
    let stop = worker.stop_handle();
    let attended = attend(out, &job, worker.undo(), &stop).await?;
    told(out, &job, attended).await
}

/// How a worker ended.
struct Attended {
    report: Report,
    is_stopped: bool,
    took_ms: u64,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        let of = |kind| signal(kind).context("signals");
        Ok(Signals { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Lets the worker work, draws the job, listens for signals.
async fn attend(
    out: &Out,
    job: &Job,
    work: impl Future<Output = Result<Report, Error>>,
    stop: &Stop,
) -> Result<Attended> {
    let began = Instant::now();
    let phase = job.record().await?.phase;
    let (mut board, mut follow, mut signals) = (Board::new(out, job.name(), phase), Follow::new(job), Signals::new()?);
    let mut is_stopped = false;
    tokio::pin!(work);
    let report = loop {
        tokio::select! {
            biased;
            report = &mut work => break report.map_err(step::told)?,
            () = signals.next() => {
                if is_stopped {
                    return Err(Interrupted("; what was not committed did not happen").into());
                }
                is_stopped = true;
                stop.stop();
                out.remark("finishing the chunk; once more ends at once");
            }
            // A look that fails is no reason to stop working: the worker knows what to wait for.
            now = follow.next() => match now {
                Ok(now) => board.show(&now),
                Err(error) => {
                    tracing::debug!(%error, "the job cannot be looked at");
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                }
            },
        }
    };
    if let Ok(now) = job.show().await {
        board.show(&now);
    }
    board.end();
    Ok(Attended { report, is_stopped, took_ms: began.elapsed().as_millis() as u64 })
}

async fn told(out: &Out, job: &Job, attended: Attended) -> Result<()> {
    let last = job.show().await?;
    if out.is_json() {
        out.json(&json!({
            "job": shown::progress_json(&last),
            "worker": shown::counts_json(attended.report.counts),
            "took_ms": attended.took_ms,
            "memory_bytes_max": memory_bytes_max(),
        }))?;
    }
    let phase = last.job.phase;
    if attended.is_stopped && !phase.is_over() {
        return Err(Interrupted("; run it again to go on where it was stopped").into());
    }
    if phase == Phase::Undoing && attended.report.phase == Phase::Undoing {
        let hint = "`zeolite evolve undo` goes on with it";
        return Err(ProblemFound(format!("evolve {:?} is being taken back; {hint}", job.name())).into());
    }
    verdict(out, &last)
}

/// The most memory that this process has had, as the system tells it.
fn memory_bytes_max() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
