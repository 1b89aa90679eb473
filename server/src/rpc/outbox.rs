//! Owns the outgoing queue of one session: the only way by which anything reaches its client.
//!
//! The problem is ZEO's old one: a reply that shows a commit must not overtake the invalidations of that commit, or the
//! client caches a revision that has already ended. The rule here: before a reply is sent, all feed is sent that there was
//! when the reply was queued.
//!
//! ```text
//!   writer thread ── feed of tid t ──> fan (before t becomes visible) ──┐
//!                                                                       ├──> feed up to t, receipt t, load at t ──> HTTP/2
//!   any thread ───── replies ────────> queue (after t became visible) ──┘
//! ```
//!
//! A reply that shows t was made after t became visible, t became visible after its feed was in the fan; so who has taken all
//! that the fan has may send all replies that are queued at that moment (`covered`). Nothing is skipped, and neither the feed nor
//! the replies are reordered.
//!
//! Everything is bounded. Requests: a session whose replies pile up is not read from any more (`Popped::Empty` says
//! whether to read), so its client is held back by HTTP/2 flow control. Feed: cannot be held back, the writer thread
//! serves everybody; who is behind what the fan keeps is *cut*: a last frame says up to which tid everything was sent, and
//! nothing follows, not even replies, because they might show later tids.
//!
//! The lock is held for a push or a pop only; meanwhile only the fan's is taken.

mod feeding;

use super::budget::Charge;
use super::encode;
use super::fan::{Cursor, Due, Fan, Listener, Untaken};
use super::interest::Place;
use crate::settings::SessionSettings;
use bytes::Bytes;
#[cfg(test)]
pub(super) use feeding::TOGETHER_BYTES;
use feeding::{Fed, Feeding, Turn};
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

/// One session's outgoing queue; shared by its stream, the fan of its database and the closures of its commits.
pub(super) struct Outbox {
    lane: Mutex<Lane>,
    limits: QueueLimits,
    runtime: tokio::runtime::Handle,
}

/// What one session's queue holds at one moment.
pub(super) struct QueueLoad {
    pub(super) in_flight: usize,
    pub(super) reply_bytes: usize,
    pub(super) feed: Untaken,
}

struct QueueLimits {
    in_flight_max: usize,
    reply_bytes_max: usize,
    linger: Duration,
}

struct Lane {
    frames: VecDeque<Queued>,
    phase: Phase,
    /// Requests that are not answered yet, by id, each with its room.
    in_flight: hash::Map<u64, Charge>,
    replies: usize,
    reply_bytes: usize,
    feed: Option<Feeding>,
    /// So many of the frames show nothing of which the feed is not sent.
    covered: usize,
    /// The client looks for feed in answers.
    feed_with_answers: bool,
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
                feed: None,
                covered: 0,
                feed_with_answers: false,
                waker: None,
            }),
            limits: QueueLimits {
                in_flight_max: settings.in_flight_max,
                reply_bytes_max: settings.reply_queue_bytes_max,
                linger: Duration::from_millis(settings.cut_linger_ms),
            },
            runtime,
        })
    }

    /// Before the feed begins: its client looks for feed in answers, too.
    pub(super) fn feed_goes_with_answers(&self) {
        self.lane.lock().feed_with_answers = true;
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

    /// An operator ends the session. A client that reads does so at once, any other in time.
    pub(super) fn cut_by_operator(self: &Arc<Self>) {
        let newest = self.lane.lock().feed.as_ref().map_or(Tid::NONE, Feeding::sent_to);
        let reason = "an operator has cut this session; connect again, unless you were told not to".to_owned();
        self.notice(Reply::Cut(v2::Cut { tid: newest.0, reason }));
        self.end();
        self.close_in_time();
    }

    /// What its client has not read by then is dropped: it is memory.
    fn close_in_time(self: &Arc<Self>) {
        let outbox = self.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(outbox.limits.linger).await;
            outbox.close();
        });
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
        let (waker, feed) = {
            let mut lane = self.lane.lock();
            lane.phase = Phase::Closed;
            lane.frames = VecDeque::new();
            (lane.waker.take(), lane.feed.take())
        };
        wake(waker);
        if let Some(feed) = feed {
            feed.fan().leave(self);
        }
    }

    /// The next frame; registers the waker when there is none.
    pub(super) fn pop(self: &Arc<Self>, context: &Context<'_>) -> Popped {
        let mut lane = self.lane.lock();
        let feed_before = match lane.next_feed() {
            Ok(Fed::Alone(feed)) => return Popped::Frame(frame(0, Reply::Feed(feed))),
            Ok(Fed::With(feed)) => feed,
            Err(limit) => {
                self.cut(&mut lane, limit);
                Bytes::new()
            }
        };
        if let Some(mut queued) = lane.frames.pop_front() {
            lane.covered = lane.covered.saturating_sub(1);
            if queued.kind == QueuedKind::Reply {
                lane.replies -= 1;
                lane.reply_bytes -= queued.bytes;
            }
            if let (Some(Reply::Cut(cut)), Some(feed)) = (&mut queued.frame.reply, &lane.feed) {
                // More was sent since it was queued.
                cut.tid = feed.sent_to().0;
            }
            return Popped::Frame(v2::ServerFrame { feed_before, ..queued.frame });
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
            feed: lane.feed.as_ref().map_or_else(Untaken::default, Feeding::untaken),
        }
    }

    /// Ends a session that is too far behind.
    fn cut(self: &Arc<Self>, lane: &mut Lane, limit: &'static str) {
        let Some(feed) = lane.feed.take() else { return };
        feed.fan().leave(&**self);
        lane.cut(feed.sent_to(), limit);
        self.close_in_time();
    }
}

