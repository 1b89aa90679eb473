//! Owns what a transaction knows of the indexes that are kept with the objects it writes: which objects were written, and which of
//! their keys are among its own writes already.
//!
//! ```text
//!   set, remove      the object is named here; nothing is read
//!   settle           before a commit, and before an index is read: what is there and what was written are compared, and the
//!                    difference goes among the own writes
//! ```
//! So an object that is written ten times in one transaction costs one comparison, and what a savepoint takes back was never there.
//! How they are compared is told by `objects`, which is above: it hands the function over with the first object.

use super::{Own, View, damaged};
use crate::errors::Result;
use crate::keys::{AsKey, Key, KeyKind};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Oid};

/// An index that is kept with the objects of a class.
///
/// ```
/// use zeolite_client::KeptIndex;
///
/// const INDEXES: [KeptIndex; 2] = [KeptIndex::many("author"), KeptIndex::unique("slug")];
/// assert!(INDEXES[1].is_unique());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct KeptIndex {
    pub(crate) name: &'static str,
    pub(crate) unique: bool,
    /// Of text, unless somebody has said otherwise.
    pub(crate) kind: KeyKind,
    /// Under this name a former version had one with keys of another kind. It is no other index for that.
    pub(crate) was_other: bool,
}

impl KeptIndex {
    fn identity(&self) -> (&'static str, bool, KeyKind) {
        (self.name, self.unique, self.kind)
    }
}

impl PartialEq for KeptIndex {
    fn eq(&self, other: &KeptIndex) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for KeptIndex {}

impl PartialOrd for KeptIndex {
    fn partial_cmp(&self, other: &KeptIndex) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeptIndex {
    fn cmp(&self, other: &KeptIndex) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Hash for KeptIndex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl KeptIndex {
    /// From a key to any number of objects.
    pub const fn many(name: &'static str) -> KeptIndex {
        KeptIndex::new(name, false)
    }

    /// From a key to the one object that may have it.
    pub const fn unique(name: &'static str) -> KeptIndex {
        KeptIndex::new(name, true)
    }

    const fn new(name: &'static str, unique: bool) -> KeptIndex {
        let (bytes, mut at) = (name.as_bytes(), 0);
        while at < bytes.len() {
            assert!(bytes[at] != b':' && bytes[at] != b'(', "the name of an index has neither `:` nor `(`");
            at += 1;
        }
        KeptIndex { name, unique, kind: KeyKind::Text, was_other: false }
    }

    /// With keys of this type. Say it of all that are not of text: where a new version of the class has another type of keys, its index
    /// is another collection.
    pub const fn keyed<K: Key>(mut self) -> KeptIndex {
        self.kind = K::KIND;
        self
    }

    /// Of a class that had these indexes in a former version.
    pub const fn after(mut self, former: &[KeptIndex]) -> KeptIndex {
        let mut at = 0;
        while at < former.len() {
            let of = former[at];
            if of.unique == self.unique && same(of.name.as_bytes(), self.name.as_bytes()) {
                self.was_other = self.was_other || of.was_other || !self.kind.is(of.kind);
            }
            at += 1;
        }
        self
    }

    /// A key for people, as an entry of it begins.
    pub(crate) fn shown(&self, key: &[u8]) -> String {
        self.kind.shown(key, !self.unique)
    }

    /// Its name within the class.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a key is one object's.
    pub const fn is_unique(&self) -> bool {
        self.unique
    }
}

/// Whether two names are the same, for constants.
pub(crate) const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A key under which an object is to be found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IndexKey {
    pub(crate) class: &'static str,
    pub(crate) index: KeptIndex,
    /// As a part that the object follows; of a unique index, as the whole key.
    pub(crate) key: Bytes,
    /// Objects that the key refers to.
    pub(crate) refs: Vec<Oid>,
}

impl IndexKey {
    pub(crate) fn new<Q: AsKey + ?Sized>(class: &'static str, index: KeptIndex, key: &Q) -> IndexKey {
        let (mut encoded, mut refs) = (Vec::with_capacity(24), Vec::new());
        match index.unique {
            true => key.put_last(&mut encoded),
            false => key.put_inner(&mut encoded),
        }
        key.put_refs(&mut refs);
        IndexKey { class, index, key: encoded.into(), refs }
    }

    /// The order in which the keys of a record stand.
    pub(crate) fn order(&self, other: &IndexKey) -> Ordering {
        let place = |key: &IndexKey| (key.class, key.index);
        place(self).cmp(&place(other)).then_with(|| self.key.cmp(&other.key))
    }
}

/// The keys of one record.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordKeys {
    /// In order.
    pub(crate) keys: Vec<IndexKey>,
    /// They are in the indexes; not so of a record in a former shape, which may have been written before there were such indexes.
    pub(crate) are_there: bool,
}

/// The keys of a record.
pub(crate) type KeysOf = fn(&Cell, &Bytes) -> Result<RecordKeys>;

/// Writes what is missing in the indexes, and takes out what is too much; makes an index that is not there, unless the transaction makes none.
pub(crate) type Settle = fn(&View) -> BoxFuture<'_, Result<()>>;

/// A class with indexes, as `objects` knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptClass {
    pub(crate) class: &'static str,
    pub(crate) has_indexes: bool,
    /// A record of a higher version may be in indexes that it does not know.
    pub(crate) indexed_to: u32,
    /// Those that it knows: its own, those of former versions, those of newer ones.
    pub(crate) indexes: [&'static [KeptIndex]; 3],
    pub(crate) keys: KeysOf,
    pub(crate) settle: Settle,
}

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct KeptObject {
    /// What the transaction knows it as: most often one.
    classes: Vec<KeptClass>,
    /// It was made in this transaction: nothing is there.
    pub(crate) is_new: bool,
    /// All its keys are written, also those that are there as far as anybody knows.
    pub(crate) whole: bool,
    /// The keys that are in the indexes with the own writes; none: those of the record that is there.
    pub(crate) settled: Option<Vec<IndexKey>>,
    /// The record that was written last, with its keys.
    pub(crate) written: Option<(Bytes, Vec<IndexKey>)>,
    is_due: bool,
}

impl KeptObject {
    /// The keys of a record of it; none: it is of a class that nobody here has named.
    pub(crate) fn keys(&self, cell: &Cell, record: &Bytes) -> Result<Option<RecordKeys>> {
        if let Some((_, keys)) = self.written.as_ref().filter(|(written, _)| written == record) {
            return Ok(Some(RecordKeys { keys: keys.clone(), are_there: true }));
        }
        let header = Header::parse(record).map_err(|bad| damaged(cell, &bad))?;
        self.known(header.class).map(|class| (class.keys)(cell, record)).transpose()
    }

