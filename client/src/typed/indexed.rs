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
    indexes: &'static [KeptIndex],
    found: Vec<IndexKey>,
    unknown: Option<String>,
}

impl Keys {
    fn of<T: Persistent>() -> Keys {
        Keys { class: T::CLASS, indexes: T::INDEXES, found: Vec::new(), unknown: None }
    }

    /// The object is in the index of that name under this key; under as many as you like, each of which counts once.
    pub fn add<Q: AsKey + ?Sized>(&mut self, index: &str, key: &Q) {
        let Some(index) = self.indexes.iter().find(|known| known.name == index) else {
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
                "class {:?} has no index {index:?}; name it in `Persistent::INDEXES`",
                self.class
            ))),
        }
    }
}

/// The keys of a record that a former type of the class has written, as that type gives them. What `#[persistent(from = Old)]` makes of
/// [`Persistent::index_former`].
pub fn index_former<Old: Persistent>(version: u32, data: &[u8], keys: &mut Keys) -> Result<()> {
    let mut former = Keys::of::<Old>();
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
    let mut newer = Keys::of::<New>();
    match version == New::VERSION {
        true if New::INDEXES.is_empty() => {}
        true => decode_as::<New>(New::CODEC, New::CLASS, version, data)?.index(&mut newer),
        false => New::index_former(version, data, &mut newer)?,
    }
    keys.found.extend(newer.end()?);
    Ok(())
}

/// Whether records of the class may be in an index, whichever version wrote them.
pub(crate) const fn is_indexed<T: Persistent>() -> bool {
    !T::INDEXES.is_empty() || T::FORMERLY_INDEXED || T::LATER_INDEXED
}

/// Where the keys of a value are to be found.
pub(crate) fn keys_of_value<T: Persistent>(value: &T) -> Result<Vec<IndexKey>> {
    let mut keys = Keys::of::<T>();
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
    let (mut keys, data) = (Keys::of::<T>(), &record[header.data_at..]);
    T::index_former(header.version, data, &mut keys)?;
    // And those that somebody gives it who brings it to this version at the same time.
    T::upgrade(header.version, data)?.index(&mut keys);
    Ok(RecordKeys { keys: keys.end()?, are_there: false })
}
