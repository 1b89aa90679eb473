//! The work beside the traffic: settling what is committed into the index, packing, verifying.

pub(crate) mod giving_way;
pub(crate) mod long_work;
pub(crate) mod owed;
pub(crate) mod pack;
pub(crate) mod settling;
pub(crate) mod verify;

use super::Engine;
use long_work::LongWork;
use settling::Backlog;
use std::sync::Arc;

/// What goes on beside the traffic.
pub(super) struct Work {
    backlog: Backlog,
    long_work: Arc<LongWork>,
}

impl Work {
    /// So much may wait for the index: of what counts, and of all.
    pub(super) fn new(weight_max: u64, bytes_max: u64) -> Work {
        Work { backlog: Backlog::new(weight_max, bytes_max), long_work: Arc::default() }
    }
}

impl Engine {
    pub(super) fn backlog(&self) -> &Backlog {
        &self.work.backlog
    }

    pub(super) fn long_work(&self) -> &Arc<LongWork> {
        &self.work.long_work
    }
}
