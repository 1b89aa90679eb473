//! Owns the question whose a unique key is: the entry names an object, and that object's record says whether it has the key still.
//!
//! ```text
//!   entry 7 -> X     X's record has key 7                              it is X's
//!                    X has other keys by now, is gone, or of a class    nobody's: the entry is taken over
//!                    X is of a version that nobody here can read        it is X's, and the error says why
//! ```
//! An entry is left behind by who does not know it: a bridge has written over a step that it has not seen, and the job owes the entry's
//! removal; old code has removed the object. Whoever takes such a key over has read its former owner: the commit checks that record, also where
//! the transaction checks nothing else, so an owner that comes back to its key at the same time is in the way.

use crate::errors::Result;
use crate::tx::{IndexKey, KeptClass, View};
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Oid, hash};

/// A key that somebody wants and another object's entry has.
pub(super) struct Contested<'a> {
    pub(super) entry: Cell,
    pub(super) key: &'a IndexKey,
    pub(super) owner: Oid,
    /// The class as the object is written that wants it.
    pub(super) class: Option<&'a KeptClass>,
}

/// What is found out about contested keys, by their entries.
#[derive(Default)]
pub(super) struct Standing {
    /// Their owners, who do not have them any more.
    pub(super) free: hash::Map<Cell, Oid>,
    /// Why nobody can tell.
    pub(super) undecided: hash::Map<Cell, String>,
    /// The records that say so, and have to stay as they are.
    pub(super) read: Vec<Cell>,
}

impl Standing {
    /// Reads the owners, own writes included.
    pub(super) async fn read(view: &View, contested: &[Contested<'_>]) -> Result<Standing> {
        let mut standing = Standing::default();
        if contested.is_empty() {
            return Ok(standing);
        }
        let owners: Vec<Cell> = contested.iter().map(|one| Cell::object(one.owner)).collect();
        let records = view.get_many(&owners).await?;
        for ((one, owner), record) in contested.iter().zip(owners).zip(records) {
            let has_it = match (record, one.class) {
                (Some(record), Some(class)) => has(class, &owner, &record, one.key),
                (None, _) => Ok(false),
                (_, None) => Ok(true),
            };
            match has_it {
                Ok(true) => continue,
                Ok(false) => standing.free.insert(one.entry.clone(), one.owner).is_none(),
                Err(why) => standing.undecided.insert(one.entry.clone(), why).is_none(),
            };
            standing.read.push(owner);
        }
        Ok(standing)
    }
}

/// Whether a record is to be found under a key; the error says why nobody here can tell.
fn has(class: &KeptClass, owner: &Cell, record: &bytes::Bytes, key: &IndexKey) -> Result<bool, String> {
    let header = Header::parse(record).map_err(|bad| bad.to_string())?;
    if header.class == class.class && header.version > class.indexed_to {
        let (version, known) = (header.version, class.indexed_to);
        return Err(format!(
            "its record is of version {version}, and what is known here of its keys ends with {known}"
        ));
    }
    let keys = (class.keys)(owner, record).map_err(|error| error.to_string())?.keys;
    Ok(keys.iter().any(|known| known.order(key).is_eq()))
}
