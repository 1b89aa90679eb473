//! Owns one process of the program: how it is started, one line there and one line back, and how it ends.
//!
//! Processes are in groups of their own, so that Ctrl-C in a terminal is for the worker alone, which finishes its chunk.

use super::answer::shown;
use crate::output::Out;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// An answer, in bytes: the largest record in base64, and some room.
const ANSWER_BYTES_MAX: u64 = 100 << 20;
/// A line on standard error that is passed on.
const REMARK_BYTES_MAX: u64 = 4096;
/// What is read of an answer at once.
const BUFFER_BYTES: usize = 256 << 10;
/// For the process to end once its input has.
const END_WITHIN: Duration = Duration::from_secs(2);
/// For one that dies to tell how, and what its last words are.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(200);

/// A program with its arguments.
pub(super) struct Program {
    words: Vec<String>,
    job: String,
    json: bool,
}

pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The last line on its standard error.
    last_words: Arc<Mutex<String>>,
    /// Hears them.
    listening: JoinHandle<()>,
}

/// What is wrong with a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// It died, or was silent: perhaps because of the object.
    Failed(String),
    /// It said what is no answer: it is no program for this.
    Rubbish(String),
}

impl Program {
    pub(super) fn new(words: &[String], job: &str, json: bool) -> Program {
        Program { words: words.to_vec(), job: job.to_owned(), json }
    }

    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }

    pub(super) fn start(&self) -> std::io::Result<Process> {
        let missing = || std::io::Error::other("a pipe is missing");
        let mut child = Command::new(&self.words[0])
            .args(&self.words[1..])
            .env("ZEOLITE_EVOLVE", &self.job)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = BufReader::with_capacity(BUFFER_BYTES, child.stdout.take().ok_or_else(missing)?);
        let last_words = Arc::new(Mutex::new(String::new()));
        let remarks = child.stderr.take().ok_or_else(missing)?;
        let name = (!self.json).then(|| self.words[0].clone());
        let listening = tokio::spawn(listen(remarks, last_words.clone(), name));
        Ok(Process { child, input, output, last_words, listening })
    }
}

impl Process {
    /// One line there, one line back, and nothing else.
    pub(super) async fn ask(&mut self, question: &[u8]) -> Result<Vec<u8>, Trouble> {
        self.is_silent()?;
        let Process { input, output, .. } = self;
        let mut line = Vec::new();
        let mut limited = output.take(ANSWER_BYTES_MAX + 1);
        let there = async {
            input.write_all(question).await?;
            input.flush().await
        };
        // It may answer before it has read all.
        let (written, read) = tokio::join!(there, limited.read_until(b'\n', &mut line));
        read.map_err(|error| Trouble::Failed(format!("its answer cannot be read: {error}")))?;
        if line.last() != Some(&b'\n') {
            return Err(if line.len() as u64 > ANSWER_BYTES_MAX {
                Trouble::Rubbish(format!("its answer is over {ANSWER_BYTES_MAX} bytes"))
            } else {
                Trouble::Failed("the program ended without an answer".to_owned())
            });
        }
        if written.is_err() {
            return Err(Trouble::Failed("the program does not read its input".to_owned()));
        }
        self.is_silent()?;
        Ok(line)
    }

    /// Nothing that it said waits to be read: it would be taken for the answer to the next question.
    fn is_silent(&self) -> Result<(), Trouble> {
        let (said, waits) = (self.output.buffer(), rustix::io::ioctl_fionread(self.output.get_ref()).unwrap_or(0));
        if said.is_empty() && waits == 0 {
            return Ok(());
        }
        let what = if said.is_empty() { String::new() } else { format!(" ({})", shown(said)) };
        Err(Trouble::Rubbish(format!("it says more than its answers{what}; print remarks on standard error")))
    }

    /// Lets it end by itself.
    pub(super) async fn end(self) {
        let Process { mut child, input, .. } = self;
        drop(input);
        // Too slow: dropping kills it.
        let _ = tokio::time::timeout(END_WITHIN, child.wait()).await;
    }

    /// Ends it at once; gives the reason with what the process has left.
    pub(super) async fn kill(mut self, why: &str) -> String {
        // One that ends by itself tells how; a moment is enough for that, if it has closed its output.
        let ended = tokio::time::timeout(LAST_WORDS_WITHIN, self.child.wait()).await;
        let status = match ended {
            Ok(Ok(status)) => format!(" ({status})"),
            _ => String::new(),
        };
        // Dead or to be killed; it cannot fail in a way that matters.
        let _ = self.child.kill().await;
        // What it has said last may still be on its way; a process of its own may hold the pipe open.
        let _ = tokio::time::timeout(LAST_WORDS_WITHIN, self.listening).await;
        let last_words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last_words = if last_words.is_empty() { last_words } else { format!("; its last words: {last_words}") };
        format!("{why}{status}{last_words}")
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
