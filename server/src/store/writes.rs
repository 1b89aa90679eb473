//! Owns what a transaction wrote, and of a large one what can be worked out before it has a place in the order.
//!
//! Whatever is done about a commit between its tid and its being visible, everybody behind it waits for: so of hundreds of thousands of
//! writes as much as possible is done before, by whoever brings them:
//!
//! ```text
//!   caller                        Run: the places of the writes sorted by cell; where in its batch each record will lie, with its checksum; of
//!                                 which classes they are
//!   sequencer, writer, overlay    keep the list, which is shared: one step each, however long it is; to find a cell is a binary search
//! ```
//! A small transaction has no run: its writes are entered one by one, which costs less than looking into one more list does for all readers.

use super::frame::{BATCH_HEADER_LEN, BATCH_LEN_MAX, RecordAt, TXN_LEN_MIN, WRITE_LEN_MIN};
use super::log::ahead_file::AheadFile;
use super::{StoreError, TxnWrite};
use parking_lot::Mutex;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, hash};

/// What a transaction wrote, at most one write for each cell. A copy is the same list.
#[derive(Clone)]
pub struct Writes(Arc<Listed>);

struct Listed {
    list: Vec<TxnWrite>,
    run: Option<Run>,
    /// It is on the disk already.
    ahead: Mutex<Option<AheadFile>>,
}

impl Clone for Listed {
    fn clone(&self) -> Listed {
        Listed { list: self.list.clone(), run: None, ahead: Mutex::default() }
    }
}

/// What is known of a large list.
pub(crate) struct Run {
    /// Places in the list, in the order of the cells.
    order: Vec<u32>,
    /// By place in the list.
    about: Vec<About>,
    kinds: Vec<RunKind>,
    note_len: usize,
    batch_len: u64,
    bytes: u64,
    oid_max: u64,
    has_blobs: bool,
}

/// What the index is to know of a write, as far as that is known before it is written.
#[derive(Clone, Copy)]
pub(crate) struct About {
    /// Its place among the kinds; none: deleted.
    pub(crate) kind: Option<u32>,
    pub(crate) has_refs: bool,
    pub(crate) has_blobs: bool,
    /// Where the record will lie in a batch that begins with it.
    pub(crate) record: Option<RecordAt>,
}

/// A class at a schema version of which there is a record in the list.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct RunKind {
    pub(crate) class: String,
    pub(crate) version: u32,
    /// Some object is of it, not only entries.
    pub(crate) of_object: bool,
}

// Memory of a write beside its key and record: the write itself, what is known of it, its place.
const WRITE_BYTES: u64 = (size_of::<TxnWrite>() + size_of::<About>() + size_of::<u32>()) as u64;

impl Writes {
    /// A list with its run, for a transaction with an encoded note of this length. Refuses what a batch cannot hold.
    pub(crate) fn large(list: Vec<TxnWrite>, note_len: usize) -> Result<Writes, StoreError> {
        let run = Run::of(&list, note_len)?;
        Ok(Writes(Arc::new(Listed { list, run: Some(run), ahead: Mutex::default() })))
    }

    /// What is known of a large one.
    pub(crate) fn run(&self) -> Option<&Run> {
        self.0.run.as_ref()
    }

    /// It was written to a file of its own, if nobody else has it yet.
    pub(crate) fn set_ahead(&mut self, file: AheadFile) {
        if let Some(listed) = Arc::get_mut(&mut self.0) {
            listed.ahead = Mutex::new(Some(file));
        }
    }

    /// Whether it was written to a file of its own, which is to become a segment.
    pub(crate) fn is_ahead(&self) -> bool {
        self.run().is_some() && self.0.ahead.lock().is_some()
    }

    /// That file; once.
    pub(crate) fn take_ahead(&self) -> Option<AheadFile> {
        self.run().and_then(|_| self.0.ahead.lock().take())
    }

