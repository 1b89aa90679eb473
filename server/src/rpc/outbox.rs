//! Owns the outgoing queue of one session: the only way by which anything reaches its client.
//!
//! The problem is ZEO's old one: a reply that shows a commit must not overtake the invalidations of that commit, or the
//! client caches a revision that has already ended. The rule here is one queue in one order:
//!
//! ```text
//!   writer thread ── feed of tid t ──┐ (before t becomes visible)
//!                                    ├──> [ feed t | receipt t | load at t ] ──> HTTP/2 stream
//!   any thread ───── replies ────────┘ (after t became visible)
//! ```
//!
//! A reply that shows t was made after t became visible, t became visible after its feed was pushed here, so the feed
//! stands before the reply. Nothing is ever reordered or skipped.
//!
//! Everything is bounded. Requests: a session whose replies pile up is not read from any more (`Popped::Empty` says
//! whether to read), so its client is held back by HTTP/2 flow control. Feed: cannot be held back, the writer thread
//! serves everybody; beyond the limit the session is *cut*: a last frame says up to which tid everything was pushed, and
//! nothing follows, not even replies, because they might show later tids. Whatever comes while no feed waits is taken and counts
//! for nothing: all sessions share its bytes, and nobody is too slow for what has just been made.
//!
//! The lock is held for a push or a pop only, and nothing else is locked meanwhile.

use super::budget::Charge;
use super::{encode, pieces};
use crate::engine::FeedBatch;
use crate::settings::SessionSettings;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::{Fault, FaultKind, Tid, hash};

#[expect(
    clippy::large_enum_variant,
    reason = "it is looked at once, where it was made; a box would cost an allocation a frame"
)]
/// What the session's stream finds when it looks for something to send.
pub(super) enum Popped {
    /// Send this.
    Frame(v2::ServerFrame),
    /// Nothing now; the waker is registered. Whether another request may be read.
    Empty { may_read: bool },
    /// Nothing, and nothing will come.
    End,
}

/// What became of a batch that was pushed.
pub(super) enum Pushed {
    /// `first`: since the pump looked last.
    Queued { first: bool },
    /// It was beyond the limit: the session is cut.
    Cut,
    /// The session was over before.
    Over,
}

/// One session's outgoing queue; shared by its stream, the engine's writer (as a feed sink) and the closures of its
/// commits.
pub(super) struct Outbox {
    lane: Mutex<Lane>,
    limits: QueueLimits,
    runtime: tokio::runtime::Handle,
}

/// What one session's queue holds at one moment.
pub(super) struct QueueLoad {
    pub(super) in_flight: usize,
    pub(super) reply_bytes: usize,
    pub(super) feed_bytes: usize,
    pub(super) feed_batches: usize,
}

struct QueueLimits {
    in_flight_max: usize,
    reply_bytes_max: usize,
    feed_bytes_max: usize,
    feed_batches_max: usize,
    linger: Duration,
}

struct Lane {
    frames: VecDeque<Queued>,
    phase: Phase,
    /// Requests that are not answered yet, by id, each with its room.
    in_flight: hash::Map<u64, Charge>,
    replies: usize,
    reply_bytes: usize,
    feed_batches: usize,
    feed_bytes: usize,
    /// Of these, what came while no feed waited.
    free_bytes: usize,
    /// Everything up to here was pushed.
    pushed_to: Tid,
    /// The pump will look at this session.
    noted: bool,
    waker: Option<Waker>,
}

struct Queued {
    frame: v2::ServerFrame,
    bytes: usize,
    kind: QueuedKind,
    /// The room of an answer: its request's, until it is sent.
    _charge: Option<Charge>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum QueuedKind {
    Reply,
    /// A piece of a batch; `free`: it came while no feed waited.
    Feed {
        last: bool,
        free: bool,
    },
    Notice,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Takes frames.
    Open,
    /// The client has said its last; ends when the last request is answered.
    Finishing,
    /// What is queued is sent, nothing more is taken.
    Ending,
    /// Nobody reads any more.
    Closed,
}

impl Outbox {
    pub(super) fn new(settings: &SessionSettings, runtime: tokio::runtime::Handle) -> Arc<Outbox> {
        Arc::new(Outbox {
            lane: Mutex::new(Lane {
                frames: VecDeque::new(),
                phase: Phase::Open,
                in_flight: hash::Map::default(),
                replies: 0,
                reply_bytes: 0,
                feed_batches: 0,
                feed_bytes: 0,
                free_bytes: 0,
                pushed_to: Tid::NONE,
                noted: false,
                waker: None,
            }),
            limits: QueueLimits {
                in_flight_max: settings.in_flight_max,
                reply_bytes_max: settings.reply_queue_bytes_max,
                feed_bytes_max: settings.feed_queue_bytes_max,
                feed_batches_max: settings.feed_queue_batches_max,
                linger: Duration::from_millis(settings.cut_linger_ms),
            },
            runtime,
        })
    }

