//! Owns the loop of one process: what waits is asked, as much at once as one line may hold, and what goes wrong is judged.
//!
//! No timer fills a batch: while the program works on one, the next one gathers.

use super::Asking;
use super::answer::{Answer, answers};
use super::process::{Process, Program, Trouble};
use super::queue::{Asked, Queue};
use std::sync::Arc;
use zeolite_client::Error;

/// Processes that may fail with one object, before it is to blame.
const TRIES: u32 = 3;
/// Failures in a row, while nothing is answered: of a program that never answered, and of one that did.
const USELESS_MAX: u32 = 3;
const IN_A_ROW_MAX: u32 = 12;

pub(super) struct Runner {
    program: Arc<Program>,
    queue: Arc<Queue>,
    asking: Asking,
    process: Option<Process>,
}

impl Runner {
    pub(super) fn new(program: Arc<Program>, queue: Arc<Queue>, asking: Asking, first: Option<Process>) -> Runner {
        Runner { program, queue, asking, process: first }
    }

    /// Until the queue is closed.
    pub(super) async fn run(mut self) {
        while let Some(asked) = self.queue.take(self.asking.batch.unwrap_or(1)).await {
            let mut process = match self.process.take().map_or_else(|| self.program.start(), Ok) {
                Ok(process) => process,
                Err(error) => {
                    self.give_up(asked, &format!("{} cannot be started: {error}", self.program.text()));
                    continue;
                }
            };
            match self.ask(&mut process, &asked).await {
                Ok(answers) => {
                    self.process = Some(process);
                    self.queue.answered();
                    asked.into_iter().zip(answers).for_each(|(asked, answer)| asked.answer(Ok(answer)));
                }
                Err(Trouble::Rubbish(why)) => {
                    let why = format!("{}: {why}", at(&asked));
                    let why = process.kill(&why).await;
                    self.give_up(asked, &why);
                }
                Err(Trouble::Failed(why)) => {
                    let why = process.kill(&why).await;
                    self.failed(asked, &why);
                }
            }
        }
        if let Some(process) = self.process {
            process.end().await;
        }
    }

    async fn ask(&self, process: &mut Process, asked: &[Asked]) -> Result<Vec<Answer>, Trouble> {
        let (is_batch, within) = (self.asking.batch.is_some(), self.asking.within);
        let mut question = Vec::with_capacity(asked.iter().map(|asked| asked.question.len() + 1).sum::<usize>() + 2);
        question.extend(is_batch.then_some(b'['));
        for (place, asked) in asked.iter().enumerate() {
            question.extend((place > 0).then_some(b','));
            question.extend_from_slice(&asked.question);
        }
        question.extend(is_batch.then_some(b']'));
        question.push(b'\n');
        let line = tokio::time::timeout(within, process.ask(&question)).await;
        let line =
            line.map_err(|_| Trouble::Failed(format!("no answer within {within:?}; the program was killed")))??;
        answers(&line, asked.iter().map(|asked| &asked.cell), is_batch).map_err(Trouble::Rubbish)
    }

    /// The process has died, or was killed since it was silent.
    fn failed(&self, asked: Vec<Asked>, why: &str) {
        let (in_a_row, works) = self.queue.failed();
        let most = if works { IN_A_ROW_MAX } else { USELESS_MAX };
        if in_a_row >= most {
            let why = format!("{}: {why}, {most} times in a row", at(&asked));
            return self.give_up(asked, &why);
        }
        let is_alone = asked.len() == 1;
        for mut asked in asked {
            asked.failed += u32::from(is_alone);
            if asked.failed >= TRIES && works {
                asked.answer(Err(Error::app(format!("{why}, {TRIES} times with this object"))));
            } else {
                self.queue.push_alone(asked);
            }
        }
    }

    fn give_up(&self, asked: Vec<Asked>, why: &str) {
        let why = self.queue.break_off(why);
        asked.into_iter().for_each(|asked| asked.answer(Err(Error::worker(&why))));
    }
}

/// Where it was.
fn at(asked: &[Asked]) -> String {
    match asked {
        [one] => format!("at {}", one.cell),
        [first, ..] => format!("at {} and {} others", first.cell, asked.len() - 1),
        [] => "at nothing".to_owned(),
    }
}
