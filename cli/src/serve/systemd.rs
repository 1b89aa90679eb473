//! Owns what a service manager is told and what it hands over (systemd, or whoever speaks its protocols): sd_listen_fds(3), sd_notify(3).
//!
//! ```text
//!   zeolite.socket ── listener ──> serve          it stays open while no process is there: who connects waits
//!   serve ── READY, RELOADING, STOPPING, MAINPID, WATCHDOG ──> the manager
//! ```
//! Without a manager nothing of this does anything.

use anyhow::{Context, Result, ensure};
use listenfd::ListenFd;
use rustix::io::FdFlags;
use sd_notify::NotifyState;
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use tokio::task::JoinHandle;
use zeolite_server::server::{Pulse, Server};

/// By these a listener is handed over, and said whose signs of life are wanted: of this process alone.
const OF_THIS_PROCESS: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The listener that the manager keeps for this process; none: it keeps none.
pub(super) fn listener() -> Result<Option<TcpListener>> {
    let mut all = ListenFd::from_env();
    ensure!(
        all.len() <= 1,
        "the service manager hands over {} sockets, and this server accepts on one: name one ListenStream=, [::]:7878 for both IPv4 and IPv6",
        all.len()
    );
    let listener = all.take_tcp_listener(0).context("the socket of the service manager")?;
    if let Some(listener) = &listener {
        rustix::io::fcntl_setfd(listener, FdFlags::CLOEXEC)?;
    }
    Ok(listener)
}

/// A command that is not taken for this process.
pub(super) fn of_another_process(command: &mut Command) -> &mut Command {
    OF_THIS_PROCESS.iter().fold(command, |command, variable| command.env_remove(variable))
}

/// Tells the manager how it stands.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how the server stands");
    }
}

/// What is told before files are read anew, and `READY` after it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no steady clock"),
    }
}

/// Gives the manager the signs of life that it wants, until this is dropped. Once there is a server, only as long as its databases move:
/// what stands still is to be started anew. Before, and when it has gone, as long as there is a process.
pub(super) struct Watchdog {
    pulse: Arc<OnceLock<Pulse>>,
    task: Option<JoinHandle<()>>,
}

impl Watchdog {
    pub(super) fn start() -> Watchdog {
        let pulse = Arc::new(OnceLock::<Pulse>::new());
        let of = pulse.clone();
        let task = sd_notify::watchdog_enabled().map(|longest| {
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(longest / 3).await;
                    if let Some(pulse) = of.get() {
                        pulse.beats().await;
                    }
                    tell(&[NotifyState::Watchdog]);
                }
            })
        });
        Watchdog { pulse, task }
    }

    /// There is a server.
    pub(super) fn of(&self, server: &Server) {
        // There is one in the life of a process.
        drop(self.pulse.set(server.pulse()));
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
