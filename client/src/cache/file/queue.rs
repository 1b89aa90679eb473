//! Owns what waits for the writer: revisions to keep, places to mark dead, and what the session says. Whoever puts something in never waits.
//!
//! Revisions are bounded in bytes; beyond that they are not kept. Places are bounded by the table that they were taken from: each was in it
//! once. The order that counts: a place is put in while its shard is locked, so whoever has gone through all shards and then takes what waits has
//! every place that was ever taken out.

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};
use zeolite_proto::{Cell, Tid};

/// Revisions that wait, in bytes; of a small file less.
const PENDING_BYTES: u64 = 1 << 20;
/// When so much of that waits, the writer begins; or after so long.
const PENDING_PART: usize = 4;
const LINGER: Duration = Duration::from_millis(100);
/// What a revision that waits takes beside its record.
const PENDING_OVERHEAD: usize = 128;

/// How long the last handle of a client waits for the file to be closed: one sync of the disk, unless that is stuck.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

/// A revision that was open when it was read at the snapshot `at`.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) cell: Cell,
    pub(crate) hash: u64,
    pub(crate) tid: Tid,
    pub(crate) record: Bytes,
    pub(crate) at: Tid,
    pub(crate) generation: u64,
}

/// Of which store the session is, as the client and as the server counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Of {
    pub(crate) generation: u64,
    pub(crate) store_id: u64,
    pub(crate) timeline: u64,
}

#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    pending_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    pending: Vec<Pending>,
    pending_bytes: usize,
    dead: Vec<u32>,
    /// Nothing that was kept counts any more.
    empty: bool,
    of: Option<Of>,
    /// How often somebody has asked that all be written, and how often that has been done.
    asked: u64,
    done: u64,
    closing: bool,
    /// Nobody writes any more.
    over: bool,
}

/// What the writer is to do, in this order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) empty: bool,
    pub(super) dead: Vec<u32>,
    pub(super) pending: Vec<Pending>,
    pub(super) of: Option<Of>,
    pub(super) asked: u64,
    pub(super) closing: bool,
    pub(super) over: bool,
}

impl Queue {
    pub(super) fn new(file_bytes: u64) -> Queue {
        let pending_bytes_max = (file_bytes / 64).clamp(PENDING_BYTES / 64, PENDING_BYTES) as usize;
        Queue { waiting: Mutex::default(), changed: Condvar::new(), pending_bytes_max }
    }

    /// A revision to keep, if there is room.
    pub(crate) fn keep(&self, pending: Pending) {
        let bytes = pending.record.len() + pending.cell.key.len() + PENDING_OVERHEAD;
        let mut waiting = self.waiting.lock();
        if waiting.over || waiting.pending_bytes + bytes > self.pending_bytes_max {
            return;
        }
        let (first, part) = (waiting.pending.is_empty(), self.pending_bytes_max / PENDING_PART);
        let fills = waiting.pending_bytes < part && waiting.pending_bytes + bytes >= part;
        waiting.pending_bytes += bytes;
        waiting.pending.push(pending);
        if first || fills {
            self.changed.notify_one();
        }
    }

    /// What is at this place has ended. Called with its shard locked.
    pub(crate) fn dead(&self, place: u32) {
        let mut waiting = self.waiting.lock();
        if !waiting.over {
            waiting.dead.push(place);
        }
    }

    /// Nothing that is kept counts any more. Called when the shards have forgotten it, before the position moves.
    pub(crate) fn empty(&self) {
        let mut waiting = self.waiting.lock();
        if !waiting.over {
            (waiting.empty, waiting.of) = (true, None);
            waiting.dead = Vec::new();
            self.changed.notify_one();
        }
    }

    /// What the position is of, from here on. Called when it is.
    pub(crate) fn is_of(&self, of: Of) {
        self.waiting.lock().of = Some(of);
    }

    /// Waits until all that waits now is written, and the position.
    pub(crate) fn write_out(&self) {
        let mut waiting = self.waiting.lock();
        waiting.asked += 1;
        let asked = waiting.asked;
        self.changed.notify_all();
        let until = Instant::now() + CLOSES_WITHIN;
        while waiting.done < asked && !waiting.over && !self.changed.wait_until(&mut waiting, until).timed_out() {}
    }

    /// All is written that had been asked for so often.
    pub(super) fn is_done(&self, asked: u64) {
        self.waiting.lock().done = asked;
        self.changed.notify_all();
    }

    /// Lets the writer end, and waits for it: what is there then is found by the next one.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closing = true;
        self.changed.notify_all();
        let until = Instant::now() + CLOSES_WITHIN;
        while !waiting.over && !self.changed.wait_until(&mut waiting, until).timed_out() {}
    }

    /// Nobody writes any more; nothing is taken in.
    pub(super) fn end(&self) {
        *self.waiting.lock() = Waiting { over: true, ..Waiting::default() };
        self.changed.notify_all();
    }

    /// Waits until there is something to do, or it is time.
    pub(super) fn next(&self, due: Instant) -> Batch {
        let mut waiting = self.waiting.lock();
        let mut soon = None;
        loop {
            let much = waiting.pending_bytes >= self.pending_bytes_max / PENDING_PART;
            if much || waiting.empty || waiting.asked > waiting.done || waiting.closing || waiting.over {
                break;
            }
            let until = match waiting.pending.is_empty() {
                true => due,
                false => due.min(*soon.get_or_insert_with(|| Instant::now() + LINGER)),
            };
            if self.changed.wait_until(&mut waiting, until).timed_out() {
                break;
            }
        }
        waiting.take()
    }

    /// What there is.
    #[cfg(test)]
    pub(super) fn now(&self) -> Batch {
        self.waiting.lock().take()
    }

    /// The places to mark; none: nothing that is kept counts any more, or the use of the file has ended and they are lost.
    pub(super) fn take_dead(&self) -> Option<Vec<u32>> {
        let mut waiting = self.waiting.lock();
        (!waiting.empty && !waiting.over).then(|| std::mem::take(&mut waiting.dead))
    }
}

impl Waiting {
    fn take(&mut self) -> Batch {
        self.pending_bytes = 0;
        Batch {
            empty: std::mem::take(&mut self.empty),
            dead: std::mem::take(&mut self.dead),
            pending: std::mem::take(&mut self.pending),
            of: self.of,
            asked: self.asked,
            closing: self.closing,
            over: self.over,
        }
    }
}
