//! Owns the requests of one session: what each frame asks for, where that runs, and how it is answered.
//!
//! Short calls are answered in place. Long ones (see `calls`) go to the blocking pool, commits to the engine; both answer
//! into the outbox from where they end.

use super::Rpc;
use super::budget::{Charge, PART_BYTES, Weight};
use super::calls::Calls;
use super::holding::Holding;
use super::outbox::{Outbox, Promised, fault_reply};
use super::parts::{Added, Parts};
use super::{decode, encode};
use crate::engine::{Mark, RequestId};
use crate::traces::{Open, Traces};
use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::draft_part::Purpose;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::wire::{count, v2};
use zeolite_proto::{Fault, FaultKind, TraceContext};

/// A draft in parts of more bytes than this is decoded on the blocking pool.
const INLINE_DRAFT_BYTES_MAX: usize = 64 << 10;

/// What answers the requests of a session that has said hello.
pub(super) struct Requests {
    rpc: Arc<Rpc>,
    outbox: Arc<Outbox>,
    calls: Calls,
    parts: Parts,
    holding: Arc<Holding>,
    session: u64,
    /// The request that is begun now, if somebody traces it.
    open: Option<Arc<Open>>,
}

impl Requests {
    pub(super) fn new(rpc: Arc<Rpc>, outbox: Arc<Outbox>, calls: Calls, session: u64) -> Requests {
        let draft_bytes_max = calls.engine().limits().draft_bytes_max;
        Requests {
            parts: Parts::new(rpc.settings.open_drafts_max, draft_bytes_max, calls.account().clone()),
            holding: Holding::new(calls.clone()),
            rpc,
            outbox,
            calls,
            session,
            open: None,
        }
    }

    /// The session is over: what it held is given up.
    pub(super) fn end(&self) {
        self.holding.end();
    }

    /// One request of an open session.
    pub(super) fn handle(&mut self, mut frame: v2::ClientFrame) {
        self.open = None;
        let id = frame.id;
        if id == 0 {
            return self.outbox.notice(fault_reply(&encode::id_zero()));
        }
        let Some(request) = frame.request.take() else {
            return self
                .refuse(id, &Fault::invalid("the frame has no request that this server knows; see the protocol"));
        };
        let (name, is_begun) = (name_of(&request), is_whole(&request));
        self.mark(id, &frame, name, is_begun);
        let begun = match request {
            Request::Part(part) => self.part(id, part),
            request => self.calls.account().take(request.weight()).map(|charge| {
                if self.begin_request(id, charge) {
                    self.call(id, request);
                }
            }),
        };
        if let Err(fault) = begun {
            if !is_begun {
                // The answer to the draft comes with this part.
                self.mark(id, &frame, name, true);
            }
            self.refuse(id, &fault);
        }
    }

    /// What the request is called, and who traces it: of a draft in parts, its last one.
    fn mark(&mut self, id: u64, frame: &v2::ClientFrame, what: &'static str, is_begun: bool) {
        let numbered = RequestId::Numbered { session: self.session, id };
        let given = &frame.request_id;
        let name = if given.is_empty() { numbered } else { RequestId::given(given).unwrap_or(numbered) };
        let begin =
            |traces: &Arc<Traces>| traces.begin(TraceContext::parse(&frame.traceparent), what, || name.to_string());
        self.open = self.rpc.traces.as_ref().filter(|_| is_begun).and_then(begin).map(Arc::new);
        self.calls.mark(Mark { id: name, trace: self.open.as_ref().map(|open| Box::new(open.context())) });
    }

    fn part(&mut self, id: u64, mut part: v2::DraftPart) -> Result<(), Fault> {
        let (key, purpose) = (part.commit_key.clone(), part.purpose.take());
        if let Some(
            Purpose::Prepare(v2::PrepareRequest { draft: Some(_), .. })
            | Purpose::Amend(v2::AmendRequest { draft: Some(_), .. }),
        ) = &purpose
        {
            return Err(Fault::invalid(
                "the purpose of a part carries a draft of its own; leave it out, the parts are the draft",
            ));
        }
        if let Added::Whole(encoded, mut charge) = self.parts.add(id, part)? {
            let parts = count::check_draft(&encoded, self.calls.engine().limits())?;
            charge.add(parts * PART_BYTES)?;
            if self.begin_request(id, charge) {
                self.whole(id, key, encoded, purpose);
            }
        }
        Ok(())
    }

