//! Owns the other servers of a follower's list: how they stand, and that they learn of a newer term.
//!
//! Terms are counted within a store. A server of another store, which came into the list by mistake or onto an address that is used again,
//! counts for nothing, however great its term is: it is neither followed nor told anything, and the log says so once.

use crate::server::address;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use zeolite_client::{Admin, Db, Error, FaultKind, Options, Replication, Seat, Tls, Token};
use zeolite_server::server::{CopyOf, Following};
use zeolite_server::settings::{FollowSettings, Settings};

/// A server has so long to answer.
const WITHIN: Duration = Duration::from_secs(2);
/// One that hands over has so long for what it has admitted.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(30);
/// Between two rounds for a store that is to be copied.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The others, for one database.
pub(in crate::serve) struct Peers {
    follow: FollowSettings,
    database: String,
    /// Where this server is reached, for what others are told.
    pub(super) me: String,
    /// Connections that a primary keeps to those that it looks at again and again.
    kept: tokio::sync::Mutex<BTreeMap<String, Admin>>,
    /// Those of other stores that the log has told of: address and store.
    strangers: Mutex<BTreeSet<(String, u64)>>,
}

/// One of them, that has answered.
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) admin: Admin,
    pub(super) standing: Replication,
}

impl Peers {
    pub(in crate::serve) fn new(settings: &Settings, listens: SocketAddr, database: &str) -> Peers {
        let follow = settings.follow.clone();
        let me = if follow.address.is_empty() { listens.to_string() } else { follow.address.clone() };
        Peers { follow, database: database.to_owned(), me, kept: Default::default(), strangers: Default::default() }
    }

    fn options(&self, within: Duration) -> Options {
        let said = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
        let FollowSettings { token_file, ca, cert, key, .. } = &self.follow;
        Options::new()
            .name(format!("follower {}", self.me))
            .database(self.database.clone())
            .token(said(token_file).map(Token::file))
            .tls(Tls::new().ca(said(ca)).cert(said(cert)).key(said(key)).server_name(None))
            .feed(false)
            .cache_bytes(0)
            .connect_timeout(WITHIN)
            .request_timeout(within)
    }

    async fn admin(&self, at: &str, within: Duration) -> Result<Admin> {
        let at = address(at).map_err(anyhow::Error::msg)?;
        Ok(Admin::connect(at.as_str(), &self.options(within).with_credentials_for(&at)?).await?)
    }

    /// A client of a server, for its blobs.
    pub(super) async fn client(&self, at: &str) -> Result<Db> {
        let at = address(at).map_err(anyhow::Error::msg)?;
        let options = self.options(Duration::from_secs(30)).with_credentials_for(&at)?;
        Ok(Db::connect_with(at.as_str(), options).await?)
    }

    /// One of them.
    pub(super) async fn at(&self, at: &str, store_id: u64) -> Result<Peer> {
        let admin = self.admin(at, WITHIN).await?;
        let standing = admin.standing(store_id).await?;
        Ok(Peer { address: at.to_owned(), admin, standing })
    }

    /// The same by the connection that is there since the last time, if it is.
    async fn at_again(&self, at: &str, store_id: u64) -> Result<Peer> {
        let kept = self.kept.lock().await.remove(at);
        let admin = match kept {
            Some(admin) => admin,
            None => self.admin(at, WITHIN).await?,
        };
        let standing = admin.standing(store_id).await?;
        self.kept.lock().await.insert(at.to_owned(), admin.clone());
        Ok(Peer { address: at.to_owned(), admin, standing })
    }

    /// The addresses of the list, but for this server's own.
    fn others(&self) -> Vec<String> {
        self.follow.addresses().map(str::to_owned).filter(|at| *at != self.me).collect()
    }

    /// How each one stands, or why it does not say.
    pub(super) async fn ask(&self, store_id: u64) -> Vec<(String, Result<Peer>)> {
        ask_all(self.others(), |at| async move { self.at(&at, store_id).await }).await
    }

    /// Whether one that could not be asked is there all the same, and only refuses.
    pub(super) fn is_there(error: &anyhow::Error) -> bool {
        // One that has no such database is no copy of it.
        matches!(error.downcast_ref::<Error>(), Some(Error::Fault(fault)) if fault.kind != FaultKind::NotFound)
    }

