//! Owns the choice among several addresses: the server that takes writes, or one that can be read at least.
//!
//! ```text
//!   in order:  primary ──────────────────────────────────────> taken
//!              follower, or fenced, or of an older term than was met ──> kept in mind; read from when no primary is found
//!              follower that is behind what this client has seen ──────> not taken: time would run back
//! ```
//! A client that only reads (role `read`) takes a follower as it finds it. One that writes and has found none but copies reads there,
//! and goes on looking for the primary; its commits wait for that. With a single address whoever is there is taken.

use super::{Core, url_of};
use crate::errors::{Error, Result};
use crate::wire::{self, Hello, Incoming, Link, Welcome};
use std::sync::atomic::Ordering;
use std::time::Duration;
use zeolite_proto::{Seat, Tid};

/// Between two rounds in which a primary is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(300);

type Opened = (Link, Incoming);

impl Core {
    /// Whether there is a choice.
    pub(super) fn has_choice(&self) -> bool {
        !self.options.other_addresses.is_empty()
    }

    fn urls(&self) -> impl Iterator<Item = String> {
        let others = self.options.other_addresses.iter().map(|address| url_of(address.clone(), &self.options.tls));
        std::iter::once(self.url.clone()).chain(others)
    }

    /// Whether writes go there, as far as is known.
    pub(super) fn is_primary(&self, welcome: &Welcome) -> bool {
        let is_same = self.store_id.load(Ordering::Acquire) == welcome.store_id;
        let is_old = is_same && welcome.term < self.term.load(Ordering::Acquire);
        welcome.seat == Seat::Primary && !is_old
    }

    fn only_reads(&self) -> bool {
        self.options.role == "read"
    }

    fn can_be_read(&self, hello: &Hello, welcome: &Welcome) -> bool {
        let is_same = hello.store_id == welcome.store_id;
        !is_same || welcome.visible >= hello.resume_from.max(self.position.get())
    }

    /// Whether it is worth while to look for another server than this one.
    pub(super) fn looks_on(&self, welcome: &Welcome) -> bool {
        self.has_choice() && !self.only_reads() && !self.is_primary(welcome)
    }
}

/// Connects and says hello at the first address that fits. A refusal counts before an address that is not there.
pub(super) async fn open(core: &Core, hello: &Hello) -> Result<Opened> {
    if !core.has_choice() {
        return open_at(core, core.url.clone(), hello).await;
    }
    let mut failed: Option<Error> = None;
    let mut readable: Option<String> = None;
    for url in core.urls() {
        match ask(core, url.clone()).await {
            Ok(welcome) if core.is_primary(&welcome) => match open_at(core, url, hello).await {
                Ok(opened) if core.is_primary(opened.0.welcome()) => return Ok(opened),
                Ok(_) => {}
                Err(error) => keep(&mut failed, error),
            },
            Ok(welcome) if core.can_be_read(hello, &welcome) => {
                readable.get_or_insert(url);
                if core.only_reads() {
                    break;
                }
            }
            Ok(Welcome { visible, .. }) => {
                let seen = core.position.get();
                let reason = format!("it is a copy that has all up to {visible} only, and this client has seen {seen}");
                keep(&mut failed, Error::Disconnected { url, reason });
            }
            Err(error) => keep(&mut failed, error),
        }
    }
    match (readable, failed) {
        (Some(url), _) => open_at(core, url, hello).await,
        (None, Some(failed)) => Err(failed),
        (None, None) => Err(Error::Disconnected { url: core.url.clone(), reason: "it is not the primary".to_owned() }),
    }
}

fn keep(failed: &mut Option<Error>, error: Error) {
    let is_lost = |error: &Error| matches!(error, Error::Disconnected { .. });
    if failed.as_ref().is_none_or(|before| is_lost(before) && !is_lost(&error)) {
        *failed = Some(error);
    }
}

/// Comes back when a primary was found at one of the addresses.
pub(super) async fn found_primary(core: &Core) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for url in core.urls() {
            if ask(core, url).await.is_ok_and(|welcome| core.is_primary(&welcome)) {
                return;
            }
        }
    }
}

/// Only asks what is there: what a copy would tell of what was missed is not to be taken in before it is chosen.
async fn ask(core: &Core, url: String) -> Result<Welcome> {
    let hello = Hello { feed: false, resume_from: Tid::NONE, ..core.hello() };
    open_at(core, url, &hello).await.map(|(link, _)| link.welcome().clone())
}

/// Connects and says hello, within the time limit: an address that accepts and says nothing counts as not there.
async fn open_at(core: &Core, url: String, hello: &Hello) -> Result<Opened> {
    let limit = core.options.connect_timeout;
    match tokio::time::timeout(limit, wire::open(&url, limit, hello.clone(), core)).await {
        Ok(opened) => opened,
        Err(_) => Err(Error::Disconnected { url, reason: format!("no hello within {limit:?}") }),
    }
}
