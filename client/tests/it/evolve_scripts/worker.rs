//! Owns a script's worker: a real one with a client and a way to the server of its own, whose steps the script lets pass.
//!
//! ```text
//!   start · start undo    on the job that was planned last; until it stands in a step, or has ended
//!   begin                 the same, without waiting for anything
//!   step N                lets so many steps pass, until it stands again or has ended
//!   go [N]                lets so many (all) pass; until they were made; says nothing
//!   at · end              until it stands, or has ended
//!   stop                  in order: it finishes its chunk        kill    at once, with its connection
//!   deafen                what the server says does not arrive any more          reconnect    by a new connection it does
//! ```

use super::lane::{Kind, Lane, Stepwise};
use super::names::Names;
use crate::support::{Network, World};
use std::sync::Arc;
use tokio::task::JoinHandle;
use zeolite_client::collections::Counter;
use zeolite_client::evolve::{self, Report, Stop};
use zeolite_client::{Db, Error, Options};

pub(crate) struct Worker {
    lane: Arc<Lane>,
    network: Network,
    running: JoinHandle<()>,
    stop: Stop,
}

/// What a worker is to do.
pub(crate) struct Task<'a> {
    pub(crate) job: &'a str,
    pub(crate) kind: Kind,
    pub(crate) counter: Counter,
    pub(crate) undo: bool,
}

impl Worker {
    pub(crate) async fn start(world: &World, name: &str, task: Task<'_>) -> Result<Worker, Error> {
        let network = world.line().await;
        let options = Options::new().name(name).role("evolve");
        let db = Db::connect_with(network.url(), options).await?;
        let job = evolve::find(&db, task.job).await?;
        let lane = Arc::new(Lane::new(0));
        let worker = evolve::Worker::new(&job).named(name);
        let stop = worker.stop_handle();
        let step = Stepwise { lane: lane.clone(), kind: task.kind, counter: task.counter };
        let (ending, undo) = (lane.clone(), task.undo);
        let running = tokio::spawn(async move {
            let ended = if undo { worker.undo().await } else { worker.run(step).await };
            ending.end(match ended {
                Ok(report) => show_report(&report),
                Err(error) => format!("error: {error}"),
            });
        });
        Ok(Worker { lane, network, running, stop })
    }

    /// Ends with the fact that the command waits for; none: it says nothing.
    pub(crate) async fn run(&mut self, words: &[&str], names: &Names) -> Result<Option<String>, String> {
        let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{text:?} is not a number"));
        match words {
            ["step", count] => self.lane.let_pass(number(count)?),
            ["go"] => {
                self.lane.let_pass(usize::MAX);
                return Ok(None);
            }
            ["go", count] => {
                let count = number(count)?;
                self.lane.let_pass(count);
                self.lane.until(|lane| lane.made.len() >= count).await;
                return Ok(Some(self.show(names)));
            }
            ["at"] => {}
            ["end"] => {
                self.lane.let_pass(usize::MAX);
                self.lane.until(|lane| lane.ended.is_some()).await;
            }
            ["stop"] => {
                self.stop.stop();
                return Ok(None);
            }
            ["kill"] => {
                self.running.abort();
                self.network.cut();
                let _ = (&mut self.running).await;
                return Ok(None);
            }
            ["reconnect"] => {
                self.network.cut();
                return Ok(None);
            }
            ["deafen"] => {
                self.network.deafen();
                return Ok(None);
            }
            _ => return Err(format!("a worker knows no command {:?}", words.join(" "))),
        }
        self.lane.until(super::lane::Steps::rest).await;
        Ok(Some(self.show(names)))
    }

    /// There is a new server: a line on which nothing was heard is left behind.
    pub(crate) fn call_again(&self) {
        if self.network.is_deaf() {
            self.network.cut();
        }
    }

    /// Until it stands in its first step, or has ended.
    pub(crate) async fn begin(&self, names: &Names) -> String {
        self.lane.until(super::lane::Steps::rest).await;
        self.show(names)
    }

    fn show(&self, names: &Names) -> String {
        let (made, at, ended) = self.lane.take();
        let one = |(cell, well): &(zeolite_client::Cell, bool)| {
            format!("{}{}", names.show_cell(cell), if *well { "" } else { " (failed)" })
        };
        let mut parts = Vec::new();
        if !made.is_empty() {
            parts.push(format!("stepped {}", made.iter().map(one).collect::<Vec<_>>().join(", ")));
        }
        parts.extend(at.map(|cell| format!("at {}", names.show_cell(&cell))));
        parts.extend(ended.map(|said| format!("ended: {}", names.tame(&said))));
        if parts.is_empty() { "nowhere".into() } else { parts.join("; ") }
    }
}

fn show_report(report: &Report) -> String {
    let counts = &report.counts;
    format!("job {}, {} changed by this worker", report.phase.text(), counts.changed)
}
