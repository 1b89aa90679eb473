//! Owns the judgement of serializability.
//!
//! A history is serializable if some order of its transactions, one after another, explains every read. Lists say which orders
//! are left: each list shows the order of its writers, and each read shows between which two writers the reader stands.
//!
//! ```text
//!   list x: [1, 2]    1 by A, 2 by B, C saw [1]
//!
//!   A --wrote before--> B      A --was read by--> C      C --read before--> B
//! ```
//!
//! If these edges form a circle, no order is left, and the circle says what went wrong:
//!
//! | edges in the circle | name |
//! |---|---|
//! | wrote before | `WriteCycle` (G0) |
//! | also was read by | `InformationCycle` (G1c) |
//! | also one read before | `ReadSkew` (G-single): a reader between two states |
//! | also several read before | `WriteSkew` (G2): each overwrote what the other relied on |
//! | only with "was over before it began" | `RealTimeCycle`: serializable, but not strictly |
//!
//! [`check`] asks no tids, except for items that nobody has read. [`check_commit_order`] asks more: that the order of tids
//! itself is the order that explains every read; this also covers counters.

use super::counter::{self, Allowed};
use super::graph::{Edge, Graph, Kind};
use super::versions::Versions;
use super::{Anomaly, History, Op, Outcome, Rules, Summary, Violation, Violations, verdict};
use std::collections::{BTreeMap, HashMap, HashSet};

const DATA: &[Kind] = &[Kind::WriteWrite, Kind::WriteRead, Kind::ReadWrite];
const FLOW: &[Kind] = &[Kind::WriteWrite, Kind::WriteRead];
const WRITES: &[Kind] = &[Kind::WriteWrite];
const ALL: &[Kind] = &[Kind::WriteWrite, Kind::WriteRead, Kind::ReadWrite, Kind::RealTime];

/// Checks that some order explains every read of a list by the transactions that happened. Real time counts as far as the
/// rules say so, and always within one client.
pub fn check(history: &History, rules: &Rules) -> Result<Summary, Violations> {
    let mut found = Vec::new();
    let versions = Versions::gather(history, &mut found);
    let mut edges = data_edges(&versions);
    edges.extend(time_edges(&versions, rules));
    let graph = Graph::new(history.txns.len(), edges);
    let passes = [
        (Anomaly::WriteCycle, WRITES, Kind::WriteWrite, WRITES),
        (Anomaly::InformationCycle, FLOW, Kind::WriteRead, FLOW),
        (Anomaly::ReadSkew, DATA, Kind::ReadWrite, FLOW),
        (Anomaly::WriteSkew, DATA, Kind::ReadWrite, DATA),
        (Anomaly::RealTimeCycle, ALL, Kind::RealTime, ALL),
    ];
    let mut named: HashSet<usize> = HashSet::new();
    for (anomaly, knot_by, first, rest) in passes {
        for knot in graph.knots(knot_by) {
            if knot.iter().any(|node| named.contains(node)) {
                continue;
            }
            if let Some(cycle) = graph.cycle(&knot, first, rest) {
                found.push(Violation::new(anomaly, in_words(history, &cycle)));
                named.extend(knot);
            }
        }
    }
    let summary = Summary { reads: versions.views.len(), edges: graph.len(), ..counter::count(history) };
    verdict(summary, found)
}

fn in_words(history: &History, cycle: &[Edge]) -> String {
    let step = |edge: &Edge| {
        let why = match edge.kind {
            Kind::WriteWrite => format!("wrote list {} before item {} of", edge.list, edge.item),
            Kind::WriteRead => format!("wrote item {} of list {}, seen by", edge.item, edge.list),
            Kind::ReadWrite => format!("read list {} before item {} of", edge.list, edge.item),
            Kind::RealTime => "was over before the begin of".to_owned(),
        };
        format!("{} --{why}--> ", history.name(edge.from))
    };
    let back = cycle.first().map_or_else(String::new, |edge| format!("#{}", edge.from));
    cycle.iter().map(step).collect::<String>() + &back
}

/// The order of each list: as read, and then the acknowledged items that nobody has read, by tid.
fn full_orders(versions: &Versions<'_>) -> BTreeMap<u64, Vec<u64>> {
    let mut orders: BTreeMap<u64, Vec<u64>> =
        versions.orders.iter().map(|(list, order)| (*list, order.to_vec())).collect();
    let mut unread: Vec<_> = versions.history.txns.iter().filter(|txn| txn.tid().is_some()).collect();
    unread.sort_by_key(|txn| txn.tid());
    for (list, item) in unread.into_iter().flat_map(|txn| txn.appends()) {
        if !versions.seen.contains(&item) {
            orders.entry(list).or_default().push(item);
        }
    }
    orders
}

