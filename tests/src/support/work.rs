//! Owns `Work`: a draft put together in a test, one call a change.

use bytes::Bytes;
use zeolite_proto::evolve::{ChunkNote, StepNote, SteppedNote};
use zeolite_proto::{Cell, Change, CommitKey, Draft, Note, Oid, Priority, ReadCell, ReadRange, Record, Tid, Write};

/// A draft in the making.
#[derive(Clone, Debug)]
pub struct Work {
    draft: Draft,
}

/// The commit key with this number.
pub fn key(n: u64) -> CommitKey {
    let mut bytes = *b"test key........";
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    CommitKey(bytes)
}

/// The encoded form of a record that a test made up.
pub fn encoded(record: &Record) -> Bytes {
    record.encode().expect("the records of the tests have short class names")
}

/// Whose steps the writes of a chunk are.
pub enum Steps {
    /// Each is its own cell's.
    OfEach,
    /// All of them are the first one's.
    OfTheFirst,
    /// All of them are of a cell that is left as it is.
    OfAnother(Cell),
}

impl Work {
    /// An empty draft with this key.
    pub fn new(key: CommitKey) -> Work {
        let (read_cells, read_ranges, writes) = (Vec::new(), Vec::new(), Vec::new());
        // As if the key were made just now: whoever tells since when it exists says so.
        let (key_since, priority, note) = (Tid::MAX, Priority::Live, Note::default());
        Work { draft: Draft { key, key_since, priority, read_cells, read_ranges, writes, note } }
    }

    /// Writes a record.
    #[must_use]
    pub fn put(self, cell: Cell, base: Tid, record: &Record) -> Work {
        self.write(cell, base, Change::Put(encoded(record)), false)
    }

    /// Writes a record under a stamped key.
    #[must_use]
    pub fn stamped(self, cell: Cell, record: &Record) -> Work {
        self.write(cell, Tid::NONE, Change::Put(encoded(record)), true)
    }

    /// Deletes a cell.
    #[must_use]
    pub fn delete(self, cell: Cell, base: Tid) -> Work {
        self.write(cell, base, Change::Delete, false)
    }

    /// Applies an operation of a class's resolver.
    #[must_use]
    pub fn apply(self, cell: Cell, class: &str, operation: Bytes) -> Work {
        self.write(cell, Tid::NONE, Change::Apply { class: class.to_owned(), operation }, false)
    }

    /// Any change.
    #[must_use]
    pub fn write(mut self, cell: Cell, base: Tid, change: Change, stamped: bool) -> Work {
        self.draft.writes.push(Write { cell, base, change, stamped });
        self
    }

    /// A cell that must not have changed.
    #[must_use]
    pub fn read(mut self, cell: Cell, base: Tid) -> Work {
        self.draft.read_cells.push(ReadCell { cell, base });
        self
    }

    /// A range that must not have changed.
    #[must_use]
    pub fn range(mut self, oid: Oid, from: &[u8], to: &[u8], base: Tid) -> Work {
        let (from, to) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
        self.draft.read_ranges.push(ReadRange { oid, from, to, base });
        self
    }

    /// Waits behind live drafts.
    #[must_use]
    pub fn batch(mut self) -> Work {
        self.draft.priority = Priority::Batch;
        self
    }

    /// Who and why.
    #[must_use]
    pub fn note(mut self, user: &str, description: &str) -> Work {
        self.draft.note = Note::new(user, description);
        self
    }

    /// As a chunk of an evolve's job; `reads`: its steps have read more than their cells.
    #[must_use]
    pub fn chunk(mut self, job: Oid, steps: Steps, reads: bool) -> Work {
        let places: Vec<u32> = (0..self.draft.writes.len() as u32).collect();
        let step = |of: SteppedNote, writes: &[u32]| StepNote {
            of,
            writes: writes.to_vec(),
            applied: Vec::new(),
            reads,
            after: Vec::new(),
        };
        let steps = match steps {
            Steps::OfTheFirst => vec![step(SteppedNote::Written(0), &places)],
            Steps::OfAnother(cell) => vec![step(SteppedNote::Cell(cell.oid.0, cell.key.to_vec()), &places)],
            Steps::OfEach => places.iter().map(|place| step(SteppedNote::Written(*place), &[*place])).collect(),
        };
        let groups = vec![places.len() as u32];
        self.draft.note = ChunkNote { job: job.0, range: 0, groups, steps, operations: Vec::new() }.note("job", "");
        self.batch()
    }

    /// The draft.
    pub fn draft(self) -> Draft {
        self.draft
    }

    /// Whether it has no writes yet.
    pub fn is_empty(&self) -> bool {
        self.draft.writes.is_empty()
    }
}
