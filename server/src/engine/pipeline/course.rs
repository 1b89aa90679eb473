//! Owns the course of a restore: whether its next transaction may still be sealed. What is on its way behind a refused one must
//! not be, or the copy would have a hole that nothing can fill any more.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a restore has come in the order of commits: the epoch in which all of it was sealed.
#[derive(Default)]
pub(crate) struct Course(AtomicU64);

const ENDED: u64 = u64::MAX;

impl Course {
    /// Nothing more of it is taken.
    pub(crate) fn end(&self) {
        self.0.store(ENDED, Ordering::Release);
    }

    /// Whether nothing of it was sealed yet.
    pub(crate) fn is_new(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    /// Whether a transaction may be sealed in this epoch. Only the sequencer asks.
    pub(crate) fn goes_on(&self, epoch: u64) -> bool {
        let begun = self.0.compare_exchange(0, epoch, Ordering::AcqRel, Ordering::Acquire);
        begun.is_ok() || begun == Err(epoch)
    }
}
