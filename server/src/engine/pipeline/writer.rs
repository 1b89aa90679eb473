//! Owns durability: the one thread that has the end of the data.
//!
//! ```text
//!   sealed drafts ──> wait for one, drain the rest ──> one write, one fdatasync ──> overlay, feed, visible, receipts
//! ```
//! While batch n syncs, the sequencer seals n+1: the batch is as large as the disk is slow, without a timer. With `replication.sync` what is
//! on this disk is held until enough followers have it (`held`), and the next batches are written meanwhile.
//! Rules: nothing is told before it is durable; a refused batch (disk full) takes its whole epoch with it; after a failed
//! write or sync nothing is acknowledged any more.

mod batch;
mod held;

use crate::engine::Engine;
use crate::engine::faults::{fault_of, shutting_down};
use crate::engine::numbers::slow::Journey;
use crate::engine::pipeline::ask::{self, Hop, Sealed};
use crate::engine::pipeline::way::LARGE_BYTES;
use crate::engine::reads::feed::FeedItem;
use crate::engine::turn::Turn;
use crate::storage::{Append, StoreError};
use batch::{Batch, Told};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use held::HeldBack;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Tid};

/// Between two looks, at most.
const SLEEP: Duration = Duration::from_millis(500);

/// Bounds of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchBounds {
    pub(crate) txns_max: usize,
    pub(crate) bytes_max: usize,
}

/// The writer's state; nobody else has the end of the data.
pub(crate) struct Writer {
    engine: Arc<Engine>,
    append: Box<dyn Append>,
    from_sequencer: Receiver<Hop>,
    bounds: BatchBounds,
    /// Taken out of the hop, but over the last batch's bound.
    first: Option<Hop>,
    /// On the disk, and not on enough of the followers'.
    held: HeldBack,
    /// Drained, and to be appended when nothing is held.
    next: Option<Batch>,
    /// Was refused; the sequencer is told when nothing is held, for it goes back to what is visible then.
    failed: Option<(u64, Fault)>,
    /// The server stops, and what followers did not take is in the way of all that comes: nothing more is written.
    gave_up: bool,
    /// Rings when followers have more.
    ring: Receiver<()>,
}

impl Writer {
    pub(crate) fn new(engine: Arc<Engine>, append: Box<dyn Append>, from_sequencer: Receiver<Hop>) -> Writer {
        Writer {
            append,
            from_sequencer,
            bounds: engine.settings().batch_bounds(),
            first: None,
            held: HeldBack::default(),
            next: None,
            failed: None,
            gave_up: false,
            ring: engine.copies().followers.ring(),
            engine,
        }
    }

    /// One batch.
    pub(crate) fn turn(&mut self, wait: bool) -> Turn {
        let released = self.release();
        if self.gave_up || (self.is_blocked() && self.engine.has_waited_to_the_end()) {
            return self.refuse_the_rest(wait);
        }
        if self.held.is_empty() {
            if let Some((epoch, why)) = self.failed.take() {
                self.engine.refuse_epoch(epoch, why);
            }
            if let Some(next) = self.next.take() {
                self.write(next);
                return Turn::Worked;
            }
        }
        // Behind a batch that waits for followers nothing is taken: what is drained next is behind it.
        let first = match self.first.take_if(|_| self.next.is_none()) {
            Some(first) => Ok(first),
            None if self.is_full() => Err(self.wait_for_ring(wait)),
            None => self.receive(wait),
        };
        match first {
            Ok(first) if first.begins_segment() && !self.held.is_empty() => {
                // What is appended must be published before something is begun behind it.
                self.first = Some(first);
                self.wait_for_ring(wait);
                if released { Turn::Worked } else { Turn::Idle }
            }
            Ok(first) => {
                self.hold_back(wait);
                let batch = self.drain(first);
                self.write(batch);
                // The batch has left the way, and the backlog has grown.
                self.engine.tell_room();
                Turn::Worked
            }
            Err(RecvTimeoutError::Disconnected) if self.held.is_empty() => Turn::Ended,
            Err(RecvTimeoutError::Disconnected) => self.end(wait),
            Err(RecvTimeoutError::Timeout) if released => Turn::Worked,
            Err(RecvTimeoutError::Timeout) => Turn::Idle,
        }
    }

