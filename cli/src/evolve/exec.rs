//! Owns steps that a program in any language makes: its processes, one per task, and what may go wrong with them.
//!
//! ```text
//!   idle processes ──> one is taken ──> question, answer ──> back to the idle ones
//!                      none: started         └─ late, dead, or it said what is no answer: killed, the object is in error
//! ```
//! One that has said something since its last answer is not asked again: it is ended, and another one is started. What it said belongs to
//! no object.
//!
//! What goes wrong with one object is that object's error, and the next object gets a new process. A program that has
//! never given an answer, time and again, is no step at all: then the worker stops.
//!
//! Processes are in groups of their own, so that Ctrl-C in a terminal is for the worker alone, which finishes its chunk.

mod answer;

use crate::output::Out;
use answer::Question;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use zeolite_client::evolve::{Step, Stepped};
use zeolite_client::{Cell, Error, Fault, FaultKind, Record, Tx};

/// An answer, in bytes: the largest record in base64, and some room.
const ANSWER_BYTES_MAX: u64 = 100 << 20;
/// A line on standard error that is passed on.
const REMARK_BYTES_MAX: u64 = 4096;
/// So many processes without any answer: the program does not work.
const USELESS_MAX: u32 = 3;
/// For the process to end once its input has.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A step that is a program.
pub(super) struct Exec {
    program: Vec<String>,
    job: String,
    within: Duration,
    json: bool,
    idle: Mutex<Vec<Process>>,
    useless: AtomicU32,
    /// It did work once: whatever comes is about single objects.
    works: AtomicBool,
    /// It says more than its answers; that was told.
    chatty: AtomicBool,
    /// Why the program does not work.
    broken: watch::Sender<Option<String>>,
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The last line on its standard error.
    last_words: Arc<Mutex<String>>,
}

impl Exec {
    pub(super) fn new(out: &Out, program: &[String], job: &str, within: Duration) -> Exec {
        Exec {
            program: program.to_vec(),
            job: job.to_owned(),
            within,
            json: out.is_json(),
            idle: Mutex::default(),
            useless: AtomicU32::new(0),
            works: AtomicBool::new(false),
            chatty: AtomicBool::new(false),
            broken: watch::Sender::new(None),
        }
    }

    /// Starts a process, and keeps it for the first object.
    pub(super) fn try_out(&self) -> std::io::Result<()> {
        let process = self.start()?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
        Ok(())
    }

    /// Why the program does not work; waits for ever while it does.
    pub(super) async fn broken(&self) -> String {
        let mut told = self.broken.subscribe();
        let told = told.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match told {
            Some(why) => why,
            None => std::future::pending().await,
        }
    }

    /// Lets all processes end.
    pub(super) async fn end(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for process in idle {
            process.end().await;
        }
    }

    fn start(&self) -> std::io::Result<Process> {
        let missing = || std::io::Error::other("a pipe is missing");
        let mut child = Command::new(&self.program[0])
            .args(&self.program[1..])
            .env("ZEOLITE_EVOLVE", &self.job)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let last_words = Arc::new(Mutex::new(String::new()));
        let remarks = child.stderr.take().ok_or_else(missing)?;
        tokio::spawn(listen(remarks, last_words.clone(), (!self.json).then(|| self.program[0].clone())));
        Ok(Process { child, input, output, last_words })
    }

