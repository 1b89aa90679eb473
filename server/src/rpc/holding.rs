//! Owns the drafts that one session holds although some of their cells were stale: they end with the session.
//!
//! Whoever writes a held cell waits. A plain prepared draft keeps its promise for as long as its time limit says, since its
//! transaction manager may come back in another session; a held one is a worker's, and a worker that is gone begins anew.

use super::calls::Calls;
use parking_lot::Mutex;
use std::sync::Arc;

/// The held drafts of a session.
pub(super) struct Holding {
    calls: Calls,
    /// None: the session is over.
    open: Mutex<Option<Vec<u64>>>,
}

impl Holding {
    pub(super) fn new(calls: Calls) -> Arc<Holding> {
        Arc::new(Holding { calls, open: Mutex::new(Some(Vec::new())) })
    }

    /// A draft is held from now on, or, if the session has ended meanwhile, no longer.
    pub(super) fn begun(&self, prepared: u64) {
        let late = match &mut *self.open.lock() {
            Some(open) => {
                open.push(prepared);
                false
            }
            None => true,
        };
        if late {
            self.abort(prepared);
        }
    }

    /// It was finished or aborted.
    pub(super) fn concluded(&self, prepared: u64) {
        if let Some(open) = &mut *self.open.lock() {
            open.retain(|one| *one != prepared);
        }
    }

    /// The session is over.
    pub(super) fn end(&self) {
        let open = self.open.lock().take();
        open.into_iter().flatten().for_each(|prepared| self.abort(prepared));
    }

    fn abort(&self, prepared: u64) {
        tracing::debug!(prepared, "the session of a held draft is over; it is aborted");
        self.calls.engine().give_up(self.calls.owner(), prepared);
    }
}
