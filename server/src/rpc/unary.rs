//! Owns the unary door: the same calls as the session's, for any language that speaks gRPC.
//!
//! A refusal is a status; its details hold the encoded fault. Streams (scan, log) are made page by page, one page ahead
//! of the reader, and stop when the reader goes away.

use super::calls::Calls;
use super::session::Session;
use super::{Rpc, decode, encode, transactions};
use crate::engine::{Caller, Client};
use crate::store::Txn;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::zeolite_server::Zeolite;
use zeolite_proto::{Fault, Tid};

/// Pages made ahead of the reader of a stream.
const PAGES_AHEAD: usize = 1;

/// The lease of the pin that keeps a scan's snapshot while its pages are read; renewed with each page.
const SCAN_LEASE_MS: u64 = 60_000;

/// Transactions asked from the log at once; the engine's page may be smaller.
const LOG_PAGE: usize = 1000;

type Answer<T> = Result<Response<T>, Status>;
type Pages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The `Zeolite` service.
pub(super) struct Unary {
    rpc: Arc<Rpc>,
}

impl Unary {
    pub(super) fn new(rpc: Arc<Rpc>) -> Unary {
        Unary { rpc }
    }

    fn here<T>(&self, result: Result<T, Fault>) -> Answer<T> {
        result.map(Response::new).map_err(|fault| self.rpc.refusal(&fault))
    }

    async fn read<T: Send + 'static>(
        &self,
        long: bool,
        call: impl FnOnce(&Calls) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<T> {
        if !long {
            return self.here(call(&self.rpc.calls));
        }
        let calls = self.rpc.calls.clone();
        self.here(self.rpc.off_thread(move || call(&calls)).await)
    }

    /// Waits for the engine's call back.
    async fn write<T: Send + 'static>(&self, begin: impl FnOnce(&Calls, Done<T>)) -> Answer<T> {
        let (done, answer) = oneshot::channel();
        begin(&self.rpc.calls, Done(done));
        self.here(answer.await.unwrap_or_else(|_| Err(encode::lost())))
    }
}

/// The engine's call back, for a caller that waits.
struct Done<T>(oneshot::Sender<Result<T, Fault>>);

impl<T: Send + 'static> Done<T> {
    fn closure(self) -> impl FnOnce(Result<T, Fault>) + Send + 'static {
        // A caller that has gone away hears nothing; what it asked for is done all the same.
        move |result| drop(self.0.send(result))
    }
}

#[tonic::async_trait]
impl Zeolite for Unary {
    type SessionStream = Session;
    type ScanStream = Pages<v2::ScanPage>;
    type LogStream = Pages<v2::LogPage>;

    async fn session(&self, request: Request<Streaming<v2::ClientFrame>>) -> Answer<Session> {
        let (id, outbox) = self.rpc.open_session().map_err(|fault| self.rpc.refusal(&fault))?;
        let caller = caller(&request);
        Ok(Response::new(Session::new(self.rpc.clone(), id, caller, outbox, request.into_inner())))
    }

    async fn load(&self, request: Request<v2::LoadRequest>) -> Answer<v2::LoadReply> {
        let request = request.into_inner();
        let long = self.rpc.calls.load_is_long(&request);
        self.read(long, move |calls| calls.load(request)).await
    }

