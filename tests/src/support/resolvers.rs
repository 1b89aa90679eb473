//! Owns what only tests register: a slow resolver, one that makes too much, and a judge of read checks.

use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::resolver::{Resolver, Unresolved};
use zeolite_proto::{Cell, Change, Draft, ReadCell, ReadJudge, Record, Records, Registry, Replayed, Replayer, Write};

/// The class of [`Slow`].
pub const SLOW: &str = "Slow";
/// The class of [`Bloat`].
pub const BLOAT: &str = "Bloat";

/// Text that is appended to, by a resolver that says of itself that it is expensive.
#[derive(Clone, Copy, Debug)]
pub struct Slow;

impl Resolver for Slow {
    fn description(&self) -> &str {
        "text that is appended to, slowly"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let data = |side: Option<&Record>| side.map_or(Bytes::new(), |record| record.data.clone());
        let (base, theirs, ours) = (data(base), data(theirs), data(ours));
        let Some(added) = ours.strip_prefix(base.as_ref()) else {
            return Err(Unresolved::because("the text was not only appended to"));
        };
        Ok(Some(Record::new(SLOW, 1, [theirs.as_ref(), added].concat())))
    }

    fn apply(&self, _class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        let there = current.map_or(Bytes::new(), |record| record.data.clone());
        Ok(Some(Record::new(SLOW, 1, [there.as_ref(), operation.as_ref()].concat())))
    }

    fn applies(&self) -> bool {
        true
    }

    fn expensive(&self, _bytes: usize) -> bool {
        true
    }
}

/// The class of [`Leaf`].
pub const LEAF: &str = "Leaf";

/// Part of a structure that is never merged.
#[derive(Clone, Copy, Debug)]
pub struct Leaf;

impl Resolver for Leaf {
    fn description(&self) -> &str {
        "part of a structure"
    }

    fn merge(
        &self,
        _base: Option<&Record>,
        _theirs: Option<&Record>,
        _ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        Err(Unresolved::because("it was split"))
    }

    fn is_structural(&self) -> bool {
        true
    }
}

/// Makes a record as long as the operation's text says, whatever the limits are.
#[derive(Clone, Copy, Debug)]
pub struct Bloat;

impl Resolver for Bloat {
    fn description(&self) -> &str {
        "as many bytes as it is told"
    }

    fn merge(
        &self,
        _base: Option<&Record>,
        _theirs: Option<&Record>,
        _ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        Err(Unresolved::because("it never merges"))
    }

    fn apply(&self, _class: &str, _current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        let len = std::str::from_utf8(operation).ok().and_then(|text| text.parse().ok());
        let len: usize = len.ok_or_else(|| Unresolved::because("the operation is not a number"))?;
        Ok(Some(Record::new(BLOAT, 1, vec![b'x'; len])))
    }

    fn applies(&self) -> bool {
        true
    }
}

/// The class of what is read for one word of it.
pub const SIGN: &str = "Sign";
/// The class of what is written for a word of a sign, which it names.
pub const FOLLOWS: &str = "Follows";

/// A read of a sign holds if the newest one has the words that were followed.
#[derive(Clone, Copy, Debug)]
pub struct Signs;

fn followed(write: &Write) -> Option<Record> {
    let Change::Put(record) = &write.change else { return None };
    Record::decode(record).ok().filter(|record| record.class == FOLLOWS)
}

impl ReadJudge for Signs {
    fn may_hold(&self, draft: &Draft, _read: &ReadCell) -> bool {
        draft.writes.iter().any(|write| followed(write).is_some())
    }

    fn holds(&self, draft: &Draft, read: &ReadCell, records: &mut dyn Records) -> bool {
        let sign = records.newest(&read.cell).and_then(|record| Record::decode(&record).ok());
        let Some(sign) = sign.filter(|sign| sign.class == SIGN) else { return false };
        let has = |word: &Record| sign.data.split(|byte| *byte == b' ').any(|one| one == word.data.as_ref());
        draft.writes.iter().filter_map(followed).all(|word| has(&word))
    }
}

/// The class of what holds words, until they are taken to another entry of the same collection: `a to k` says that all words but a are in k.
pub const SHELF: &str = "Shelf";

/// Puts a word that was added to a shelf where the shelf's words have been taken.
#[derive(Clone, Copy, Debug)]
pub struct Shelves;

fn shelf(record: &Bytes) -> Option<String> {
    let record = Record::decode(record).ok().filter(|record| record.class == SHELF)?;
    String::from_utf8(record.data.to_vec()).ok()
}

impl Replayer for Shelves {
    fn may_replay(&self, draft: &Draft) -> bool {
        let is_shelf = |write: &Write| matches!(&write.change, Change::Put(record) if shelf(record).is_some());
        draft.writes.iter().any(is_shelf)
    }

    fn replay(&self, draft: &Draft, conflicts: &[Cell], records: &mut dyn Records) -> Result<Replayed, Unresolved> {
        Shelves::again(draft, conflicts, records).ok_or_else(|| Unresolved::because("a word that has no other shelf"))
    }
}

impl Shelves {
    fn again(draft: &Draft, conflicts: &[Cell], records: &mut dyn Records) -> Option<Replayed> {
        let mut replayed = Replayed::default();
        for write in draft.writes.iter().filter(|write| conflicts.contains(&write.cell)) {
            let Change::Put(record) = &write.change else { continue };
            let Some(ours) = shelf(record) else { continue };
            let added = ours.strip_prefix(&shelf(&records.as_of(&write.cell, write.base)?)?)?.to_owned();
            let newest = shelf(&records.newest(&write.cell)?)?;
            let (_, key) = newest.split_once(" to ")?;
            let there = Cell { oid: write.cell.oid, key: key.as_bytes().to_vec().into() };
            let record = Record::new(SHELF, 1, shelf(&records.newest(&there)?)? + &added);
            replayed.writes.push((there, record.encode().ok()?));
            replayed.reads.push(write.cell.clone());
            replayed.left_out_writes.insert(write.cell.clone());
        }
        (!replayed.writes.is_empty()).then_some(replayed)
    }
}

/// The built-in set and what is in this file.
pub fn registry() -> Registry {
    let mut registry = Registry::built_in();
    registry.judge_reads(Arc::new(Signs));
    registry.replay_with(Arc::new(Shelves));
    registry.register(SLOW, Arc::new(Slow));
    registry.register(BLOAT, Arc::new(Bloat));
    registry.register(LEAF, Arc::new(Leaf));
    registry
}
