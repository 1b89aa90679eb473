//! Owns the difference between the keys that an object has in the indexes and those that it has now, as writes of the transaction.
//!
//! ```text
//!   keys of the record that is there ──┐                          gone: deletes, of a unique key if it is the object's own
//!   keys of the record as written  ────┴─ compared, by object ──> new:  puts, of a unique key if it is free
//! ```
//! All that goes is taken out before anything is put in, so two objects can change keys with each other. What is taken out is deleted also
//! where nothing is: somebody who fills the index meanwhile (the step of an evolve) is then in the way, or gives way.
//!
//! An index that is not there is made in a transaction of its own: then the first two objects of a class are no conflict. One that has lost
//! its name (the transaction that made it was undone) gets it back, with all that is in it: an empty one would hide every object that is
//! not written again.

use super::making::found_or_made;
use super::newer::Newer;
use super::owners::{Contested, Standing};
use crate::collections::kept::{cell, index_in_name, owner, record, root_name};
use crate::collections::{Index, KeptName, UniqueIndex};
use crate::errors::{Error, Result};
use crate::tx::{IndexKey, KeptClass, KeptIndex, KeptObject, RecordKeys, Staged, View, damaged};
use crate::typed::Handle;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Oid, hash};

/// See [`crate::tx`]'s `Settle`.
pub(super) fn settle(view: &View) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        loop {
            let (seen, due) = {
                let own = view.own.lock();
                own.check_open()?;
                (own.kept.changes, own.kept.due())
            };
            if due.is_empty() {
                return Ok(());
            }
            let difference = Difference::read(view, due).await?;
            let writes = difference.writes(view).await?;
            let mut own = view.own.lock();
            // What was written while this has read is compared as well.
            if own.kept.changes == seen {
                return difference.stage(&mut own, writes);
            }
        }
    })
}

/// One object's.
struct Changed {
    object: Cell,
    gone: Vec<IndexKey>,
    new: Vec<IndexKey>,
    now: Vec<IndexKey>,
    /// What goes is in the indexes, as far as anybody knows.
    was_there: bool,
    /// What is there of its new entries is left: the transaction checks what it reads.
    leaves: bool,
    /// As what it was written: of one class objects may be written as different versions, which know different things.
    classes: Vec<KeptClass>,
}

/// What is in the indexes, own writes included.
#[derive(Default)]
struct Found {
    owners: hash::Map<Cell, Option<Oid>>,
    entries: hash::Set<Cell>,
}

