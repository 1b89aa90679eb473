//! Owns the following of a primary: for each database of this server a task that keeps the connection, takes the log, and obeys a promotion.
//!
//! ```text
//!   find the primary among the addresses ──> follow ──> pages into this server, what is on the disk back
//!        ^                                     │
//!        └────── lost, refused: told in status, again after a pause ──────┘        promote ──> primary: tells the others, again and again
//! ```
//! This is a client like any other, of the servers there and, for blobs and packs, of its own; what comes is given to its own server by a
//! door inside. Nothing here decides what is true: a primary says up to where it has what the copy has, and a copy that has more stops.

mod aside;
mod heard;
mod peers;
mod promoting;
mod stream;

pub(super) use aside::discard_own;
pub(super) use peers::{Peers, find_stores};

use anyhow::Result;
use heard::Heard;
use promoting::promote;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::{Problem, follow_once};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeolite_client::{Behind, Inside, Seat, Tid};
use zeolite_server::server::{Following, Server};
use zeolite_server::settings::Settings;

/// After a connection that was lost, longer each time; and after a refusal.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_REFUSED: Duration = Duration::from_secs(2);
/// A primary tells those that follow an older term so often.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// The tasks; they end with this.
pub(super) struct Follows(Vec<JoinHandle<()>>);

impl Drop for Follows {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// What a task works with.
struct Copy {
    following: Following,
    peers: Peers,
    /// To its own server.
    door: Inside,
    /// What the primary has said to have.
    heard: watch::Sender<Heard>,
}

/// Begins; none: nobody is to be followed.
pub(super) fn start(server: &Server, settings: &Settings) -> Result<Option<Follows>> {
    if !settings.follow.is_on() {
        return Ok(None);
    }
    let mut tasks = Vec::new();
    for database in settings.database_names() {
        let Ok(following) = server.following(database) else {
            tracing::error!(database, "is not open, and follows nobody");
            continue;
        };
        let inside = server.inside();
        let door = Inside::new(move || {
            let inside = inside.clone();
            async move { inside.open().await }
        });
        let heard = watch::Sender::new(Heard::of(following.heard()));
        let copy = Copy { following, peers: Peers::new(settings, server.address(), database), door, heard };
        tasks.push(tokio::spawn(live(Arc::new(copy))));
    }
    Ok(Some(Follows(tasks)))
}

async fn live(copy: Arc<Copy>) {
    let Some(mut promotions) = copy.following.promotions() else { return };
    if copy.following.is_returning() {
        copy.peers.tell_term(&copy.following).await;
        // Unless somebody was promoted since.
        copy.following.resume();
    }
    let mut pause = AGAIN;
    loop {
        let mut seat = copy.following.seat();
        if *seat.borrow_and_update() == Seat::Primary {
            copy.peers.tell_term(&copy.following).await;
            tokio::select! {
                () = tokio::time::sleep(TELL_EVERY) => {}
                _ = seat.changed() => {}
                Some(promotion) = promotions.recv() => promotion.refuse("this server is the primary already"),
            }
            continue;
        }
        tokio::select! {
            problem = follow_once(&copy, None) => {
                copy.keep_heard(copy.following.standing().have, true).await;
                pause = copy.lost(problem, pause);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    Ok(()) = seat.changed() => {}
                    Some(promotion) = promotions.recv() => promote(&copy, promotion).await,
                }
            }
            Some(promotion) = promotions.recv() => promote(&copy, promotion).await,
        }
    }
}

impl Copy {
    /// A connection has ended, or none came to be: tells so, and for how long to wait; one without a primary looks for it less and less often.
    fn lost(&self, problem: Problem, waited: Duration) -> Duration {
        let database = self.following.database();
        tracing::warn!(database, problem = problem.text, "does not follow; it is tried again");
        let was_connected = self.following.replication().connected;
        self.following.tell(|course| {
            course.connected = false;
            course.problem = Some(problem.text);
        });
        match (problem.is_lost, was_connected) {
            (true, true) => AGAIN,
            (true, false) => (waited * 2).min(AGAIN_REFUSED),
            (false, _) => AGAIN_REFUSED,
        }
    }

    /// Keeps what was heard of the primary for the next life, if that is to be.
    async fn keep_heard(&self, has: Tid, lost: bool) {
        let mut said = None;
        self.heard.send_if_modified(|heard| {
            said = heard.take_due(has, lost, Instant::now());
            false
        });
        if let Some(said) = said
            && let Err(error) = self.following.keep_heard(said).await
        {
            tracing::warn!(%error, "what the primary had is not kept: after a restart this copy does not know what it lacks");
        }
    }

    /// The primary says what it has.
    fn hears(&self, has: Tid, newest: Tid, behind: Option<Behind>) {
        self.heard.send_modify(|heard| heard.hears(has, newest, behind));
    }
}
