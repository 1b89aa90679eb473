//! Owns the stream to a follower: the log as it grows, and back what the follower has on its disk.
//!
//! ```text
//!   follower                                             primary
//!     hello(copy, life, have, term) ───>
//!                                   <─── welcome(store, life, term, shared up to)     less than it has: it stops here, and says so
//!                                   <─── what it lacks: from the disk, then from the tail in memory, as it comes (`pace`)
//!     have ───>                          one message for many transactions
//!                                   <─── nothing new, once a second: how far it is behind
//! ```
//! A primary that is told of a newer term is fenced by that, whichever copy of the same store tells. History that the follower needs is
//! kept from packs as long as it is known (`engine.replication`); one that is in packed history all the same is told so, since nothing
//! tells what was deleted there.

mod pace;

use super::calls::Calls;
use super::restore::weight;
use super::{Rpc, transactions};
use crate::engine::{After, Engine, Twice, hex};
use crate::storage::Txn;
use pace::Pace;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::{Status, Streaming};
use zeolite_proto::wire::v2;
use zeolite_proto::{Fault, FaultKind, Seat, Tid};

/// A sign of life, and how far the follower is behind.
const BEAT: Duration = Duration::from_secs(1);
/// How often it is told while there is something to send.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// A batch that is on the disk can be read from it in a moment.
const SOON: Duration = Duration::from_millis(2);
/// Transactions asked from the log at once; the engine's page may be smaller.
const LOG_PAGE: usize = 1000;

type Pages = mpsc::Sender<Result<v2::FollowPage, Status>>;

/// One connection of a follower.
struct Following {
    rpc: Arc<Rpc>,
    calls: Calls,
    id: [u8; 16],
    number: u64,
    packed_said: Tid,
    sent: Tid,
    told: Duration,
    pace: Pace,
    news: Arc<Notify>,
}

/// Sends until the follower goes, comes anew, or this is not the primary any more.
pub(super) async fn follow(rpc: Arc<Rpc>, calls: Calls, mut requests: Streaming<v2::FollowRequest>, pages: Pages) {
    let ended = async {
        let hello = match requests.message().await {
            Ok(Some(v2::FollowRequest { hello: Some(hello), .. })) => hello,
            _ => return Err(Fault::invalid("the first message of a follower says which copy it is (hello)")),
        };
        let Some(following) = welcome(&rpc, &calls, hello, &pages).await? else { return Ok(()) };
        let (engine, id, number) = (calls.engine().clone(), following.id, following.number);
        let heard = async {
            while let Ok(Some(request)) = requests.message().await {
                // No copy has what is not written here yet.
                if !engine.follower_has(id, number, Tid(request.have).min(engine.written())) {
                    break;
                }
            }
        };
        let ended = tokio::select! {
            ended = following.send(&pages) => ended,
            () = heard => Ok(()),
        };
        engine.follower_left(id, number);
        tracing::info!(database = &**calls.database().name(), copy = %hex(&id), "a follower has gone");
        ended
    };
    if let Err(fault) = ended.await {
        // Who has gone away needs no reason.
        drop(pages.send(Err(rpc.refusal(&fault))).await);
    }
}

