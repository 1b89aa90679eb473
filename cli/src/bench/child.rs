//! Owns a server in a process of its own: what can be killed, and whose memory can be read.

use super::Setting;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// USER_HZ: what Linux counts processor time in for programs, on every platform that it has.
const TICKS_PER_SECOND: u64 = 100;

/// A running `zeolite serve`.
pub(super) struct Server {
    child: Child,
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
        let program: PathBuf = match setting.program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe().context("this program's own file")?,
        };
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--log", "error", "--data"])
            .arg(dir)
            .args(sets.iter().flat_map(|set| ["--set", *set]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the server's process does not start")?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let opened_in = begun.elapsed();
        let Some(line) = line else { bail!("the server ended before it listened; its message is above") };
        let told: Value = serde_json::from_str(&line).with_context(|| format!("the server said {line:?}"))?;
        let address = told["address"].as_str().context("the server told no address")?;
        Ok(Server { child, url: format!("http://{address}"), begun, opened_in })
    }

    /// Resident memory, in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        let pid = self.child.id().context("the server has ended")?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// What it has used of the processors since its start, in user and kernel mode (proc(5), `stat`, fields 14 and 15).
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let pid = self.child.id().context("the server has ended")?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the program's name in parentheses, which may hold anything.
        let (_, fields) = text.rsplit_once(')').context("a line of /proc without a name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// kill -9.
    pub(super) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("the server cannot be killed")
    }
}
