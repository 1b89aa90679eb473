//! Owns the engine's health: whether the store is poisoned, by its disk or by a bug, and which epochs of sealed drafts were
//! refused.

use crate::engine::faults::{bug_fault, poisoned_fault};
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zeolite_proto::{Fault, FaultKind};

/// What the writer has met; the sequencer and the callers ask.
#[derive(Default)]
pub(crate) struct Health {
    poisoned: OnceLock<String>,
    /// A loop has panicked: nobody takes drafts any more.
    died: AtomicBool,
    refused_epoch: AtomicU64,
    why_refused: Mutex<Option<Fault>>,
}

impl Health {
    /// Why nothing is written any more.
    pub(crate) fn poisoned(&self) -> Option<&str> {
        self.poisoned.get().map(String::as_str)
    }

    /// Keeps the first reason; true for that one.
    pub(crate) fn poison(&self, reason: &str) -> bool {
        let first = self.poisoned.set(reason.to_owned()).is_ok();
        if first {
            tracing::error!(reason, "the store is poisoned: reads go on, nothing is written any more");
        }
        first
    }

    /// A loop has panicked.
    pub(crate) fn die(&self, what: &str) {
        self.died.store(true, Ordering::Release);
        self.poison(&format!("the {what} has panicked"));
    }

    /// Whether one has.
    pub(crate) fn has_died(&self) -> bool {
        self.died.load(Ordering::Acquire)
    }

    /// What a write is told when nothing is written any more.
    pub(crate) fn unwritable(&self) -> Option<Fault> {
        let reason = self.poisoned()?;
        Some(if self.has_died() { bug_fault(reason) } else { poisoned_fault(reason) })
    }

    /// The newest epoch that was refused.
    pub(crate) fn refused_epoch(&self) -> u64 {
        self.refused_epoch.load(Ordering::Acquire)
    }

    /// An epoch, and those before it, are refused.
    pub(crate) fn refuse_epoch(&self, epoch: u64, why: Fault) {
        *self.why_refused.lock() = Some(why);
        self.refused_epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// Why it was.
    pub(crate) fn why_refused(&self) -> Fault {
        let why = self.why_refused.lock().clone();
        why.unwrap_or_else(|| Fault::new(FaultKind::Internal, "a batch was refused without a reason"))
    }
}