    fn begin_request(&self, id: u64, charge: Charge) -> bool {
        let fresh = self.outbox.begin(id, charge);
        if !fresh {
            let fault = Fault::invalid(format!("request id {id} is in flight already; use another one"));
            self.refuse(id, &fault);
        }
        fresh
    }

    fn refuse(&self, id: u64, fault: &Fault) {
        if let Some(open) = &self.open {
            open.end(Some(fault.kind));
        }
        let named = Fault { request: self.calls.request().to_string(), ..fault.clone() };
        self.outbox.refuse_here(id, &named);
    }

    fn call(&self, id: u64, request: Request) {
        let calls = &self.calls;
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
            // Each note is of a batch that may be long.
            Request::History(history) => self.off(id, move |calls| calls.history(history), Reply::History),
            Request::Objects(objects) if calls.page_is_long(objects.limit) => {
                self.off(id, move |calls| calls.objects(objects), Reply::Objects);
            }
            Request::Objects(objects) => self.here(id, calls.objects(objects), Reply::Objects),
            Request::Heat(heat) => self.here(id, calls.heat(&heat), Reply::Heat),
            Request::Kinds(_) => self.here(id, calls.kinds(), Reply::Kinds),
            Request::Outcome(outcome) => self.here(id, calls.outcome(&outcome), Reply::Outcome),
            Request::Pin(pin) => self.here(id, calls.pin(&pin), Reply::Pin),
            Request::Renew(renew) => self.here(id, calls.renew(&renew), Reply::Pin),
            Request::Unpin(unpin) => self.here(id, calls.unpin(&unpin), Reply::Done),
            Request::Ping(_) => self.here(id, calls.ping(), Reply::Done),
            Request::Everything(_) => self.here(id, calls.everything(), Reply::Done),
            request => self.write(id, request),
        }
    }

    /// Requests that the engine answers from its own threads.
    fn write(&self, id: u64, request: Request) {
        let calls = &self.calls;
        match request {
            Request::Commit(draft) => {
                let (calls, done) = (calls.clone(), self.later(id, Reply::Receipt));
                self.run(calls.draft_is_long(&draft), move || calls.commit(draft, done));
            }
            Request::Prepare(mut prepare) => {
                let (draft, how) = (prepare.draft.take(), decode::preparing(&prepare));
                let (calls, done) = (calls.clone(), self.prepared(id, prepare.hold));
                let long = draft.as_ref().is_some_and(|draft| calls.draft_is_long(draft));
                self.run(long, move || calls.prepare(calls.given(draft), how, done));
            }
            Request::Amend(amend) => {
                let (calls, done) = (calls.clone(), self.later(id, Reply::Prepare));
                let long = amend.draft.as_ref().is_some_and(|draft| calls.draft_is_long(draft));
                self.run(long, move || calls.amend(amend.prepared, calls.given(amend.draft), amend.withdrawn, done));
            }
            Request::Finish(finish) => {
                calls.finish(&finish, self.concluded(id, finish.prepared, Reply::Receipt));
            }
            Request::Abort(abort) => {
                calls.abort(&abort, self.concluded(id, abort.prepared, Reply::Done));
            }
            Request::Undo(undo) => {
                // A transaction of any size.
                let (calls, done) = (calls.clone(), self.later(id, Reply::Receipt));
                self.run(true, move || calls.undo(undo, done));
            }
            Request::NewOids(oids) => calls.new_oids(&oids, self.later(id, Reply::NewOids)),
            other => {
                let fault = Fault::new(FaultKind::Internal, format!("request {other:?} has no handler; report this"));
                self.outbox.reply_here(id, fault_reply(&fault));
            }
        }
    }

    /// A draft that came in parts.
    fn whole(&self, id: u64, key: Bytes, encoded: Bytes, purpose: Option<Purpose>) {
        let calls = self.calls.clone();
        let long = encoded.len() > INLINE_DRAFT_BYTES_MAX;
        match purpose {
            None => {
                let done = self.later(id, Reply::Receipt);
                self.run(long, move || calls.commit_decoded(calls.joined(&key, encoded), done));
            }
            Some(Purpose::Prepare(prepare)) => {
                let done = self.prepared(id, prepare.hold);
                let how = decode::preparing(&prepare);
                self.run(long, move || calls.prepare(calls.joined(&key, encoded), how, done));
            }
            Some(Purpose::Amend(v2::AmendRequest { prepared, withdrawn, .. })) => {
                let done = self.later(id, Reply::Prepare);
                self.run(long, move || calls.amend(prepared, calls.joined(&key, encoded), withdrawn, done));
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

    /// The answer that ends a prepared draft, if it is one: refused for now, it is held still.
    fn concluded<T: 'static>(
        &self,
        id: u64,
        prepared: u64,
        wrap: fn(T) -> Reply,
    ) -> impl FnOnce(Result<T, Fault>) + Send + use<T> + 'static {
        let (told, holding) = (self.later(id, wrap), self.holding.clone());
        move |result: Result<T, Fault>| {
            if result.as_ref().map_or_else(|fault| fault.kind == FaultKind::PrepareLost, |_| true) {
                holding.concluded(prepared);
            }
            told(result);
        }
    }

    /// Here, or on the blocking pool.
    fn run(&self, long: bool, call: impl FnOnce() + Send + 'static) {
        if long { self.rpc.detach(self.calls.account(), call) } else { call() }
    }

    /// Answers in place.
    fn here<T>(&self, id: u64, result: Result<T, Fault>, wrap: fn(T) -> Reply) {
        let reply = self.rpc.answer(named(result, self.calls.request(), self.open.as_deref()), wrap);
        self.outbox.reply_here(id, reply);
    }

    /// Answers when the engine calls back.
    fn later<T: 'static>(
        &self,
        id: u64,
        wrap: fn(T) -> Reply,
    ) -> impl FnOnce(Result<T, Fault>) + Send + use<T> + 'static {
        let (rpc, promised) = (self.rpc.clone(), Promised::new(self.outbox.clone(), id));
        let (name, open) = (self.calls.request().clone(), self.open.clone());
        move |result| promised.keep(rpc.answer(named(result, &name, open.as_deref()), wrap))
    }

    /// Answers from the blocking pool.
    fn off<T: Send + 'static>(
        &self,
        id: u64,
        call: impl FnOnce(&Calls) -> Result<T, Fault> + Send + 'static,
        wrap: fn(T) -> Reply,
    ) {
        let (calls, done) = (self.calls.clone(), self.later(id, wrap));
        self.rpc.detach(self.calls.account(), move || done(call(&calls)));
    }
}

