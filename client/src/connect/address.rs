//! Owns the choice among several addresses: the server that takes writes, or one that can be read at least.
//!
//! ```text
//!   all asked at once:  primary of the newest term that any of them tells ────────> taken; of equals the first
//!                       follower, or fenced, or of an older term than was met ────> read from when no primary is found
//!                       follower that is behind what this client has seen ────────> not taken: time would run back
//!                       server of another store than the one that was met ────────> not taken, unless all are
//! ```
//! Once one has answered that can be taken, the others have [`OTHERS_WITHIN`] to tell of a newer term: one that is not there is not waited for
//! longer. Until then those that have answered otherwise are asked again: an address that says nothing holds none of the others up.
//! A client that only reads (role `read`) takes the first in order, a follower as it finds it. One that writes and has found none but copies reads
//! there, and goes on looking for the primary; its commits wait for that. With a single address whoever is there is taken.
//!
//! Terms are counted within a store. A stray server with another store, be its term the greatest, gets neither reads nor writes of a client that
//! knows which store is meant; where every address answers with another store, the store was made anew, and the client begins anew.

use super::{Core, url_of};
use crate::errors::{Error, Result};
use crate::wire::{self, Hello, Incoming, Link, Welcome};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::{Seat, Tid};

/// Between two rounds in which a primary is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// One has answered: so long the others may take to tell of a newer one.
const OTHERS_WITHIN: Duration = Duration::from_secs(1);

type Opened = (Link, Incoming);

/// What is at an address.
struct Found {
    url: String,
    store_id: u64,
    term: u64,
    takes_writes: bool,
}

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

    /// Whether it is of another store than the one that was met, and there is a choice.
    fn is_stranger(&self, welcome: &Welcome) -> bool {
        let met = self.store_id.load(Ordering::Acquire);
        self.has_choice() && met != 0 && met != welcome.store_id
    }

    /// Whether it can be taken as it is.
    fn fits(&self, hello: &Hello, welcome: &Welcome) -> bool {
        !self.is_stranger(welcome) && (self.is_primary(welcome) || self.can_be_read(hello, welcome))
    }

    fn only_reads(&self) -> bool {
        self.options.role == "read"
    }

    fn can_be_read(&self, hello: &Hello, welcome: &Welcome) -> bool {
        // Nothing has been shown to anybody by a process that begins: what its cache's file has seen it drops.
        let begins = self.store_id.load(Ordering::Acquire) == 0;
        let is_same = hello.store_id == welcome.store_id;
        begins || !is_same || welcome.visible >= hello.resume_from.max(self.position.get())
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
    let Looked { found, mut failed, is_made_anew } = look(core, hello).await;
    let open = async |url| open_judged(core, url, hello, is_made_anew).await;
    if core.only_reads() {
        for Found { url, .. } in found {
            match open(url).await {
                Ok(opened) => return Ok(opened),
                Err(error) => keep(&mut failed, error),
            }
        }
        return Err(failed.expect("one of them cannot be read, or was not there when it was to be"));
    }
    let (newest, older) = by_term(found);
    let (primaries, copies): (Vec<_>, Vec<_>) = newest.into_iter().partition(|found| found.takes_writes);
    for Found { url, .. } in primaries {
        match open(url).await {
            Ok(opened) if core.is_primary(opened.0.welcome()) => return Ok(opened),
            Ok(_) => {}
            Err(error) => keep(&mut failed, error),
        }
    }
    match (copies.into_iter().chain(older).next(), failed) {
        (Some(Found { url, .. }), _) => open(url).await,
        (None, Some(failed)) => Err(failed),
        (None, None) => Err(Error::Disconnected { url: core.url.clone(), reason: "it is not the primary".to_owned() }),
    }
}

/// Opens one that was found. Behind an address somebody else may answer the second time.
async fn open_judged(core: &Core, url: String, hello: &Hello, is_made_anew: bool) -> Result<Opened> {
    let opened = open_at(core, url.clone(), hello).await?;
    match opened.0.welcome() {
        welcome if core.is_stranger(welcome) && !is_made_anew => Err(of_another_store(core, url, welcome, &[])),
        _ => Ok(opened),
    }
}

/// What there is at the addresses.
struct Looked {
    /// In order.
    found: Vec<Found>,
    /// Why others do not count.
    failed: Option<Error>,
    /// All are of one other store than the one that was met.
    is_made_anew: bool,
}

async fn look(core: &Core, hello: &Hello) -> Looked {
    let (mut found, mut failed) = (Vec::new(), None);
    let answers = ask_all(core, hello).await;
    for welcome in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
        if welcome.store_id == core.store_id.load(Ordering::Acquire) {
            core.term.fetch_max(welcome.term, Ordering::AcqRel);
        }
    }
    let is_stranger = |answer: &Result<Welcome>| answer.as_ref().is_ok_and(|welcome| core.is_stranger(welcome));
    // All of one: which of two strangers is meant nobody here can know.
    let stores: BTreeSet<u64> =
        answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).map(|welcome| welcome.store_id).collect();
    let is_made_anew = answers.len() == core.urls().count()
        && stores.len() == 1
        && answers.iter().all(|(_, answer)| is_stranger(answer));
    let not_strange = core
        .urls()
        .filter(|url| !answers.iter().any(|(at, answer)| at == url && is_stranger(answer)))
        .collect::<Vec<_>>();
    let mut strange = None;
    for (url, answer) in answers {
        match answer {
            Ok(welcome) if core.is_stranger(&welcome) && !is_made_anew => {
                strange.get_or_insert(of_another_store(core, url, &welcome, &not_strange));
            }
            Ok(welcome) if is_made_anew || core.fits(hello, &welcome) => {
                let (takes_writes, Welcome { store_id, term, .. }) = (core.is_primary(&welcome), welcome);
                found.push(Found { url, store_id, term, takes_writes });
            }
            Ok(welcome) => keep(&mut failed, is_behind(core, url, &welcome)),
            Err(error) => keep(&mut failed, error),
        }
    }
    // That an address says nothing is no news to whoever has restored a database and waits for what he cannot see.
    if failed.as_ref().is_none_or(is_lost) {
        failed = strange.or(failed);
    }
    Looked { found, failed, is_made_anew }
}