impl Listener for Outbox {
    fn feed_begins(&self, fan: Arc<Fan>, at: Cursor, place: Option<Place>, after: Tid) {
        let mut lane = self.lane.lock();
        lane.feed = Some(Feeding::new(fan, at, place, after, lane.feed_with_answers));
    }

    fn feed_is_due(self: Arc<Self>) -> Due {
        let mut lane = self.lane.lock();
        let answers = !lane.in_flight.is_empty();
        let Some(feed) = &mut lane.feed else { return Due { at: None, again: false } };
        let at = match feed.turn(answers) {
            Turn::Stays(due) => return due,
            Turn::Wakes(at) => Some(at),
            Turn::Gone(limit) => {
                self.cut(&mut lane, limit);
                None
            }
        };
        let waker = lane.waker.take();
        drop(lane);
        let again = waker.is_some();
        wake(waker);
        Due { at, again }
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
        let mut frame = frame(id, reply);
        let mut charge = charge;
        if let Some(Err(fault)) = charge.as_mut().map(|charge| charge.becomes(frame.encoded_len())) {
            (frame.reply, charge) = (Some(fault_reply(&fault)), None);
        }
        let bytes = frame.encoded_len();
        self.replies += 1;
        self.reply_bytes += bytes;
        self.frames.push_back(Queued { frame, bytes, kind: QueuedKind::Reply, _charge: charge });
    }

    /// The feed that is to be sent before anything else; the error says by which limit it is gone.
    fn next_feed(&mut self) -> Result<Fed, &'static str> {
        let (Some(feed), 0) = (&mut self.feed, self.covered) else { return Ok(Fed::NOTHING) };
        let (fed, all) = feed.next(self.frames.front().map(|queued| queued.bytes))?;
        if all {
            self.covered = self.frames.len();
        }
        Ok(fed)
    }

    /// Nothing is sent any more whose feed is not.
    fn cut(&mut self, sent_to: Tid, limit: &str) {
        for queued in self.frames.drain(self.covered..).filter(|queued| queued.kind == QueuedKind::Reply) {
            self.replies -= 1;
            self.reply_bytes -= queued.bytes;
        }
        let reason = format!(
            "more invalidations wait unread than sessions.{limit} allows, all sessions together; read faster, and reconnect with resume_from"
        );
        self.push_notice(Reply::Cut(v2::Cut { tid: sent_to.0, reason }));
        self.phase = Phase::Ending;
    }

    fn push_notice(&mut self, reply: Reply) {
        if self.phase == Phase::Ending || self.phase == Phase::Closed {
            return;
        }
        self.frames.push_back(Queued { frame: frame(0, reply), bytes: 0, kind: QueuedKind::Notice, _charge: None });
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

/// A frame that says nothing of the feed.
pub(super) fn frame(id: u64, reply: Reply) -> v2::ServerFrame {
    v2::ServerFrame { id, reply: Some(reply), feed_before: Bytes::new() }
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
