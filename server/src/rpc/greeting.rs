//! Owns the start of a session: the hello, and the replay of what the client missed.
//!
//! A client that was away has a cache that was right up to some tid. It is brought up to date from the log, however much
//! it missed, unless that costs more than loading its cache again:
//!
//! ```text
//!   hello(resume_from = t)
//!     rounds:     log (t, visible]  ─> feed frames          not subscribed yet: a long replay fills no queue
//!     subscribe:  everything after r will be pushed         from here on the fan keeps the feed for it
//!     last round: log (.., r]       ─> feed frames          a few commits at most
//!     hello reply(visible = r)
//!     the outbox
//! ```
//!
//! So the client sees every tid after t once, in order. Frames of the replay are made one page at a time, when the one
//! before has been taken by the stream: a slow reader of its replay holds one page, not the log. A page with a large commit is sent
//! in pieces; a client that goes away between two of them comes back with a tid before that commit.

use super::calls::Calls;
use super::outbox::{Outbox, fault_reply, frame};
use super::{Rpc, pieces};
use crate::engine::FeedItem;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::wire::{PROTOCOL, v2};
use zeolite_proto::{Fault, FaultKind, Tid};

/// A replay that reads no more log than this is always made, however small the client's cache is.
const REPLAY_BYTES_ALWAYS: u64 = 1 << 20;

/// Transactions asked from the log at once; the engine's page may be smaller.
const REPLAY_PAGE: usize = 1000;

/// The frames that begin a session, then its end: the session is open if the last of them is a hello reply.
pub(super) type Greeting = Pin<Box<dyn Stream<Item = v2::ServerFrame> + Send>>;

struct Greeter {
    rpc: Arc<Rpc>,
    calls: Calls,
    outbox: Arc<Outbox>,
    session_id: u64,
    request_id: u64,
    hello: v2::Hello,
    stage: Stage,
    /// The pieces of the last page that are not sent yet.
    pieces: VecDeque<Bytes>,
}

enum Stage {
    Begin,
    /// Everything up to `seen` was sent; `subscribed`: the feed brings everything after this.
    Replay {
        seen: Tid,
        subscribed: Option<Tid>,
    },
    Over,
}

/// What the session begins with, for this hello.
pub(super) fn greeting(
    rpc: Arc<Rpc>,
    calls: Calls,
    outbox: Arc<Outbox>,
    session_id: u64,
    request_id: u64,
    hello: v2::Hello,
) -> Greeting {
    let greeter =
        Greeter { rpc, calls, outbox, session_id, request_id, hello, stage: Stage::Begin, pieces: VecDeque::new() };
    Box::pin(stream::unfold(greeter, |mut greeter| async {
        let frame = greeter.next().await?;
        Some((frame, greeter))
    }))
}

/// Refuses a client that speaks another protocol.
pub(super) fn check_protocol(hello: &v2::Hello) -> Result<(), Fault> {
    if hello.protocol == PROTOCOL {
        return Ok(());
    }
    let message =
        format!("protocol {} is not spoken here, {PROTOCOL} is; use a client of this version", hello.protocol);
    Err(Fault::new(FaultKind::Unsupported, message))
}

impl Greeter {
    async fn next(&mut self) -> Option<v2::ServerFrame> {
        match self.step().await {
            Ok(frame) => frame,
            Err(fault) => {
                self.stage = Stage::Over;
                self.outbox.end();
                Some(frame(self.request_id, fault_reply(&fault)))
            }
        }
    }

    async fn step(&mut self) -> Result<Option<v2::ServerFrame>, Fault> {
        if matches!(self.stage, Stage::Begin) {
            if !self.worth_replaying().await? {
                let visible = self.subscribe();
                return Ok(Some(self.reply(visible, false)));
            }
            self.stage = Stage::Replay { seen: Tid(self.hello.resume_from), subscribed: None };
        }
        while let Stage::Replay { seen, subscribed } = self.stage {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(frame(0, Reply::Feed(piece))));
            }
            let to = subscribed.unwrap_or_else(|| self.calls.engine().visible());
            let calls = self.calls.clone();
            let page = if seen < to {
                let page = move || calls.log_page(seen.next(), to, REPLAY_PAGE, false);
                self.rpc.off_thread(self.calls.account(), page).await?
            } else {
                Vec::new()
            };
            if let Some(last) = page.last() {
                self.stage = Stage::Replay { seen: last.tid, subscribed };
                let items: Vec<_> = page.iter().map(FeedItem::of).collect();
                // What the log has is of the life that goes on in it.
                let pieces = pieces::of(&items, self.calls.engine().timeline());
                self.pieces = pieces.into_iter().map(|piece| piece.bytes).collect();
                continue;
            }
            match subscribed {
                Some(visible) => {
                    // A pack that began meanwhile has told so before it took anything: then the cache is not to be kept.
                    let whole = !self.calls.engine().is_packed(Tid(self.hello.resume_from));
                    return Ok(Some(self.reply(visible, whole)));
                }
                None => self.stage = Stage::Replay { seen, subscribed: Some(self.subscribe()) },
            }
        }
        Ok(None)
    }

    async fn worth_replaying(&self) -> Result<bool, Fault> {
        let (since, timeline) = (Tid(self.hello.resume_from), self.hello.timeline);
        let engine = self.calls.engine().clone();
        if !self.hello.feed || since == Tid::NONE || self.hello.store_id != engine.store_id() {
            return Ok(false);
        }
        let cost = self.rpc.off_thread(self.calls.account(), move || engine.replay_cost_bytes(timeline, since)).await?;
        let factor = self.rpc.settings.replay_cost_factor;
        let worth = self.hello.cached_bytes.saturating_mul(factor).max(REPLAY_BYTES_ALWAYS);
        Ok(cost.is_some_and(|cost| cost <= worth))
    }

    /// From here on the fan keeps the feed for this session. Returns the tid after which it begins.
    fn subscribe(&self) -> Tid {
        if !self.hello.feed {
            return self.calls.engine().visible();
        }
        self.rpc.fan(self.calls.database()).join(
            self.calls.engine().feed(),
            self.outbox.clone(),
            self.calls.interest().cloned(),
        )
    }

    fn reply(&mut self, visible: Tid, replayed: bool) -> v2::ServerFrame {
        self.stage = Stage::Over;
        let reply = v2::HelloReply {
            protocol: PROTOCOL,
            server: self.rpc.server_name.clone(),
            store_id: self.calls.engine().store_id(),
            timeline: self.calls.engine().timeline(),
            session_id: self.session_id,
            visible: visible.0,
            replayed,
            limits: Some(self.calls.engine().limits().into()),
            mode: Some((&*self.calls.engine().mode()).into()),
            seat: v2::Seat::from(self.calls.engine().seat()).into(),
            term: self.calls.engine().term(),
            interest: self.calls.interest().is_some(),
        };
        frame(self.request_id, Reply::Hello(reply))
    }
}