/// The same result; a refusal says what the request is called, and is told in the log. Whoever traces it learns that it is answered.
fn named<T>(result: Result<T, Fault>, name: &RequestId, open: Option<&Open>) -> Result<T, Fault> {
    if let Some(open) = open {
        open.end(result.as_ref().err().map(|fault| fault.kind));
    }
    result.map_err(|fault| {
        let request = name.to_string();
        tracing::debug!(request, %fault, "refused");
        Fault { request, ..fault }
    })
}

/// Whether a request is begun with this frame: of a draft in parts, with the last one.
fn is_whole(request: &Request) -> bool {
    !matches!(request, Request::Part(part) if !part.last)
}

/// What a request asks for, for whoever traces it.
fn name_of(request: &Request) -> &'static str {
    match request {
        Request::Hello(_) => "hello",
        Request::Load(_) => "load",
        Request::Scan(_) => "scan",
        Request::Commit(_) => "commit",
        Request::Prepare(_) => "prepare",
        Request::Finish(_) => "finish",
        Request::Abort(_) => "abort",
        Request::Outcome(_) => "outcome",
        Request::NewOids(_) => "new oids",
        Request::Pin(_) => "pin",
        Request::Renew(_) => "renew",
        Request::Unpin(_) => "unpin",
        Request::History(_) => "history",
        Request::Undo(_) => "undo",
        Request::Objects(_) => "objects",
        Request::Kinds(_) => "kinds",
        Request::Part(_) => "commit in parts",
        Request::Ping(_) => "ping",
        Request::Everything(_) => "everything",
        Request::Heat(_) => "heat",
        Request::Amend(_) => "amend",
    }
}