    /// Notes a request, whose room is free again when it is answered; false when its id is already in flight.
    pub(super) fn begin(&self, id: u64, charge: Charge) -> bool {
        match self.lane.lock().in_flight.entry(id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(slot) => {
                slot.insert(charge);
                true
            }
        }
    }

    /// Answers a request, from any thread.
    pub(super) fn reply(&self, id: u64, reply: Reply) {
        let waker = {
            let mut lane = self.lane.lock();
            lane.push_reply(id, reply);
            lane.waker.take()
        };
        wake(waker);
    }

    /// Answers a request from the session's own stream, which looks here again by itself.
    pub(super) fn reply_here(&self, id: u64, reply: Reply) {
        self.lane.lock().push_reply(id, reply);
    }

    /// Refuses a request that was not begun, from the session's own stream.
    pub(super) fn refuse_here(&self, id: u64, fault: &Fault) {
        self.lane.lock().push(id, fault_reply(fault), None);
    }

    /// Tells the feed where it begins, so that a cut before the first batch names the right tid.
    pub(super) fn feed_begins_after(&self, tid: Tid) {
        let mut lane = self.lane.lock();
        lane.pushed_to = lane.pushed_to.max(tid);
    }

    /// Sends something that answers no request; more may follow.
    pub(super) fn notice(&self, reply: Reply) {
        let waker = {
            let mut lane = self.lane.lock();
            lane.push_notice(reply);
            lane.waker.take()
        };
        wake(waker);
    }

    /// Sends what is queued, then ends the stream.
    pub(super) fn end(&self) {
        let waker = {
            let mut lane = self.lane.lock();
            if lane.phase != Phase::Closed {
                lane.phase = Phase::Ending;
            }
            lane.waker.take()
        };
        wake(waker);
    }

    /// The client asks nothing more: the stream ends when all is answered.
    pub(super) fn finish(&self) {
        let mut lane = self.lane.lock();
        if lane.phase == Phase::Open {
            lane.phase = Phase::Finishing;
        }
    }

    /// Nobody reads any more: drops what is queued and takes nothing more.
    pub(super) fn close(&self) {
        let waker = {
            let mut lane = self.lane.lock();
            lane.phase = Phase::Closed;
            lane.frames = VecDeque::new();
            lane.waker.take()
        };
        wake(waker);
    }

    /// The next frame; registers the waker when there is none.
    pub(super) fn pop(&self, context: &Context<'_>) -> Popped {
        let mut lane = self.lane.lock();
        if let Some(queued) = lane.frames.pop_front() {
            match queued.kind {
                QueuedKind::Reply => {
                    lane.replies -= 1;
                    lane.reply_bytes -= queued.bytes;
                }
                QueuedKind::Feed { last, free } => {
                    lane.feed_batches -= usize::from(last);
                    lane.feed_bytes -= queued.bytes;
                    lane.free_bytes -= if free { queued.bytes } else { 0 };
                }
                QueuedKind::Notice => {}
            }
            return Popped::Frame(queued.frame);
        }
        match lane.phase {
            Phase::Ending | Phase::Closed => return Popped::End,
            Phase::Finishing if lane.in_flight.is_empty() => return Popped::End,
            Phase::Finishing | Phase::Open => {}
        }
        if !lane.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            lane.waker = Some(context.waker().clone());
        }
        Popped::Empty {
            may_read: lane.phase == Phase::Open
                && lane.in_flight.len() + lane.replies < self.limits.in_flight_max
                && lane.reply_bytes < self.limits.reply_bytes_max,
        }
    }

    /// How much waits here.
    pub(super) fn queued(&self) -> QueueLoad {
        let lane = self.lane.lock();
        QueueLoad {
            in_flight: lane.in_flight.len(),
            reply_bytes: lane.reply_bytes,
            feed_bytes: lane.feed_bytes,
            feed_batches: lane.feed_batches,
        }
    }

