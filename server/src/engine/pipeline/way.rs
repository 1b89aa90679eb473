//! Owns the way between the sequencer and the disk: how much of live and of bulk work is on it.
//!
//! ```text
//!   intake ──> sequencer ──[ enters ......... written, published ......... told, or refused: leaves ]
//!      ^                                                                          │
//!      └──────── bulk work is let in by what is on the way (`intake`) <───────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeolite_proto::Priority;

/// A draft of so many bytes is bulk, whatever its priority.
pub(crate) const LARGE_BYTES: usize = 256 << 10;

/// Where a draft waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    Live,
    Bulk,
}

impl Line {
    pub(crate) fn of(priority: Priority, bytes: usize) -> Line {
        if priority == Priority::Batch || bytes >= LARGE_BYTES { Line::Bulk } else { Line::Live }
    }
}

/// What is sealed and not told yet.
#[derive(Default)]
pub(crate) struct Way {
    live: AtomicUsize,
    bulk_bytes: AtomicUsize,
}

impl Way {
    /// Something of so many bytes is sealed; it leaves when what is given is dropped.
    pub(crate) fn enter(self: &Arc<Way>, line: Line, bytes: usize) -> OnItsWay {
        let (count, by) = self.counted(line, bytes);
        count.fetch_add(by, Ordering::AcqRel);
        OnItsWay { way: self.clone(), line, bytes }
    }

    /// Whether no live draft is on it.
    pub(crate) fn has_no_live(&self) -> bool {
        self.live.load(Ordering::Acquire) == 0
    }

    /// Bytes of the bulk work on it.
    pub(crate) fn bulk_bytes(&self) -> usize {
        self.bulk_bytes.load(Ordering::Acquire)
    }

    fn counted(&self, line: Line, bytes: usize) -> (&AtomicUsize, usize) {
        match line {
            Line::Live => (&self.live, 1),
            Line::Bulk => (&self.bulk_bytes, bytes),
        }
    }
}

/// One that is on it, until this is dropped.
pub(crate) struct OnItsWay {
    way: Arc<Way>,
    line: Line,
    bytes: usize,
}

impl OnItsWay {
    /// About what it takes in the log.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let (count, by) = self.way.counted(self.line, self.bytes);
        count.fetch_sub(by, Ordering::AcqRel);
    }
}
