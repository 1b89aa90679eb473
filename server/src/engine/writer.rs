//! Owns durability: the one thread that has the appender.
//!
//! ```text
//!   sealed drafts ──> wait for one, drain the rest ──> one write, one fdatasync ──> overlay, feed, visible, receipts
//! ```
//! While batch n syncs, the sequencer seals n+1: the batch is as large as the disk is slow, without a timer.
//! Rules: nothing is told before it is durable; a refused batch (disk full) takes its whole epoch with it; after a failed
//! write or sync nothing is acknowledged any more.

use super::feed::FeedItem;
use super::job::{Answer, Sealed};
use super::sequencer::Turn;
use super::{Engine, fault_of};
use crate::store::{Appender, StoreError, Txn};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, Merged, Receipt};

/// Bounds of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchBounds {
    pub(crate) txns_max: usize,
    pub(crate) bytes_max: usize,
}

/// The writer's state; nobody else has the appender.
pub(crate) struct Writer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) appender: Appender,
    pub(crate) from_sequencer: Receiver<Sealed>,
    pub(crate) bounds: BatchBounds,
    /// Taken out of the hop, but over the last batch's bound.
    pub(crate) first: Option<Sealed>,
}

impl Writer {
    /// One batch.
    pub(crate) fn turn(&mut self, wait: bool) -> Turn {
        let at_most = if wait { Duration::from_millis(500) } else { Duration::ZERO };
        let first = match self.first.take() {
            Some(first) => Ok(first),
            None => self.from_sequencer.recv_timeout(at_most),
        };
        match first {
            Ok(first) => {
                self.hold_back(wait);
                let (txns, answers, epoch) = self.drain(first);
                self.write(txns, answers, epoch);
                Turn::Worked
            }
            Err(RecvTimeoutError::Timeout) => Turn::Idle,
            Err(RecvTimeoutError::Disconnected) => Turn::Ended,
        }
    }

    /// Waits while the index is too far behind; the overlay is memory.
    fn hold_back(&self, wait: bool) {
        while wait && self.engine.backlog.is_over() && !self.engine.backlog.is_stuck() {
            self.engine.backlog.wait_for_room(Duration::from_millis(50));
        }
    }

    fn drain(&mut self, first: Sealed) -> (Vec<Txn>, Vec<Answer>, u64) {
        let epoch = first.epoch;
        let now = self.engine.clock.steady().as_nanos() as u64;
        let (mut txns, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(sealed) = next.take() {
            let len = size(&sealed.txn);
            let full = txns.len() >= self.bounds.txns_max || (bytes > 0 && bytes + len > self.bounds.bytes_max);
            if full || sealed.epoch != epoch {
                self.first = Some(sealed);
                break;
            }
            self.engine.stats.queue.record(now.saturating_sub(sealed.sealed_ns));
            bytes += len;
            txns.push(sealed.txn);
            answers.push(sealed.answer);
            next = self.from_sequencer.try_recv().ok();
        }
        (txns, answers, epoch)
    }

    fn write(&mut self, txns: Vec<Txn>, answers: Vec<Answer>, epoch: u64) {
        if epoch <= self.engine.refused_epoch() {
            let why = self.engine.why_refused();
            return refuse(&self.engine, txns, answers, &why);
        }
        if self.engine.backlog.is_over() && self.engine.backlog.is_stuck() {
            let why = self.engine.backlog.why_stuck();
            self.engine.refuse_epoch(epoch, why.clone());
            return refuse(&self.engine, txns, answers, &why);
        }
        match self.appender.append(&txns) {
            Ok(appended) => {
                let stats = &self.engine.stats;
                stats.write.record_n(appended.write_ns, txns.len() as u64);
                stats.fsync.record_n(appended.sync_ns, txns.len() as u64);
                stats.batches.add(1);
                let started = self.engine.clock.steady();
                self.appender.publish(appended);
                self.tell(txns, answers);
                let took = self.engine.clock.steady().saturating_sub(started);
                self.engine.stats.publish.record(took.as_nanos() as u64);
            }
            Err(error) => self.fail(error, txns, answers, epoch),
        }
    }

    fn tell(&mut self, txns: Vec<Txn>, answers: Vec<Answer>) {
        let Some(last) = txns.last().map(|txn| txn.tid) else { return };
        let item =
            |txn: &Txn| FeedItem { tid: txn.tid, cells: txn.writes.iter().map(|write| write.cell.clone()).collect() };
        self.engine.feed.publish(last, || txns.iter().map(item).collect());
        self.engine.backlog.grew(self.appender.unsettled_bytes());
        self.engine.stats.commits.add(txns.len() as u64);
        for (txn, answer) in txns.into_iter().zip(answers) {
            match answer {
                Answer::Key => {
                    let receipt = receipt_of(&txn);
                    self.engine.stats.merges.add(receipt.merged.len() as u64);
                    self.engine.keys.complete(txn.key, Ok(receipt));
                }
                Answer::Restored(done) => done(Ok(txn.tid)),
            }
        }
    }

    fn fail(&mut self, error: StoreError, txns: Vec<Txn>, answers: Vec<Answer>, epoch: u64) {
        if let StoreError::Poisoned { reason } = &error {
            self.engine.poison(reason);
        }
        let fault = fault_of(error);
        tracing::error!(%fault, drafts = txns.len(), "a batch could not be written");
        self.engine.refuse_epoch(epoch, fault.clone());
        refuse(&self.engine, txns, answers, &fault);
    }
}

/// What the committer of a transaction is told.
pub(crate) fn receipt_of(txn: &Txn) -> Receipt {
    let by_resolver = txn.writes.iter().filter(|write| write.merged);
    let merged = by_resolver.map(|write| Merged { cell: write.cell.clone(), record: write.record.clone() }).collect();
    Receipt { tid: txn.tid, merged }
}

fn refuse(engine: &Engine, txns: Vec<Txn>, answers: Vec<Answer>, why: &Fault) {
    for (txn, answer) in txns.into_iter().zip(answers) {
        match answer {
            Answer::Key => engine.keys.complete(txn.key, Err(why.clone())),
            Answer::Restored(done) => done(Err(why.clone())),
        }
    }
}

fn size(txn: &Txn) -> usize {
    let writes =
        txn.writes.iter().map(|write| 32 + write.cell.key.len() + write.record.as_ref().map_or(0, |r| r.len()));
    40 + txn.note.len() + writes.sum::<usize>()
}