fn data_edges(versions: &Versions<'_>) -> Vec<Edge> {
    let mut edges = Vec::new();
    let mut add = |from: Option<usize>, to: Option<usize>, kind, list, item| {
        if let (Some(from), Some(to)) = (from, to)
            && from != to
            && versions.happened(from)
            && versions.happened(to)
        {
            edges.push(Edge { from, to, kind, list, item });
        }
    };
    let orders = full_orders(versions);
    for (list, order) in &orders {
        for pair in order.windows(2) {
            let writer = |item| versions.writer(*list, item);
            add(writer(pair[0]), writer(pair[1]), Kind::WriteWrite, *list, pair[1]);
        }
    }
    for view in &versions.views {
        let order = orders.get(&view.list).map_or(&[][..], Vec::as_slice);
        if let Some(last) = view.seen.last() {
            add(versions.writer(view.list, *last), Some(view.txn), Kind::WriteRead, view.list, *last);
        }
        if let Some(next) = order.get(view.seen.len()).filter(|_| order.starts_with(view.seen)) {
            add(Some(view.txn), versions.writer(view.list, *next), Kind::ReadWrite, view.list, *next);
        }
    }
    edges
}

/// Who was over before whom, without what follows from other edges of this kind.
fn time_edges(versions: &Versions<'_>, rules: &Rules) -> Vec<Edge> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, txn) in versions.history.txns.iter().enumerate().filter(|(at, _)| versions.happened(*at)) {
        groups.entry(if rules.real_time { "" } else { &txn.client }).or_default().push(at);
    }
    let mut edges = Vec::new();
    for group in groups.values() {
        let span = |at: usize| (versions.history.txns[at].began, versions.history.txns[at].ended);
        let mut ended: Vec<(u64, u64, usize)> =
            group.iter().filter_map(|at| span(*at).1.map(|end| (end, span(*at).0, *at))).collect();
        ended.sort_unstable();
        // The latest begin among the first k to end.
        let mut latest_began = vec![0];
        for (_, began, _) in &ended {
            latest_began.push((*began).max(*latest_began.last().unwrap_or(&0)));
        }
        for to in group {
            let over = ended.partition_point(|(end, ..)| *end < span(*to).0);
            let before = ended[..over].iter().rev().take_while(|(end, ..)| *end >= latest_began[over]);
            edges.extend(before.map(|(.., from)| Edge {
                from: *from,
                to: *to,
                kind: Kind::RealTime,
                list: 0,
                item: 0,
            }));
        }
    }
    edges
}

/// Checks that the order of tids explains every read of the acknowledged writers: what they read at their snapshots was still
/// so just before their commits. (Readers stand at their snapshots, which [`super::snapshot::check`] judges.)
pub fn check_commit_order(history: &History) -> Result<Summary, Violations> {
    let mut found = Vec::new();
    let versions = Versions::gather(history, &mut found);
    let unknown_adds = counter::totals(history);
    let (mut lists, mut sums): (HashMap<u64, Vec<u64>>, HashMap<u64, i128>) = (HashMap::new(), HashMap::new());
    let mut commits: Vec<usize> = (0..history.txns.len()).filter(|at| history.txns[*at].tid().is_some()).collect();
    commits.sort_by_key(|at| history.txns[*at].tid());
    let acknowledged = |list: u64, item: u64| {
        let writer = versions.writer(list, item);
        writer.is_some_and(|at| history.txns[at].outcome != Outcome::Unknown)
    };
    let mut reads = 0;
    for at in commits {
        let mut report = |what: String| {
            let text = format!("{}: {what}", history.name(at));
            found.push(Violation::new(Anomaly::OutdatedAtCommit, text));
        };
        for op in &history.txns[at].ops {
            match op {
                Op::Read { list, seen } => {
                    reads += 1;
                    let state = lists.entry(*list).or_default();
                    let seen: Vec<u64> = seen.iter().copied().filter(|item| acknowledged(*list, *item)).collect();
                    if seen != *state {
                        report(format!("saw list {list} as {seen:?}, at its commit it was {state:?}"));
                    }
                }
                Op::Append { list, item } => lists.entry(*list).or_default().push(*item),
                Op::Value { counter, seen } => {
                    reads += 1;
                    let acknowledged = sums.get(counter).copied().unwrap_or_default();
                    let unknown = unknown_adds.get(counter).map(|total| total.unknown.clone()).unwrap_or_default();
                    if !(Allowed { acknowledged, unknown }).allows(*seen) {
                        report(format!("saw counter {counter} as {seen}, at its commit it was {acknowledged}"));
                    }
                }
                Op::Add { counter, difference } => *sums.entry(*counter).or_default() += i128::from(*difference),
                Op::Members { .. } | Op::Member { .. } => {}
            }
        }
    }
    verdict(Summary { reads, ..counter::count(history) }, found)
}
