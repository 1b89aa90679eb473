//! Owns a server in a process of its own: what can be killed, and whose memory can be read.

use super::Setting;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// USER_HZ: what Linux counts processor time in for programs, on every platform that it has.
const TICKS_PER_SECOND: u64 = 100;

/// A process that does not outlive this: when it is dropped it is killed, and gone. One that is only killed may make a file yet, or its whole
/// directory, in what whoever has started it deletes next.
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is as good. The runtime asks how it ended: that is left to it.
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let (Some(pid), Ok(())) = (pid, self.0.start_kill()) {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        }
    }
}

/// A running `zeolite serve`.
pub(super) struct Server {
    child: Mortal,
    /// Of the child, or of a process that took its place.
    pid: u32,
    lines: Lines<BufReader<ChildStdout>>,
    pub(super) url: String,
    /// When its process was started.
    pub(super) begun: Instant,
    /// From the start of the process until it listens.
    pub(super) opened_in: Duration,
}

impl Server {
    /// Starts on a directory and waits until it listens.
    pub(super) async fn start(setting: &Setting<'_>, dir: &Path) -> Result<Server> {
        Server::start_with(setting, dir, &[]).await
    }

    /// The same with some settings.
    pub(super) async fn start_with(setting: &Setting<'_>, dir: &Path, sets: &[&str]) -> Result<Server> {
        Server::start_at(setting, dir, ("127.0.0.1:0", &["serve"]), sets).await
    }

    /// A follower of another one.
    pub(super) async fn follow(setting: &Setting<'_>, dir: &Path, primary: &str) -> Result<Server> {
        let primary = primary.trim_start_matches("http://");
        Server::start_at(setting, dir, ("127.0.0.1:0", &["follow", primary]), &[]).await
    }

    async fn start_at(
        setting: &Setting<'_>,
        dir: &Path,
        (listen, command): (&str, &[&str]),
        sets: &[&str],
    ) -> Result<Server> {
        let program: PathBuf = match setting.program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe().context("this program's own file")?,
        };
        let begun = Instant::now();
        let child = Command::new(program)
            .arg("--json")
            .args(command)
            .args(["--listen", listen, "--log", "error", "--data"])
            .arg(dir)
            .args(sets.iter().flat_map(|set| ["--set", *set]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server's process does not start")?;
        let mut child = Mortal(child);
        let stdout = child.0.stdout.take().context("the server has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let (address, pid) = listening(&mut lines).await?;
        let opened_in = begun.elapsed();
        Ok(Server { child, pid, lines, url: format!("http://{address}"), begun, opened_in })
    }

    /// Lets a new process take its place.
    pub(super) async fn hand_over(&mut self) -> Result<()> {
        self.signal(Signal::USR2)?;
        (_, self.pid) = listening(&mut self.lines).await?;
        Ok(())
    }

    /// Stops it in order, and starts another at the same address.
    pub(super) async fn stop_and_start(self, setting: &Setting<'_>, dir: &Path) -> Result<Server> {
        self.signal(Signal::TERM)?;
        self.next(setting, dir).await
    }

    /// kill -9, and another at the same address.
    pub(super) async fn kill_and_start(self, setting: &Setting<'_>, dir: &Path) -> Result<Server> {
        self.signal(Signal::KILL)?;
        self.next(setting, dir).await
    }

    async fn next(mut self, setting: &Setting<'_>, dir: &Path) -> Result<Server> {
        // It ends its output when it ends, or whoever took its place does.
        while self.lines.next_line().await?.is_some() {}
        Server::start_at(setting, dir, (self.url.trim_start_matches("http://"), &["serve"]), &[]).await
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("the server's process")?;
        kill_process(pid, signal).context("the server's process cannot be told")
    }

    /// Resident memory, in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        let pid = self.pid;
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// How many files it has open, sockets and all.
    pub(super) fn open_files(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// What it has used of the processors since its start, in user and kernel mode (proc(5), `stat`, fields 14 and 15).
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let pid = self.pid;
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the program's name in parentheses, which may hold anything.
        let (_, fields) = text.rsplit_once(')').context("a line of /proc without a name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// kill -9.
    pub(super) async fn kill(mut self) -> Result<()> {
        if self.child.0.id() != Some(self.pid) {
            return self.signal(Signal::KILL);
        }
        self.child.0.kill().await.context("the server cannot be killed")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The child ends by itself.
        if self.child.0.id() != Some(self.pid) {
            drop(self.signal(Signal::KILL));
        }
    }
}

/// Where a process says that it listens, and its number.
async fn listening(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<(String, u32)> {
    let Some(line) = lines.next_line().await? else {
        bail!("the server ended before it listened; its message is above")
    };
    let told: Value = serde_json::from_str(&line).with_context(|| format!("the server said {line:?}"))?;
    let address = told["address"].as_str().context("the server told no address")?;
    let pid = told["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).context("the server told no process")?;
    Ok((address.to_owned(), pid))
}
