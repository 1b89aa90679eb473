//! Owns a session: the stream that reads a client's frames and writes the server's, in one task.
//!
//! The stream of answers *is* the reader: HTTP/2 polls it for frames to send, and when the outbox has none, it reads the
//! next request and handles it right there. So a load costs no hop between tasks, and a client that does not read its
//! answers is not read from either.
//!
//! ```text
//!   poll ──> outbox has a frame? ── yes ──> send it
//!                  │ no
//!                  └──> another request may be read? ──> decode, call, answer into the outbox ──> again
//! ```
//!
//! Short calls are answered in place. Long ones (see `calls`) go to the blocking pool, commits to the engine; both answer
//! into the outbox from where they end, so answers may come in another order than their requests: the id tells.
//!
//! A client that goes away leaves nothing behind but what it was promised: commits that were admitted finish, prepared
//! drafts wait for their time limit (held ones end), pins for their lease.

use super::Rpc;
use super::calls::Calls;
use super::decode;
use super::greeting::{Greeting, greeting};
use super::holding::Holding;
use super::outbox::{Outbox, Popped, Promised, fault_reply};
use super::parts::{Added, Parts};
use crate::engine::{Caller, Client, Role};
use bytes::Bytes;
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::{Code, Status, Streaming};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::draft_part::Purpose;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::{Fault, FaultKind};

/// Requests handled before other tasks of the same thread get a turn.
const REQUESTS_PER_TURN: usize = 64;

/// A draft in parts of more bytes than this is decoded on the blocking pool.
const INLINE_DRAFT_BYTES_MAX: usize = 64 << 10;

/// One session.
pub(super) struct Session {
    rpc: Arc<Rpc>,
    id: u64,
    /// By its address until it has said its name.
    caller: Caller,
    outbox: Arc<Outbox>,
    inbound: Streaming<v2::ClientFrame>,
    parts: Parts,
    holding: Arc<Holding>,
    phase: Phase,
    handled: usize,
}

enum Phase {
    /// The hello must come before this.
    Silent(Pin<Box<tokio::time::Sleep>>),
    /// What comes before the first answer: replay, hello reply.
    Greeting(Greeting),
    Open,
    /// One last frame, then the end.
    Last(Box<v2::ServerFrame>),
    Over,
}

impl Session {
    pub(super) fn new(
        rpc: Arc<Rpc>,
        id: u64,
        caller: Caller,
        outbox: Arc<Outbox>,
        inbound: Streaming<v2::ClientFrame>,
    ) -> Session {
        let limits = rpc.calls.engine.limits();
        let hello_by = Duration::from_millis(rpc.settings.hello_timeout_ms);
        Session {
            parts: Parts::new(rpc.settings.open_drafts_max, limits.draft_bytes_max, rpc.parts_budget.clone()),
            holding: Holding::new(rpc.calls.engine.clone()),
            id,
            caller,
            outbox,
            inbound,
            phase: Phase::Silent(Box::pin(tokio::time::sleep(hello_by))),
            handled: 0,
            rpc,
        }
    }

    /// The first frame of the client: it must be a hello.
    fn begin(&mut self, frame: v2::ClientFrame) {
        self.phase = match frame.request {
            Some(Request::Hello(_)) if frame.id == 0 => last(0, &id_zero()),
            Some(Request::Hello(hello)) => {
                tracing::debug!(session = self.id, client = hello.client, role = hello.role, "hello");
                self.caller.role = role_of(&hello.role);
                if !hello.client.is_empty() {
                    self.caller.client = Client::new(&hello.client, None);
                }
                Phase::Greeting(greeting(self.rpc.clone(), self.outbox.clone(), self.id, frame.id, hello))
            }
            _ => last(frame.id, &Fault::invalid("the first frame of a session must be hello; open a new one")),
        };
    }

    /// One request of an open session.
    fn handle(&mut self, frame: v2::ClientFrame) {
        let id = frame.id;
        if id == 0 {
            return self.outbox.notice(fault_reply(&id_zero()));
        }
        let Some(request) = frame.request else {
            return self
                .refuse(id, &Fault::invalid("the frame has no request that this server knows; see the protocol"));
        };
        let request = match request {
            Request::Part(mut part) => {
                let (key, purpose) = (part.commit_key.clone(), part.purpose.take());
                return match self.parts.add(id, part) {
                    Ok(Added::Waiting) => {}
                    Ok(Added::Whole(encoded)) => {
                        if self.begin_request(id) {
                            self.whole(id, key, encoded, purpose);
                        }
                    }
                    Err(fault) => self.refuse(id, &fault),
                };
            }
            request => request,
        };
        if self.begin_request(id) {
            self.call(id, request);
        }
    }

    fn begin_request(&self, id: u64) -> bool {
        let fresh = self.outbox.begin(id);
        if !fresh {
            let fault = Fault::invalid(format!("request id {id} is in flight already; use another one"));
            self.refuse(id, &fault);
        }
        fresh
    }

