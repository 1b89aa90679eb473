//! Owns the unary doors: the same calls as the session's, for any language that speaks gRPC; one service for each right.
//!
//! A call says in its metadata on which database (`zeolite-database`) and as what (`zeolite-role`) it acts. A refusal is a
//! status; its details hold the encoded fault. Scans are made page by page, one page ahead of the reader, and stop when the
//! reader goes away.

use super::budget::{Charge, LONG_BYTES, Weight};
use super::calls::Calls;
use super::meter::Held;
use super::session::Session;
use super::{Rpc, blobs, decode, encode};
use prost::Message;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use zeolite_proto::Fault;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::reader_server::Reader;
use zeolite_proto::wire::v2::writer_server::Writer;
use zeolite_proto::wire::v2::zeolite_server::Zeolite;

/// Pages made ahead of the reader of a stream.
pub(super) const PAGES_AHEAD: usize = 1;

/// With the one that is made and the one that is sent.
const PAGES_HELD: usize = PAGES_AHEAD + 2;

/// The lease of the pin that keeps a scan's snapshot while its pages are read; renewed with each page.
const SCAN_LEASE_MS: u64 = 60_000;

pub(super) type Answer<T> = Result<Response<T>, Status>;
pub(super) type Pages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// All services but the operator's.
#[derive(Clone)]
pub(super) struct Unary {
    pub(super) rpc: Arc<Rpc>,
}

impl Unary {
    pub(super) fn new(rpc: Arc<Rpc>) -> Unary {
        Unary { rpc }
    }

    pub(super) fn here<T>(&self, result: Result<T, Fault>) -> Answer<T> {
        result.map(Response::new).map_err(|fault| self.rpc.refusal(&fault))
    }

    /// An answer with its room, which it keeps until it is sent.
    fn told<T: Message>(&self, result: Result<T, Fault>, mut charge: Charge) -> Answer<T> {
        let fits = |answer: T| charge.becomes(answer.encoded_len()).map(|()| answer);
        let mut answer = Response::new(result.and_then(fits).map_err(|fault| self.rpc.refusal(&fault))?);
        answer.extensions_mut().insert(Held::new(charge));
        Ok(answer)
    }

    /// What a request may call, and its room.
    fn charged<Q: Weight>(&self, request: &Request<Q>) -> Result<(Calls, Charge), Status> {
        let calls = self.rpc.called(request)?;
        let charge = calls.account().take(request.get_ref().weight()).map_err(|fault| self.rpc.refusal(&fault))?;
        Ok((calls, charge))
    }

    /// Answers from the memory, or from the disk with a few look-ups.
    fn short<Q, T>(&self, request: Request<Q>, call: impl FnOnce(&Calls, Q) -> Result<T, Fault>) -> Answer<T> {
        let calls = self.rpc.called(&request)?;
        self.here(call(&calls, request.into_inner()))
    }

    /// The same, on the blocking pool if it is long.
    async fn read<Q: Weight + Send + 'static, T: Message + 'static>(
        &self,
        request: Request<Q>,
        is_long: impl FnOnce(&Calls, &Q) -> bool,
        call: impl FnOnce(&Calls, Q) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<T> {
        let (calls, charge) = self.charged(&request)?;
        let request = request.into_inner();
        if !is_long(&calls, &request) {
            return self.told(call(&calls, request), charge);
        }
        let account = calls.account().clone();
        let answer = self.rpc.off_thread(&account, move || call(&calls, request)).await;
        self.told(answer, charge)
    }

    /// Waits for the engine's call back; what is long begins on the blocking pool.
    async fn write<Q: Weight + Send + 'static, T: Message + 'static>(
        &self,
        request: Request<Q>,
        begin: impl FnOnce(&Calls, Q, Done<T>) + Send + 'static,
    ) -> Answer<T> {
        let (calls, charge) = self.charged(&request)?;
        let (done, answer) = oneshot::channel();
        let (request, done) = (request.into_inner(), Done { done, charge });
        if request.weight() > LONG_BYTES {
            self.rpc.detach(&calls.account().clone(), move || begin(&calls, request, done));
        } else {
            begin(&calls, request, done);
        }
        match answer.await {
            Ok((answer, charge)) => self.told(answer, charge),
            Err(_) => self.here(Err(encode::lost())),
        }
    }
}

/// The engine's call back, for a caller that waits. One that has gone away holds its room until the engine has done with the request.
struct Done<T> {
    done: oneshot::Sender<(Result<T, Fault>, Charge)>,
    charge: Charge,
}

impl<T: Send + 'static> Done<T> {
    fn closure(self) -> impl FnOnce(Result<T, Fault>) + Send + 'static {
        // A caller that has gone away hears nothing; what it asked for is done all the same.
        move |result| drop(self.done.send((result, self.charge)))
    }
}

