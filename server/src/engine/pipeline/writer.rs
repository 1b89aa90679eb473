//! Owns durability: the one thread that has the end of the data.
//!
//! ```text
//!   sealed drafts ──> wait for one, drain the rest ──> one write, one fdatasync ──> overlay, feed, visible, receipts
//! ```
//! While batch n syncs, the sequencer seals n+1: the batch is as large as the disk is slow, without a timer.
//! Rules: nothing is told before it is durable; a refused batch (disk full) takes its whole epoch with it; after a failed
//! write or sync nothing is acknowledged any more.

use crate::engine::Engine;
use crate::engine::faults::fault_of;
use crate::engine::numbers::slow::Journey;
use crate::engine::pipeline::ask::{Answer, Hop, Life, Sealed};
use crate::engine::pipeline::way::{LARGE_BYTES, OnItsWay};
use crate::engine::reads::feed::FeedItem;
use crate::engine::turn::Turn;
use crate::storage::{Append, StoreError, Txn};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Tid};

/// Bounds of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchBounds {
    pub(crate) txns_max: usize,
    pub(crate) bytes_max: usize,
}

/// The writer's state; nobody else has the end of the data.
pub(crate) struct Writer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) append: Box<dyn Append>,
    pub(crate) from_sequencer: Receiver<Hop>,
    pub(crate) bounds: BatchBounds,
    /// Taken out of the hop, but over the last batch's bound.
    pub(crate) first: Option<Hop>,
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
                let batch = self.drain(first);
                self.write(batch);
                // The batch has left the way, and the backlog has grown.
                self.engine.tell_room();
                Turn::Worked
            }
            Err(RecvTimeoutError::Timeout) => Turn::Idle,
            Err(RecvTimeoutError::Disconnected) => Turn::Ended,
        }
    }

    /// Waits while the index is too far behind; the overlay is memory.
    fn hold_back(&self, wait: bool) {
        while wait && self.engine.backlog().is_over() && !self.engine.backlog().is_stuck() {
            self.engine.backlog().wait_for_room(Duration::from_millis(50));
        }
    }

    fn drain(&mut self, first: Hop) -> Batch {
        let now = self.engine.steady_ns();
        let times = Journey { taken_ns: now, ..Journey::default() };
        // Only the first begins a segment: behind other hops such a one begins the next batch.
        let life = if let Hop::Sealed(sealed) = &first { sealed.life } else { None };
        let mut batch = Batch { epoch: first.epoch(), life, txns: Vec::new(), answers: Vec::new(), times };
        let mut bytes = 0;
        let (mut next, mut begun) = (Some(first), false);
        while let Some(hop) = next.take() {
            let len = if let Hop::Sealed(sealed) = &hop { sealed.on_its_way.bytes() } else { 0 };
            // What is large begins a batch: nobody before it waits for its write.
            let full = batch.txns.len() >= self.bounds.txns_max
                || (bytes > 0 && (bytes + len > self.bounds.bytes_max || len >= LARGE_BYTES));
            if full || hop.epoch() != batch.epoch || (begun && hop.begins_segment()) {
                self.first = Some(hop);
                break;
            }
            bytes += len;
            begun = true;
            match hop {
                Hop::Sealed(sealed) => {
                    self.engine.stats().queue.record(now.saturating_sub(sealed.sealed_ns));
                    batch.txns.push(sealed.txn);
                    let Sealed { answer, sealed_ns, on_its_way, .. } = sealed;
                    batch.answers.push(Told::Txn { answer, sealed_ns, on_its_way });
                }
                Hop::After { rests_on, tell, .. } => batch.answers.push(Told::After(rests_on, tell)),
                Hop::Roll { done, .. } => done(self.append.roll()),
            }
            next = self.from_sequencer.try_recv().ok();
        }
        batch
    }

    fn write(&mut self, mut batch: Batch) {
        if batch.epoch <= self.engine.health.refused_epoch() {
            let why = self.engine.health.why_refused();
            return batch.refuse(&self.engine, &why);
        }
        if self.engine.backlog().is_over() && self.engine.backlog().is_stuck() {
            let why = self.engine.backlog().why_stuck();
            self.engine.refuse_epoch(batch.epoch, why.clone());
            return batch.refuse(&self.engine, &why);
        }
        if batch.txns.is_empty() {
            return batch.tell(&self.engine);
        }
        let begun = batch.life.map_or(Ok(()), |life| self.append.begin_restored(life.timeline, life.packed_to));
        match begun.and_then(|()| self.append.append(&batch.txns)) {
            Ok(times) => {
                self.engine.numbers.written(batch.txns.len() as u64, times.write_ns, times.sync_ns);
                (batch.times.write_ns, batch.times.sync_ns) = (times.write_ns, times.sync_ns);
                let started = self.engine.clock().steady();
                batch.txns.iter().for_each(|txn| self.engine.take_force(txn));
                self.append.publish();
                // Before it is visible: whoever asks from there on is told that he may have been forgotten.
                if let unknown_to @ Tid(1..) = self.engine.reader().keys_unknown_to() {
                    self.engine.keys().raise_floor(unknown_to);
                }
                self.engine.reads.publish(batch.last(), || batch.txns.iter().map(FeedItem::of).collect());
                self.engine.backlog().grew(self.append.unsettled());
                self.engine.stats().batches.add(1);
                self.engine.stats().commits.add(batch.txns.len() as u64);
                batch.tell(&self.engine);
                self.engine.stats().publish.record(self.engine.nanos_since(started));
            }
            Err(error) => self.fail(error, batch),
        }
    }

    fn fail(&mut self, error: StoreError, batch: Batch) {
        let first = match &error {
            StoreError::Poisoned { reason } => self.engine.health.poison(reason),
            _ => false,
        };
        let is_of_one = matches!(error, StoreError::Refused { .. }) && batch.txns.len() > 1;
        let mut fault = fault_of(error);
        if is_of_one {
            // Whatever is wrong with one of them, the others are not to blame, nor what was decided on top of them.
            let message = "a batch was refused for one of its drafts; nothing was written: send the same again";
            fault = Fault::new(FaultKind::Busy, message).after_ms(50);
        }
        tracing::error!(%fault, drafts = batch.txns.len(), "a batch could not be written");
        let later = fault.clone();
        if first {
            // What reached the disk of this batch, only the next start can tell.
            fault.kind = FaultKind::OutcomeUnknown;
        }
        self.engine.refuse_epoch(batch.epoch, later);
        batch.refuse(&self.engine, &fault);
    }
}

