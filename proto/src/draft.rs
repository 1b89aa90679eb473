//! Owns the draft (a client's uncommitted work as it arrives) and the receipt (what the committer gets).
//!
//! The one rule of conflict: a write or a read check names the tid *as of which* its author knows the cell (`base`). It is
//! clean when the cell has no revision newer than that. A base may be the tid of the revision that was read, or any later
//! snapshot at which that revision was still the newest; both give the same answer.

use crate::ids::{Cell, CommitKey, Oid, Tid};
use crate::note::Note;
use crate::resolver::Unresolved;
use bytes::Bytes;

/// Which of the two admission queues a draft waits in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Priority {
    /// The site's own traffic.
    #[default]
    Live,
    /// Evolve workers, imports: never delays a live draft by more than one batch.
    Batch,
}

/// A client's uncommitted work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// Exactly-once key.
    pub key: CommitKey,
    /// A tid that was committed before the key was made: so that a server that has forgotten keys knows whether this one can
    /// be among them.
    pub key_since: Tid,
    /// The queue it waits in.
    pub priority: Priority,
    /// Cells that must not have changed.
    pub read_cells: Vec<ReadCell>,
    /// Key ranges in which nothing must have changed.
    pub read_ranges: Vec<ReadRange>,
    /// The changes, at most one per cell.
    pub writes: Vec<Write>,
    /// Kept in the log.
    pub note: Note,
}

impl Draft {
    /// What tells this draft from another one under the same key: a hash of its writes (cells, changes, order) and its note.
    /// What it read and as of when does not count: whoever runs a transaction again under its old key may have read anew.
    pub fn digest(&self) -> u64 {
        let mut hash = Fnv::default();
        for write in &self.writes {
            hash.number(write.cell.oid.0);
            hash.bytes(&write.cell.key);
            hash.number(u64::from(write.stamped));
            match &write.change {
                Change::Put(record) => hash.tagged(1, record),
                Change::Apply { class, operation } => {
                    hash.tagged(2, class.as_bytes());
                    hash.bytes(operation);
                }
                Change::Delete => hash.tagged(3, &[]),
            }
        }
        hash.bytes(&self.note.user);
        hash.bytes(&self.note.description);
        hash.bytes(&self.note.extension);
        // 0 stands for a digest that is not known.
        hash.0.max(1)
    }
}

// FNV-1a over eight bytes at a time; each part is preceded by its length, so that no two drafts read alike.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn number(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn tagged(&mut self, tag: u64, bytes: &[u8]) {
        self.number(tag);
        self.bytes(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.number(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.number(u64::from(*byte)));
    }
}

/// A cell that must have no revision newer than `base`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadCell {
    /// The cell that was read.
    pub cell: Cell,
    /// The tid as of which it was read.
    pub base: Tid,
}

/// A key range of a collection in which no entry may have a revision newer than `base`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReadRange {
    /// The collection.
    pub oid: Oid,
    /// The first key, inclusive.
    pub from: Bytes,
    /// The end, exclusive; empty: no end.
    pub to: Bytes,
    /// The tid as of which it was read.
    pub base: Tid,
}

impl ReadRange {
    /// Whether the range covers the cell. A collection's own record (the empty key) is never part of a range.
    pub fn covers(&self, cell: &Cell) -> bool {
        cell.oid == self.oid
            && !cell.key.is_empty()
            && cell.key >= self.from
            && (self.to.is_empty() || cell.key < self.to)
    }
}

/// One change of one cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The cell.
    pub cell: Cell,
    /// The tid as of which the writer knows the cell; not used by an apply.
    pub base: Tid,
    /// What to do.
    pub change: Change,
    /// Append tid and position to the key when the order is fixed; see the wire's `Write.stamped`.
    pub stamped: bool,
}

/// What a write does to its cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Writes this encoded record.
    Put(Bytes),
    /// Lets the class's resolver apply an operation to whatever is there: never conflicts by itself.
    Apply {
        /// Whose resolver; also the class of a cell that does not exist yet.
        class: String,
        /// In the resolver's format.
        operation: Bytes,
    },
    /// Deletes the cell.
    Delete,
}

/// What the committer gets: durable, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Receipt {
    /// The commit.
    pub tid: Tid,
    /// The cells whose stored record is what a resolver made.
    pub merged: Vec<Merged>,
}

impl Receipt {
    /// Of a commit in which nothing was merged.
    pub fn new(tid: Tid) -> Receipt {
        Receipt { tid, merged: Vec::new() }
    }
}

/// A cell with a revision that a held draft has not seen.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct StaleCell {
    /// The cell.
    pub cell: Cell,
    /// Its newest revision.
    pub newest: Tid,
    /// Why it is a conflict, as a resolver or a replayer says. Empty: nobody who knows its class was asked.
    pub reason: String,
}

impl StaleCell {
    /// Whether the application's own classes may still come to another result than the server has.
    pub fn is_left(&self) -> bool {
        self.reason.is_empty() || self.reason.starts_with(Unresolved::LEFT)
    }
}

/// A cell that a resolver decided.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Merged {
    /// The cell.
    pub cell: Cell,
    /// Its encoded record now; none: deleted.
    pub record: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(writes: Vec<(u64, &'static [u8], Change)>) -> Draft {
        let write = |(oid, key, change): (u64, &'static [u8], Change)| Write {
            cell: Cell::entry(Oid(oid), Bytes::from_static(key)),
            base: Tid::NONE,
            change,
            stamped: false,
        };
        Draft {
            key: CommitKey([7; 16]),
            key_since: Tid::NONE,
            priority: Priority::Live,
            read_cells: Vec::new(),
            read_ranges: Vec::new(),
            writes: writes.into_iter().map(write).collect(),
            note: Note::default(),
        }
    }

    #[test]
    fn a_digest_tells_drafts_apart_by_what_they_write() {
        let put = |data: &'static [u8]| Change::Put(Bytes::from_static(data));
        let apply = |class: &str, operation: &'static [u8]| Change::Apply {
            class: class.to_owned(),
            operation: Bytes::from_static(operation),
        };
        let mut stamped = draft(vec![(1, b"k", put(b"x"))]);
        stamped.writes[0].stamped = true;
        let mut noted = draft(vec![(1, b"k", put(b"x"))]);
        noted.note.extension = Bytes::from_static(b"x");
        let all = [
            draft(vec![]),
            draft(vec![(1, b"k", put(b"x"))]),
            draft(vec![(1, b"kx", put(b""))]),
            draft(vec![(2, b"k", put(b"x"))]),
            draft(vec![(1, b"k", Change::Delete)]),
            draft(vec![(1, b"k", apply("x", b""))]),
            draft(vec![(1, b"k", apply("", b"x"))]),
            draft(vec![(1, b"k", put(b"x")), (2, b"k", put(b"x"))]),
            draft(vec![(2, b"k", put(b"x")), (1, b"k", put(b"x"))]),
            draft(vec![(1, b"k", put(b"0123456789"))]),
            draft(vec![(1, b"k", put(b"0123456798"))]),
            stamped,
            noted,
        ];
        let digests: std::collections::BTreeSet<u64> = all.iter().map(Draft::digest).collect();
        assert_eq!((digests.len(), digests.contains(&0)), (all.len(), false));
        let mut read_anew = draft(vec![(1, b"k", put(b"x"))]);
        (read_anew.writes[0].base, read_anew.priority) = (Tid(9), Priority::Batch);
        assert_eq!(read_anew.digest(), all[1].digest());
        // It is kept on disks: it never changes.
        assert_eq!(all[1].digest(), DIGEST);
    }

    const DIGEST: u64 = 3241325188113678564;
}