#[tonic::async_trait]
impl Zeolite for Unary {
    type SessionStream = Session;

    async fn session(&self, request: Request<Streaming<v2::ClientFrame>>) -> Answer<Session> {
        let peer = self.rpc.peer(&request)?;
        let (id, outbox) = self.rpc.open_session(&peer.account).map_err(|fault| self.rpc.refusal(&fault))?;
        Ok(Response::new(Session::new(self.rpc.clone(), id, peer, outbox, request.into_inner())))
    }
}

#[tonic::async_trait]
impl Reader for Unary {
    type ScanStream = Pages<v2::ScanPage>;
    type GetBlobStream = Pages<v2::BlobPiece>;

    async fn load(&self, request: Request<v2::LoadRequest>) -> Answer<v2::LoadReply> {
        self.read(request, Calls::load_is_long, Calls::load).await
    }

    async fn scan(&self, request: Request<v2::ScanRequest>) -> Answer<Self::ScanStream> {
        let calls = self.rpc.called(&request)?;
        let request = request.into_inner();
        decode::scan_range(request.clone(), calls.engine().limits()).map_err(|fault| self.rpc.refusal(&fault))?;
        let room = PAGES_HELD * calls.engine().limits().reply_bytes_aim;
        let charge = calls.account().take_for(room).map_err(|fault| self.rpc.refusal(&fault))?;
        let (pages, stream) = mpsc::channel(PAGES_AHEAD);
        let sent = send_scan(self.rpc.clone(), calls, request, pages);
        tokio::spawn(async {
            sent.await;
            drop(charge);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn history(&self, request: Request<v2::HistoryRequest>) -> Answer<v2::HistoryReply> {
        self.read(request, |_, _| true, Calls::history).await
    }

    async fn objects(&self, request: Request<v2::ObjectsRequest>) -> Answer<v2::ObjectsReply> {
        self.read(request, |calls, request| calls.page_is_long(request.limit), Calls::objects).await
    }

    async fn kinds(&self, request: Request<v2::KindsRequest>) -> Answer<v2::KindsReply> {
        self.read(request, |_, _| true, |calls, _| calls.kinds()).await
    }

    async fn heat(&self, request: Request<v2::HeatRequest>) -> Answer<v2::HeatReply> {
        self.short(request, |calls, heat| calls.heat(&heat))
    }

    async fn pin(&self, request: Request<v2::PinRequest>) -> Answer<v2::PinReply> {
        self.short(request, |calls, pin| calls.pin(&pin))
    }

    async fn renew(&self, request: Request<v2::RenewRequest>) -> Answer<v2::PinReply> {
        self.short(request, |calls, renew| calls.renew(&renew))
    }

    async fn unpin(&self, request: Request<v2::UnpinRequest>) -> Answer<v2::Done> {
        self.short(request, |calls, unpin| calls.unpin(&unpin))
    }

    async fn get_blob(&self, request: Request<v2::GetBlobRequest>) -> Answer<Self::GetBlobStream> {
        let calls = self.rpc.called(&request)?;
        let request = request.into_inner();
        let charge = calls.account().take_for(blobs::STREAM_BYTES).map_err(|fault| self.rpc.refusal(&fault))?;
        let (reader, place) =
            blobs::open(&self.rpc, &calls, &request).await.map_err(|fault| self.rpc.refusal(&fault))?;
        let (pieces, stream) = mpsc::channel(blobs::PIECES_AHEAD);
        let sent = blobs::send(self.rpc.clone(), calls, reader, request, pieces);
        tokio::spawn(async {
            sent.await;
            drop((charge, place));
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

#[tonic::async_trait]
impl Writer for Unary {
    async fn commit(&self, request: Request<v2::Draft>) -> Answer<v2::Receipt> {
        self.write(request, |calls, draft, done| calls.commit(draft, done.closure())).await
    }

    async fn prepare(&self, request: Request<v2::PrepareRequest>) -> Answer<v2::PrepareReply> {
        self.write(request, |calls, prepare, done| {
            let how = decode::preparing(&prepare);
            calls.prepare(calls.given(prepare.draft), how, done.closure());
        })
        .await
    }

    async fn amend(&self, request: Request<v2::AmendRequest>) -> Answer<v2::PrepareReply> {
        self.write(request, |calls, amend, done| {
            calls.amend(amend.prepared, calls.given(amend.draft), amend.withdrawn, done.closure());
        })
        .await
    }

    async fn finish(&self, request: Request<v2::FinishRequest>) -> Answer<v2::Receipt> {
        self.write(request, |calls, finish, done| calls.finish(&finish, done.closure())).await
    }

    async fn abort(&self, request: Request<v2::AbortRequest>) -> Answer<v2::Done> {
        self.write(request, |calls, abort, done| calls.abort(&abort, done.closure())).await
    }

    async fn outcome(&self, request: Request<v2::OutcomeRequest>) -> Answer<v2::OutcomeReply> {
        self.short(request, |calls, outcome| calls.outcome(&outcome))
    }

    async fn new_oids(&self, request: Request<v2::NewOidsRequest>) -> Answer<v2::NewOidsReply> {
        self.write(request, |calls, oids, done| calls.new_oids(&oids, done.closure())).await
    }

    async fn undo(&self, request: Request<v2::UndoRequest>) -> Answer<v2::Receipt> {
        self.write(request, |calls, undo, done| calls.undo(undo, done.closure())).await
    }

    async fn put_blob(&self, request: Request<Streaming<v2::PutBlobPart>>) -> Answer<v2::BlobStatusReply> {
        let calls = self.rpc.called(&request)?;
        let put = blobs::put(&self.rpc, &calls, request.into_inner()).await?;
        self.here(put)
    }

    async fn blob_status(&self, request: Request<v2::BlobStatusRequest>) -> Answer<v2::BlobStatusReply> {
        let calls = self.rpc.called(&request)?;
        let told = blobs::status(&self.rpc, calls, request.into_inner()).await;
        self.here(told)
    }
}

/// Sends a scan page by page, all of them at the first page's snapshot, which is pinned meanwhile.
async fn send_scan(
    rpc: Arc<Rpc>,
    calls: Calls,
    mut request: v2::ScanRequest,
    pages: mpsc::Sender<Result<v2::ScanPage, Status>>,
) {
    let limit = request.limit as usize;
    let mut sent = 0;
    let lease_ms = SCAN_LEASE_MS.min(calls.engine().limits().pin_ms_max);
    let pin = match calls.pin(&v2::PinRequest { snapshot: request.snapshot, lease_ms }) {
        Ok(pin) => pin,
        Err(fault) => return drop(pages.send(Err(rpc.refusal(&fault))).await),
    };
    request.snapshot = pin.snapshot;
    loop {
        let (paging, mut page_request) = (calls.clone(), request.clone());
        page_request.limit = (limit.saturating_sub(sent)) as u32;
        let page = rpc.off_thread(calls.account(), move || paging.scan(page_request)).await;
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
        drop(calls.renew(&v2::RenewRequest { pin: pin.pin, lease_ms, snapshot: 0 }));
    }
    drop(calls.unpin(&v2::UnpinRequest { pin: pin.pin }));
}