    fn refuse(&self, id: u64, fault: &Fault) {
        self.outbox.refuse_here(id, fault);
    }

    fn call(&self, id: u64, request: Request) {
        let calls = &self.rpc.calls;
        match request {
            Request::Hello(_) => {
                self.here(id, Err::<v2::Done, _>(Fault::invalid("hello was said already; say it once")), Reply::Done);
            }
            Request::Load(load) if calls.load_is_long(&load) => {
                self.off(id, move |calls| calls.load(load), Reply::Load);
            }
            Request::Load(load) => self.here(id, calls.load(load), Reply::Load),
            Request::Scan(scan) if calls.page_is_long(scan.limit) => {
                self.off(id, move |calls| calls.scan(scan), Reply::Scan);
            }
            Request::Scan(scan) => self.here(id, calls.scan(scan), Reply::Scan),
            Request::History(history) if calls.page_is_long(history.limit) => {
                self.off(id, move |calls| calls.history(history), Reply::History);
            }
            Request::History(history) => self.here(id, calls.history(history), Reply::History),
            Request::Objects(objects) if calls.page_is_long(objects.limit) => {
                self.off(id, move |calls| calls.objects(objects), Reply::Objects);
            }
            Request::Objects(objects) => self.here(id, calls.objects(objects), Reply::Objects),
            Request::Heat(heat) => self.here(id, calls.heat(&heat), Reply::Heat),
            Request::Kinds(_) => self.here(id, calls.kinds(), Reply::Kinds),
            Request::Outcome(outcome) => self.here(id, calls.outcome(&outcome), Reply::Outcome),
            Request::Pin(pin) => self.here(id, calls.pin(&pin), Reply::Pin),
            Request::Renew(renew) => self.here(id, calls.renew(&renew), Reply::Pin),
            Request::Unpin(unpin) => self.here(id, Ok(calls.unpin(&unpin)), Reply::Done),
            Request::Ping(_) => self.here(id, Ok(calls.ping(self.caller.role)), Reply::Done),
            request => self.write(id, request),
        }
    }

    /// Requests that the engine answers from its own threads.
    fn write(&self, id: u64, request: Request) {
        let (calls, caller) = (&self.rpc.calls, self.caller.clone());
        match request {
            Request::Commit(draft) if calls.draft_is_long(&draft) => {
                let (calls, done) = (calls.clone(), self.later(id, Reply::Receipt));
                self.rpc.detach(move || calls.commit(caller, draft, done));
            }
            Request::Commit(draft) => calls.commit(caller, draft, self.later(id, Reply::Receipt)),
            Request::Prepare(mut prepare) => {
                let draft = calls.given(prepare.draft.take());
                calls.prepare(caller, draft, decode::preparing(&prepare), self.prepared(id, prepare.hold));
            }
            Request::Amend(mut amend) => {
                let draft = calls.given(amend.draft.take());
                calls.amend(amend.prepared, draft, amend.withdrawn, self.later(id, Reply::Prepare));
            }
            Request::Finish(finish) => {
                self.holding.concluded(finish.prepared);
                calls.finish(&finish, self.later(id, Reply::Receipt));
            }
            Request::Abort(abort) => {
                self.holding.concluded(abort.prepared);
                calls.abort(&abort, self.later(id, Reply::Done));
            }
            Request::Undo(undo) => calls.undo(caller, undo, self.later(id, Reply::Receipt)),
            Request::NewOids(oids) => calls.new_oids(&oids, self.later(id, Reply::NewOids)),
            other => {
                let fault = Fault::new(FaultKind::Internal, format!("request {other:?} has no handler; report this"));
                self.outbox.reply_here(id, fault_reply(&fault));
            }
        }
    }

    /// A draft that came in parts.
    fn whole(&self, id: u64, key: Bytes, encoded: Bytes, purpose: Option<Purpose>) {
        let (calls, caller) = (self.rpc.calls.clone(), self.caller.clone());
        let long = encoded.len() > INLINE_DRAFT_BYTES_MAX;
        let run = |call: Box<dyn FnOnce() + Send>| if long { self.rpc.detach(call) } else { call() };
        match purpose {
            None => {
                let done = self.later(id, Reply::Receipt);
                run(Box::new(move || calls.commit_decoded(caller, calls.joined(&key, encoded), done)));
            }
            Some(Purpose::Prepare(prepare)) => {
                let done = self.prepared(id, prepare.hold);
                let how = decode::preparing(&prepare);
                run(Box::new(move || calls.prepare(caller, calls.joined(&key, encoded), how, done)));
            }
            Some(Purpose::Amend(v2::AmendRequest { prepared, withdrawn, .. })) => {
                let done = self.later(id, Reply::Prepare);
                run(Box::new(move || calls.amend(prepared, calls.joined(&key, encoded), withdrawn, done)));
            }
        }
    }