    /// The next hop; while something is held, or the ring.
    fn receive(&mut self, wait: bool) -> Result<Hop, RecvTimeoutError> {
        let at_most = if wait { self.sleep_for() } else { Duration::ZERO };
        if self.held.is_empty() {
            return self.from_sequencer.recv_timeout(at_most);
        }
        crossbeam_channel::select! {
            recv(self.from_sequencer) -> hop => hop.map_err(|_| RecvTimeoutError::Disconnected),
            recv(self.ring) -> _ => Err(RecvTimeoutError::Timeout),
            default(at_most) => Err(RecvTimeoutError::Timeout),
        }
    }

    fn wait_for_ring(&self, wait: bool) -> RecvTimeoutError {
        let at_most = if wait { self.sleep_for() } else { Duration::ZERO };
        // Whether it rings or the time is over, the next turn looks.
        self.ring.recv_timeout(at_most).ok();
        RecvTimeoutError::Timeout
    }

    fn sleep_for(&self) -> Duration {
        let now = self.engine.clock().steady();
        self.held.oldest().map_or(SLEEP, |oldest| oldest.saturating_sub(now).min(SLEEP))
    }

    /// Nothing more is taken in: there is as much as may wait for followers.
    fn is_full(&self) -> bool {
        self.next.is_some() || self.held.bytes() >= self.engine.settings().replication.held_bytes_max
    }

