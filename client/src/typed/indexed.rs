//! Owns what an object says of the indexes that are kept with it: under which keys it is to be found. Pure.
//!
//! ```text
//!   record of this version     its value's keys                               they are in the indexes
//!   record of a former one     the keys that the former type gave it, if any  they may be there; those of the new shape are not
//!   record of a newer one      the keys that the newer type gave it           a bridge takes them out: the shape that it writes has none
//! ```
//! So an index belongs to a schema version: whoever adds one raises `VERSION`, objects below have no entries in it, and an evolve to
//! the version fills it. Without a new version, `evolve::reindex` does.

use super::Persistent;
use super::codec::{decode_as, decode_record};
use crate::errors::{Error, Result};
use crate::keys::AsKey;
use crate::tx::{IndexKey, KeptIndex, RecordKeys, damaged};
use bytes::Bytes;
use std::cmp::Ordering;
use zeolite_proto::Cell;
use zeolite_proto::record::Header;

/// The keys of an object, as [`Persistent::index`] gives them.
///
/// ```
/// use zeolite_client::typed::Keys;
/// use zeolite_client::{KeptIndex, Persistent};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Page {
///     text: String,
/// }
///
/// impl Persistent for Page {
///     const CLASS: &str = "wiki.Page";
///     const INDEXES: &'static [KeptIndex] = &[KeptIndex::many("word")];
///
///     fn index(&self, keys: &mut Keys) {
///         self.text.split_whitespace().for_each(|word| keys.add("word", word));
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Keys {
    class: &'static str,
    /// The former first, where both have one of a name.
    indexes: [&'static [KeptIndex]; 2],
    found: Vec<IndexKey>,
    unknown: Option<String>,
}

impl Keys {
    /// Of a record of this version.
    fn of<T: Persistent>(version: u32) -> Keys {
        let others = match version.cmp(&T::VERSION) {
            Ordering::Less => T::FORMERLY_INDEXED,
            Ordering::Equal => &[],
            Ordering::Greater => T::LATER_INDEXED,
        };
        Keys { class: T::CLASS, indexes: [others, T::INDEXES], found: Vec::new(), unknown: None }
    }

    /// Those of a value of the type: in its own indexes, whatever others there are.
    pub(super) fn of_value<T: Persistent>(&mut self, value: &T) {
        let indexes = std::mem::replace(&mut self.indexes, [&[], T::INDEXES]);
        value.index(self);
        self.indexes = indexes;
    }

    /// The object is in the index of that name under this key; under as many as you like, each of which counts once.
    pub fn add<Q: AsKey + ?Sized>(&mut self, index: &str, key: &Q) {
        let Some(index) = self.indexes.iter().copied().flatten().find(|known| known.name == index) else {
            self.unknown.get_or_insert_with(|| index.to_owned());
            return;
        };
        self.found.push(IndexKey::new(self.class, *index, key));
    }

    /// In order, each once: an object may have thousands of keys.
    fn end(mut self) -> Result<Vec<IndexKey>> {
        self.found.sort_by(IndexKey::order);
        self.found.dedup_by(|one, other| one.order(other).is_eq());
        match self.unknown {
            None => Ok(self.found),
            Some(index) => Err(Error::invalid(format!(
                "class {:?} has no index {index:?}; name it in `Persistent::INDEXES`, one of other versions in `LATER_INDEXED` or \
                 `FORMERLY_INDEXED`",
                self.class
            ))),
        }
    }
}

/// The keys of a record that a former type of the class has written, as that type gives them. What `#[persistent(from = Old)]` makes of
/// [`Persistent::index_former`].
pub fn index_former<Old: Persistent>(version: u32, data: &[u8], keys: &mut Keys) -> Result<()> {
    let mut former = Keys::of::<Old>(version);
    if !Old::INDEXES.is_empty() && version == Old::VERSION {
        decode_as::<Old>(Old::CODEC, Old::CLASS, version, data)?.index(&mut former);
    } else if version < Old::VERSION {
        Old::index_former(version, data, &mut former)?;
    }
    keys.found.extend(former.end()?);
    Ok(())
}

/// The keys of a record that a newer type of the class has written, as that type gives them. What `#[persistent(newer = New)]` makes of
/// [`Persistent::index_former`].
pub fn index_newer<New: Persistent>(version: u32, data: &[u8], keys: &mut Keys) -> Result<()> {
    let mut newer = Keys::of::<New>(version);
    match version == New::VERSION {
        true if New::INDEXES.is_empty() => {}
        true => decode_as::<New>(New::CODEC, New::CLASS, version, data)?.index(&mut newer),
        false => New::index_former(version, data, &mut newer)?,
    }
    keys.found.extend(newer.end()?);
    Ok(())
}

/// How many indexes there are up to a former type of a class.
pub const fn indexes_to<Old: Persistent>() -> usize {
    Old::FORMERLY_INDEXED.len() + Old::INDEXES.len()
}

/// Those indexes. What `#[persistent(from = Old)]` makes of [`Persistent::FORMERLY_INDEXED`].
pub const fn formerly_indexed<Old: Persistent, const N: usize>() -> [KeptIndex; N] {
    joined(Old::FORMERLY_INDEXED, Old::INDEXES)
}

/// How many indexes there are from a newer type of a class on.
pub const fn indexes_from<New: Persistent>() -> usize {
    New::INDEXES.len() + New::LATER_INDEXED.len()
}

/// Those indexes. What `#[persistent(newer = New)]` makes of [`Persistent::LATER_INDEXED`].
pub const fn later_indexed<New: Persistent, const N: usize>() -> [KeptIndex; N] {
    joined(New::INDEXES, New::LATER_INDEXED)
}

const fn joined<const N: usize>(first: &[KeptIndex], second: &[KeptIndex]) -> [KeptIndex; N] {
    let (mut all, mut at) = ([KeptIndex::many("x"); N], 0);
    while at < N {
        all[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    all
}

/// Whether records of the class may be in an index, whichever version wrote them.
pub(crate) const fn is_indexed<T: Persistent>() -> bool {
    !(T::INDEXES.is_empty() && T::FORMERLY_INDEXED.is_empty() && T::LATER_INDEXED.is_empty())
}

/// Where the keys of a value are to be found.
pub(crate) fn keys_of_value<T: Persistent>(value: &T) -> Result<Vec<IndexKey>> {
    let mut keys = Keys::of::<T>(T::VERSION);
    value.index(&mut keys);
    keys.end()
}

/// The keys of a record. One of another class has none that are known here.
pub(crate) fn keys_of<T: Persistent>(cell: &Cell, record: &Bytes) -> Result<RecordKeys> {
    let header = Header::parse(record).map_err(|bad| damaged(cell, &bad))?;
    if header.class != T::CLASS || !is_indexed::<T>() {
        return Ok(RecordKeys::default());
    }
    if header.version == T::VERSION {
        return Ok(RecordKeys { keys: keys_of_value(&decode_record::<T>(cell, record)?)?, are_there: true });
    }
    let (mut keys, data) = (Keys::of::<T>(header.version), &record[header.data_at..]);
    T::index_former(header.version, data, &mut keys)?;
    // And those that somebody gives it who brings it to this version at the same time.
    keys.of_value(&T::upgrade(header.version, data)?);
    Ok(RecordKeys { keys: keys.end()?, are_there: false })
}
