//! Owns the connection: one bidirectional session per connection, its correlation ids and its reader. Only this module
//! (with its files) names tonic and the generated types; the rest of the crate speaks in the crate's own types.
//!
//! ```text
//!   callers ──request──> [outbound, bounded] ──> tonic ──> server
//!      ^                                                     │ frames, in order
//!      └──oneshot── pending[id] <── Incoming::run <──────────┘
//!                                        └── feed ──> Inbox (cache, position, watchers)
//! ```
//!
//! The rule that everything above rests on: *the feed is handed to the inbox before any later frame completes a request*.
//! So a caller that learns of tid t from a reply finds the invalidations up to t already applied. One loop reads the
//! frames, in order, and never waits for anything else than the next frame.
//!
//! Not done here: reconnecting and resending (`connect`), deciding what a revision is good for (`cache`).

mod blobs;
mod calls;
mod channel;
mod feed;
mod follow;
mod inside;
mod log;
mod pieces;
mod traced;
mod unary;

pub(crate) use blobs::{BlobBytes, BlobPart};
pub use follow::{FollowBegun, FollowHello, FollowPage, FollowWelcome, FollowWords, Followed};
pub use inside::Inside;
pub use pieces::{BadPiece, LogPiece, Naming};
pub use traced::TracedBy;
pub use unary::Pages;
pub(crate) use unary::{LogHow, Unary};

use crate::credentials::{Tls, Token};
use crate::errors::{Error, Result};
use feed::FeedJoiner;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use v2::client_frame::Request;
use v2::server_frame::Reply;
use v2::zeolite_client::ZeoliteClient;
use zeolite_proto::interest::Held;
use zeolite_proto::wire::{PROTOCOL, fault, v2};
use zeolite_proto::{Cell, Fault, FaultKind, Limits, Mode, Pressure, Seat, Tid, hash};

/// Frames that wait for the transport; beyond it callers wait.
const OUTBOUND_FRAMES: usize = 1024;
/// The largest frame accepted: one record of the largest size that servers take, with its envelope.
const FRAME_BYTES_MAX: usize = 72 << 20;
/// The hello has the first id.
const HELLO_ID: u64 = 1;

/// Takes the feed, in order; called by the reader alone, and must not wait.
pub(crate) trait Inbox: Send + Sync {
    /// A commit wrote these cells, and all before it has been handed over; of which life of the store it is, if that was told (0: not).
    fn changed(&self, tid: Tid, timeline: u64, cells: Vec<Cell>);
    /// Everything up to this tid has been handed over; of which life, as in `changed`.
    fn reached(&self, tid: Tid, timeline: u64);
    /// The mode has changed.
    fn mode(&self, mode: Mode);
    /// The server goes down: it answers what it has been asked, and takes nothing more.
    fn going_down(&self, why: Fault);
    /// What live traffic feels; told to sessions with the role `evolve`.
    fn pressed(&self, pressure: Pressure);
}

/// On which database a client works, and as what, both may be empty; how it proves who it is, and knows the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acting {
    pub(crate) database: String,
    pub(crate) role: String,
    pub(crate) token: Option<Token>,
    pub(crate) tls: Tls,
    /// None: over the network.
    pub(crate) inside: Option<Inside>,
    /// None: nobody traces what it does.
    pub(crate) traced_by: Option<TracedBy>,
}

/// What the client says first.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) client: String,
    pub(crate) acting: Acting,
    pub(crate) feed: bool,
    pub(crate) resume_from: Tid,
    pub(crate) cached_bytes: u64,
    pub(crate) store_id: u64,
    pub(crate) timeline: u64,
    /// The newest term that was met.
    pub(crate) term: u64,
    /// To be told only of cells that are noted in `held`, or will be.
    pub(crate) interest: bool,
    /// What was ever asked for. It is noted before the request is sent, so that whoever says the next hello names all of which an answer may
    /// have come; nothing is ever taken out.
    pub(crate) held: Arc<Mutex<Held>>,
}

/// What the server answers.
#[derive(Clone, Debug)]
pub(crate) struct Welcome {
    pub(crate) server: String,
    pub(crate) store_id: u64,
    pub(crate) timeline: u64,
    pub(crate) session_id: u64,
    pub(crate) visible: Tid,
    pub(crate) replayed: bool,
    pub(crate) limits: Limits,
    pub(crate) mode: Mode,
    pub(crate) seat: Seat,
    pub(crate) term: u64,
    /// Not everything is told in this session.
    pub(crate) interest: bool,
}

/// Why a request has no reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection ended before the reply came, for this reason.
    Lost(String),
    /// The server refused.
    Fault(Fault),
    /// Behind the address is another store, or another life of it, than the request is about: it was not sent.
    Elsewhere,
}

impl Failure {
    /// The refusal of what is about another store than the one that is there.
    pub(crate) fn elsewhere() -> Fault {
        let message = "the database behind this address is not the one that was read; begin a new transaction";
        Fault::new(FaultKind::SnapshotPacked, message)
    }

    fn lost() -> Failure {
        Failure::Lost("the connection was lost before the answer came".to_owned())
    }
}

