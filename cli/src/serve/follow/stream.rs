//! Owns one connection of a follower: from the welcome to the loss.

use super::Copy;
use super::peers::Peer;
use anyhow::{Context, Result, anyhow, bail};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::sync::watch;
use zeolite_client::{
    Behind, BlobId, BlobStanding, Db, Error, FaultKind, FollowBegun, FollowHello, FollowPage, FollowWords, Options,
    PackOptions, Remedy, Tid,
};
use zeolite_server::server::{Following, OfTerm, Page, Taking};

/// A primary says something every second.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// Why it does not follow.
pub(super) struct Problem {
    pub(super) text: String,
    /// It is worth trying again at once.
    pub(super) is_lost: bool,
}

/// Finds the primary and follows it until that ends; or this one, which hands over.
pub(super) async fn follow_once(copy: &Copy, hands_over: Option<&str>) -> Problem {
    match follow(copy, hands_over).await {
        Ok(()) => Problem { text: "the primary has ended the connection".to_owned(), is_lost: true },
        Err(error) => {
            let of_client = error.downcast_ref::<Error>();
            let is_lost = of_client.is_none_or(|error| matches!(error.remedy(), Remedy::Wait | Remedy::AskOutcome));
            Problem { text: format!("{error:#}"), is_lost }
        }
    }
}

/// What the copy has and the primary has not.
#[derive(Debug, thiserror::Error)]
#[error(
    "this copy has commits that {primary} has not: {count} behind {shared} ({tids}); look at them (zeolite log --from), then start it once \
     with `zeolite follow --discard-own`, which moves its data aside and copies anew"
)]
struct Diverged {
    primary: String,
    count: String,
    shared: Tid,
    tids: String,
}

async fn follow(copy: &Copy, hands_over: Option<&str>) -> Result<()> {
    let following = &copy.following;
    let primary = match hands_over {
        Some(at) => copy.peers.at(at, following.store_id()).await?,
        None => copy.peers.primary(following).await?,
    };
    // What an earlier connection has brought is on the disk, or refused.
    following.settled().await;
    let standing = following.standing();
    following.tell(|course| course.primary.clone_from(&primary.address));
    let hello = FollowHello {
        follower: standing.id,
        name: copy.peers.me.clone(),
        store_id: standing.store_id,
        timeline: standing.timeline,
        have: standing.have,
        term: standing.term,
        packed_said: standing.packed_said,
        life: standing.life,
    };
    let FollowBegun { welcome, mut followed, .. } = primary.admin.follow(&hello).await?;
    if !welcome.twice.is_empty() {
        tracing::warn!(
            other = welcome.twice,
            "another server is the same copy, since its data directory or this one was copied: this one becomes another"
        );
        following.renew_id().await.map_err(Error::from)?;
        bail!("{} follows as the same copy as this server did; this one is another copy from now on", welcome.twice);
    }
    if welcome.shared_to < standing.have {
        return Err(diverged(following, &primary, welcome.shared_to).into());
    }
    following.meet(welcome.term).map_err(Error::from)?;
    following.is_shared(standing.have);
    let of_term = following.of_term(welcome.term);
    tracing::info!(database = following.database(), primary = primary.address, have = %standing.have, "follows");
    let taking = following.begin();
    let told = tokio::spawn(tell(taking.have(), followed.words(), of_term.clone()));
    let mut run = Run { copy, primary, of_term, taking, source: None, newest: Tid::NONE, packing: None };
    let ended = run.take(&mut followed).await;
    told.abort();
    ended
}

fn diverged(following: &Following, primary: &Peer, shared: Tid) -> Diverged {
    let (first, count) = following.own_behind(shared);
    let tids: Vec<String> = first.iter().map(|tid| format!("{tid} of {}", tid.utc())).collect();
    let more = if count > first.len() { ", ..." } else { "" };
    let count = if count >= 1000 { "1000 or more".to_owned() } else { count.to_string() };
    Diverged { primary: primary.address.clone(), count, shared, tids: tids.join(", ") + more }
}

/// Tells the primary what is on the disk: the newest, as often as it can be sent. One whose term is over must not learn it: it would
/// acknowledge what the primary of the new term has not.
async fn tell(mut have: watch::Receiver<Tid>, words: FollowWords, of_term: OfTerm) {
    while have.changed().await.is_ok() {
        let now = *have.borrow_and_update();
        if of_term.is_over().is_some() || !words.have(now).await {
            return;
        }
    }
}

/// What a connection has.
struct Run<'a> {
    copy: &'a Copy,
    primary: Peer,
    of_term: OfTerm,
    taking: Taking,
    /// For blobs, once there are some.
    source: Option<(Db, Db)>,
    newest: Tid,
    packing: Option<tokio::task::JoinHandle<Result<()>>>,
}

