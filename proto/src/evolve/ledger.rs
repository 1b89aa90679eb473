//! Owns the stored form of the ledger: ranges of a plan, lists of oids, the quarantine, and where in the job each of them lies.

use super::stored::Stored;
use crate::ids::{Cell, Oid, Tid};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A part of a plan.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Part {
    /// The objects of a plan below a version with `after` < oid <= `last`: listed by the index, which counts what is left.
    Objects {
        /// Exclusive.
        after: u64,
        /// Inclusive.
        last: u64,
    },
    /// The plan's entries with `from` <= key < `to`; empty: no bound. Only of jobs that were planned when keys were not listed.
    Entries {
        /// Inclusive.
        from: Vec<u8>,
        /// Exclusive.
        to: Vec<u8>,
    },
    /// The plan's lists with `first` <= number < `end`.
    Lists {
        /// Inclusive.
        first: u32,
        /// Exclusive.
        end: u32,
    },
    /// The end of the job: what live writers left behind, the gate, the verification.
    Finish,
    /// Taking the job's commits back, the newest first.
    Undo,
}

/// How far a range is: behind this one everything is still to be done.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub enum Cursor {
    /// Nothing is done.
    #[default]
    Start,
    /// Up to this object.
    Oid(u64),
    /// Up to this entry.
    Key(Vec<u8>),
    /// So many of the range's listed oids.
    Listed(u64),
    /// Commits older than this one are still to be taken back.
    Before(u64),
}

/// What became of objects.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Passed, in whatever way.
    pub done: u64,
    /// The step changed or deleted it.
    pub changed: u64,
    /// The step left it as it was.
    pub kept: u64,
    /// Somebody else had brought it to the target already, or deleted it.
    pub found_done: u64,
    /// The step failed on it.
    pub bad: u64,
    /// It did, and later it did not.
    pub healed: u64,
    /// Left for the end: live traffic was always faster, or it was hot.
    pub put_off: u64,
    /// Steps that were made again because a live write came between. Not a number of objects.
    pub stepped_again: u64,
    /// Commits.
    pub chunks: u64,
}

impl Counts {
    /// Objects in the quarantine now.
    pub fn bad_now(&self) -> u64 {
        self.bad.saturating_sub(self.healed)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            done: self.done + other.done,
            changed: self.changed + other.changed,
            kept: self.kept + other.kept,
            found_done: self.found_done + other.found_done,
            bad: self.bad + other.bad,
            healed: self.healed + other.healed,
            put_off: self.put_off + other.put_off,
            stepped_again: self.stepped_again + other.stepped_again,
            chunks: self.chunks + other.chunks,
        }
    }
}

/// A range of the plan.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct RangeRecord {
    /// Which part of the plan.
    pub part: Part,
    /// How far.
    pub cursor: Cursor,
    /// Objects in it when it was planned.
    pub total: u64,
    /// What became of them.
    pub counts: Counts,
    /// Nothing is left to do.
    pub finished: bool,
    /// The worker that holds it; empty: nobody does.
    pub holder: String,
    /// Tells this holding from any other of the same name.
    pub nonce: u64,
    /// Raised with every revision.
    pub beat: u64,
    /// Cells that are stepped at the end of the range, since live traffic was always faster.
    pub deferred: Vec<(u64, Vec<u8>)>,
    /// Passes over what was left behind, of the last range.
    pub pass: u32,
    /// The holder's rate, in objects a second.
    pub rate: f64,
    /// What the holder waits for; empty: nothing.
    pub waits_for: String,
}

impl Stored for RangeRecord {
    const CLASS: &str = "zeolite.evolve.Range";
}

impl RangeRecord {
    /// A range of which nothing is done yet.
    pub fn new(part: Part, total: u64) -> RangeRecord {
        RangeRecord {
            part,
            total,
            cursor: Cursor::Start,
            counts: Counts::default(),
            finished: false,
            holder: String::new(),
            nonce: 0,
            beat: 0,
            deferred: Vec::new(),
            pass: 0,
            rate: 0.0,
            waits_for: String::new(),
        }
    }
}

/// An object on which a step has failed.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Bad {
    /// The object.
    pub oid: u64,
    /// The entry's key; empty: the object itself.
    pub key: Vec<u8>,
    /// Its class.
    pub class: String,
    /// Its schema version.
    pub version: u32,
    /// The revision that the step failed on.
    pub tid: u64,
    /// What the step said.
    pub error: String,
}

impl Stored for Bad {
    const CLASS: &str = "zeolite.evolve.Bad";
}

impl Bad {
    /// The cell that the step failed on.
    pub fn cell(&self) -> Cell {
        Cell::entry(Oid(self.oid), self.key.clone())
    }
}

/// A group of steps that could not be taken back: it is left as it is, as a whole.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct NotUndone {
    /// The commit of the steps.
    pub tid: u64,
    /// The cells that they wrote.
    pub cells: Vec<(u64, Vec<u8>)>,
    /// Why.
    pub reason: String,
}

impl Stored for NotUndone {
    const CLASS: &str = "zeolite.evolve.NotUndone";
}