/// Who waits for which id; none once the session has ended.
#[derive(Debug)]
struct Pending(Mutex<Option<hash::Map<u64, oneshot::Sender<Reply>>>>);

/// One that waits. Dropped before its reply (its caller had no more time), it leaves nothing behind.
#[derive(Debug)]
struct Waiter {
    id: u64,
    reply: oneshot::Receiver<Reply>,
    /// None once the reply has come: its place is gone then.
    pending: Option<Arc<Pending>>,
}

impl Pending {
    /// A place to wait for the reply to a request.
    fn wait(self: &Arc<Self>, id: u64) -> Result<Waiter, Failure> {
        let (sender, reply) = oneshot::channel();
        self.0.lock().as_mut().ok_or_else(Failure::lost)?.insert(id, sender);
        Ok(Waiter { id, reply, pending: Some(self.clone()) })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(pending) = &self.pending else { return };
        if let Some(waiting) = pending.0.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

impl Waiter {
    /// The reply, if it has come.
    fn ready(&mut self) -> Result<Option<Reply>, Failure> {
        match self.reply.try_recv() {
            Ok(reply) => self.came(reply).map(Some),
            Err(oneshot::error::TryRecvError::Empty) => Ok(None),
            Err(oneshot::error::TryRecvError::Closed) => Err(Failure::lost()),
        }
    }

    async fn reply(mut self) -> Result<Reply, Failure> {
        let reply = (&mut self.reply).await.map_err(|_| Failure::lost())?;
        self.came(reply)
    }

    fn came(&mut self, reply: Reply) -> Result<Reply, Failure> {
        self.pending = None;
        match reply {
            Reply::Fault(refusal) => Err(Failure::Fault(refusal.into())),
            reply => Ok(reply),
        }
    }
}

/// The sending half of a session; requests on it run in parallel.
#[derive(Debug)]
pub(crate) struct Link {
    outbound: mpsc::Sender<v2::ClientFrame>,
    pending: Arc<Pending>,
    last_id: AtomicU64,
    unary: Unary,
    welcome: Welcome,
    traced_by: Option<TracedBy>,
    /// None: without a feed nobody is told anything.
    held: Option<Arc<Mutex<Held>>>,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) why: String,
    /// The server had said that it goes down: another one may be there already.
    pub(crate) goes_down: bool,
}

/// The receiving half: its loop must be run for the session to live.
pub(crate) struct Incoming {
    frames: Streaming<v2::ServerFrame>,
    feed: FeedJoiner,
    pending: Arc<Pending>,
}

/// Connects and says hello; the feed that comes before the answer goes to the inbox.
pub(crate) async fn open(
    url: &str,
    connect_timeout: Duration,
    hello: Hello,
    inbox: &dyn Inbox,
) -> Result<(Link, Incoming)> {
    let lost = |reason: String| Error::Disconnected { url: url.to_owned(), reason };
    let unary = Unary::connect(url, connect_timeout, &hello.acting).await?;
    let traced_by = hello.acting.traced_by.clone();
    let held = hello.feed.then(|| hello.held.clone());
    let (outbound, requests) = mpsc::channel(OUTBOUND_FRAMES);
    let first = v2::ClientFrame { id: HELLO_ID, request: Some(Request::Hello(greeting(hello))), ..Default::default() };
    outbound.send(first).await.map_err(|_| lost("the session ended at once".into()))?;
    let mut frames = unary
        .client()
        .session(ReceiverStream::new(requests))
        .await
        .map_err(|status| from_status(&status, url))?
        .into_inner();
    let mut feed = FeedJoiner::default();
    let welcome = loop {
        let frame = match frames.message().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(lost("the server ended the session".into())),
            Err(status) => return Err(from_status(&status, url)),
        };
        match frame.reply {
            Some(Reply::Hello(reply)) => break welcome(reply),
            Some(Reply::Feed(batch)) => feed.take(batch, inbox).map_err(lost)?,
            Some(Reply::Fault(refusal)) => return Err(Fault::from(refusal).into()),
            Some(Reply::Cut(cut)) => return Err(lost(cut.reason)),
            _ => return Err(lost("the server did not answer the hello".into())),
        }
    };
    let pending = Arc::new(Pending(Mutex::new(Some(hash::Map::default()))));
    let last_id = AtomicU64::new(HELLO_ID);
    let link = Link { outbound, pending: pending.clone(), last_id, unary, welcome, traced_by, held };
    Ok((link, Incoming { frames, feed, pending }))
}

fn greeting(hello: Hello) -> v2::Hello {
    let held = if hello.interest { hello.held.lock().told().map(v2::Held::from) } else { None };
    v2::Hello {
        // Who cannot say what he holds is told everything.
        interest: held.is_some(),
        held,
        feed_with_answers: hello.feed,
        protocol: PROTOCOL,
        client: hello.client,
        role: hello.acting.role,
        feed: hello.feed,
        resume_from: hello.resume_from.0,
        cached_bytes: hello.cached_bytes,
        store_id: hello.store_id,
        database: hello.acting.database,
        timeline: hello.timeline,
        term: hello.term,
    }
}

