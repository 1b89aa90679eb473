//! Owns `Restore`: a stream of transactions with their tids, written in their order.
//!
//! Up to [`IN_FLIGHT_MAX`] transactions are on their way at once, so that one sync covers many; the first one refused
//! ends the call, and what was restored before it stays.

use super::budget::PART_BYTES;
use super::calls::Calls;
use super::encode;
use super::transactions::Joiner;
use crate::store::{Txn, TxnWrite};
use bytes::Bytes;
use std::collections::VecDeque;
use tokio::sync::oneshot;
use tonic::{Status, Streaming};
use zeolite_proto::wire::v2;
use zeolite_proto::{Fault, Tid};

/// Transactions handed to the engine and not durable yet.
const IN_FLIGHT_MAX: usize = 64;

type Waiting = VecDeque<oneshot::Receiver<Result<Tid, Fault>>>;

/// Restores what the client streams. A status: its stream failed; a fault: a transaction was refused.
pub(super) async fn restore(
    calls: &Calls,
    mut messages: Streaming<v2::Transaction>,
) -> Result<Result<v2::RestoreReply, Fault>, Status> {
    let restoring = match calls.engine().restoring() {
        Ok(restoring) => restoring,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut joiner = Joiner::default();
    let mut waiting = Waiting::new();
    let mut reply = v2::RestoreReply::default();
    // Said of the transaction that is being joined.
    let mut packed_to = Tid::NONE;
    while let Some(message) = messages.message().await? {
        packed_to = packed_to.max(Tid(message.packed_to));
        let txn = match joiner.add(message, calls.engine().limits()) {
            Ok(Some(txn)) => txn,
            Ok(None) => continue,
            Err(fault) => return Ok(Err(fault)),
        };
        if waiting.len() >= IN_FLIGHT_MAX
            && let Err(fault) = settle_one(&mut waiting, &mut reply).await
        {
            return Ok(Err(fault));
        }
        let charge = loop {
            match calls.account().take(weight(&txn)) {
                Ok(charge) => break charge,
                Err(fault) if waiting.is_empty() => return Ok(Err(fault)),
                Err(_) => {}
            }
            if let Err(fault) = settle_one(&mut waiting, &mut reply).await {
                return Ok(Err(fault));
            }
        };
        let (done, answer) = oneshot::channel();
        // The receiver is dropped only after an earlier transaction was refused.
        restoring.add(
            txn,
            std::mem::take(&mut packed_to),
            Box::new(move |result| {
                drop(charge);
                drop(done.send(result));
            }),
        );
        waiting.push_back(answer);
    }
    while !waiting.is_empty() {
        if let Err(fault) = settle_one(&mut waiting, &mut reply).await {
            return Ok(Err(fault));
        }
    }
    if joiner.is_open() {
        return Ok(Err(Fault::invalid(
            "the stream ended in the middle of a transaction; what came before it is restored",
        )));
    }
    Ok(Ok(reply))
}

/// What it takes in memory, about.
pub(super) fn weight(txn: &Txn) -> usize {
    let bytes = |write: &TxnWrite| write.cell.key.len() + write.record.as_ref().map_or(0, Bytes::len);
    txn.note.len() + txn.writes.iter().map(|write| PART_BYTES + bytes(write)).sum::<usize>()
}

async fn settle_one(waiting: &mut Waiting, reply: &mut v2::RestoreReply) -> Result<(), Fault> {
    let Some(answer) = waiting.pop_front() else { return Ok(()) };
    let tid = answer.await.unwrap_or_else(|_| Err(encode::lost()))?;
    reply.transactions += 1;
    reply.tid = tid.0;
    Ok(())
}