    fn taken(&self) -> std::io::Result<Process> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                None => return self.start(),
                Some(process) if process.is_silent() => return Ok(process),
                // Dropping it kills it.
                Some(_) if self.chatty.swap(true, Ordering::Relaxed) => {}
                Some(_) => Out::new(self.json).remark(
                    "the program says more than its answers; each time it does it is started anew: print remarks on standard error",
                ),
            }
        }
    }

    /// The step does not work: the chunk waits, and whoever runs the worker stops it.
    fn give_up(&self, why: String) -> Error {
        self.broken.send_replace(Some(why.clone()));
        Fault::new(FaultKind::Busy, format!("the program of the step does not work: {why}")).into()
    }

    async fn ask(&self, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        let mut process = self.taken().map_err(|error| self.give_up(error.to_string()))?;
        let question = Question::new(cell, &old).line();
        let asked = tokio::time::timeout(self.within, process.ask(&question)).await;
        let trouble = match asked {
            Ok(Ok(line)) => match answer::meaning(&line, cell, old) {
                Ok(meaning) => {
                    self.works.store(true, Ordering::Relaxed);
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
                    return meaning.map_err(Error::app);
                }
                Err(trouble) => trouble,
            },
            Ok(Err(trouble)) => trouble,
            Err(_) => format!("no answer within {:?}; the program was killed", self.within),
        };
        let trouble = process.kill(trouble).await;
        if !self.works.load(Ordering::Relaxed) && self.useless.fetch_add(1, Ordering::Relaxed) + 1 >= USELESS_MAX {
            return Err(self.give_up(trouble));
        }
        Err(Error::app(trouble))
    }
}

impl Step for Exec {
    fn name(&self) -> String {
        self.program.join(" ")
    }

    async fn step(&self, _: &Tx, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        self.ask(cell, old).await
    }
}

impl Process {
    /// One line there, one line back.
    async fn ask(&mut self, question: &[u8]) -> Result<Vec<u8>, String> {
        let ended = || "the program ended without an answer".to_owned();
        if self.input.write_all(question).await.is_err() || self.input.flush().await.is_err() {
            return Err(ended());
        }
        let mut line = Vec::new();
        let mut limited = (&mut self.output).take(ANSWER_BYTES_MAX + 1);
        let read = limited.read_until(b'\n', &mut line).await;
        read.map_err(|error| format!("its answer cannot be read: {error}"))?;
        if line.last() != Some(&b'\n') {
            let too_long = line.len() as u64 > ANSWER_BYTES_MAX;
            return Err(if too_long { format!("its answer is over {ANSWER_BYTES_MAX} bytes") } else { ended() });
        }
        // Another line would be taken for the answer to the next question.
        if !self.output.buffer().is_empty() {
            return Err("it said more than one line; print remarks on standard error".to_owned());
        }
        Ok(line)
    }

    /// Nothing that it said waits to be read.
    fn is_silent(&self) -> bool {
        let waits = rustix::io::ioctl_fionread(self.output.get_ref()).unwrap_or(0);
        self.output.buffer().is_empty() && waits == 0
    }

    async fn end(self) {
        let Process { mut child, input, .. } = self;
        drop(input);
        // Too slow: dropping kills it.
        let _ = tokio::time::timeout(END_WITHIN, child.wait()).await;
    }

    /// Ends it at once; gives the trouble with what the process has left.
    async fn kill(mut self, trouble: String) -> String {
        // One that ends by itself tells how; a moment is enough for that, if it has closed its output.
        let ended = tokio::time::timeout(Duration::from_millis(200), self.child.wait()).await;
        let status = match ended {
            Ok(Ok(status)) => format!(" ({status})"),
            _ => String::new(),
        };
        // Dead or to be killed; it cannot fail in a way that matters.
        let _ = self.child.kill().await;
        let last_words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last_words = if last_words.is_empty() { last_words } else { format!("; its last words: {last_words}") };
        format!("{trouble}{status}{last_words}")
    }
}

/// Passes a process's standard error on, line by line, and keeps the last one.
async fn listen(remarks: ChildStderr, last_words: Arc<Mutex<String>>, name: Option<String>) {
    let mut remarks = BufReader::new(remarks);
    loop {
        let mut line = Vec::new();
        match (&mut remarks).take(REMARK_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Some(name) = &name {
            Out::new(false).complain(format_args!("{name}: {text}"));
        }
        if !text.is_empty() {
            *last_words.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }
}
