//! Owns the points between two steps of a reader or of the settler at which a test can step in.
//!
//! The races that matter here are between two lines of code that are almost always passed together, so threads meet them
//! once in a million runs. A test instead names the point and does there, on the same thread, what another thread might
//! have done. Outside of tests nothing of this is left.

/// A point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A reader is about to look into the overlay.
    BeforeOverlay,
    /// A reader has looked into the overlay.
    AfterOverlay,
    /// A reader has read the index and may put what it found into the cache.
    BeforeInsertion,
    /// The settler's index commit is done, the cache does not know yet.
    Committed,
    /// The cache knows, the overlay still has what was settled.
    CacheTold,
    /// Part of what was settled is gone from the overlay.
    Removing,
}

#[cfg(test)]
type Hook = std::sync::Arc<dyn Fn(Step) + Send + Sync>;

/// Where a test puts what is to happen at each point.
#[derive(Default)]
pub(crate) struct Steps {
    #[cfg(test)]
    hook: parking_lot::Mutex<Option<Hook>>,
    #[cfg(test)]
    inside: std::sync::atomic::AtomicBool,
}

impl Steps {
    /// Passes a point. What a hook does passes points of its own, and these are not hooked.
    #[cfg(test)]
    pub(crate) fn at(&self, step: Step) {
        use std::sync::atomic::Ordering;
        let hook = self.hook.lock().clone();
        if let Some(hook) = hook
            && !self.inside.swap(true, Ordering::SeqCst)
        {
            hook(step);
            self.inside.store(false, Ordering::SeqCst);
        }
    }

    /// Passes a point.
    #[cfg(not(test))]
    pub(crate) fn at(&self, _step: Step) {}

    /// Hooks the points, or lets go of them.
    #[cfg(test)]
    pub(crate) fn hook(&self, hook: Option<Hook>) {
        *self.hook.lock() = hook;
    }
}