    /// The answer to a prepare. What is held is given up when the session ends.
    fn prepared(&self, id: u64, hold: bool) -> impl FnOnce(Result<v2::PrepareReply, Fault>) + Send + use<> + 'static {
        let (told, holding) = (self.later(id, Reply::Prepare), self.holding.clone());
        move |result: Result<v2::PrepareReply, Fault>| {
            if let (true, Ok(reply)) = (hold, &result) {
                holding.begun(reply.prepared);
            }
            told(result);
        }
    }

    /// Answers in place.
    fn here<T>(&self, id: u64, result: Result<T, Fault>, wrap: fn(T) -> Reply) {
        self.outbox.reply_here(id, self.rpc.answer(result, wrap));
    }

    /// Answers when the engine calls back.
    fn later<T: 'static>(
        &self,
        id: u64,
        wrap: fn(T) -> Reply,
    ) -> impl FnOnce(Result<T, Fault>) + Send + use<T> + 'static {
        let (rpc, promised) = (self.rpc.clone(), Promised::new(self.outbox.clone(), id));
        move |result| promised.keep(rpc.answer(result, wrap))
    }

    /// Answers from the blocking pool.
    fn off<T: Send + 'static>(
        &self,
        id: u64,
        call: impl FnOnce(&Calls) -> Result<T, Fault> + Send + 'static,
        wrap: fn(T) -> Reply,
    ) {
        let (calls, done) = (self.rpc.calls.clone(), self.later(id, wrap));
        self.rpc.detach(move || done(call(&calls)));
    }

    /// The client's stream has failed: what can be said about it.
    fn inbound_failed(&self, status: &Status) {
        let fault = match status.code() {
            Code::OutOfRange => {
                let limit = self.rpc.calls.engine.limits().message_bytes_max;
                Fault::new(
                    FaultKind::TooLarge,
                    format!("a frame is over the limit of {limit} bytes; send a large draft in parts"),
                )
            }
            Code::Internal | Code::InvalidArgument => {
                Fault::invalid(format!("a frame cannot be decoded ({}); see the protocol", status.message()))
            }
            _ => return self.outbox.close(),
        };
        self.outbox.notice(fault_reply(&fault));
        self.outbox.end();
    }

    fn poll_silent(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.inbound).poll_next(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.begin(frame);
                return Poll::Ready(());
            }
            Poll::Ready(Some(Err(status))) => {
                self.inbound_failed(&status);
                self.phase = Phase::Open;
                return Poll::Ready(());
            }
            Poll::Ready(None) => {
                self.phase = Phase::Over;
                return Poll::Ready(());
            }
            Poll::Pending => {}
        }
        let Phase::Silent(hello_by) = &mut self.phase else { return Poll::Ready(()) };
        std::task::ready!(hello_by.as_mut().poll(context));
        self.phase = last(0, &Fault::invalid("no hello came in time; say hello first"));
        Poll::Ready(())
    }

    /// Reads and handles one request; ready when there may be something to send.
    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.handled >= REQUESTS_PER_TURN {
            self.handled = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match Pin::new(&mut self.inbound).poll_next(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.handled += 1;
                self.handle(frame);
            }
            Poll::Ready(Some(Err(status))) => self.inbound_failed(&status),
            Poll::Ready(None) => self.outbox.finish(),
            Poll::Pending => {
                self.handled = 0;
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

impl Stream for Session {
    type Item = Result<v2::ServerFrame, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match &mut this.phase {
                Phase::Silent(_) => std::task::ready!(this.poll_silent(context)),
                Phase::Greeting(greeting) => match std::task::ready!(greeting.as_mut().poll_next(context)) {
                    Some(frame) => return Poll::Ready(Some(Ok(frame))),
                    None => this.phase = Phase::Open,
                },
                Phase::Open => match this.outbox.pop(context) {
                    Popped::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                    Popped::Empty { may_read: true } => std::task::ready!(this.poll_request(context)),
                    Popped::Empty { may_read: false } => return Poll::Pending,
                    Popped::End => this.phase = Phase::Over,
                },
                Phase::Last(frame) => {
                    let frame = std::mem::take(&mut **frame);
                    this.phase = Phase::Over;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Phase::Over => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.outbox.close();
        self.holding.end();
        self.rpc.sessions.lock().remove(&self.id);
        tracing::debug!(session = self.id, "session over");
    }
}

/// A role that is not known is the site's.
pub(super) fn role_of(name: &str) -> Role {
    if name == "evolve" { Role::Evolve } else { Role::Site }
}

fn id_zero() -> Fault {
    Fault::invalid("a request needs an id that is not 0; number them from 1")
}

fn last(id: u64, fault: &Fault) -> Phase {
    Phase::Last(Box::new(v2::ServerFrame { id, reply: Some(fault_reply(fault)) }))
}
