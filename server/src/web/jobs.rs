//! Owns the evolves as open pages are told them: of each database, read once for all who look.
//!
//! ```text
//!   viewer ──┐
//!   viewer ──┼─> as of a round of samples ──> the same as the last one, or a newer one: read by whoever comes first
//!   viewer ──┘
//! ```
//! A hundred open pages cost the disk what one costs. They are at most one telling old.

use crate::metrics::Evolves;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What was read, and as of which round.
type Kept = Option<(u64, Arc<Evolves>)>;

/// The evolves of all databases.
pub(super) struct Jobs {
    of: HashMap<Arc<str>, Mutex<Kept>>,
    /// Rounds for which what was read is told.
    rounds: u64,
}

impl Jobs {
    pub(super) fn new<'a>(databases: impl Iterator<Item = &'a Arc<str>>, rounds: u64) -> Jobs {
        Jobs { of: databases.map(|name| (name.clone(), Mutex::default())).collect(), rounds }
    }

    /// Those of a database as of a round. Whoever comes while they are read waits, and gets the same.
    pub(super) fn at(&self, database: &str, round: u64, read: impl FnOnce() -> Evolves) -> Arc<Evolves> {
        let Some(of) = self.of.get(database) else { return Arc::new(read()) };
        let mut kept = of.lock();
        if let Some((since, evolves)) = &*kept
            && round < since + self.rounds
        {
            return evolves.clone();
        }
        let evolves = Arc::new(read());
        *kept = Some((round, evolves.clone()));
        evolves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn all_who_look_at_a_database_share_what_was_read() {
        let names: [Arc<str>; 2] = ["main".into(), "other".into()];
        let (jobs, reads) = (Jobs::new(names.iter(), 2), AtomicU64::new(0));
        let look = |database: &str, round| {
            jobs.at(database, round, || {
                reads.fetch_add(1, Ordering::Relaxed);
                Evolves::default()
            });
            reads.load(Ordering::Relaxed)
        };
        std::thread::scope(|scope| {
            (0..10).for_each(|_| drop(scope.spawn(|| look("main", 5))));
        });
        assert_eq!((look("main", 5), look("main", 6), look("main", 7)), (1, 1, 2));
        assert_eq!((look("other", 7), look("main", 8), look("main", 9)), (3, 3, 4));
    }
}
