//! Owns the guard: every second it looks at the files of certificates and users, tells how they stand, and cuts connections on which
//! something was granted that does not hold any more.
//!
//! ```text
//!   a second, or SIGHUP ──> tls, authority: changed? ──> standing (status, check) ──> connections: cut what is revoked or expired
//! ```
//! The files are compared byte by byte: no time stamp can hide a change, and they are small.

use super::connection::Connections;
use super::tls::Tls;
use crate::auth::Authority;
use crate::auth::standing::{Standing, Told};
use crate::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_secs(1);

/// What the guard looks at.
pub(super) struct Guarded {
    pub(super) authority: Arc<Authority>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) connections: Arc<Connections>,
    pub(super) standing: Arc<Standing>,
    pub(super) clock: Arc<dyn Clock>,
    /// Whether it was told that the certificate has expired.
    pub(super) expiry_told: AtomicBool,
}

/// The guard at work; it ends when it is dropped.
pub(super) struct Guard {
    task: JoinHandle<()>,
    now: Arc<Notify>,
}

impl Guarded {
    /// Looks once. Reads the disk.
    pub(super) fn look(&self) {
        self.authority.look_again();
        if let Some(tls) = &self.tls {
            tls.look_again();
            self.tell_expiry(tls.expires_unix_ms());
        }
        let of_tls = self.tls.as_ref().and_then(|tls| tls.problem());
        let problems: Vec<String> = of_tls.into_iter().chain(self.authority.problem()).collect();
        self.standing.tell(Told {
            users: self.authority.users(),
            anonymous: self.authority.anonymous(),
            certificate_expires_unix_ms: self.tls.as_ref().map_or(0, |tls| tls.expires_unix_ms()),
            problem: (!problems.is_empty()).then(|| problems.join("; ")),
        });
        self.connections.cut_revoked();
        if let Some(tls) = &self.tls {
            self.connections.cut_untrusted(tls);
        }
    }

    /// Once, when it has happened: a server with an old certificate still serves those who take it.
    fn tell_expiry(&self, expires_unix_ms: u64) {
        let has_expired = self.clock.unix_nanos() / 1_000_000 >= i128::from(expires_unix_ms);
        if has_expired != self.expiry_told.swap(has_expired, Ordering::Relaxed) && has_expired {
            tracing::error!(
                "the certificate in tls.cert has expired, and clients refuse it; write a new one into that file, and its key"
            );
        }
    }
}

impl Guard {
    pub(super) fn start(guarded: Guarded) -> Guard {
        let (guarded, now) = (Arc::new(guarded), Arc::new(Notify::new()));
        let asked = now.clone();
        let task = tokio::spawn(async move {
            loop {
                let looking = guarded.clone();
                // One that dies has told so itself; the next comes in a second.
                drop(tokio::task::spawn_blocking(move || looking.look()).await);
                // Whichever comes first.
                drop(tokio::time::timeout(EVERY, asked.notified()).await);
            }
        });
        Guard { task, now }
    }

    /// Looks without waiting for the next second.
    pub(super) fn look_now(&self) {
        self.now.notify_one();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}
