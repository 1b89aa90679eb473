//! Owns the served database: the real binary on a data directory, ended in one way or another and started again.

use crate::program::{FILE, ended_with_its_thread, listening, wait_until_free};
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Killed.
    Kill,
    /// Asked to stop.
    Term,
    /// Killed, and the next life too, while it is opening the database.
    KillTwice,
    /// Asked to let a new process take its place.
    HandOver,
}

/// A running `zeolite serve`.
pub(crate) struct Served {
    child: Child,
    /// Of the child, or of a process that took its place.
    pid: u32,
    /// What all of them print.
    lines: BufReader<ChildStdout>,
    address: SocketAddr,
    dir: Arc<tempfile::TempDir>,
}

impl Served {
    /// On a new data directory and a port that the system chooses.
    pub(crate) fn start() -> Served {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        Served::start_on(dir, "127.0.0.1:0")
    }

    fn start_on(dir: Arc<tempfile::TempDir>, listen: &str) -> Served {
        let mut child = spawn(dir.path(), listen);
        let mut lines = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let (address, pid) = listening(&mut lines);
        let address = address.parse().expect("an address");
        assert_eq!(pid, child.id());
        Served { child, pid, lines, address, dir }
    }

    /// Where clients connect to.
    pub(crate) fn url(&self) -> String {
        self.address.to_string()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends this life and begins the next on the same directory and port.
    pub(crate) fn end_and_start_again(mut self, end: End) -> Served {
        let signal = match end {
            End::Term => "TERM",
            End::HandOver => "USR2",
            End::Kill | End::KillTwice => "KILL",
        };
        let sent = send(signal, self.pid);
        assert!(sent, "signal {signal} to {}", self.pid);
        let next = (end == End::HandOver).then(|| listening(&mut self.lines));
        if self.pid == self.child.id() {
            let ended = self.child.wait().expect("it can be waited for");
            assert_eq!(ended.success(), matches!(end, End::Term | End::HandOver), "after {end:?}: {ended}");
        } else if next.is_none() {
            wait_until_free(self.dir.path());
        }
        if let Some((address, pid)) = next {
            assert_eq!(address, self.url());
            self.pid = pid;
            return self;
        }
        if end == End::KillTwice {
            let mut child = spawn(self.dir.path(), &self.url());
            while !has_opened_a_segment(child.id()) {
                assert!(child.try_wait().expect("it can be asked").is_none(), "it died by itself");
                std::thread::yield_now();
            }
            child.kill().expect("kills");
            child.wait().expect("it can be waited for");
        }
        Served::start_on(self.dir.clone(), &self.url())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as good.
        let _ = self.child.kill();
        if self.pid != self.child.id() {
            send("KILL", self.pid);
        }
        let _ = self.child.wait();
    }
}

fn send(signal: &str, pid: u32) -> bool {
    Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().expect("kill runs").success()
}

fn spawn(dir: &Path, listen: &str) -> Child {
    ended_with_its_thread(FILE)
        .args(["--json", "serve", "--log", "error", "--listen", listen])
        // Small segments and checkpoints, so that kills fall into their changes too.
        .args(["--set", "store.segment_bytes_max=65536", "--set", "store.checkpoint_log_bytes=30000"])
        // Pack goes up to what is newest.
        .args(["--set", "engine.history_min_s=0", "--set", "engine.pin_grace_s=0", "--data"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// Whether a process is at the log. Where the system does not tell, every moment is as good.
fn has_opened_a_segment(pid: u32) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let mut targets = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    targets.any(|target| target.extension().is_some_and(|extension| extension == "seg"))
}