    /// That file is not needed any more.
    pub(crate) fn give_up_ahead(&self) {
        drop(self.take_ahead());
    }

    /// The list alone.
    pub fn into_vec(self) -> Vec<TxnWrite> {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.list.clone(), |listed| listed.list)
    }

    /// The list to be changed: of its own from here on, and without what was known of it.
    pub fn to_mut(&mut self) -> &mut Vec<TxnWrite> {
        let listed = Arc::make_mut(&mut self.0);
        (listed.run, listed.ahead) = (None, Mutex::default());
        &mut listed.list
    }

    /// The place in the list of the write of a cell; of a large one.
    pub(crate) fn place(&self, cell: &Cell) -> Option<usize> {
        let run = self.run()?;
        // Mostly it is of other objects than all of these.
        let (first, last) = (run.order.first()?, run.order.last()?);
        if *cell < self[*first as usize].cell || self[*last as usize].cell < *cell {
            return None;
        }
        let at = run.order.binary_search_by(|place| self[*place as usize].cell.cmp(cell)).ok()?;
        Some(run.order[at] as usize)
    }

    /// The write that is at this place in the order of the cells, and its place in the list; of a large one.
    pub(crate) fn nth(&self, at: usize) -> Option<(usize, &TxnWrite)> {
        let place = *self.run()?.order.get(at)? as usize;
        Some((place, &self[place]))
    }

    /// How many of the cells this is true of, if it is of all cells up to some: of a large one.
    pub(crate) fn count_until(&self, is_before: impl Fn(&Cell) -> bool) -> usize {
        let order = self.run().map_or(&[][..], |run| &run.order);
        order.partition_point(|place| is_before(&self[*place as usize].cell))
    }

    /// Whether the cells of two large ones lie among each other: no cell of those that do not is in both.
    pub(crate) fn meets(&self, other: &Writes) -> bool {
        let ends = |writes: &Writes| {
            let at = |at: usize| writes.nth(at).map(|(_, write)| write.cell.clone());
            at(0).zip(at(writes.len().saturating_sub(1)))
        };
        match (ends(self), ends(other)) {
            (Some((first, last)), Some((other_first, other_last))) => first <= other_last && other_first <= last,
            _ => false,
        }
    }

    /// The cells at these places in their order; of a large one.
    pub(crate) fn sorted(&self, at: Range<usize>) -> impl Iterator<Item = &Cell> {
        at.map_while(|at| self.nth(at)).map(|(_, write)| &write.cell)
    }
}

impl Run {
    fn of(list: &[TxnWrite], note_len: usize) -> Result<Run, StoreError> {
        let mut offset = (BATCH_HEADER_LEN + TXN_LEN_MIN + note_len) as u64;
        let (mut about, mut kinds, mut bytes, mut oid_max) = (Vec::with_capacity(list.len()), Kinds::default(), 0, 0);
        for write in list {
            check_write(write)?;
            oid_max = oid_max.max(write.cell.oid.0);
            let (key, record) = (write.cell.key.len(), write.record.as_deref());
            offset += (WRITE_LEN_MIN + key) as u64;
            let len = record.map_or(0, <[u8]>::len);
            bytes += WRITE_BYTES + (key + len) as u64;
            about.push(match record {
                None => About { kind: None, has_refs: false, has_blobs: false, record: None },
                Some(record) => {
                    let at = RecordAt { offset: offset as u32, len: len as u32, crc: crc32fast::hash(record) };
                    kinds.about(record, write.cell.is_object(), at)
                }
            });
            offset += len as u64;
        }
        if u32::try_from(list.len()).is_err() || offset > BATCH_LEN_MAX {
            let what = format!("a transaction of {offset} bytes, a segment holds less than 4 GiB: commit less at once");
            return Err(StoreError::Refused { what });
        }
        let mut order: Vec<u32> = (0..list.len() as u32).collect();
        order.sort_unstable_by(|a, b| list[*a as usize].cell.cmp(&list[*b as usize].cell));
        let has_blobs = about.iter().any(|about| about.has_blobs);
        Ok(Run { order, about, kinds: kinds.list, note_len, batch_len: offset, bytes, oid_max, has_blobs })
    }