/// A live draft was committed over a write of a chunk: what its step made is to be taken back, and the object to be stepped anew.
/// The server writes it in that draft's own commit; a worker removes it when that is done, and leaves the same record under
/// [`paid_cell`], so that an undo does not take it back a second time.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Owed {
    /// The commit of the chunk.
    pub chunk: u64,
    /// The cell that the live draft wrote.
    pub oid: u64,
    /// Its key; empty: the object itself.
    pub key: Vec<u8>,
    /// It is paid, and that the job has changed the object still stands: it was stepped anew. Otherwise the live draft has brought it
    /// where it is.
    pub stands: bool,
}

impl Stored for Owed {
    const CLASS: &str = "zeolite.evolve.Owed";
}

impl Owed {
    /// Over which write of which chunk.
    pub fn new(chunk: Tid, cell: &Cell) -> Owed {
        Owed { chunk: chunk.0, oid: cell.oid.0, key: cell.key.to_vec(), stands: false }
    }

    /// The cell that the live draft wrote.
    pub fn cell(&self) -> Cell {
        Cell::entry(Oid(self.oid), self.key.clone())
    }
}

/// The number of the range in which a job is taken back: behind all others.
pub const UNDO_RANGE: u32 = 9999;

/// Oids that a plan names one by one.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ListRecord {
    /// In the order in which they are stepped.
    pub oids: Vec<u64>,
}

impl Stored for ListRecord {
    const CLASS: &str = "zeolite.evolve.List";
}

/// Keys of the collection of a plan, in the place of a list of oids.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct KeysRecord {
    /// In their order.
    pub keys: Vec<Vec<u8>>,
}

impl Stored for KeysRecord {
    const CLASS: &str = "zeolite.evolve.Keys";
}

/// The cell of a range.
pub fn range_cell(job: Oid, number: u32) -> Cell {
    Cell::entry(job, format!("range/{number:04}"))
}

/// The cell of a list.
pub fn list_cell(job: Oid, number: u32) -> Cell {
    Cell::entry(job, format!("list/{number:06}"))
}

/// The cell of a group that could not be taken back.
pub fn not_undone_cell(job: Oid, tid: Tid, group: usize) -> Cell {
    Cell::entry(job, format!("undo/{:016x}/{group:06}", tid.0))
}

/// The cell of an object in the quarantine.
pub fn bad_cell(job: Oid, cell: &Cell) -> Cell {
    named_by_cell(job, "bad/".to_owned(), cell)
}

/// What keys of [`owed_cell`] begin with.
pub const OWED: &str = "owed/";
/// What keys of [`paid_cell`] begin with.
pub const PAID: &str = "paid/";

/// The keys of everything that a job owes: from the first to before the second.
pub fn owed_keys() -> (Bytes, Bytes) {
    (Bytes::from_static(OWED.as_bytes()), Bytes::from_static(b"owed0"))
}

/// Where it stands that a live draft came over a write of a chunk.
pub fn owed_cell(job: Oid, chunk: Tid, cell: &Cell) -> Cell {
    named_by_cell(job, format!("{OWED}{:016x}/", chunk.0), cell)
}

/// Whether a cell may be one of these, by its key alone.
pub fn is_owed(cell: &Cell) -> bool {
    cell.key.starts_with(OWED.as_bytes())
}

/// Where it stands that this is paid: the step of this cell in this chunk was taken back.
pub fn paid_cell(job: Oid, chunk: Tid, cell: &Cell) -> Cell {
    named_by_cell(job, format!("{PAID}{:016x}/", chunk.0), cell)
}

/// A cell of the ledger that names another cell. A long key is told by its beginning and its hash, since keys have a limit.
fn named_by_cell(job: Oid, before: String, cell: &Cell) -> Cell {
    let mut key = before.into_bytes();
    key.extend_from_slice(format!("{:016x}", cell.oid.0).as_bytes());
    if !cell.is_object() {
        key.push(b'/');
        if cell.key.len() <= 512 {
            key.extend_from_slice(&cell.key);
        } else {
            key.extend_from_slice(&cell.key[..512]);
            let hash = cell
                .key
                .iter()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
            key.extend_from_slice(&hash.to_be_bytes());
        }
    }
    Cell::entry(job, key)
}

/// What became of the objects of all ranges. An object that failed in one range may be healed in another.
pub fn counts<'a>(ranges: impl IntoIterator<Item = &'a RangeRecord>) -> Counts {
    ranges.into_iter().fold(Counts::default(), |sum, range| sum.plus(range.counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_cells_are_in_order_and_apart() {
        let job = Oid(9);
        assert!(range_cell(job, 9) < range_cell(job, 10) && range_cell(job, 999) < range_cell(job, 1000));
        let long = |last: u8| Cell::entry(Oid(1), [vec![7; 1023], vec![last]].concat());
        let cells = [Cell::object(Oid(1)), Cell::entry(Oid(1), "a"), Cell::object(Oid(2)), long(1), long(2)];
        let bad: std::collections::BTreeSet<Cell> = cells.iter().map(|cell| bad_cell(job, cell)).collect();
        assert_eq!(bad.len(), cells.len());
        assert!(bad.iter().all(|cell| cell.key.len() <= 1024 && cell.key.starts_with(b"bad/")));
    }
}