    /// Publishes what enough followers have; whoever has waited too long for the others is told.
    fn release(&mut self) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let confirmed = self.engine.copies().followers.confirmed();
        let mut released = false;
        while let Some(batch) = self.held.next(confirmed, &self.engine) {
            self.publish(batch);
            released = true;
        }
        self.held.let_go(&self.engine);
        released
    }

    /// What is held has to be published before anything else is written.
    fn is_blocked(&self) -> bool {
        let begins = self.first.as_ref().is_some_and(Hop::begins_segment);
        !self.held.is_empty() && (self.is_full() || begins)
    }

    /// The server stops: what is held stays on this disk alone, and what is behind it is not written.
    fn refuse_the_rest(&mut self, wait: bool) -> Turn {
        self.gave_up = true;
        self.held.give_up(&self.engine);
        if let Some(batch) = self.next.take() {
            batch.refuse(&self.engine, &shutting_down());
        }
        let hop = match self.first.take() {
            Some(first) => Ok(first),
            None => self.receive(wait),
        };
        match hop {
            Ok(hop) => self.engine.refuse_hop(hop, shutting_down()),
            Err(RecvTimeoutError::Disconnected) => return Turn::Ended,
            Err(RecvTimeoutError::Timeout) => return Turn::Idle,
        }
        Turn::Worked
    }

    /// The server stops: followers have until the stop has waited for them as long as whoever waits for a commit does.
    fn end(&mut self, wait: bool) -> Turn {
        if !wait || self.engine.check_seat().is_err() || self.engine.has_waited_to_the_end() {
            self.held.give_up(&self.engine);
            return Turn::Ended;
        }
        self.wait_for_ring(true);
        Turn::Worked
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
        let mut batch =
            Batch { epoch: first.epoch(), life, of_primary: false, txns: Arc::default(), answers: Vec::new(), times };
        let (mut txns, mut bytes) = (Vec::new(), 0);
        let (mut next, mut begun) = (Some(first), false);
        let is_ahead = |hop: &Hop| matches!(hop, Hop::Sealed(sealed) if sealed.txn.writes.is_ahead());
        let mut ends = false;
        while let Some(hop) = next.take() {
            let len = if let Hop::Sealed(sealed) = &hop { sealed.on_its_way.bytes() } else { 0 };
            // What is large begins a batch: nobody before it waits for its write. What was written ahead is one: it becomes a segment.
            let full = txns.len() >= self.bounds.txns_max
                || (bytes > 0 && (bytes + len > self.bounds.bytes_max || len >= LARGE_BYTES));
            let is_apart = ends || (begun && is_ahead(&hop));
            if full || is_apart || hop.epoch() != batch.epoch || (begun && hop.begins_segment()) {
                self.first = Some(hop);
                break;
            }
            bytes += len;
            begun = true;
            ends = is_ahead(&hop);
            match hop {
                Hop::Sealed(sealed) => {
                    self.engine.stats().queue.record(now.saturating_sub(sealed.sealed_ns));
                    batch.of_primary |= sealed.of_primary;
                    txns.push(sealed.txn);
                    let Sealed { answer, sealed_ns, on_its_way, .. } = sealed;
                    batch.answers.push(Told::Txn { answer, sealed_ns, on_its_way });
                }
                Hop::After { rests_on, tell, .. } => batch.answers.push(Told::After(rests_on, tell)),
                Hop::Roll { done, .. } => done(self.append.roll()),
            }
            next = self.from_sequencer.try_recv().ok();
        }
        batch.txns = Arc::new(txns);
        batch
    }

    fn write(&mut self, mut batch: Batch) {
        if let Some((_, why)) = self.failed.as_ref().filter(|(epoch, _)| batch.epoch <= *epoch) {
            return batch.refuse(&self.engine, why);
        }
        if batch.epoch <= self.engine.health.refused_epoch() {
            let why = self.engine.health.why_refused();
            return batch.refuse(&self.engine, &why);
        }
        if self.engine.backlog().is_over() && self.engine.backlog().is_stuck() {
            let why = self.engine.backlog().why_stuck();
            self.refuse_epoch(batch.epoch, why.clone());
            return batch.refuse(&self.engine, &why);
        }
        if batch.txns.is_empty() {
            return if self.held.is_empty() {
                batch.tell(&self.engine)
            } else {
                self.held.push(batch, 0, &self.engine)
            };
        }
        if !self.held.is_empty() && !self.append.fits_behind(&batch.txns) {
            self.next = Some(batch);
            return;
        }
        let engine = self.engine.clone();
        let turn = engine.copies().write();
        if let Some(why) = engine.check_followed().err().filter(|_| batch.of_primary) {
            drop(turn);
            self.refuse_epoch(batch.epoch, why.clone());
            return batch.refuse(&engine, &why);
        }
        let begun = batch.life.map_or(Ok(()), |life| self.append.begin_restored(life.timeline, life.packed_to));
        let appended = begun.and_then(|()| self.append.append(&batch.txns));
        if appended.is_ok() {
            engine.copies().written(&batch.txns, engine.visible());
        }
        drop(turn);
        match appended {
            Ok(times) => {
                self.engine.numbers.written(batch.txns.len() as u64, times.write_ns, times.sync_ns);
                (batch.times.write_ns, batch.times.sync_ns) = (times.write_ns, times.sync_ns);
                // With a new life a copy becomes the primary: what is behind it waits, and not it.
                let waits = batch.of_primary && batch.life.is_none() && self.engine.settings().replication.sync > 0;
                if waits || !self.held.is_empty() {
                    let bytes = batch.txns.iter().map(ask::size).sum();
                    self.held.push(batch, bytes, &self.engine);
                    self.release();
                } else {
                    self.publish(batch);
                }
            }
            Err(error) => self.fail(error, batch),
        }
    }

    fn publish(&mut self, batch: Batch) {
        if batch.txns.is_empty() {
            return batch.tell(&self.engine);
        }
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

    /// What was sealed with this is refused, and the sequencer goes back to what is visible: what is held has to be, first.
    fn refuse_epoch(&mut self, epoch: u64, why: Fault) {
        match self.held.is_empty() {
            true => self.engine.refuse_epoch(epoch, why),
            false => self.failed = Some((epoch, why)),
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
        self.refuse_epoch(batch.epoch, later);
        batch.refuse(&self.engine, &fault);
    }
}
