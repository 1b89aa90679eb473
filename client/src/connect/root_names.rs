//! Owns what is known of the names of kept indexes in the root: read once, and again when the feed has told of a change of the root.
//!
//! ```text
//!   names as of a tid ──┬── the root has not changed behind it       they are what there is
//!                       └── it has, or changes may have been missed   to be read again
//! ```
//! Who reads them notes the root's entries first (`View::note_entries`): a client is told only of what it may hold. Without a feed nothing
//! is kept.

use parking_lot::Mutex;
use std::sync::Arc;
use zeolite_proto::{Cell, Oid, Tid};

/// Names of kept indexes, each with its collection.
pub(crate) type IndexNames = Arc<[(String, Oid)]>;

#[derive(Debug, Default)]
pub(crate) struct RootNames {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    generation: u64,
    /// The newest change of the root; at least that of the last one that may have been missed.
    changed: Tid,
    known: Option<(Tid, IndexNames)>,
}

impl RootNames {
    /// A commit wrote these cells. Called by the session's reader alone.
    pub(crate) fn changed(&self, tid: Tid, cells: &[Cell]) {
        if cells.iter().any(|cell| cell.oid == Oid::ROOT) {
            let mut told = self.told.lock();
            told.changed = told.changed.max(tid);
        }
    }

    /// What is told from now on begins behind this tid, of this generation of the store.
    pub(crate) fn restart(&self, generation: u64, floor: Tid) {
        *self.told.lock() = Told { generation, changed: floor, known: None };
    }

    /// The names, if they are what there is.
    pub(crate) fn known(&self, generation: u64) -> Option<IndexNames> {
        let told = self.told.lock();
        let (at, names) = told.known.as_ref().filter(|_| told.generation == generation)?;
        (*at >= told.changed).then(|| names.clone())
    }

    /// They were read at this tid, which the feed had told by then.
    pub(crate) fn read(&self, generation: u64, at: Tid, names: IndexNames) {
        let mut told = self.told.lock();
        if told.generation == generation && told.known.as_ref().is_none_or(|(before, _)| *before < at) {
            told.known = Some((at, names));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_until_the_root_changes() {
        let (names, read): (RootNames, IndexNames) = (RootNames::default(), Arc::new([("a:b".to_owned(), Oid(9))]));
        names.restart(1, Tid(10));
        names.read(1, Tid(9), read.clone());
        assert_eq!(names.known(1), None, "what came before is not told");
        names.read(1, Tid(10), read.clone());
        names.changed(Tid(11), &[Cell::object(Oid(7))]);
        assert_eq!(names.known(1), Some(read.clone()));
        assert_eq!(names.known(2), None, "another store");
        names.changed(Tid(12), &[Cell::object(Oid(7)), Cell::entry(Oid::ROOT, "x")]);
        assert_eq!(names.known(1), None);
        names.read(1, Tid(11), read.clone());
        assert_eq!(names.known(1), None, "it was read before that");
        names.read(1, Tid(12), read.clone());
        assert_eq!(names.known(1), Some(read.clone()));
        names.restart(2, Tid(5));
        names.read(1, Tid(13), read);
        assert_eq!(names.known(2), None);
    }
}