    /// Drops a cut session's queue when its client has not read it in time: what it holds is memory.
    pub(super) fn drop_later(self: &Arc<Self>) {
        let outbox = self.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(outbox.limits.linger).await;
            outbox.close();
        });
    }

    /// The feed has waited long enough for an answer to go with it.
    pub(super) fn feed_is_due(&self) {
        let waker = {
            let mut lane = self.lane.lock();
            lane.noted = false;
            if lane.frames.is_empty() { None } else { lane.waker.take() }
        };
        wake(waker);
    }

    pub(super) fn push_batch(&self, batch: &FeedBatch) -> Pushed {
        let encoded = batch.encoded(pieces::of);
        let bytes: usize = encoded.iter().map(Bytes::len).sum();
        let mut lane = self.lane.lock();
        if lane.phase == Phase::Ending || lane.phase == Phase::Closed {
            return Pushed::Over;
        }
        let free = lane.feed_batches == 0;
        let over_bytes = !free && lane.feed_bytes - lane.free_bytes + bytes > self.limits.feed_bytes_max;
        let over_batches = lane.feed_batches + 1 > self.limits.feed_batches_max;
        if over_bytes || over_batches {
            let limit = if over_bytes { "feed_queue_bytes_max" } else { "feed_queue_batches_max" };
            let reason = format!(
                "{} batches of {} bytes wait unread, the limit is sessions.{limit}; reconnect with resume_from",
                lane.feed_batches, lane.feed_bytes
            );
            let cut = v2::Cut { tid: lane.pushed_to.0, reason };
            lane.push_notice(Reply::Cut(cut));
            lane.phase = Phase::Ending;
            let waker = lane.waker.take();
            drop(lane);
            wake(waker);
            return Pushed::Cut;
        }
        lane.push_feed(encoded, free);
        lane.pushed_to = batch.last();
        Pushed::Queued { first: !std::mem::replace(&mut lane.noted, true) }
    }
}

impl Lane {
    fn push_reply(&mut self, id: u64, reply: Reply) {
        let charge = self.in_flight.remove(&id);
        self.push(id, reply, charge);
    }

    fn push(&mut self, id: u64, reply: Reply, charge: Option<Charge>) {
        if self.phase == Phase::Ending || self.phase == Phase::Closed {
            return;
        }
        let mut frame = v2::ServerFrame { id, reply: Some(reply) };
        let mut charge = charge;
        if let Some(Err(fault)) = charge.as_mut().map(|charge| charge.becomes(frame.encoded_len())) {
            (frame.reply, charge) = (Some(fault_reply(&fault)), None);
        }
        let bytes = frame.encoded_len();
        self.replies += 1;
        self.reply_bytes += bytes;
        self.frames.push_back(Queued { frame, bytes, kind: QueuedKind::Reply, _charge: charge });
    }

    fn push_feed(&mut self, pieces: &[Bytes], free: bool) {
        self.feed_batches += 1;
        for (at, piece) in pieces.iter().enumerate() {
            let (bytes, last) = (piece.len(), at + 1 == pieces.len());
            self.feed_bytes += bytes;
            self.free_bytes += if free { bytes } else { 0 };
            let frame = v2::ServerFrame { id: 0, reply: Some(Reply::Feed(piece.clone())) };
            self.frames.push_back(Queued { frame, bytes, kind: QueuedKind::Feed { last, free }, _charge: None });
        }
    }

    fn push_notice(&mut self, reply: Reply) {
        if self.phase == Phase::Ending || self.phase == Phase::Closed {
            return;
        }
        let frame = v2::ServerFrame { id: 0, reply: Some(reply) };
        self.frames.push_back(Queued { frame, bytes: 0, kind: QueuedKind::Notice, _charge: None });
    }
}

/// The promise of one answer to a request in flight. Dropped without an answer (the thread that had it died), it answers
/// that, so that no client waits forever.
pub(super) struct Promised {
    outbox: Arc<Outbox>,
    id: u64,
    kept: bool,
}

impl Promised {
    pub(super) fn new(outbox: Arc<Outbox>, id: u64) -> Promised {
        Promised { outbox, id, kept: false }
    }

    pub(super) fn keep(mut self, reply: Reply) {
        self.kept = true;
        self.outbox.reply(self.id, reply);
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        if !self.kept {
            let fault = Fault::new(
                FaultKind::Internal,
                "the request was lost inside the server; ask for its outcome, and tell the operator to look at the log",
            );
            self.outbox.reply(self.id, fault_reply(&fault));
        }
    }
}

/// A fault as the answer to a request.
pub(super) fn fault_reply(fault: &Fault) -> Reply {
    Reply::Fault(encode::fault(fault))
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