/// The indexes of classes.
type Roots = BTreeMap<(&'static str, KeptIndex), Oid>;

#[derive(Default)]
struct Difference {
    objects: Vec<Changed>,
    roots: Roots,
}

/// What is to be written.
struct Written {
    writes: BTreeMap<Cell, Staged>,
    /// Rests on these being as they are.
    checks: Vec<Cell>,
}

/// Classes whose indexes nobody here knows, each with an object of it that is written as one of another.
type Foreign = BTreeMap<String, (Cell, &'static str)>;

impl Difference {
    async fn read(view: &View, due: Vec<(Cell, KeptObject)>) -> Result<Difference> {
        let cells: Vec<Cell> = due.iter().map(|(cell, _)| cell.clone()).collect();
        let unknown = |(_, object): &&(Cell, KeptObject)| !object.is_new && object.settled.is_none();
        let asked: Vec<Cell> = due.iter().filter(unknown).map(|(cell, _)| cell.clone()).collect();
        let stored = view.revisions(&asked).await?.into_iter().map(|revision| revision.record);
        let mut stored: hash::Map<Cell, Option<Bytes>> = asked.into_iter().zip(stored).collect();
        let now = view.get_many(&cells).await?;
        let (mut found, mut foreign) = (Difference::default(), Foreign::new());
        let mut newer = Newer::default();
        for ((cell, mut object), now) in due.into_iter().zip(now) {
            let settled = object.settled.take();
            let keys = |record: Option<Bytes>| match record {
                Some(record) => object.keys(&cell, &record).map(|keys| (keys, Some(record))),
                None => Ok((Some(RecordKeys::default()), None)),
            };
            let before = match settled {
                Some(keys) => RecordKeys { keys, are_there: true },
                None => match keys(stored.remove(&cell).flatten())? {
                    (None, Some(record)) => {
                        let header = Header::parse(&record).map_err(|bad| damaged(&cell, &bad))?;
                        foreign.insert(header.class.to_owned(), (cell.clone(), object.class()));
                        RecordKeys::default()
                    }
                    (keys, record) => {
                        newer.look(&cell, &object, record.as_ref())?;
                        keys.unwrap_or_default()
                    }
                },
            };
            let now = keys(now)?.0.unwrap_or_default().keys;
            // Both are in order.
            let is_in = |keys: &[IndexKey], key: &IndexKey| keys.binary_search_by(|known| known.order(key)).is_ok();
            let gone = before.keys.iter().filter(|key| !is_in(&now, key)).cloned().collect();
            let all = object.whole || !before.are_there;
            let new = now.iter().filter(|key| all || !is_in(&before.keys, key)).cloned().collect();
            let (was_there, leaves, classes) = (before.are_there, object.whole, object.classes().to_vec());
            found.objects.push(Changed { object: cell, gone, new, now, was_there, leaves, classes });
        }
        refuse_foreign(view, foreign).await?;
        newer.refuse_unknown(view).await?;
        found.find_roots(view).await?;
        found.check_lengths(view.db().key_bytes_max())?;
        Ok(found)
    }

    async fn find_roots(&mut self, view: &View) -> Result<()> {
        let make = !view.own.lock().kept.makes_none;
        let mut wanted = BTreeMap::new();
        for changed in &self.objects {
            let new = changed.new.iter().map(|key| (key, make));
            let gone = changed.gone.iter().map(|key| (key, make && changed.was_there));
            for (key, make) in new.chain(gone) {
                // One that is to be made is not looked for before: nothing is concluded from its not being there.
                *wanted.entry((key.class, key.index)).or_insert(false) |= make;
            }
        }
        for (index, make) in wanted {
            let known = view.own.lock().kept.roots.get(&index).copied();
            let name = KeptName::of(index.0, index.1);
            let found = match known {
                Some(oid) => Some(oid),
                None if make => Some(found_or_made(view, &name).await?.oid),
                None => view.kept_index(&name).await?.map(|found| found.oid),
            };
            self.roots.extend(found.map(|oid| (index, oid)));
        }
        Ok(())
    }

    /// Refuses a key that is longer than a server takes; such a one is in no index either.
    fn check_lengths(&mut self, max: usize) -> Result<()> {
        let length = |index: &IndexKey| index.key.len() + if index.index.unique { 0 } else { size_of::<Oid>() };
        for changed in &mut self.objects {
            if let Some(key) = changed.new.iter().find(|key| length(key) > max) {
                let (class, index, object, length) = (key.class, key.index.name, changed.object.oid, length(key));
                return Err(Error::invalid(format!(
                    "class {class:?}: object {object} has a key of {length} bytes in the index {index:?}, and a server takes {max}; shorten \
                     what is indexed, or index a part of it: index(name = {index:?}, key = .., by = a function that gives the part)"
                )));
            }
            changed.gone.retain(|key| length(key) <= max);
        }
        Ok(())
    }

    /// Where an object's entry under a key is; none: there is no index.
    fn cell(&self, changed: &Changed, key: &IndexKey) -> Option<Cell> {
        let index = self.roots.get(&(key.class, key.index))?;
        Some(cell(*index, key, changed.object.oid))
    }

    async fn writes(&self, view: &View) -> Result<Written> {
        let Found { mut owners, entries } = self.there(view).await?;
        let mut writes = BTreeMap::new();
        for changed in &self.objects {
            for (key, cell) in changed.gone.iter().filter_map(|key| Some((key, self.cell(changed, key)?))) {
                if key.index.unique {
                    let owner = owners.entry(cell.clone()).or_default();
                    if owner.is_some_and(|owner| owner != changed.object.oid) {
                        continue;
                    }
                    *owner = None;
                }
                writes.insert(cell, Staged::Delete);
            }
        }
        let standing = Standing::read(view, &self.contested(&owners)).await?;
        for changed in &self.objects {
            for (key, cell) in changed.new.iter().filter_map(|key| Some((key, self.cell(changed, key)?))) {
                let object = changed.object.oid;
                if key.index.unique {
                    let owner = owners.entry(cell.clone()).or_default();
                    if let Some(owner) = owner.filter(|owner| *owner != object)
                        && standing.free.get(&cell) != Some(&owner)
                    {
                        let (index, doubt) = (root_name(key.class, key.index), standing.undecided.get(&cell).cloned());
                        return Err(Error::UniqueTaken { index, cell, owner, object, doubt });
                    }
                    *owner = Some(object);
                }
                if !(changed.leaves && entries.contains(&cell)) {
                    writes.insert(cell, Staged::Put(record(key, object)?));
                }
            }
        }
        Ok(Written { writes, checks: standing.read })
    }

    /// The unique keys that come, and are those of other objects.
    fn contested<'a>(&'a self, owners: &hash::Map<Cell, Option<Oid>>) -> Vec<Contested<'a>> {
        let mut contested = Vec::new();
        for changed in &self.objects {
            for key in changed.new.iter().filter(|key| key.index.unique) {
                let Some(entry) = self.cell(changed, key) else { continue };
                let owner = owners.get(&entry).copied().flatten().filter(|owner| *owner != changed.object.oid);
                let class = changed.classes.iter().find(|class| class.class == key.class);
                contested.extend(owner.map(|owner| Contested { entry, key, owner, class }));
            }
        }
        contested
    }

    /// Whose the unique keys are that come and go, and what else is asked for.
    async fn there(&self, view: &View) -> Result<Found> {
        let mut asked = Vec::new();
        for changed in &self.objects {
            let looked_at = |key: &&IndexKey| key.index.unique || changed.leaves;
            let keys = changed.gone.iter().chain(&changed.new).filter(looked_at);
            asked.extend(keys.filter_map(|key| Some((self.cell(changed, key)?, key.index.unique))));
        }
        let cells: Vec<Cell> = asked.iter().map(|(cell, _)| cell.clone()).collect();
        let mut found = Found::default();
        for ((cell, is_unique), record) in asked.into_iter().zip(view.get_many(&cells).await?) {
            let Some(record) = record else { continue };
            if is_unique {
                found.owners.insert(cell.clone(), Some(owner(&cell, &record)?));
            }
            found.entries.insert(cell);
        }
        Ok(found)
    }

    fn stage(self, own: &mut crate::tx::Own, Written { writes, checks }: Written) -> Result<()> {
        own.kept.checks.extend(checks);
        for (cell, staged) in writes {
            match staged {
                Staged::Put(record) => own.put(cell, record)?,
                _ => own.delete(cell)?,
            }
        }
        own.kept.roots.extend(self.roots);
        for changed in self.objects {
            own.kept.settled(&changed.object, changed.now);
        }
        Ok(())
    }
}

/// An object that was of a class with indexes is not made one of another class by who does not know them: its entries would stay.
async fn refuse_foreign(view: &View, foreign: Foreign) -> Result<()> {
    for (class, (cell, expected)) in foreign {
        let prefix = format!("{class}:");
        let mut names = view.roots_from(&prefix);
        while let Some((name, stands_for)) = names.next().await?.filter(|(name, _)| name.starts_with(&prefix)) {
            let is_index = [Index::<Oid, ()>::CLASS, UniqueIndex::<Oid, ()>::CLASS].contains(&stands_for.class());
            if is_index && index_in_name(&name, &class).is_some() {
                return Err(Error::invalid(format!(
                    "cell {cell} holds class {class:?}, which has the index {name:?}; before it becomes one of class {expected:?}, \
                     remove it as what it is, in the same transaction"
                )));
            }
        }
    }
    Ok(())
}