/// Asks at all addresses at the same time, until each has answered or failed, or one that fits has and the others had their time: who does not fit
/// is asked again as long as others say nothing. In their order: who has answered in time, as it did at last.
async fn ask_all(core: &Core, hello: &Hello) -> Vec<(String, Result<Welcome>)> {
    let urls: Vec<String> = core.urls().collect();
    let one = async |n: usize, pause: Duration| {
        tokio::time::sleep(pause).await;
        (n, ask(core, urls[n].clone()).await)
    };
    let mut asked: FuturesUnordered<_> = (0..urls.len()).map(|n| one(n, Duration::ZERO)).collect();
    let mut answers = BTreeMap::new();
    let mut until = None;
    while answers.len() < urls.len() {
        let next = match until {
            // Each has a time limit of its own.
            None => asked.next().await,
            Some(until) => tokio::time::timeout_at(until, asked.next()).await.ok().flatten(),
        };
        let Some((n, answer)) = next else { break };
        if answer.as_ref().is_ok_and(|it| core.fits(hello, it)) {
            until.get_or_insert_with(|| Instant::now() + OTHERS_WITHIN);
        } else {
            asked.push(one(n, LOOK_EVERY));
        }
        answers.insert(n, answer);
    }
    answers.into_iter().map(|(n, answer)| (urls[n].clone(), answer)).collect()
}

/// Those that nobody of the same store tells a newer term than, and the others; both in order.
fn by_term(found: Vec<Found>) -> (Vec<Found>, Vec<Found>) {
    let newest = |store_id| found.iter().filter(|other| other.store_id == store_id).map(|other| other.term).max();
    let is_newest: Vec<bool> = found.iter().map(|one| newest(one.store_id) == Some(one.term)).collect();
    let (newest, older): (Vec<_>, Vec<_>) = found.into_iter().zip(is_newest).partition(|(_, is_newest)| *is_newest);
    let only = |found: Vec<(Found, bool)>| found.into_iter().map(|(found, _)| found).collect();
    (only(newest), only(older))
}

fn is_behind(core: &Core, url: String, Welcome { visible, .. }: &Welcome) -> Error {
    let seen = core.position.get();
    let reason = format!("it is a copy that has all up to {visible} only, and this client has seen {seen}");
    Error::Disconnected { url, reason }
}

/// Those of `others` are not, or say nothing.
fn of_another_store(core: &Core, url: String, Welcome { store_id, .. }: &Welcome, others: &[String]) -> Error {
    let met = core.store_id.load(Ordering::Acquire);
    if core.strangers.lock().insert(url.clone(), *store_id) != Some(*store_id) {
        tracing::warn!(
            url,
            "is of another store ({store_id:016x}) than the one that was met ({met:016x}), and is not taken; take it from the addresses"
        );
    }
    let others = if others.is_empty() { String::new() } else { format!(" ({} is not)", others.join(" and ")) };
    let reason = format!(
        "it is of another store ({store_id:016x}) than this client has met ({met:016x}), and not every address is of that one{others}; take \
         it from the addresses, or, if the database was restored, restart this program or bring all addresses to the new one"
    );
    Error::Disconnected { url, reason }
}

fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Disconnected { .. })
}

fn keep(failed: &mut Option<Error>, error: Error) {
    if failed.as_ref().is_none_or(|before| is_lost(before) && !is_lost(&error)) {
        *failed = Some(error);
    }
}

/// Comes back when a primary was found at one of the addresses; each is asked by itself, for one that says nothing keeps none of the others.
pub(super) async fn found_primary(core: &Core) {
    let found_at = async |url: String| {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if ask(core, url.clone())
                .await
                .is_ok_and(|welcome| core.is_primary(&welcome) && !core.is_stranger(&welcome))
            {
                return;
            }
        }
    };
    let mut looked_for: FuturesUnordered<_> = core.urls().map(found_at).collect();
    looked_for.next().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_primaries_the_one_of_the_newer_term_is_taken_and_of_equals_the_first() {
        let found = |(url, store_id, term, takes_writes): (&str, u64, u64, bool)| Found {
            url: url.into(),
            store_id,
            term,
            takes_writes,
        };
        let split = |all: &[(&str, u64, u64, bool)]| {
            let (newest, older) = by_term(all.iter().copied().map(found).collect());
            let urls = |found: Vec<Found>| found.into_iter().map(|one| one.url).collect::<Vec<_>>().join(" ");
            (urls(newest), urls(older))
        };
        let told = |newest: &str, older: &str| (newest.to_owned(), older.to_owned());
        assert_eq!(split(&[("old", 1, 3, true), ("new", 1, 4, true)]), told("new", "old"));
        assert_eq!(split(&[("first", 1, 3, true), ("copy", 1, 3, false)]), told("first copy", ""));
        assert_eq!(split(&[("old", 1, 3, true), ("knows", 1, 4, false)]), told("knows", "old"));
        assert_eq!(split(&[("one", 1, 3, true), ("another store", 2, 9, true)]), told("one another store", ""));
        assert_eq!(split(&[]), told("", ""));
    }
}