/// Whether what it has is ours; none: it was told that it is not.
async fn welcome(
    rpc: &Arc<Rpc>,
    calls: &Calls,
    hello: v2::FollowHello,
    pages: &Pages,
) -> Result<Option<Following>, Fault> {
    let engine = calls.engine();
    let id: [u8; 16] =
        hello.follower.as_ref().try_into().map_err(|_| Fault::invalid("a follower is named by 16 bytes"))?;
    if hello.store_id != 0 && hello.store_id != engine.store_id() {
        let message = format!(
            "the copy is of another store ({:016x}) than this ({:016x}); begin with an empty data directory",
            hello.store_id,
            engine.store_id()
        );
        return Err(Fault::invalid(message));
    }
    // Only a copy of this store knows of its terms.
    if hello.store_id != 0 && hello.term > engine.term() {
        engine.fence(hello.term, &hello.name)?;
    }
    engine.check_followed()?;
    let (have, written) = (Tid(hello.have), engine.written());
    let shared_to = engine.shared_to(hello.timeline, have).min(written);
    let welcome = v2::FollowWelcome {
        store_id: engine.store_id(),
        timeline: engine.timeline(),
        term: engine.term(),
        shared_to: shared_to.0,
        server: rpc.server_name.clone(),
        twice: String::new(),
    };
    let first = |welcome| v2::FollowPage { welcome: Some(welcome), newest: written.0, ..beat(engine, have) };
    if shared_to < have {
        drop(pages.send(Ok(first(welcome))).await);
        return Ok(None);
    }
    if have < engine.packed_to() && engine.packs() % 2 == 1 {
        let message = "a pack is at work in the history that is to be copied; it is copied when the pack is done";
        return Err(Fault::new(FaultKind::Busy, message).after_ms(1000));
    }
    let news = Arc::new(Notify::new());
    let wake = news.clone();
    let joined = engine.follower_joins((id, hello.life), (&hello.name, have), Arc::new(move || wake.notify_one()))?;
    let number = match joined {
        Ok(number) => number,
        Err(Twice(other)) => {
            tracing::warn!(name = hello.name, other, copy = %hex(&id), "two servers follow as one copy; this one is to take another id");
            drop(pages.send(Ok(first(v2::FollowWelcome { twice: other, ..welcome }))).await);
            return Ok(None);
        }
    };
    if pages.send(Ok(first(welcome))).await.is_err() {
        engine.follower_left(id, number);
        return Ok(None);
    }
    tracing::info!(database = &**calls.database().name(), name = hello.name, copy = %hex(&id), %have, "a follower is there");
    let (rpc, calls, packed_said) = (rpc.clone(), calls.clone(), Tid(hello.packed_said));
    let (told, pace) = (Duration::ZERO, Pace::new(engine.waits_for_followers()));
    Ok(Some(Following { rpc, calls, id, number, packed_said, sent: have, told, pace, news }))
}

impl Following {
    async fn send(mut self, pages: &Pages) -> Result<(), Fault> {
        let engine = self.calls.engine().clone();
        let aim = engine.limits().reply_bytes_aim;
        loop {
            while let Some(pause) = self.pace.pause(engine.clock().steady()).filter(|_| !engine.followers_end()) {
                tokio::time::sleep(pause).await;
            }
            let Some(have) = engine.follower_have(self.id, self.number) else {
                // The same copy has come on another connection.
                return Ok(());
            };
            engine.check_followed()?;
            let is_ending = engine.followers_end();
            let is_sent = match engine.after(self.sent, aim) {
                After::Batches { next, more } => {
                    let log = log_pages(&engine, next.iter().flat_map(|batch| batch.txns.iter()), aim);
                    self.sent = next.last().map_or(self.sent, |batch| batch.last());
                    self.pace.sends(engine.clock().steady(), more);
                    self.pages(log, have, pages).await
                }
                // What was gathered is sent to the end.
                _ if is_ending => {
                    return Err(Fault::new(FaultKind::ShuttingDown, "the primary goes down; connect again"));
                }
                After::OnDisk(to) => match self.read(to).await? {
                    Some(log) => self.pages(log, have, pages).await,
                    None => {
                        tokio::time::sleep(SOON).await;
                        true
                    }
                },
                After::Nothing => match tokio::time::timeout(BEAT, self.news.notified()).await {
                    Ok(()) => true,
                    Err(_) => pages.send(Ok(beat(&engine, have))).await.is_ok(),
                },
            };
            if !is_sent {
                return Ok(());
            }
        }
    }

