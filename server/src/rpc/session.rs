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
use super::budget::Peer;
use super::calls::Calls;
use super::encode;
use super::greeting::{Greeting, check_protocol, greeting};
use super::interest::Interest;
use super::outbox::{Outbox, Popped, fault_reply, frame};
use super::requests::Requests;
use crate::auth::rights::Verb;
use crate::databases::Database;
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::{Code, Status, Streaming};
use zeolite_proto::interest::Rows;
use zeolite_proto::wire::fault::from_status;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::{Fault, FaultKind};

/// Requests handled before other tasks of the same thread get a turn.
const REQUESTS_PER_TURN: usize = 64;

/// One session.
pub(super) struct Session {
    rpc: Arc<Rpc>,
    id: u64,
    /// Of the connection; as whom it acts here is in the calls of its requests.
    peer: Peer,
    /// Who has not said hello can ask for nothing.
    requests: Option<Requests>,
    outbox: Arc<Outbox>,
    inbound: Streaming<v2::ClientFrame>,
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
        peer: Peer,
        outbox: Arc<Outbox>,
        inbound: Streaming<v2::ClientFrame>,
    ) -> Session {
        let hello_by = Duration::from_millis(rpc.settings.hello_timeout_ms);
        Session {
            id,
            peer,
            requests: None,
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
            Some(Request::Hello(_)) if frame.id == 0 => last(0, &encode::id_zero()),
            Some(Request::Hello(hello)) => match self.enter(&hello) {
                Ok(calls) => {
                    self.requests = Some(Requests::new(self.rpc.clone(), self.outbox.clone(), calls.clone(), self.id));
                    let (rpc, outbox) = (self.rpc.clone(), self.outbox.clone());
                    Phase::Greeting(greeting(rpc, calls, outbox, self.id, frame.id, hello))
                }
                Err(fault) => last(frame.id, &fault),
            },
            _ => last(frame.id, &Fault::invalid("the first frame of a session must be hello; open a new one")),
        };
    }

    /// On which database, and as whom.
    fn enter(&self, hello: &v2::Hello) -> Result<Calls, Fault> {
        check_protocol(hello)?;
        let who = self.peer.visitor.on(&hello.database)?.acting_as(&hello.role)?.called(&hello.client);
        who.check(Verb::Read)?;
        let database = self.rpc.databases.find(&hello.database)?;
        // A writer's word must not stop a server for all others; he himself leaves one of an older term than he has met.
        if who.check(Verb::Follow).is_ok() {
            super::follow::meets(database.engine(), hello.store_id, hello.term, &who.client().to_string());
        }
        database.engine().check_confirmed()?;
        tracing::debug!(
            session = self.id,
            database = &**database.name(),
            principal = who.name(),
            client = hello.client,
            role = hello.role,
            "hello"
        );
        self.rpc.enter_session(self.id, database, &who)?;
        let interest = self.interest(database, hello)?;
        if hello.feed_with_answers {
            self.outbox.feed_goes_with_answers();
        }
        Ok(self.rpc.calls(database, who, self.peer.account.clone()).told_of(interest))
    }

    /// What it may hold, if it wants to be told of that alone.
    fn interest(&self, database: &Arc<Database>, hello: &v2::Hello) -> Result<Option<Arc<Interest>>, Fault> {
        if !hello.feed || !hello.interest {
            return Ok(None);
        }
        let held = hello.held.clone().map(Rows::try_from).transpose()?;
        let interests = self.rpc.fan(database).interests();
        Ok(Some(Arc::new(interests.begin(database.engine().feed().clone(), held.as_ref()))))
    }

    /// The client's stream has failed: what can be said about it.
    fn inbound_failed(&self, status: &Status) {
        let of_codec = from_status(status);
        let fault = match (of_codec, status.code()) {
            (Some(fault), _) => fault,
            (None, Code::OutOfRange) => {
                let limit = self.rpc.databases.message_bytes_max();
                Fault::new(
                    FaultKind::TooLarge,
                    format!("a frame is over the limit of {limit} bytes; send a large draft in parts"),
                )
            }
            (None, Code::Internal | Code::InvalidArgument) => {
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
                if let Some(requests) = &mut self.requests {
                    requests.handle(frame);
                }
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
        if let Some(requests) = &self.requests {
            requests.end();
        }
        self.rpc.sessions.lock().remove(&self.id);
        tracing::debug!(session = self.id, "session over");
    }
}

fn last(id: u64, fault: &Fault) -> Phase {
    Phase::Last(Box::new(frame(id, fault_reply(fault))))
}
