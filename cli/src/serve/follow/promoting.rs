//! Owns a promotion: what is asked of the others first, and what they are told after it.
//!
//! ```text
//!   nobody has more, no primary is there (or it hands over) ──> what is on its way is on the disk ──> new term ──> the others are told
//! ```

use super::Copy;
use super::peers::{Peer, Peers};
use super::stream::follow_once;
use anyhow::{Context, Result, bail};
use std::time::Duration;
use zeolite_client::{Behind, Error, Fault, FaultKind, Promoted, Seat, Tid};
use zeolite_server::server::Promotion;

/// A follower has so long to get what the primary had when it handed over.
const ALL_WITHIN: Duration = Duration::from_secs(30);

/// Does what an operator has asked for, and says how it went.
pub(super) async fn promote(copy: &Copy, promotion: Promotion) {
    let Promotion { anyway, hand_over, done } = promotion;
    let promoted = promoted(copy, anyway, hand_over).await;
    let told = promoted.map_err(|error| match error.downcast::<Error>() {
        Ok(Error::Fault(fault)) => fault,
        Ok(error) => Fault::new(FaultKind::Busy, error.to_string()),
        Err(error) => Fault::invalid(format!("{error:#}")),
    });
    match &told {
        Ok(promoted) => {
            tracing::info!(term = promoted.term, tid = %promoted.tid, told = ?promoted.told, not_told = ?promoted.not_told, "promoted")
        }
        Err(fault) => tracing::error!(%fault, "was not promoted"),
    }
    // Who has gone away sees it in the status.
    drop(done.send(told));
}

async fn promoted(copy: &Copy, anyway: bool, hand_over: bool) -> Result<Promoted> {
    let (following, peers) = (&copy.following, &copy.peers);
    let store_id = following.store_id();
    let asked = peers.ask(store_id).await;
    let there = asked.iter().filter_map(|(_, peer)| peer.as_ref().ok());
    let there: Vec<&Peer> = there.filter(|peer| peer.standing.store_id == store_id).collect();
    if hand_over {
        hands_over(copy, &there).await?;
    } else if !anyway {
        if let Some((at, Err(error))) = asked.iter().find(|(_, peer)| peer.as_ref().is_err_and(Peers::is_there)) {
            bail!(
                "{at} is there and does not say how it stands ({error:#}): it may be the primary, or have more; let this server ask it \
                 (follow.token_file), or say --anyway to promote this one all the same"
            );
        }
        check(copy, &there)?;
    }
    following.settled().await;
    let (term, tid) = following.promote().await.map_err(Error::from)?;
    let followed = there.iter().flat_map(|peer| &peer.standing.followers).filter(|it| it.connected);
    let (told, not_told) = peers.tell_all(store_id, term, followed.map(|it| it.name.clone())).await;
    Ok(Promoted { term, tid, told, not_told })
}

fn primary_of<'a>(there: &[&'a Peer]) -> Option<&'a Peer> {
    let primaries = there.iter().copied().filter(|peer| peer.standing.seat == Seat::Primary);
    primaries.max_by_key(|peer| peer.standing.term)
}

/// Refuses where something would be lost that is known to be.
fn check(copy: &Copy, there: &[&Peer]) -> Result<()> {
    let standing = copy.following.standing();
    if let Some(primary) = primary_of(there).filter(|primary| primary.standing.term >= standing.term) {
        bail!(
            "{} is the primary, and it is there: say --hand-over to switch without a loss, or --anyway to take its place at once",
            primary.address
        );
    }
    let most = there.iter().max_by_key(|peer| peer.standing.newest);
    if let Some(more) = most.filter(|peer| peer.standing.newest > standing.have) {
        bail!(
            "{} ({}) has everything up to {}, and this copy up to {} only: promote that one, or say --anyway to lose what is in between",
            more.address,
            more.standing.seat,
            more.standing.newest,
            standing.have
        );
    }
    let lacking = copy.heard.borrow().lacking(standing.have, copy.following.replication().sync);
    if let Some(lacking) = lacking {
        bail!("{lacking}; promote another copy, bring the primary back, or say --anyway to lose that");
    }
    Ok(())
}

/// The primary gives all it has to this copy: asked only when this one can take it, so that a primary is not stopped for nothing.
async fn hands_over(copy: &Copy, there: &[&Peer]) -> Result<()> {
    let (standing, now) = (copy.following.standing(), copy.following.replication());
    let primary = primary_of(there).context("no primary is there that could hand over; promote without --hand-over")?;
    let (at, term) = (&primary.address, primary.standing.term);
    if term < standing.term {
        bail!(
            "{at} is of the older term {term}, and {} has begun: it has nothing to hand over, and nothing was changed",
            standing.term
        );
    }
    if !now.connected || now.primary != *at {
        let why = now.problem.unwrap_or_else(|| "it has just begun".to_owned());
        bail!(
            "this copy does not follow {at} now, which goes on as the primary ({why}): let it follow first, then say it again"
        );
    }
    let heard = *copy.heard.borrow();
    if !heard.is_nearly_whole() {
        let Behind { transactions, more, bytes } = heard.behind();
        let least = if more { "at least " } else { "" };
        bail!(
            "this copy is {least}{transactions} transactions and {bytes} bytes behind {at}, which goes on as the primary: say it again when it \
             has nearly all (zeolite status)"
        );
    }
    let newest = copy.peers.hand_over(at, standing.store_id, standing.term.max(term) + 1).await?.newest;
    wait_for(copy, newest, at).await
}

/// Follows on until everything that the primary had is here.
async fn wait_for(copy: &Copy, newest: Tid, primary: &str) -> Result<()> {
    let all = async {
        while copy.following.standing().have < newest {
            let moved = async {
                while copy.following.standing().have < newest {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                problem = copy.rest_of(primary) => {
                    tracing::warn!(problem, "what the primary had is still coming");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                () = moved => {}
            }
        }
    };
    let late = || {
        format!(
            "{primary} has stopped taking writes, and what it had (up to {newest}) did not come within {} s: promote again, with --anyway \
             to lose the rest, or promote {primary} to go on there",
            ALL_WITHIN.as_secs()
        )
    };
    tokio::time::timeout(ALL_WITHIN, all).await.with_context(late)
}

impl Copy {
    /// Follows a primary that hands over.
    async fn rest_of(&self, primary: &str) -> String {
        tracing::info!(primary, "takes what is left");
        follow_once(self, Some(primary)).await.text
    }
}