/// What one fsync covers, and who is told after it.
struct Batch {
    epoch: u64,
    /// The new life of the store that begins with it.
    life: Option<Life>,
    txns: Vec<Txn>,
    answers: Vec<Told>,
    /// For what is slow; the same for all of them but the time of sealing.
    times: Journey,
}

enum Told {
    /// The next transaction's committer.
    Txn { answer: Answer, sealed_ns: u64, on_its_way: OnItsWay },
    /// Somebody who had to wait for what was sealed before.
    After(Tid, Box<dyn FnOnce(Option<Fault>) + Send>),
}

impl Batch {
    fn last(&self) -> Tid {
        self.txns.last().map_or(Tid::NONE, |txn| txn.tid)
    }

    fn tell(self, engine: &Engine) {
        self.conclude(engine, None);
    }

    fn refuse(self, engine: &Engine, why: &Fault) {
        self.conclude(engine, Some(why));
    }

    fn conclude(self, engine: &Engine, refused: Option<&Fault>) {
        let mut txns = self.txns.into_iter();
        for told in self.answers {
            match told {
                Told::Txn { answer, sealed_ns, on_its_way } => {
                    let txn = txns.next().expect("each answer was drained together with its transaction");
                    let journey = Journey { sealed_ns, ..self.times };
                    engine.answer(txn, answer, journey, refused.map_or(Ok(()), |why| Err(why.clone())));
                    drop(on_its_way);
                }
                Told::After(rests_on, tell) => tell(refused.filter(|_| rests_on > engine.visible()).cloned()),
            }
        }
    }
}