    /// The classes that it may be of.
    pub(crate) fn classes(&self) -> &[KeptClass] {
        &self.classes
    }

    /// A class that it may be of.
    pub(crate) fn known(&self, class: &str) -> Option<&KeptClass> {
        self.classes.iter().find(|known| known.class == class)
    }

    /// As what it was written last.
    pub(crate) fn class(&self) -> &'static str {
        self.classes.last().map_or("", |class| class.class)
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    objects: BTreeMap<Cell, KeptObject>,
    /// Indexes that were made since the snapshot, or looked up.
    pub(crate) roots: BTreeMap<(&'static str, KeptIndex), Oid>,
    /// Objects whose records say that others may have their unique keys: the commit checks them.
    pub(crate) checks: BTreeSet<Cell>,
    /// Of a dry run: the making of an index would stay.
    pub(crate) makes_none: bool,
    /// Counts the changes: whoever has read sees whether something came between.
    pub(crate) changes: u64,
}

impl Kept {
    /// An object is written as one of a class.
    pub(crate) fn touched(&mut self, cell: Cell, class: KeptClass, is_new: bool) -> &mut KeptObject {
        self.changes += 1;
        let (classes, settled, written) = Default::default();
        let new = KeptObject { classes, is_new, whole: false, settled, written, is_due: true };
        let object = self.objects.entry(cell).or_insert(new);
        // A former type of a class, without indexes, does not know what the newer one has.
        if class.has_indexes || object.classes.iter().all(|known| known.class != class.class) {
            object.classes.retain(|known| known.class != class.class);
            object.classes.push(class);
        }
        object.is_due = true;
        object
    }

    /// Whether an object is named here.
    pub(crate) fn knows(&self, cell: &Cell) -> bool {
        self.objects.contains_key(cell)
    }

    /// Those that were written since they were settled.
    pub(crate) fn due(&self) -> Vec<(Cell, KeptObject)> {
        let due = self.objects.iter().filter(|(_, object)| object.is_due);
        due.map(|(cell, object)| (cell.clone(), object.clone())).collect()
    }

    /// The unique keys of what was written, each with its object; to be asked when they are settled.
    pub(super) fn claims(&self) -> Vec<(IndexKey, Oid)> {
        let keys = |(cell, object): (&Cell, &KeptObject)| {
            let unique = object.settled.iter().flatten().filter(|key| key.index.unique);
            unique.map(|key| (key.clone(), cell.oid)).collect::<Vec<_>>()
        };
        self.objects.iter().flat_map(keys).collect()
    }

    pub(super) fn cells(&self) -> Vec<Cell> {
        self.objects.keys().cloned().collect()
    }

    fn settle(&self) -> Option<Settle> {
        self.objects.values().find(|object| object.is_due)?.classes.last().map(|class| class.settle)
    }

    /// The keys of an object are among the own writes.
    pub(crate) fn settled(&mut self, cell: &Cell, keys: Vec<IndexKey>) {
        self.changes += 1;
        if let Some(object) = self.objects.get_mut(cell) {
            (object.settled, object.is_due, object.whole) = (Some(keys), false, false);
        }
    }
}

impl Own {
    /// As it was at a moment before, seen from now: whoever is about to write what he has compared is told, and what was looked up stays.
    pub(super) fn kept_of(&mut self, then: Kept) -> Kept {
        let now = std::mem::take(&mut self.kept);
        Kept { roots: now.roots, changes: now.changes + 1, ..then }
    }
}

impl View {
    /// Brings the indexes of what was written here among the own writes.
    pub(crate) async fn settle(&self) -> Result<()> {
        let settle = self.own.lock().kept.settle();
        match settle {
            Some(settle) => settle(self).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_its_name_and_the_kind_of_its_keys_however_that_was_said() {
        let (by_hand, derived) = (KeptIndex::many("author"), KeptIndex::many("author").keyed::<String>());
        assert_eq!(by_hand, derived);
        assert_eq!(by_hand.cmp(&derived), Ordering::Equal);
        let number = KeptIndex::many("author").keyed::<u64>();
        assert_ne!(by_hand, number);
        let after = number.after(&[by_hand]);
        assert!(after.was_other && !number.was_other);
        assert_eq!(number, after, "what there was before makes it no other index");
        // A version between, which had none, changes nothing; nor does a later one with the same keys.
        assert!(number.after(&[]).after(&[by_hand]).was_other && number.after(&[by_hand]).after(&[number]).was_other);
        assert_ne!(by_hand, KeptIndex::unique("author"));
    }
}
