//! Owns what commits replace while older moments are still read: the views of one moment that sled does not have.
//!
//! ```text
//!   moment      3            4            5 (now)      6 (being made)
//!   key a       x  ──kept──> y                         y ──kept──> z      a view at 3 finds x, at 4 and 5 finds y,
//!   sled                                                            z     also while z is being written
//! ```
//! A view looks into sled first and here after. A commit keeps what it replaces first and changes sled after; so whatever
//! a view has read of sled that is newer than its moment, it finds the older here. What no view needs any more is let go.
//! There is one commit at a time, and views are short, so this is about as large as a commit.

use super::super::{Change, Table};
use crate::store::StoreError;
use parking_lot::RwLock;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// A key and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);
/// What a key has; `None`: it is not there.
pub(super) type Value = Option<Vec<u8>>;
// What a key had before a moment, by moment ascending.
type Before = Vec<(u64, Value)>;
type Key = (Table, Vec<u8>);

/// The moments that are read, and what was replaced since.
#[derive(Default)]
pub(super) struct Moments {
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    now: u64,
    /// How many views read a moment.
    views: BTreeMap<u64, usize>,
    before: [BTreeMap<Vec<u8>, Before>; Table::ALL.len()],
    /// The keys that were replaced by each moment's commit.
    replaced: VecDeque<(u64, Vec<Key>)>,
}

impl Moments {
    /// A view begins; the moment that it reads.
    pub(super) fn enter(&self) -> u64 {
        let mut kept = self.kept.write();
        let now = kept.now;
        *kept.views.entry(now).or_default() += 1;
        now
    }

    /// A view ends.
    pub(super) fn leave(&self, moment: u64) {
        let mut kept = self.kept.write();
        if let Some(views) = kept.views.get_mut(&moment) {
            *views -= 1;
            if *views == 0 {
                kept.views.remove(&moment);
                kept.let_go();
            }
        }
    }

    /// Keeps what a commit is about to replace; `now` reads it. A commit that failed is kept too: it may have been half
    /// done, and is not seen, whether it is tried again or not.
    pub(super) fn keep(
        &self,
        changes: &[Change],
        now: impl Fn(Table, &[u8]) -> Result<Value, StoreError>,
    ) -> Result<(), StoreError> {
        let next = self.kept.read().now + 1;
        // Views go on while the old rows are read: only this thread adds anything.
        let mut rows = Vec::with_capacity(changes.len());
        for (table, key, _) in changes {
            if self.kept.read().last_before(*table, key) != Some(next) {
                rows.push((*table, key.clone(), now(*table, key)?));
            }
        }
        let mut kept = self.kept.write();
        let mut replaced = Vec::with_capacity(rows.len());
        for (table, key, row) in rows {
            // Of a key that is changed twice, what was there first.
            if kept.last_before(table, &key) != Some(next) {
                kept.before[table as usize].entry(key.clone()).or_default().push((next, row));
                replaced.push((table, key));
            }
        }
        kept.replaced.push_back((next, replaced));
        Ok(())
    }

    /// The commit is done: views from now on see it.
    pub(super) fn advance(&self) {
        let mut kept = self.kept.write();
        kept.now += 1;
        kept.let_go();
    }

    /// What a key had at a moment, if it was replaced since.
    pub(super) fn kept(&self, moment: u64, table: Table, key: &[u8]) -> Option<Value> {
        let kept = self.kept.read();
        at(kept.before[table as usize].get(key)?, moment).cloned()
    }

    /// Turns rows just read between two bounds into those of a moment.
    pub(super) fn restore(
        &self,
        moment: u64,
        table: Table,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        reverse: bool,
        rows: &mut Vec<Row>,
    ) {
        let kept = self.kept.read();
        let within = kept.before[table as usize].range::<[u8], _>(bounds);
        let mut replaced = within.filter_map(|(key, all)| Some((key, at(all, moment)?))).peekable();
        if replaced.peek().is_none() {
            return;
        }
        let mut all: BTreeMap<Vec<u8>, Vec<u8>> = std::mem::take(rows).into_iter().collect();
        for (key, row) in replaced {
            match row {
                Some(row) => drop(all.insert(key.clone(), row.clone())),
                None => drop(all.remove(key)),
            }
        }
        rows.extend(all);
        if reverse {
            rows.reverse();
        }
    }

    /// How many rows are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.read().before.iter().flat_map(BTreeMap::values).map(Vec::len).sum()
    }
}

impl Kept {
    // The newest moment before which a row of a key is kept.
    fn last_before(&self, table: Table, key: &[u8]) -> Option<u64> {
        self.before[table as usize].get(key)?.last().map(|(moment, _)| *moment)
    }

    // What was replaced by a commit that every view sees is needed no more.
    fn let_go(&mut self) {
        let oldest = self.views.keys().next().copied().unwrap_or(self.now);
        while let Some((moment, _)) = self.replaced.front()
            && *moment <= oldest
        {
            let Some((moment, keys)) = self.replaced.pop_front() else { return };
            for (table, key) in keys {
                let rows = &mut self.before[table as usize];
                if let Some(all) = rows.get_mut(&key) {
                    all.retain(|(before, _)| *before > moment);
                    if all.is_empty() {
                        rows.remove(&key);
                    }
                }
            }
        }
    }
}

// What was there at a moment: what the first commit after it has replaced.
fn at(all: &[(u64, Value)], moment: u64) -> Option<&Value> {
    all.iter().find(|(before, _)| *before > moment).map(|(_, row)| row)
}