impl Run<'_> {
    async fn take(&mut self, followed: &mut zeolite_client::Followed) -> Result<()> {
        let (mut have, mut seat) = (self.taking.have(), self.copy.following.seat());
        loop {
            self.check_term()?;
            let page = tokio::select! {
                Ok(()) = seat.changed() => continue,
                page = tokio::time::timeout(SILENT_MAX, followed.page()) => {
                    page.with_context(|| format!("{} says nothing", self.primary.address))??
                }
                changed = have.changed() => {
                    changed.context("the engine is gone")?;
                    let has = *have.borrow_and_update();
                    if let Some(fault) = self.taking.failed() {
                        return Err(Error::from(fault).into());
                    }
                    self.told(has, None);
                    continue;
                }
            };
            let Some(FollowPage { log, newest, behind, packed_to, .. }) = page else { return Ok(()) };
            self.newest = self.newest.max(newest);
            let has = *have.borrow();
            self.told(has, behind);
            self.copy.keep_heard(has, false).await;
            self.check_term()?;
            if !log.is_empty() {
                let page = self.taking.read(log).map_err(Error::from)?;
                self.bring(&page).await?;
                self.taking.add(page).await;
            } else {
                self.pack(packed_to).await;
            }
        }
    }

    /// Nothing more is taken of a primary whose term is over.
    fn check_term(&self) -> Result<()> {
        self.of_term.is_over().map_or(Ok(()), |why| Err(anyhow!(why)))
    }

    fn told(&self, has: Tid, behind: Option<Behind>) {
        let newest = self.newest;
        self.copy.hears(has, newest, behind);
        self.copy.following.tell(|course| {
            course.connected = true;
            course.problem = None;
            course.behind = match behind {
                _ if has >= newest => Behind::default(),
                Some(behind) => Behind { transactions: behind.transactions.max(1), ..behind },
                None => Behind { transactions: course.behind.transactions.max(1), ..course.behind },
            };
        });
    }

    /// Brings the blobs that a page names: a transaction is taken when they are there.
    async fn bring(&mut self, page: &Page) -> Result<()> {
        if page.missing.is_empty() {
            return Ok(());
        }
        let (from, to) = match &self.source {
            Some(pair) => pair.clone(),
            None => {
                let from = self.copy.peers.client(&self.primary.address).await?;
                let options = Options::new()
                    .name("zeolite follow")
                    .database(self.copy.following.database())
                    .inside(Some(self.copy.door.clone()))
                    .feed(false)
                    .cache_bytes(0);
                let to = Db::connect_with("http://inside", options).await?;
                self.source.insert((from, to)).clone()
            }
        };
        for id in &page.missing {
            bring(&from, &to, *id).await.with_context(|| format!("the blob {id}"))?;
        }
        Ok(())
    }

    /// Takes history away that the primary has taken away, when nothing else is to be done. What nobody refers to stays: only a primary can
    /// tell that nobody will.
    async fn pack(&mut self, to: Tid) {
        if let Some(packing) = self.packing.take_if(|packing| packing.is_finished()) {
            match packing.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "history could not be taken away as at the primary; it is tried again")
                }
                Err(error) => tracing::warn!(%error, "taking history away was cut"),
            }
        }
        let here = self.copy.following.packed_to();
        if to <= here || self.packing.is_some() || to > self.copy.following.standing().have {
            return;
        }
        let (door, database) = (self.copy.door.clone(), self.copy.following.database().to_owned());
        self.packing = Some(tokio::spawn(async move {
            let options = Options::new().database(database).inside(Some(door)).feed(false).cache_bytes(0);
            let db = Db::connect_with("http://inside", options).await?;
            let options = PackOptions::new().to(Some(to)).keep_garbage(true).dry_run(false);
            let mut messages = db.admin().pack(options).await?;
            while messages.next().await?.is_some() {}
            Ok(())
        }));
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(packing) = &self.packing {
            packing.abort();
        }
    }
}

async fn bring(from: &Db, to: &Db, id: BlobId) -> Result<()> {
    if matches!(to.blob_standing(id).await?, BlobStanding::Whole(_)) {
        return Ok(());
    }
    let pieces = from.blob(id).read(0..u64::MAX).map(|piece| piece.map_err(std::io::Error::other));
    match to.put_blob_of(id, Box::pin(pieces)).await {
        // Another connection of this copy has brought it meanwhile.
        Err(Error::Fault(fault)) if fault.kind == FaultKind::Busy => Err(anyhow!(Error::from(fault))),
        put => Ok(put?),
    }
}