    /// Of which classes the records are.
    pub(crate) fn kinds(&self) -> &[RunKind] {
        &self.kinds
    }

    /// What is known of the write at this place in the list.
    pub(crate) fn about(&self, place: usize) -> &About {
        &self.about[place]
    }

    /// The length of the encoded note that it was worked out for.
    pub(crate) fn note_len(&self) -> usize {
        self.note_len
    }

    /// The length of a batch of this transaction alone.
    pub(crate) fn batch_len(&self) -> u64 {
        self.batch_len
    }

    /// The memory that the list holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a record names blobs.
    pub(crate) fn has_blobs(&self) -> bool {
        self.has_blobs
    }

    /// The greatest oid in it.
    pub(crate) fn oid_max(&self) -> u64 {
        self.oid_max
    }
}

/// Refuses a write that the log cannot hold.
pub(super) fn check_write(write: &TxnWrite) -> Result<(), StoreError> {
    let refused = |what: String| Err(StoreError::Refused { what });
    if write.cell.oid.0 == u64::MAX {
        return refused("an object with the greatest oid, which is reserved".to_owned());
    }
    if u16::try_from(write.cell.key.len()).is_err() {
        return refused(format!("a key of {} bytes, at most 65,535 are stored", write.cell.key.len()));
    }
    match write.record.as_deref().map(Header::parse) {
        Some(Err(error)) => refused(format!("the record of {}: {error}", write.cell)),
        _ => Ok(()),
    }
}

/// The kinds of a list while it is gone over. Neighbours are mostly of one.
#[derive(Default)]
struct Kinds {
    list: Vec<RunKind>,
    places: hash::Map<(String, u32), u32>,
    last: Option<u32>,
}

impl Kinds {
    fn about(&mut self, record: &[u8], is_object: bool, at: RecordAt) -> About {
        // It was checked.
        let (class, version, refs, blobs) = match Header::parse(record) {
            Ok(header) => (header.class, header.version, header.refs().len(), header.blobs().len()),
            Err(_) => ("", 0, 0, 0),
        };
        let is_it = |place: &u32| {
            let kind = &self.list[*place as usize];
            kind.class == class && kind.version == version
        };
        let place = match self.last.filter(is_it) {
            Some(place) => place,
            None => *self.places.entry((class.to_owned(), version)).or_insert_with(|| {
                self.list.push(RunKind { class: class.to_owned(), version, of_object: false });
                self.list.len() as u32 - 1
            }),
        };
        self.last = Some(place);
        self.list[place as usize].of_object |= is_object;
        About { kind: Some(place), has_refs: refs > 0, has_blobs: blobs > 0, record: Some(at) }
    }
}

impl Deref for Writes {
    type Target = [TxnWrite];

    fn deref(&self) -> &[TxnWrite] {
        &self.0.list
    }
}

impl From<Vec<TxnWrite>> for Writes {
    fn from(list: Vec<TxnWrite>) -> Writes {
        Writes(Arc::new(Listed { list, run: None, ahead: Mutex::default() }))
    }
}

impl FromIterator<TxnWrite> for Writes {
    fn from_iter<I: IntoIterator<Item = TxnWrite>>(writes: I) -> Writes {
        Vec::from_iter(writes).into()
    }
}

impl<'w> IntoIterator for &'w Writes {
    type Item = &'w TxnWrite;
    type IntoIter = std::slice::Iter<'w, TxnWrite>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Writes {
    type Item = TxnWrite;
    type IntoIter = std::vec::IntoIter<TxnWrite>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl PartialEq for Writes {
    fn eq(&self, other: &Writes) -> bool {
        **self == **other
    }
}

impl Eq for Writes {}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