    /// Whether one is of another store than this copy, and then why it does not count.
    pub(super) fn stranger(&self, peer: &Peer, store_id: u64) -> Option<String> {
        let (at, of) = (&peer.address, peer.standing.store_id);
        if of == store_id {
            return None;
        }
        let mut told = self.strangers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Of a server that is made anew again and again no more is kept than of each address of the list.
        if !told.contains(&(at.clone(), of)) {
            told.retain(|(address, _)| address != at);
            told.insert((at.clone(), of));
            tracing::warn!(
                at,
                database = self.database,
                "is of another store ({of:016x}) than this copy ({store_id:016x}), and does not count; take it from the list (follow.primary)"
            );
        }
        Some(format!(
            "{at} is of another store ({of:016x}) than this copy ({store_id:016x}): follow another one, or begin with an empty data directory"
        ))
    }

    /// The one that takes writes, of the newest term; older ones are told of that.
    pub(super) async fn primary(&self, following: &Following) -> Result<Peer> {
        let (store_id, mut term) = (following.store_id(), following.standing().term);
        let (mut primaries, mut others): (Vec<Peer>, Vec<String>) = (Vec::new(), Vec::new());
        for (at, asked) in self.ask(store_id).await {
            let peer = match asked {
                Ok(peer) => peer,
                Err(error) => {
                    others.push(format!("{at}: {error:#}"));
                    continue;
                }
            };
            if let Some(why) = self.stranger(&peer, store_id) {
                others.push(why);
            } else if peer.standing.seat == Seat::Primary {
                primaries.push(peer);
            } else {
                others.push(match (peer.standing.seat, peer.standing.primary.as_str()) {
                    (seat, "") => format!("{at} is {seat}"),
                    (Seat::Follower, of) => {
                        format!("{at} is a follower of {of}, and is not followed itself: follow {of}")
                    }
                    (seat, by) => format!("{at} is {seat} ({by})"),
                });
            }
        }
        // Of equals the first.
        primaries.sort_by_key(|peer| std::cmp::Reverse(peer.standing.term));
        let mut primaries = primaries.into_iter().peekable();
        let newest = primaries.next_if(|peer| peer.standing.term >= term);
        let mut by = "";
        if let Some(newest) = &newest {
            (term, by) = (newest.standing.term, &newest.address);
        }
        for Peer { address: at, admin, standing } in primaries.filter(|peer| peer.standing.term < term) {
            others.push(format!("{at} is of the older term {}", standing.term));
            if let Err(error) = admin.fence(store_id, term, by).await {
                tracing::warn!(at, %error, "could not be told that another one was promoted");
            }
        }
        match newest {
            Some(peer) => Ok(peer),
            None if others.is_empty() => {
                bail!("no primary is there: nobody is named but this server itself (follow.primary)")
            }
            None => bail!("no primary is there: {}", others.join("; ")),
        }
    }

    /// Tells those that do not know it of this server's term, and learns of a newer one.
    pub(super) async fn tell_term(&self, following: &Following) {
        let (store_id, term) = (following.store_id(), following.standing().term);
        // What it was promoted for itself: it may have met a newer one since.
        let own = following.replication().term;
        for (at, asked) in ask_all(self.others(), |at| async move { self.at_again(&at, store_id).await }).await {
            let Ok(peer) = asked else { continue };
            if self.stranger(&peer, store_id).is_some() {
                continue;
            }
            let Peer { admin, standing, .. } = peer;
            if standing.seat == Seat::Primary && standing.term == own && following.is_returning() {
                tracing::error!(
                    at,
                    term = own,
                    "is the primary of the term that this server was promoted for: its data directory, or this one, was copied; this one becomes another copy, and follows"
                );
                if let Err(fault) = following.renew_id().await {
                    tracing::error!(%fault, "that is not kept over a restart");
                }
            } else if standing.seat == Seat::Primary && standing.term > term {
                if let Err(fault) = following.fence(standing.term, &at) {
                    tracing::error!(%fault, "this server is fenced, and that is not kept over a restart");
                }
            } else if standing.seat == Seat::Primary && standing.term < term {
                match admin.fence(store_id, term, &self.me).await {
                    Ok(_) => tracing::info!(at, term, "was told that it is not the primary any more"),
                    Err(error) => tracing::warn!(at, %error, "could not be told that it is not the primary any more"),
                }
            }
        }
    }

