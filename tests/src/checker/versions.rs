//! Owns the facts about lists that both the snapshot and the serializability checker build on: who wrote which item, what
//! each read saw of others, and the order of each list.
//!
//! ```text
//!   read of [3, 7, 9 | 12]      12 is the reader's own append so far: the rest, [3, 7, 9], is what it saw of others
//!   order of the list           the longest such view; every other view must be a beginning of it
//! ```

use super::{Anomaly, History, Op, Outcome, Violation};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What one read saw of others.
pub(super) struct View<'a> {
    pub(super) txn: usize,
    pub(super) list: u64,
    pub(super) seen: &'a [u64],
}

pub(super) struct Versions<'a> {
    pub(super) history: &'a History,
    /// Who appended an item, and to which list.
    writers: HashMap<u64, (usize, u64)>,
    /// Every read of a list.
    pub(super) views: Vec<View<'a>>,
    /// The longest view of each list.
    pub(super) orders: BTreeMap<u64, &'a [u64]>,
    /// Items that anybody else has seen.
    pub(super) seen: HashSet<u64>,
}

impl<'a> Versions<'a> {
    /// Gathers the facts; what already contradicts itself is reported.
    pub(super) fn gather(history: &'a History, found: &mut Vec<Violation>) -> Versions<'a> {
        let mut versions = Versions {
            history,
            writers: HashMap::new(),
            views: Vec::new(),
            orders: BTreeMap::new(),
            seen: HashSet::new(),
        };
        versions.find_writers(found);
        versions.find_views(found);
        versions.find_orders(found);
        versions.check_items(found);
        versions
    }

    /// Who appended the item to the list.
    pub(super) fn writer(&self, list: u64, item: u64) -> Option<usize> {
        self.writers.get(&item).filter(|(_, of)| *of == list).map(|(txn, _)| *txn)
    }

    /// Whether the transaction has happened as far as anybody can tell.
    pub(super) fn happened(&self, txn: usize) -> bool {
        match self.history.txns[txn].outcome {
            Outcome::Committed(_) | Outcome::ReadOnly => true,
            Outcome::Aborted => false,
            Outcome::Unknown => self.history.txns[txn].appends().any(|(_, item)| self.seen.contains(&item)),
        }
    }

    fn find_writers(&mut self, found: &mut Vec<Violation>) {
        let mut tids = HashMap::new();
        for (at, txn) in self.history.txns.iter().enumerate() {
            for (list, item) in txn.appends() {
                if let Some((other, _)) = self.writers.insert(item, (at, list)) {
                    let text = format!("item {item} is appended by #{other} and by {}", self.history.name(at));
                    found.push(Violation::new(Anomaly::Malformed, text));
                }
            }
            let Some(tid) = txn.tid() else { continue };
            if let Some(other) = tids.insert(tid, at) {
                let text = format!("#{other} and {} have one tid", self.history.name(at));
                found.push(Violation::new(Anomaly::Malformed, text));
            }
            if tid <= txn.snapshot {
                let text = format!("{} was committed before its snapshot", self.history.name(at));
                found.push(Violation::new(Anomaly::Malformed, text));
            }
        }
    }

    fn find_views(&mut self, found: &mut Vec<Violation>) {
        for (at, txn) in self.history.txns.iter().enumerate() {
            let mut own: HashMap<u64, Vec<u64>> = HashMap::new();
            for op in &txn.ops {
                match op {
                    Op::Append { list, item } => own.entry(*list).or_default().push(*item),
                    Op::Read { list, seen } => {
                        let own = own.get(list).map_or(&[][..], Vec::as_slice);
                        let of_others = seen.strip_suffix(own).unwrap_or_else(|| {
                            let text = format!("{} read list {list} without its own {own:?}", self.history.name(at));
                            found.push(Violation::new(Anomaly::OwnWrites, text));
                            seen
                        });
                        self.seen.extend(of_others);
                        self.views.push(View { txn: at, list: *list, seen: of_others });
                    }
                    Op::Value { .. } | Op::Add { .. } | Op::Members { .. } | Op::Member { .. } => {}
                }
            }
        }
    }

    fn find_orders(&mut self, found: &mut Vec<Violation>) {
        for view in &self.views {
            let longest = self.orders.entry(view.list).or_insert(view.seen);
            if view.seen.len() > longest.len() {
                *longest = view.seen;
            }
        }
        for view in &self.views {
            let order = self.orders[&view.list];
            if let Some(at) = (0..view.seen.len()).find(|at| view.seen[*at] != order[*at]) {
                let text = format!(
                    "list {}: {} saw item {} at place {at}, others saw {}",
                    view.list,
                    self.history.name(view.txn),
                    view.seen[at],
                    order[at]
                );
                found.push(Violation::new(Anomaly::IncompatibleOrder, text));
            }
        }
    }

    /// Each item that was seen has one writer that may have happened, and is there once.
    fn check_items(&self, found: &mut Vec<Violation>) {
        let mut reported = HashSet::new();
        for view in &self.views {
            let mut in_view = HashSet::with_capacity(view.seen.len());
            for item in view.seen {
                let anomaly = match self.writer(view.list, *item) {
                    _ if !in_view.insert(*item) => Anomaly::AppliedTwice,
                    None => Anomaly::Phantom,
                    Some(writer) if self.history.txns[writer].outcome == Outcome::Aborted => Anomaly::AbortedRead,
                    Some(_) => continue,
                };
                if reported.insert((anomaly, *item)) {
                    let reader = self.history.name(view.txn);
                    let writer = match self.writer(view.list, *item) {
                        Some(writer) => self.history.name(writer),
                        None => "nobody".to_owned(),
                    };
                    let text = format!("list {}: item {item}, appended by {writer}, is seen by {reader}", view.list);
                    found.push(Violation::new(anomaly, text));
                }
            }
        }
    }
}
