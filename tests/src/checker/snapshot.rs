//! Owns the judgement of snapshot isolation.
//!
//! Every transaction names its snapshot and every commit its tid, so that nothing has to be searched: what a read must show
//! follows from the acknowledged commits alone.
//!
//! ```text
//!   reads       exactly the commits with tid <= snapshot, in tid order, then the own writes   StaleRead, FutureRead, ...
//!               none of a transaction or all of it                                            FracturedRead
//!   writes      two commits of one list: the later one's snapshot covers the earlier          LostUpdate
//!   snapshots   cover what the client itself (and, by rule, anybody) was told before          SessionOrder, RealTime
//! ```
//!
//! A commit whose outcome the client never learnt may be there or not; if anybody saw it, then it has to be there for all later
//! snapshots and for none earlier than some point. Reads of aborted transactions are held to the same: a snapshot is right
//! whatever becomes of the transaction.

use super::counter::{self, Allowed};
use super::versions::{Versions, View};
use super::{Anomaly, History, Op, Outcome, Rules, Summary, Violation, Violations, verdict};
use std::collections::{BTreeMap, HashMap, HashSet};
use zeolite_proto::Tid;

/// Checks a history.
pub fn check(history: &History, rules: &Rules) -> Result<Summary, Violations> {
    let mut found = Vec::new();
    let versions = Versions::gather(history, &mut found);
    let judge = Judge::new(&versions, rules);
    versions.views.iter().for_each(|view| judge.read(view, &mut found));
    judge.atomicity(&mut found);
    judge.unknown_commits(&mut found);
    judge.first_committer_wins(&mut found);
    judge.order_of_snapshots(&mut found);
    let values = judge.counters(&mut found);
    let acknowledged = history.txns.iter().filter(|txn| txn.tid().is_some());
    let appends_seen =
        acknowledged.flat_map(|txn| txn.appends()).filter(|(_, item)| versions.seen.contains(item)).count();
    verdict(Summary { reads: versions.views.len() + values, appends_seen, ..counter::count(history) }, found)
}

/// Acknowledged adds to one counter, by tid.
#[derive(Default)]
struct Adds {
    acknowledged: Vec<(Tid, usize, i64)>,
    unknown: Vec<(usize, i64)>,
}

struct Judge<'a> {
    versions: &'a Versions<'a>,
    history: &'a History,
    rules: &'a Rules,
    /// Acknowledged items of each list with their tids, in the order that they must have.
    lists: BTreeMap<u64, Vec<(Tid, u64)>>,
    counters: BTreeMap<u64, Adds>,
}

