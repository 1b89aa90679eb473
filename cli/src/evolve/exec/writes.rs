//! Owns the further writes of an answer: entries of indexes, counters, objects that are made or go. They are committed with the
//! object, or not at all.
//!
//! ```text
//!   {"create":"$a", class, version, refs, data}     a new object; `$a` is an oid in the refs and writes of this answer
//!   {"set":OID, "key":K, class, version, …}         an entry, or without a key another object, as a record
//!   {"delete":OID, "key":K}                         an entry, or without a key another object
//!   {"add":OID, "by":N}                             a counter
//!   {"index":OID, "insert"|"remove":KEY}            an index of the library, for the object that was asked about, or "of" another
//!   {"unique":OID, "insert"|"remove":KEY}           a unique index; a key that is another's sends the object to the quarantine
//! ```
//! The KEY of an index has its type: `"text"`, or `{"u64":7}` and so on.

use super::parts::{Names, Parts};
use crate::place;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use zeolite_client::collections::{Counter, Index, UniqueIndex};
use zeolite_client::keys::Key;
use zeolite_client::{Cell, Error, Handle, Oid, Persistent, Record, Ref, Tx};

/// Writes of one answer.
const WRITES_MAX: usize = 10_000;
/// Collections whose class is remembered.
const PLACES_MAX: usize = 10_000;

/// One of them.
#[derive(Deserialize, Clone, PartialEq, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Write {
    create: Option<String>,
    set: Option<String>,
    delete: Option<String>,
    add: Option<String>,
    index: Option<String>,
    unique: Option<String>,
    key: Option<String>,
    by: Option<i64>,
    insert: Option<IndexKey>,
    remove: Option<IndexKey>,
    of: Option<String>,
    class: Option<String>,
    version: Option<u32>,
    refs: Option<Vec<String>>,
    data: Option<String>,
}

/// A key of an index, of the type that the index has.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(untagged)]
enum IndexKey {
    Text(String),
    Typed(TypedKey),
}

#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum TypedKey {
    Text(String),
    U32(u32),
    U64(u64),
    I32(i32),
    I64(i64),
    Bool(bool),
}

/// Why an answer is not done.
#[derive(Debug)]
pub(super) enum Wrong {
    /// It makes no sense, whatever the object.
    Rubbish(String),
    /// It cannot be done for this object, or not now.
    Refused(Error),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Wrong {
        Wrong::Refused(error)
    }
}

/// What collections and counters were found to be.
#[derive(Default)]
pub(super) struct Places(Mutex<HashMap<Oid, String>>);

impl Places {
    /// Refuses what is none of a class: in a counter an index entry would be nobody's.
    async fn is(&self, tx: &Tx, oid: Oid, class: &str) -> Result<(), Wrong> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&oid).cloned();
        let found = match known {
            Some(found) => found,
            None => {
                let record: Option<Record> = tx.db().now().get(&Cell::object(oid)).await?;
                let Some(record) = record else {
                    return Err(Wrong::Rubbish(format!("nothing is stored at {oid}, which is to be of class {class}")));
                };
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() < PLACES_MAX {
                    known.insert(oid, record.class.clone());
                }
                record.class
            }
        };
        if found == class {
            return Ok(());
        }
        Err(Wrong::Rubbish(format!("{oid} is of class {found}, not {class}")))
    }
}

/// Whatever an index leads to.
#[derive(Serialize, Deserialize)]
struct Anything;

impl Persistent for Anything {
    const CLASS: &str = "";
}

/// Gives an oid to each object that is made.
pub(super) async fn named(writes: &[Write], tx: &Tx) -> Result<Names, Wrong> {
    if writes.len() > WRITES_MAX {
        return Err(Wrong::Rubbish(format!("its answer has more than {WRITES_MAX} writes")));
    }
    let mut names = Names::default();
    for name in writes.iter().filter_map(|write| write.create.as_ref()) {
        if !name.starts_with('$') || names.0.insert(name.clone(), tx.db().new_oid().await?).is_some() {
            let how = "begin it with $, and use it once";
            return Err(Wrong::Rubbish(format!("{name:?} is no name for a new object: {how}")));
        }
    }
    Ok(names)
}

/// Does them in the transaction of the step that was asked about a cell.
pub(super) async fn act(writes: &[Write], names: &Names, places: &Places, tx: &Tx, asked: &Cell) -> Result<(), Wrong> {
    for write in writes {
        Act { write, names, places, tx, asked }.run().await?;
    }
    Ok(())
}

/// One write, and what it needs to be done.
struct Act<'a> {
    write: &'a Write,
    names: &'a Names,
    places: &'a Places,
    tx: &'a Tx,
    asked: &'a Cell,
}