    async fn scan(&self, request: Request<v2::ScanRequest>) -> Answer<Self::ScanStream> {
        let request = request.into_inner();
        decode::scan_range(request.clone(), self.rpc.calls.engine.limits())
            .map_err(|fault| self.rpc.refusal(&fault))?;
        let (pages, stream) = mpsc::channel(PAGES_AHEAD);
        tokio::spawn(send_scan(self.rpc.clone(), request, pages));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn commit(&self, request: Request<v2::Draft>) -> Answer<v2::Receipt> {
        let (caller, draft) = (caller(&request), request.into_inner());
        self.write(|calls, done| calls.commit(caller, draft, done.closure())).await
    }

    async fn prepare(&self, request: Request<v2::PrepareRequest>) -> Answer<v2::PrepareReply> {
        let (caller, prepare) = (caller(&request), request.into_inner());
        let how = decode::preparing(&prepare);
        self.write(|calls, done| calls.prepare(caller, calls.given(prepare.draft), how, done.closure())).await
    }

    async fn amend(&self, request: Request<v2::AmendRequest>) -> Answer<v2::PrepareReply> {
        let v2::AmendRequest { prepared, draft, withdrawn } = request.into_inner();
        self.write(|calls, done| calls.amend(prepared, calls.given(draft), withdrawn, done.closure())).await
    }

    async fn finish(&self, request: Request<v2::FinishRequest>) -> Answer<v2::Receipt> {
        let finish = request.into_inner();
        self.write(|calls, done| calls.finish(&finish, done.closure())).await
    }

    async fn abort(&self, request: Request<v2::AbortRequest>) -> Answer<v2::Done> {
        let abort = request.into_inner();
        self.write(|calls, done| calls.abort(&abort, done.closure())).await
    }

    async fn outcome(&self, request: Request<v2::OutcomeRequest>) -> Answer<v2::OutcomeReply> {
        self.here(self.rpc.calls.outcome(request.get_ref()))
    }

    async fn new_oids(&self, request: Request<v2::NewOidsRequest>) -> Answer<v2::NewOidsReply> {
        let oids = request.into_inner();
        self.write(|calls, done| calls.new_oids(&oids, done.closure())).await
    }

    async fn pin(&self, request: Request<v2::PinRequest>) -> Answer<v2::PinReply> {
        self.here(self.rpc.calls.pin(request.get_ref()))
    }

    async fn renew(&self, request: Request<v2::RenewRequest>) -> Answer<v2::PinReply> {
        self.here(self.rpc.calls.renew(request.get_ref()))
    }

    async fn unpin(&self, request: Request<v2::UnpinRequest>) -> Answer<v2::Done> {
        self.here(Ok(self.rpc.calls.unpin(request.get_ref())))
    }

    async fn history(&self, request: Request<v2::HistoryRequest>) -> Answer<v2::HistoryReply> {
        let request = request.into_inner();
        let long = self.rpc.calls.page_is_long(request.limit);
        self.read(long, move |calls| calls.history(request)).await
    }

    async fn undo(&self, request: Request<v2::UndoRequest>) -> Answer<v2::Receipt> {
        let (caller, undo) = (caller(&request), request.into_inner());
        self.write(|calls, done| calls.undo(caller, undo, done.closure())).await
    }

    async fn log(&self, request: Request<v2::LogRequest>) -> Answer<Self::LogStream> {
        let (pages, stream) = mpsc::channel(PAGES_AHEAD);
        tokio::spawn(send_log(self.rpc.clone(), request.into_inner(), pages));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn objects(&self, request: Request<v2::ObjectsRequest>) -> Answer<v2::ObjectsReply> {
        let request = request.into_inner();
        let long = self.rpc.calls.page_is_long(request.limit);
        self.read(long, move |calls| calls.objects(request)).await
    }

    async fn kinds(&self, _request: Request<v2::KindsRequest>) -> Answer<v2::KindsReply> {
        self.here(self.rpc.calls.kinds())
    }

    async fn heat(&self, request: Request<v2::HeatRequest>) -> Answer<v2::HeatReply> {
        self.here(self.rpc.calls.heat(request.get_ref()))
    }

    async fn restore(&self, request: Request<Streaming<v2::Transaction>>) -> Answer<v2::RestoreReply> {
        let restored = super::restore::restore(&self.rpc, request.into_inner()).await?;
        self.here(restored)
    }
}

/// A unary call says its role in the metadata, and has no name.
fn caller<T>(request: &Request<T>) -> Caller {
    let role = request.metadata().get("zeolite-role").and_then(|role| role.to_str().ok());
    let role = super::session::role_of(role.unwrap_or_default());
    Caller { role, client: Client::new("", request.remote_addr()) }
}

/// Sends a scan page by page, all of them at the first page's snapshot, which is pinned meanwhile.
async fn send_scan(rpc: Arc<Rpc>, mut request: v2::ScanRequest, pages: mpsc::Sender<Result<v2::ScanPage, Status>>) {
    let limit = request.limit as usize;
    let mut sent = 0;
    let pin = match rpc.calls.pin(&v2::PinRequest { snapshot: request.snapshot, lease_ms: SCAN_LEASE_MS }) {
        Ok(pin) => pin,
        Err(fault) => return drop(pages.send(Err(rpc.refusal(&fault))).await),
    };
    request.snapshot = pin.snapshot;
    loop {
        let (calls, mut page_request) = (rpc.calls.clone(), request.clone());
        page_request.limit = (limit.saturating_sub(sent)) as u32;
        let page = rpc.off_thread(move || calls.scan(page_request)).await;
        let mut page = match page {
            Ok(page) => page,
            Err(fault) => {
                drop(pages.send(Err(rpc.refusal(&fault))).await);
                break;
            }
        };
        sent += page.entries.len();
        let over = !page.more || (limit != 0 && sent >= limit);
        let next = page.next.clone();
        if !over {
            // The stream goes on by itself; only its last page tells where another request would.
            page.next = bytes::Bytes::new();
        }
        if pages.send(Ok(page)).await.is_err() || over {
            break;
        }
        if request.reverse {
            request.to = next
        } else {
            request.from = next
        }
        // A reader slower than the lease loses its pin; it is then told by the fault of the next page, if pack has passed.
        drop(rpc.calls.engine.renew(pin.pin, SCAN_LEASE_MS));
    }
    rpc.calls.engine.unpin(pin.pin);
}

/// Sends the log page by page, up to the tid that is visible now if no end is named.
async fn send_log(rpc: Arc<Rpc>, request: v2::LogRequest, pages: mpsc::Sender<Result<v2::LogPage, Status>>) {
    let visible = rpc.calls.engine.visible();
    let to = if request.to == 0 { visible } else { Tid(request.to).min(visible) };
    let mut from = Tid(request.from);
    let mut left = if request.limit == 0 { usize::MAX } else { request.limit as usize };
    while left > 0 && from <= to {
        let calls = rpc.calls.clone();
        let page = rpc.off_thread(move || calls.log_page(from, to, left.min(LOG_PAGE))).await;
        let page: Vec<Txn> = match page {
            Ok(page) => page,
            Err(fault) => return drop(pages.send(Err(rpc.refusal(&fault))).await),
        };
        let Some(last) = page.last() else { return };
        from = last.tid.next();
        left -= page.len();
        for cut in transactions::cut(page, request.with_records, rpc.calls.engine.limits().reply_bytes_aim) {
            if pages.send(Ok(cut)).await.is_err() {
                return;
            }
        }
    }
}
