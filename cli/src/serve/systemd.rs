//! Owns what a service manager is told and what it hands over (systemd, or whoever speaks its protocols): sd_listen_fds(3), sd_notify(3).
//!
//! ```text
//!   zeolite.socket ── listener ──> serve          it stays open while no process is there: who connects waits
//!   serve ── READY, RELOADING, STOPPING, STATUS, MAINPID, WATCHDOG ──> the manager
//! ```
//! Without a manager nothing of this does anything.

use anyhow::{Context, Result};
use listenfd::ListenFd;
use rustix::io::FdFlags;
use sd_notify::NotifyState;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

/// By these a listener is handed over.
const OF_LISTENERS: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// The listener that the manager keeps for this process; none: it keeps none.
pub(super) fn listener() -> Result<Option<TcpListener>> {
    let listener = ListenFd::from_env().take_tcp_listener(0).context("the socket of the service manager")?;
    if let Some(listener) = &listener {
        rustix::io::fcntl_setfd(listener, FdFlags::CLOEXEC)?;
    }
    Ok(listener)
}

/// A command that is handed nothing in this way.
pub(super) fn without_listeners(command: &mut Command) -> &mut Command {
    OF_LISTENERS.iter().fold(command, |command, variable| command.env_remove(variable))
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

/// Between two signs of life that the manager wants; none: it wants none.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|longest| longest / 3)
}