    /// Tells everybody of a term that has just begun, also those that followed the old primary and are not in the list, which go on
    /// confirming to it else; who was told, and who was not.
    pub(super) async fn tell_all(
        &self,
        store_id: u64,
        term: u64,
        followed: impl Iterator<Item = String>,
    ) -> (Vec<String>, Vec<String>) {
        let mut all = self.others();
        for at in followed {
            if at != self.me && !all.contains(&at) {
                all.push(at);
            }
        }
        let (mut told, mut not_told) = (Vec::new(), Vec::new());
        for (at, asked) in ask_all(all, |at| async move { self.at(&at, store_id).await }).await {
            let fenced = match asked {
                Ok(peer) if self.stranger(&peer, store_id).is_some() => continue,
                Ok(peer) => peer.admin.fence(store_id, term, &self.me).await.context("it refuses"),
                Err(error) => Err(error),
            };
            match fenced {
                Ok(_) => told.push(at),
                Err(error) => not_told.push(format!("{at}: {error:#}")),
            }
        }
        (told, not_told)
    }

    /// The primary finishes what it has admitted, and takes nothing more.
    pub(super) async fn hand_over(&self, at: &str, store_id: u64, term: u64) -> Result<Replication> {
        Ok(self.admin(at, HAND_OVER_WITHIN).await?.hand_over(store_id, term, &self.me).await?)
    }
}

/// Asks all of them at once, each within its time.
async fn ask_all<F: Future<Output = Result<Peer>>>(
    all: Vec<String>,
    ask: impl Fn(String) -> F,
) -> Vec<(String, Result<Peer>)> {
    let one = |at: String| {
        let asked = tokio::time::timeout(WITHIN, ask(at.clone()));
        async move {
            let late = || Err(anyhow::anyhow!("no answer within {} s", WITHIN.as_secs()));
            (at, asked.await.unwrap_or_else(|_| late()))
        }
    };
    futures_util::future::join_all(all.into_iter().map(one)).await
}

/// Finds the store that a database is to be a copy of, if there is nothing in its data directory: waits until a primary is there that tells.
pub(in crate::serve) fn find_stores(settings: Settings, listens: SocketAddr) -> CopyOf {
    Box::new(move |name, waits| {
        let dir = match settings.databases.get(name) {
            Some(database) => database.data_dir(name, &settings.data_dir),
            None => settings.data_dir.clone(),
        };
        // A log that is there says itself of which store it is.
        if dir.join("log").exists() {
            return None;
        }
        // Of its own, on the thread that opens the database: it ends with the process, whatever it waits for.
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(database = name, %error, "the primary cannot be asked of which store it is");
                return None;
            }
        };
        Some(runtime.block_on(find_store(&Peers::new(&settings, listens, name), name, waits)))
    })
}

async fn find_store(peers: &Peers, name: &str, waits: &dyn Fn(String)) -> u64 {
    let mut told = String::new();
    loop {
        let asked = peers.ask(0).await;
        let there = asked.iter().filter_map(|(_, peer)| peer.as_ref().ok());
        let primaries: Vec<_> = there.filter(|peer| peer.standing.seat == Seat::Primary).collect();
        let is_one = primaries.iter().all(|peer| peer.standing.store_id == primaries[0].standing.store_id);
        if let Some(peer) = primaries.iter().max_by_key(|peer| peer.standing.term).filter(|_| is_one) {
            tracing::info!(database = name, primary = peer.address, "a copy is begun");
            return peer.standing.store_id;
        }
        let why = asked.iter().map(|(at, peer)| match peer {
            // Which one is meant nobody here can know.
            Ok(peer) if !is_one && peer.standing.seat == Seat::Primary => {
                format!("{at} is the primary of the store {:016x}", peer.standing.store_id)
            }
            Ok(peer) => format!("{at} is {}", peer.standing.seat),
            Err(error) => format!("{at}: {error:#}"),
        });
        let mut why = why.collect::<Vec<_>>().join("; ");
        if !is_one {
            why += "; leave those of one store in the list (follow.primary)";
        }
        if told != why {
            tracing::warn!(database = name, why, "there is nothing here yet, and no primary to copy; waiting for it");
            waits(why.clone());
            told = why;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_client::Fault;

    #[test]
    fn one_that_refuses_is_there() {
        let fault = |kind| anyhow::Error::from(Error::Fault(Fault::new(kind, "no")));
        assert!(
            [FaultKind::Denied, FaultKind::Unauthenticated, FaultKind::Busy]
                .into_iter()
                .all(|kind| Peers::is_there(&fault(kind)))
        );
        assert!(!Peers::is_there(&fault(FaultKind::NotFound)), "it has no such database");
        let gone = Error::Disconnected { url: "db1".into(), reason: "refused".into() };
        assert!(!Peers::is_there(&gone.into()) && !Peers::is_there(&anyhow::anyhow!("no answer within 2 s")));
    }
}