fn welcome(reply: v2::HelloReply) -> Welcome {
    Welcome {
        seat: reply.seat().into(),
        term: reply.term,
        interest: reply.interest,
        server: reply.server,
        store_id: reply.store_id,
        timeline: reply.timeline,
        session_id: reply.session_id,
        visible: Tid(reply.visible),
        replayed: reply.replayed,
        limits: reply.limits.map(Limits::from).unwrap_or_default(),
        mode: reply.mode.map(Mode::from).unwrap_or_default(),
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Why there is no answer: what lies beneath the status, if anything does; what it says itself is for programs.
fn why(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(beneath) => chain(beneath),
        None => chain(status),
    }
}

fn from_status(status: &tonic::Status, url: &str) -> Error {
    match fault::from_status(status) {
        Some(fault) => fault.into(),
        None => Error::Disconnected { url: url.to_owned(), reason: channel::explained(why(status)) },
    }
}

impl Incoming {
    /// Reads until the session ends, and says why it did. Whoever still waits then learns that the session is lost.
    pub(crate) async fn run(mut self, inbox: &dyn Inbox) -> Ended {
        let mut goes_down = false;
        let why = loop {
            let frame = match self.frames.message().await {
                Ok(Some(frame)) => frame,
                Ok(None) => break "the server ended the session".to_owned(),
                Err(status) => break why(&status),
            };
            if !frame.feed_before.is_empty()
                && let Err(reason) = self.feed.take(frame.feed_before, inbox)
            {
                break reason;
            }
            match frame.reply {
                Some(Reply::Fault(refusal)) if frame.id == 0 => {
                    let fault = Fault::from(refusal);
                    if fault.kind != FaultKind::ShuttingDown {
                        break fault.to_string();
                    }
                    goes_down = true;
                    inbox.going_down(fault);
                }
                Some(Reply::Feed(batch)) => {
                    if let Err(reason) = self.feed.take(batch, inbox) {
                        break reason;
                    }
                }
                Some(Reply::Mode(mode)) => inbox.mode(mode.into()),
                Some(Reply::Cut(cut)) => break format!("the server cut the session: {}", cut.reason),
                Some(reply) => {
                    // The reply shows this tid, so its invalidations have already been handed over.
                    match &reply {
                        Reply::Receipt(receipt) => inbox.reached(Tid(receipt.tid), 0),
                        Reply::Done(done) => inbox.reached(Tid(done.tid), 0),
                        _ => {}
                    }
                    if let Reply::Receipt(v2::Receipt { pressure: Some(pressure), .. })
                    | Reply::Done(v2::Done { pressure: Some(pressure), .. }) = &reply
                    {
                        inbox.pressed(Pressure::from(*pressure));
                    }
                    let waiting = self.pending.0.lock().as_mut().and_then(|map| map.remove(&frame.id));
                    if let Some(waiting) = waiting {
                        // A caller that gave up no longer listens; its reply is of no use to anybody else.
                        let _ = waiting.send(reply);
                    }
                }
                None => break "the server sent an empty frame".to_owned(),
            }
        };
        self.pending.0.lock().take();
        Ended { why, goes_down }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.pending.0.lock().take();
    }
}

impl Link {
    /// The calls beside the session.
    pub(crate) fn unary(&self) -> &Unary {
        &self.unary
    }

    /// What the server said at the hello.
    pub(crate) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// A place to wait, with a new id.
    fn expect(&self) -> Result<Waiter, Failure> {
        self.pending.wait(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// From here on the client may hold these cells.
    fn note<'c>(&self, cells: impl IntoIterator<Item = &'c Cell>) {
        if let Some(held) = &self.held {
            let mut held = held.lock();
            cells.into_iter().for_each(|cell| held.note(cell));
        }
    }

    async fn send(&self, id: u64, request: Request) -> Result<(), Failure> {
        let traceparent = self.traced_by.as_ref().map(TracedBy::header).unwrap_or_default();
        let frame = v2::ClientFrame { id, request: Some(request), traceparent, ..Default::default() };
        self.outbound.send(frame).await.map_err(|_| Failure::lost())
    }

    async fn request(&self, request: Request) -> Result<Reply, Failure> {
        let waiter = self.expect()?;
        self.send(waiter.id, request).await?;
        waiter.reply().await
    }
}

fn unexpected() -> Failure {
    let message = "the server's reply is not of the kind that was asked for; report this with both versions";
    Failure::Fault(Fault::new(FaultKind::Internal, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_no_more_time_leaves_nothing_behind() {
        let pending = Arc::new(Pending(Mutex::new(Some(hash::Map::default()))));
        let waiting = || pending.0.lock().as_ref().map_or(0, hash::Map::len);
        let (gone, mut stays) = (pending.wait(1).expect("open"), pending.wait(2).expect("open"));
        assert_eq!(waiting(), 2);
        let late = tokio::time::timeout(Duration::ZERO, gone.reply()).await;
        assert!(late.is_err() && waiting() == 1);
        assert!(stays.ready().expect("open").is_none());
        pending.0.lock().take();
        assert!(matches!(stays.ready(), Err(Failure::Lost(_))) && pending.wait(3).is_err());
    }
}
