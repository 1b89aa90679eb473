//! Owns a promotion: what is asked of the others first, and what they are told after it.
//!
//! ```text
//!   nobody has more, no primary is there (or it hands over) ──> what is on its way is on the disk ──> new term ──> the others are told
//! ```

use super::Copy;
use super::peers::Peer;
use super::stream::follow_once;
use anyhow::{Context, Result, bail};
use std::time::Duration;
use zeolite_client::{Error, Fault, FaultKind, Seat, Tid};
use zeolite_server::server::{Promoted, Promotion};

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
    let (store_id, standing) = (following.store_id(), following.standing());
    let there: Vec<Peer> = peers.ask(store_id).await.into_iter().filter_map(|(_, peer)| peer.ok()).collect();
    let there = there.iter().filter(|peer| peer.standing.store_id == store_id);
    let primary =
        there.clone().filter(|peer| peer.standing.seat == Seat::Primary).max_by_key(|peer| peer.standing.term);
    if hand_over {
        let primary = primary.context("no primary is there that could hand over; promote without --hand-over")?;
        let newest =
            peers.hand_over(&primary.address, store_id, standing.term.max(primary.standing.term) + 1).await?.newest;
        wait_for(copy, newest, &primary.address).await?;
    } else if !anyway {
        if let Some(primary) = primary.filter(|primary| primary.standing.term >= standing.term) {
            bail!(
                "{} is the primary, and it is there: say --hand-over to switch without a loss, or --anyway to take its place at once",
                primary.address
            );
        }
        if let Some(more) =
            there.max_by_key(|peer| peer.standing.newest).filter(|peer| peer.standing.newest > standing.have)
        {
            bail!(
                "{} ({}) has everything up to {}, and this copy up to {} only: promote that one, or say --anyway to lose what is in between",
                more.address,
                more.standing.seat,
                more.standing.newest,
                standing.have
            );
        }
    }
    following.settled().await;
    let (term, tid) = following.promote().await.map_err(Error::from)?;
    let (told, not_told) = peers.tell_all(store_id, term).await;
    Ok(Promoted { term, tid, told, not_told })
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
