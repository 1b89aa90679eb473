//! Owns the door of followers and copiers: the log out, transactions with their own tids in.

use super::calls::Calls;
use super::follow::{fence, follow};
use super::restore::{restore, weight};
use super::unary::{Answer, PAGES_AHEAD, Pages, Unary};
use super::{Rpc, transactions};
use crate::auth::rights::Verb;
use crate::engine::SYSTEM_OID;
use crate::store::Txn;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::replicator_server::Replicator;
use zeolite_proto::{Fault, FaultKind, Tid};

/// Transactions asked from the log at once; the engine's page may be smaller.
const LOG_PAGE: usize = 1000;
/// Pages on their way to a follower: what one that does not read takes of memory, beside the tail.
const FOLLOW_PAGES_AHEAD: usize = 2;

#[tonic::async_trait]
impl Replicator for Unary {
    type FollowStream = Pages<v2::FollowPage>;
    type LogStream = Pages<v2::LogPage>;

    async fn log(&self, request: Request<v2::LogRequest>) -> Answer<Self::LogStream> {
        let calls = self.rpc.called(&request)?;
        calls.may(Verb::Log).map_err(|fault| self.rpc.refusal(&fault))?;
        let place = self.rpc.log_stream(&calls.share()).map_err(|fault| self.rpc.refusal(&fault))?;
        let (pages, stream) = mpsc::channel(PAGES_AHEAD);
        let sent = send_log(self.rpc.clone(), calls, request.into_inner(), pages);
        tokio::spawn(async {
            sent.await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn restore(&self, request: Request<Streaming<v2::Transaction>>) -> Answer<v2::RestoreReply> {
        let calls = self.rpc.called(&request)?;
        let noted = calls.audited("restore", |_: Result<(), Fault>| {});
        if let Err(fault) = calls.may(Verb::Restore) {
            noted(Err(fault.clone()));
            return Err(self.rpc.refusal(&fault));
        }
        let restored = restore(&calls, request.into_inner()).await;
        // A client that goes away in the middle has restored what it has sent.
        noted(match &restored {
            Ok(restored) => restored.as_ref().map(|_| ()).map_err(Fault::clone),
            Err(_) => Err(Fault::invalid("the client's stream has failed")),
        });
        let restored = restored?;
        self.here(restored)
    }

    async fn follow(&self, request: Request<Streaming<v2::FollowRequest>>) -> Answer<Self::FollowStream> {
        let calls = self.rpc.called_at_start(&request)?;
        calls.may(Verb::Follow).map_err(|fault| self.rpc.refusal(&fault))?;
        let place = self.rpc.log_stream(&calls.share()).map_err(|fault| self.rpc.refusal(&fault))?;
        let (pages, stream) = mpsc::channel(FOLLOW_PAGES_AHEAD);
        let followed = follow(self.rpc.clone(), calls, request.into_inner(), pages);
        tokio::spawn(async {
            followed.await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn fence(&self, request: Request<v2::FenceRequest>) -> Answer<v2::Replication> {
        let calls = self.rpc.called_at_start(&request)?;
        calls.may(Verb::Follow).map_err(|fault| self.rpc.refusal(&fault))?;
        let told = fence(&self.rpc, &calls, request.into_inner()).await;
        self.here(told)
    }
}

/// Sends the log page by page, up to the tid that is visible now if no end is named.
async fn send_log(
    rpc: Arc<Rpc>,
    calls: Calls,
    request: v2::LogRequest,
    pages: mpsc::Sender<Result<v2::LogPage, Status>>,
) {
    let visible = calls.engine().visible();
    let to = if request.to == 0 { visible } else { Tid(request.to).min(visible) };
    let (mut from, mut to) = (Tid(request.from.max(1)), to);
    // Who reads from the beginning lacks nothing that was packed before; who goes on behind what he has must lack nothing.
    let is_copy = !request.reverse && !request.as_left;
    let mut known = (request.from > 1).then_some(Tid::NONE);
    // Behind what is packed already a pack goes on removing: a deletion in one page, what it deleted not in another one before.
    let packs = calls.engine().packs();
    if is_copy && from <= calls.engine().packed_to() && packs % 2 == 1 {
        return drop(pages.send(Err(rpc.refusal(&at_work()))).await);
    }
    let mut left = if request.limit == 0 { usize::MAX } else { request.limit as usize };
    while left > 0 && from <= to {
        let (paging, reverse) = (calls.clone(), request.reverse);
        let page =
            rpc.off_thread(calls.account(), move || paging.log_page(from, to, left.min(LOG_PAGE), reverse)).await;
        let mut page: Vec<Txn> = match page {
            Ok(page) => page,
            Err(fault) => return drop(pages.send(Err(rpc.refusal(&fault))).await),
        };
        // Asked when it was read: what a pack takes meanwhile may be missing in it.
        let (packed_to, timeline) = (calls.engine().packed_to(), calls.engine().timeline());
        let was_packed = packed_to > *known.get_or_insert(packed_to) || calls.engine().packs() != packs;
        if is_copy && from <= packed_to && was_packed {
            return drop(pages.send(Err(rpc.refusal(&packed(from, packed_to)))).await);
        }
        let Some(last) = page.last() else { return };
        let _charge = match calls.account().take_for(page.iter().map(weight).sum()) {
            Ok(charge) => charge,
            Err(fault) => return drop(pages.send(Err(rpc.refusal(&fault))).await),
        };
        match reverse {
            true => to = last.tid.prev(),
            false => from = last.tid.next(),
        }
        if request.without_own || !calls.sees_own_cells() {
            page.retain(|txn| !is_own(txn));
        }
        left -= page.len();
        let aim = calls.engine().limits().reply_bytes_aim;
        for cut in transactions::cut(&page, request.with_records, packed_to, aim) {
            let cut = v2::LogPage { packed_to: packed_to.0, timeline, ..cut };
            if pages.send(Ok(cut)).await.is_err() {
                return;
            }
        }
    }
}

fn at_work() -> Fault {
    let message =
        "a pack is at work in the history that is to be copied; copy it when the pack is done (zeolite status)";
    Fault::new(FaultKind::Busy, message).after_ms(1000)
}

fn packed(from: Tid, packed_to: Tid) -> Fault {
    let message = format!(
        "history is packed up to {packed_to} here: of the log from {from} on what was deleted up to there is missing; copy the whole \
         log into an empty database, or ask for what is left (as_left)"
    );
    Fault::new(FaultKind::SnapshotPacked, message)
}

/// The server's own bookkeeping; in a log of format 1 it is told by what it wrote.
fn is_own(txn: &Txn) -> bool {
    txn.own || (!txn.writes.is_empty() && txn.writes.iter().all(|write| write.cell.oid == SYSTEM_OID))
}