    /// Each is encoded when it is its turn: until then it is what the tail has.
    async fn pages(&mut self, log: Vec<v2::LogPage>, have: Tid, pages: &Pages) -> bool {
        let engine = self.calls.engine();
        for log in log {
            let now = engine.clock().steady();
            // What it costs to count is not paid for each of many small batches.
            let mut page = match now.saturating_sub(self.told) >= TELL_EVERY {
                true => {
                    self.told = now;
                    beat(engine, have)
                }
                false => v2::FollowPage { newest: engine.written().0, ..v2::FollowPage::default() },
            };
            page.log = log.encode_to_vec().into();
            if pages.send(Ok(page)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The next page of the log; none: it is not visible yet.
    async fn read(&mut self, to: Tid) -> Result<Option<Vec<v2::LogPage>>, Fault> {
        let (calls, from) = (self.calls.clone(), self.sent.next());
        let txns = self.rpc.off_thread(self.calls.account(), move || calls.log_page(from, to, LOG_PAGE, false)).await?;
        let engine = self.calls.engine();
        // Asked when it was read: what a pack took meanwhile may be missing in it.
        let packed_to = engine.packed_to();
        if self.sent < packed_to && self.sent != Tid::NONE && self.packed_said != packed_to {
            return Err(packed(self.sent, packed_to));
        }
        if self.sent == Tid::NONE {
            self.packed_said = packed_to;
        }
        let Some(last) = txns.last().map(|txn| txn.tid) else {
            // What pack has left nothing of is not waited for.
            let is_over = engine.visible() >= to;
            if is_over {
                self.sent = to;
            }
            return Ok(is_over.then(Vec::new));
        };
        let _charge = self.calls.account().take_for(txns.iter().map(weight).sum())?;
        self.sent = last;
        let aim = engine.limits().reply_bytes_aim;
        Ok(Some(log_pages(engine, &txns, aim)))
    }
}

/// Pages of about so many bytes, each of one life of the store, so that the copy has the same.
fn log_pages<'a>(engine: &Engine, txns: impl IntoIterator<Item = &'a Txn>, aim: usize) -> Vec<v2::LogPage> {
    let packed_to = engine.packed_to();
    let (mut all, mut rest) = (Vec::new(), txns.into_iter().peekable());
    while let Some(timeline) = rest.peek().map(|txn| engine.timeline_of(txn.tid)) {
        let life = std::iter::from_fn(|| rest.next_if(|txn| engine.timeline_of(txn.tid) == timeline));
        let pages = transactions::cut(life, true, packed_to, aim).into_iter();
        all.extend(pages.map(|page| v2::LogPage { packed_to: packed_to.0, timeline, ..page }));
    }
    all
}

/// How a primary and its follower stand.
fn beat(engine: &Engine, have: Tid) -> v2::FollowPage {
    let behind = engine.behind_of(have);
    v2::FollowPage {
        newest: engine.written().0,
        behind_bytes: behind.bytes,
        behind_transactions: behind.transactions,
        behind_more: behind.more,
        unix_ms: engine.unix_ms(),
        packed_to: engine.packed_to().0,
        ..v2::FollowPage::default()
    }
}

fn packed(have: Tid, packed_to: Tid) -> Fault {
    let message = format!(
        "history is packed up to {packed_to} here, and the copy has all up to {have} only: what was deleted in between cannot be told any \
         more; the copy has to begin anew (zeolite follow --discard-own moves its data aside)"
    );
    Fault::new(FaultKind::SnapshotPacked, message)
}

/// What a fence is answered with: how this server stands.
pub(super) async fn fence(rpc: &Rpc, calls: &Calls, request: v2::FenceRequest) -> Result<v2::Replication, Fault> {
    let engine = calls.engine();
    if !request.ask && request.store_id != engine.store_id() {
        let message = format!(
            "that is a term of the store {:016x}, and this is {:016x}; nothing was changed",
            request.store_id,
            engine.store_id()
        );
        return Err(Fault::invalid(message));
    }
    if request.hand_over {
        let (done, answer) = oneshot::channel();
        engine.hand_over(
            request.term,
            &request.by,
            Box::new(move |_| {
                // Who has gone away wants no answer.
                done.send(()).ok();
            }),
        )?;
        // Whoever asks has a limit of time.
        drop(answer.await);
    } else if !request.ask {
        let (fencing, term, by) = (engine.clone(), request.term, request.by.clone());
        rpc.look(move || fencing.fence(term, &by)).await?;
    }
    Ok(engine.replication().into())
}

/// Whether somebody may have told that this server is not the primary any more, and may have been right.
pub(super) fn meets(engine: &Engine, store_id: u64, term: u64, who: &str) {
    let newer = term > engine.term() && store_id == engine.store_id();
    if newer && engine.seat() == Seat::Primary {
        // The disk's answer is in the log, and nothing is written here any more either way.
        drop(engine.fence(term, who));
    }
}