impl Act<'_> {
    async fn run(&self) -> Result<(), Wrong> {
        let Write { create, set, delete, add, index, unique, .. } = self.write;
        let says = [create, set, delete, add, index, unique];
        if says.iter().filter(|said| said.is_some()).count() != 1 {
            let what = "create, set, delete, add, index or unique";
            return Err(Wrong::Rubbish(format!("a write must say one of {what}")));
        }
        self.has_no_more()?;
        if let Some(name) = create {
            let record = self.record("")?;
            return Ok(self.tx.put(Cell::object(self.oid(name)?), &record)?);
        }
        if let Some(oid) = set {
            let (cell, class) = (self.cell(oid)?, if self.write.key.is_some() { ENTRY } else { "" });
            return Ok(self.tx.put(cell, &self.record(class)?)?);
        }
        if let Some(oid) = delete {
            return Ok(self.tx.delete(self.cell(oid)?)?);
        }
        if let Some(oid) = add {
            let (oid, by) = (self.oid(oid)?, self.write.by);
            self.is(oid, Counter::CLASS).await?;
            let by = by.ok_or_else(|| Wrong::Rubbish("a write that adds must say by how much (by)".to_owned()))?;
            return Ok(Counter::new(oid).add(self.tx, by)?);
        }
        self.in_an_index().await
    }

    /// A counter that this answer makes is not there yet.
    async fn is(&self, oid: Oid, class: &str) -> Result<(), Wrong> {
        if self.names.0.values().any(|made| *made == oid) {
            return Ok(());
        }
        self.places.is(self.tx, oid, class).await
    }

    async fn in_an_index(&self) -> Result<(), Wrong> {
        let (key, inserts) = match (&self.write.insert, &self.write.remove) {
            (Some(key), None) => (key, true),
            (None, Some(key)) => (key, false),
            _ => return Err(Wrong::Rubbish("a write in an index must say one of insert and remove".to_owned())),
        };
        let key = match key {
            IndexKey::Text(text) => TypedKey::Text(text.clone()),
            IndexKey::Typed(typed) => typed.clone(),
        };
        match key {
            TypedKey::Text(key) => self.index_entry(key, inserts).await,
            TypedKey::U32(key) => self.index_entry(key, inserts).await,
            TypedKey::U64(key) => self.index_entry(key, inserts).await,
            TypedKey::I32(key) => self.index_entry(key, inserts).await,
            TypedKey::I64(key) => self.index_entry(key, inserts).await,
            TypedKey::Bool(key) => self.index_entry(key, inserts).await,
        }
    }

    async fn index_entry<K: Key + Send + Sync>(&self, key: K, inserts: bool) -> Result<(), Wrong> {
        let of = self.write.of.as_ref().map_or(Ok(self.asked.oid), |of| self.oid(of))?;
        let reference: Ref<Anything> = Ref::new(of);
        if let Some(oid) = &self.write.index {
            let oid = self.oid(oid)?;
            let index: Index<K, Anything> = Index::new(oid);
            self.is(oid, Index::<K, Anything>::CLASS).await?;
            match inserts {
                true => index.insert(self.tx, &key, reference)?,
                false => index.remove(self.tx, &key, reference)?,
            }
            return Ok(());
        }
        let oid = self.oid(self.write.unique.as_deref().unwrap_or_default())?;
        let index: UniqueIndex<K, Ref<Anything>> = UniqueIndex::new(oid);
        self.is(oid, UniqueIndex::<K, Ref<Anything>>::CLASS).await?;
        if inserts {
            index.claim(self.tx, &key, reference).await?;
        } else if index.get(self.tx, &key).await? == Some(reference) {
            index.remove(self.tx, &key)?;
        }
        Ok(())
    }

    fn oid(&self, text: &str) -> Result<Oid, Wrong> {
        self.names.oid(text).map_err(Wrong::Rubbish)
    }

    fn cell(&self, oid: &str) -> Result<Cell, Wrong> {
        let key = self.write.key.as_deref().unwrap_or_default();
        let cell = Cell::entry(self.oid(oid)?, place::key(key).map_err(Wrong::Rubbish)?);
        if cell == *self.asked {
            return Err(Wrong::Rubbish("a write is of what was asked about: say that in the answer itself".to_owned()));
        }
        if cell.oid == Oid::SYSTEM || (cell.oid == Oid::ROOT && (cell.is_object() || cell.key.starts_with(b"zeolite.")))
        {
            return Err(Wrong::Rubbish(format!("{cell} is Zeolite's own")));
        }
        Ok(cell)
    }

    /// A record of its own; the class may be given by what it is for.
    fn record(&self, class: &str) -> Result<Record, Wrong> {
        let Write { class: own, version, refs, data, .. } = self.write.clone();
        let nothing = Record {
            class: class.to_owned(),
            version: 1,
            refs: Vec::new(),
            blobs: Vec::new(),
            data: bytes::Bytes::new(),
        };
        let parts = Parts { class: own, version, refs, data };
        let record = parts.over(nothing, self.names).map_err(Wrong::Rubbish)?;
        if record.class.is_empty() {
            return Err(Wrong::Rubbish("a write of an object must name its class".to_owned()));
        }
        Ok(record)
    }

    /// What a write does not need is a mistake.
    fn has_no_more(&self) -> Result<(), Wrong> {
        let Write { create, set, delete, add, index, unique, key, by, insert, remove, of, .. } = self.write;
        let Write { class, version, refs, data, .. } = self.write;
        let is_record = create.is_some() || set.is_some();
        let is_index = index.is_some() || unique.is_some();
        for (name, is_there, may_be) in [
            ("key", key.is_some(), set.is_some() || delete.is_some()),
            ("by", by.is_some(), add.is_some()),
            ("insert", insert.is_some(), is_index),
            ("remove", remove.is_some(), is_index),
            ("of", of.is_some(), is_index),
            ("class", class.is_some(), is_record),
            ("version", version.is_some(), is_record),
            ("refs", refs.is_some(), is_record),
            ("data", data.is_some(), is_record),
        ] {
            if is_there && !may_be {
                return Err(Wrong::Rubbish(format!("a write of this kind has no {name:?}")));
            }
        }
        Ok(())
    }
}

/// The class of an entry of a map.
const ENTRY: &str = zeolite_proto::resolvers::class::ENTRY;
