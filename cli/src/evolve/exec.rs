//! Owns steps that a program in any language makes.
//!
//! ```text
//!   step ──> queue ──> runner, one for each task ──> its process: a question is a line, or many in one line (--batch)
//!     └── writes its answer asks for <── whose it is ──┘
//! ```
//! What goes wrong with the program is no object's fault:
//!
//! ```text
//!   it cannot be started; it says what is no answer, or more than was asked     this worker ends with the reason
//!   it dies, or is silent for too long                                          a new process is asked the same again, each object
//!                                                                               alone; at its third time an object goes to the
//!                                                                               quarantine, if others were answered meanwhile
//!   it does so time and again, and nothing is answered between                  this worker ends with the reason
//! ```
//! No answer is ever used for another object: each repeats whose it is, and what nobody asked for ends the program.

mod answer;
mod parts;
mod process;
mod queue;
mod runner;
mod writes;

use crate::output::Out;
use answer::{Answer, Question};
use process::Program;
use queue::{Asked, Queue};
use runner::Runner;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use writes::{Places, Wrong};
use zeolite_client::evolve::{Step, Stepped};
use zeolite_client::{Cell, Error, Record, Tx};

/// Questions that wait at once where each is a line: an object that kills the program is told from a program that never works.
const WAITING: usize = 16;

/// How a program is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asking {
    /// For one answer.
    pub(super) within: Duration,
    /// Objects of one line, at most; none: each has a line, which is no list.
    pub(super) batch: Option<usize>,
    /// Processes.
    pub(super) tasks: usize,
}

/// A step that is a program.
pub(super) struct Exec {
    name: String,
    at_once: usize,
    queue: Arc<Queue>,
    places: Places,
    runners: Mutex<Vec<JoinHandle<()>>>,
}

impl Exec {
    /// Starts the first process, to see that it can be.
    pub(super) fn start(out: &Out, program: &[String], job: &str, asking: Asking) -> std::io::Result<Exec> {
        let queue = Arc::new(Queue::default());
        let program = Arc::new(Program::new(program, job, out.is_json()));
        let mut first = Some(program.start()?);
        let runner = |_| {
            let runner = Runner::new(program.clone(), queue.clone(), asking, first.take());
            tokio::spawn(runner.run())
        };
        let runners = Mutex::new((0..asking.tasks.max(1)).map(runner).collect());
        let at_once = asking.batch.unwrap_or(WAITING).max(WAITING);
        Ok(Exec { name: program.text(), at_once, queue, places: Places::default(), runners })
    }

    /// Lets all processes end.
    pub(super) async fn end(&self) {
        self.queue.close();
        let runners = std::mem::take(&mut *self.runners.lock().unwrap_or_else(PoisonError::into_inner));
        for runner in runners {
            // One that panicked has left a process that ends with its input.
            let _ = runner.await;
        }
    }
}

impl Exec {
    /// Does what an answer says. Inside: the program's own error.
    async fn done(&self, answer: &Answer, tx: &Tx, cell: &Cell, old: Record) -> Result<Result<Stepped, String>, Wrong> {
        let names = writes::named(&answer.writes, tx).await?;
        let meaning = answer.meaning(old, &names).map_err(Wrong::Rubbish)?;
        writes::act(&answer.writes, &names, &self.places, tx, cell).await?;
        Ok(meaning)
    }
}

impl Step for Exec {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        let (reply, answered) = oneshot::channel();
        self.queue.push(Asked::new(cell.clone(), Question::new(cell, &old).json(), reply));
        let answer = answered.await.map_err(|_| Error::worker("the program was ended"))??;
        match self.done(&answer, tx, cell, old).await {
            Ok(meant) => meant.map_err(Error::app),
            Err(Wrong::Refused(error)) => Err(error),
            Err(Wrong::Rubbish(why)) => Err(Error::worker(self.queue.break_off(&format!("at {cell}: {why}")))),
        }
    }

    fn at_once(&self) -> usize {
        self.at_once
    }

    fn limits_itself(&self) -> bool {
        true
    }
}