impl<'a> Judge<'a> {
    fn new(versions: &'a Versions<'a>, rules: &'a Rules) -> Judge<'a> {
        let history = versions.history;
        let mut lists: BTreeMap<u64, Vec<(Tid, u64)>> = BTreeMap::new();
        let mut counters: BTreeMap<u64, Adds> = BTreeMap::new();
        for (at, txn) in history.txns.iter().enumerate() {
            if let Some(tid) = txn.tid() {
                txn.appends().for_each(|(list, item)| lists.entry(list).or_default().push((tid, item)));
            }
            for (counter, difference) in txn.adds() {
                let adds = counters.entry(counter).or_default();
                match txn.outcome {
                    Outcome::Committed(tid) => adds.acknowledged.push((tid, at, difference)),
                    Outcome::Unknown => adds.unknown.push((at, difference)),
                    Outcome::Aborted | Outcome::ReadOnly => {}
                }
            }
        }
        // Stable: the appends of one transaction keep their order.
        lists.values_mut().for_each(|items| items.sort_by_key(|(tid, _)| *tid));
        counters.values_mut().for_each(|adds| adds.acknowledged.sort_by_key(|(tid, ..)| *tid));
        Judge { versions, history, rules, lists, counters }
    }

    fn tid_of(&self, list: u64, item: u64) -> Option<Tid> {
        self.versions.writer(list, item).and_then(|writer| self.history.txns[writer].tid())
    }

    /// One read shows the state at its snapshot.
    fn read(&self, view: &View<'_>, found: &mut Vec<Violation>) {
        let snapshot = self.history.txns[view.txn].snapshot;
        let all = self.lists.get(&view.list).map_or(&[][..], Vec::as_slice);
        let covered = &all[..all.partition_point(|(tid, _)| *tid <= snapshot)];
        let shown: Vec<u64> =
            view.seen.iter().copied().filter(|item| self.tid_of(view.list, *item).is_some()).collect();
        if shown.iter().eq(covered.iter().map(|(_, item)| item)) {
            return;
        }
        let mut report = |anomaly, what: String| {
            let text = format!("list {}: {} {what}", view.list, self.history.name(view.txn));
            found.push(Violation::new(anomaly, text));
        };
        let in_view: HashSet<u64> = shown.iter().copied().collect();
        let missed = covered.iter().find(|(_, item)| !in_view.contains(item));
        let ahead = shown.iter().find(|item| self.tid_of(view.list, **item).is_some_and(|tid| tid > snapshot));
        if let Some((tid, item)) = missed {
            report(Anomaly::StaleRead, format!("does not see item {item} of tid {}", tid.0));
        }
        if let Some(item) = ahead {
            report(Anomaly::FutureRead, format!("sees item {item}, committed later"));
        }
        if missed.is_none() && ahead.is_none() && in_view.len() == shown.len() {
            report(Anomaly::OrderAgainstTids, format!("sees {shown:?}, the commits say {covered:?}"));
        }
    }

    /// What a transaction saw of another is all or nothing, and the same each time.
    fn atomicity(&self, found: &mut Vec<Violation>) {
        let mut views: BTreeMap<usize, Vec<&View<'_>>> = BTreeMap::new();
        for view in &self.versions.views {
            views.entry(view.txn).or_default().push(view);
        }
        for (reader, views) in views {
            let mut by_list: BTreeMap<u64, HashSet<u64>> = BTreeMap::new();
            for view in &views {
                let items: HashSet<u64> = view.seen.iter().copied().collect();
                if by_list.get(&view.list).is_some_and(|before| *before != items) {
                    let text = format!("list {}: {} saw two states of it", view.list, self.history.name(reader));
                    found.push(Violation::new(Anomaly::FracturedRead, text));
                }
                by_list.insert(view.list, items);
            }
            let writers: HashSet<usize> = views
                .iter()
                .flat_map(|v| v.seen.iter().filter_map(|item| self.versions.writer(v.list, *item)))
                .collect();
            for writer in writers.into_iter().filter(|writer| *writer != reader) {
                self.seen_whole(reader, writer, &by_list, found);
            }
        }
    }

    fn seen_whole(
        &self,
        reader: usize,
        writer: usize,
        by_list: &BTreeMap<u64, HashSet<u64>>,
        found: &mut Vec<Violation>,
    ) {
        let wrote: Vec<(u64, u64)> = self.history.txns[writer].appends().collect();
        let sees = |list: u64, item: u64| by_list.get(&list).is_some_and(|items| items.contains(&item));
        let missed = wrote.iter().find(|(list, item)| by_list.contains_key(list) && !sees(*list, *item));
        let Some((list, item)) = missed else { return };
        let in_same_list = wrote.iter().any(|(other, seen)| other == list && sees(*other, *seen));
        let anomaly = if in_same_list { Anomaly::IntermediateRead } else { Anomaly::FracturedRead };
        let (reader, writer) = (self.history.name(reader), self.history.name(writer));
        found.push(Violation::new(
            anomaly,
            format!("{reader} saw a part of {writer}, but not item {item} of list {list}"),
        ));
    }

    /// A commit of unknown outcome that anybody saw has one place in the order of snapshots.
    fn unknown_commits(&self, found: &mut Vec<Violation>) {
        let mut views: HashMap<u64, Vec<&View<'_>>> = HashMap::new();
        self.versions.views.iter().for_each(|view| views.entry(view.list).or_default().push(view));
        for (at, txn) in self.history.txns.iter().enumerate().filter(|(_, txn)| txn.outcome == Outcome::Unknown) {
            let of_lists = txn.appends().flat_map(|(list, item)| {
                views.get(&list).into_iter().flatten().filter(|view| view.txn != at).map(move |view| (view, item))
            });
            let (mut first_seen, mut last_missed): (Option<Tid>, Option<Tid>) = (None, None);
            for (view, item) in of_lists {
                let snapshot = self.history.txns[view.txn].snapshot;
                if view.seen.contains(&item) {
                    first_seen = Some(first_seen.map_or(snapshot, |tid| tid.min(snapshot)));
                } else {
                    last_missed = last_missed.max(Some(snapshot));
                }
            }
            let Some(first_seen) = first_seen else { continue };
            if last_missed.is_some_and(|missed| missed >= first_seen) {
                let missed = last_missed.unwrap_or_default().0;
                let text =
                    format!("{} is seen at snapshot {} and not at {missed}", self.history.name(at), first_seen.0);
                found.push(Violation::new(Anomaly::StaleRead, text));
            }
            if first_seen <= txn.snapshot {
                let text = format!("{} is seen at {}, before its own snapshot", self.history.name(at), first_seen.0);
                found.push(Violation::new(Anomaly::FutureRead, text));
            }
        }
    }

    /// Of two commits to one place, the later one has seen the earlier.
    fn first_committer_wins(&self, found: &mut Vec<Violation>) {
        let mut writes: BTreeMap<(&str, u64), Vec<(Tid, usize)>> = BTreeMap::new();
        for (at, txn) in self.history.txns.iter().enumerate() {
            let Some(tid) = txn.tid() else { continue };
            let lists = txn.appends().filter(|_| !self.rules.lists_merge).map(|(list, _)| ("list", list));
            let counters = txn.adds().filter(|_| self.rules.counters_conflict).map(|(counter, _)| ("counter", counter));
            lists.chain(counters).for_each(|place| writes.entry(place).or_default().push((tid, at)));
        }
        for ((kind, number), mut commits) in writes {
            commits.sort_unstable();
            commits.dedup();
            for pair in commits.windows(2) {
                let [(earlier, first), (_, second)] = [pair[0], pair[1]];
                if self.history.txns[second].snapshot < earlier {
                    let (first, second) = (self.history.name(first), self.history.name(second));
                    let text = format!("{kind} {number}: {second} overwrote {first} without having seen it");
                    found.push(Violation::new(Anomaly::LostUpdate, text));
                }
            }
        }
    }

    /// A snapshot covers what its client, or by rule anybody, was told before it was asked for.
    fn order_of_snapshots(&self, found: &mut Vec<Violation>) {
        let mut events: Vec<(u64, usize, bool)> = Vec::new();
        for (at, txn) in self.history.txns.iter().enumerate() {
            events.push((txn.began, at, true));
            events.extend(txn.ended.map(|ended| (ended, at, false)));
        }
        events.sort_unstable();
        let mut told_client: HashMap<&str, Tid> = HashMap::new();
        let mut told_anybody = Tid::NONE;
        let mut needs: HashMap<usize, (Tid, Tid)> = HashMap::new();
        for (_, at, begins) in events {
            let txn = &self.history.txns[at];
            let told = told_client.entry(&txn.client).or_default();
            if begins {
                needs.insert(at, (*told, told_anybody));
            } else {
                let knows = txn.tid().unwrap_or(txn.snapshot);
                *told = (*told).max(knows);
                told_anybody = told_anybody.max(txn.tid().unwrap_or_default());
            }
        }
        for (at, txn) in self.history.txns.iter().enumerate().filter(|(_, txn)| !txn.ops.is_empty()) {
            let (client, anybody) = needs.get(&at).copied().unwrap_or_default();
            if txn.snapshot < client {
                let text = format!("{} knew tid {} before", self.history.name(at), client.0);
                found.push(Violation::new(Anomaly::SessionOrder, text));
            } else if self.rules.real_time && txn.snapshot < anybody {
                let text = format!("{} began after tid {} was acknowledged", self.history.name(at), anybody.0);
                found.push(Violation::new(Anomaly::RealTime, text));
            }
        }
    }

    /// Counters show the sum at the snapshot, plus the own adds. Returns how many reads were checked.
    fn counters(&self, found: &mut Vec<Violation>) -> usize {
        let mut reads = 0;
        let nothing = Adds::default();
        for (at, txn) in self.history.txns.iter().enumerate() {
            let mut own: HashMap<u64, i128> = HashMap::new();
            for op in &txn.ops {
                match op {
                    Op::Add { counter, difference } => *own.entry(*counter).or_default() += i128::from(*difference),
                    Op::Value { counter, seen } => {
                        reads += 1;
                        let adds = self.counters.get(counter).unwrap_or(&nothing);
                        let covered = adds.acknowledged.partition_point(|(tid, ..)| *tid <= txn.snapshot);
                        let sum: i128 = adds.acknowledged[..covered].iter().map(|(.., add)| i128::from(*add)).sum();
                        let unknown = adds.unknown.iter().filter(|(by, _)| *by != at).map(|(_, add)| *add).collect();
                        let own = own.get(counter).copied().unwrap_or_default();
                        let allowed = Allowed { acknowledged: sum + own, unknown };
                        if !allowed.allows(*seen) {
                            let text = format!(
                                "counter {counter}: {} saw {seen}, the commits sum to {} (own adds: {own}), {} unknown",
                                self.history.name(at),
                                sum + own,
                                allowed.unknown.len()
                            );
                            found.push(Violation::new(Anomaly::WrongSum, text));
                        }
                    }
                    Op::Read { .. } | Op::Append { .. } | Op::Members { .. } | Op::Member { .. } => {}
                }
            }
        }
        reads
    }
}
