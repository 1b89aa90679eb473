//! Owns the judgement of sets whose members are put in and taken out without conflict: of each member the last commit counts.
//!
//! ```text
//!   commits of one member   put 3 ── taken 5 ── put 9            a read at snapshot 7 shows it gone, at 9 there
//!   outcome unknown         put ?                                it may be there at any snapshot that it can be in
//! ```
//! What is checked is each member by itself, at the snapshot of each read, own writes included. A commit whose outcome nobody
//! learnt may have come at any time since it was begun; so each member that one of them writes may be either way, if the reader
//! was not over before.

use super::{Anomaly, History, Outcome, Summary, Txn, Violation, Violations, counter};
use crate::checker::Op;
use std::collections::{BTreeMap, BTreeSet};
use zeolite_proto::Tid;

/// A member of a set.
type Member = (u64, u64);

/// What was done to one member.
#[derive(Default)]
struct Fate {
    /// By tid: whether it was there afterwards.
    committed: BTreeMap<Tid, bool>,
    /// By whom the outcome is not known, and what it would be.
    unknown: Vec<(usize, bool)>,
    /// Put in by somebody who was refused.
    is_refused: bool,
}

/// Checks every read of a set.
pub fn check(history: &History) -> Result<Summary, Violations> {
    let mut fates: BTreeMap<Member, Fate> = BTreeMap::new();
    for (at, txn) in history.txns.iter().enumerate() {
        for (member, there) in last_writes(txn) {
            let fate = fates.entry(member).or_default();
            match txn.outcome {
                Outcome::Committed(tid) => drop(fate.committed.insert(tid, there)),
                Outcome::Unknown => fate.unknown.push((at, there)),
                Outcome::Aborted | Outcome::ReadOnly => fate.is_refused |= there,
            }
        }
    }
    let (mut found, mut reads) = (Vec::new(), 0);
    for (at, txn) in history.txns.iter().enumerate() {
        let mut own: BTreeMap<Member, bool> = BTreeMap::new();
        for op in &txn.ops {
            match op {
                Op::Member { set, item, there } => drop(own.insert((*set, *item), *there)),
                Op::Members { set, seen } => {
                    reads += 1;
                    let reader = Reader { history, at, own: &own, fates: &fates };
                    reader.judge(*set, seen, &mut found);
                }
                Op::Read { .. } | Op::Append { .. } | Op::Value { .. } | Op::Add { .. } => {}
            }
        }
    }
    super::verdict(Summary { reads, ..counter::count(history) }, found)
}

fn last_writes(txn: &Txn) -> BTreeMap<Member, bool> {
    let write = |op: &Op| match op {
        Op::Member { set, item, there } => Some(((*set, *item), *there)),
        _ => None,
    };
    txn.ops.iter().filter_map(write).collect()
}

/// One transaction at one of its reads.
struct Reader<'a> {
    history: &'a History,
    at: usize,
    own: &'a BTreeMap<Member, bool>,
    fates: &'a BTreeMap<Member, Fate>,
}

impl Reader<'_> {
    fn judge(&self, set: u64, seen: &[u64], found: &mut Vec<Violation>) {
        let mut report = |anomaly, item: u64, what: &str| {
            let text = format!("{}: set {set} {what} {item}", self.history.name(self.at));
            found.push(Violation::new(anomaly, text));
        };
        let shown: BTreeSet<u64> = seen.iter().copied().collect();
        if shown.len() < seen.len() {
            report(Anomaly::AppliedTwice, seen[0], "shows a member twice, beginning with");
        }
        let known = self.fates.range((set, 0)..=(set, u64::MAX)).map(|((_, item), _)| *item);
        let items: BTreeSet<u64> = known.chain(shown.iter().copied()).collect();
        for item in items {
            let is_shown = shown.contains(&item);
            if let Some(there) = self.own.get(&(set, item)) {
                if *there != is_shown {
                    report(Anomaly::OwnWrites, item, "does not show what it did itself with");
                }
                continue;
            }
            let Some(fate) = self.fates.get(&(set, item)) else {
                report(Anomaly::Phantom, item, "shows, which nobody put in,");
                continue;
            };
            if self.allowed(fate).contains(&is_shown) {
                continue;
            }
            let was_put = fate.committed.range(..=self.snapshot()).any(|(_, there)| *there);
            let is_put_later = fate.committed.values().any(|there| *there);
            match (is_shown, was_put) {
                (false, _) => report(Anomaly::StaleRead, item, "misses"),
                (true, true) => report(Anomaly::StaleRead, item, "shows, though it was taken out,"),
                (true, false) if is_put_later => report(Anomaly::FutureRead, item, "shows, before it was put in,"),
                (true, false) if fate.is_refused => report(Anomaly::AbortedRead, item, "shows, whose put was refused,"),
                (true, false) => report(Anomaly::Phantom, item, "shows, which nobody put in,"),
            }
        }
    }

    fn snapshot(&self) -> Tid {
        self.history.txns[self.at].snapshot
    }

    /// Whether it may be there, or not, or either.
    fn allowed(&self, fate: &Fate) -> BTreeSet<bool> {
        let newest = fate.committed.range(..=self.snapshot()).next_back();
        let known = newest.is_some_and(|(_, there)| *there);
        let ended = self.history.txns[self.at].ended.unwrap_or(u64::MAX);
        let may_be = |writer: &usize| *writer != self.at && self.history.txns[*writer].began < ended;
        let unknown = fate.unknown.iter().filter(|(writer, _)| may_be(writer)).map(|(_, there)| *there);
        unknown.chain([known]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Recorder;

    /// What a reader at a snapshot sees of set 1: 10 was put in at 2 and taken out at 4, 20 put in at 6; a put of 30 was refused, and of
    /// one of 40 nobody knows.
    fn seen(snapshot: u64, seen: &[u64]) -> Result<Summary, Violations> {
        let recorder = Recorder::new();
        let client = recorder.client("a");
        for (tid, item, there) in [(2, 10, true), (4, 10, false), (6, 20, true)] {
            let mut txn = client.begin();
            txn.member(1, item, there);
            txn.committed(Tid(tid));
        }
        let mut refused = client.begin();
        refused.member(1, 30, true);
        refused.aborted();
        let mut unknown = client.begin();
        unknown.member(1, 40, true);
        unknown.unknown();
        let mut reader = recorder.client("b").begin();
        reader.at(Tid(snapshot));
        reader.members(1, seen);
        reader.read_only();
        let mut later = client.begin();
        later.member(1, 50, true);
        later.unknown();
        check(&recorder.history())
    }

    #[test]
    fn what_its_snapshot_has_is_what_a_read_may_show() {
        for (snapshot, shown) in [(1, &[][..]), (2, &[10]), (3, &[10, 40]), (5, &[]), (6, &[20]), (9, &[40, 20])] {
            assert_eq!(seen(snapshot, shown).expect("is right").reads, 1, "{snapshot}");
        }
        for (snapshot, shown, anomaly) in [
            (3, &[][..], Anomaly::StaleRead),
            (5, &[10], Anomaly::StaleRead),
            (5, &[20], Anomaly::FutureRead),
            (6, &[20, 30], Anomaly::AbortedRead),
            (6, &[20, 60], Anomaly::Phantom),
            (6, &[20, 50], Anomaly::Phantom),
            (6, &[20, 20], Anomaly::AppliedTwice),
        ] {
            let found = seen(snapshot, shown).expect_err("is wrong");
            assert!(found.0.len() == 1 && found.has(anomaly), "{snapshot} {shown:?}: {found}");
        }
    }

    #[test]
    fn own_writes_are_seen_at_once_and_what_others_do_later_is_not() {
        let recorder = Recorder::new();
        let mut txn = recorder.client("a").begin();
        txn.members(1, &[]);
        txn.member(1, 10, true);
        txn.members(1, &[10]);
        txn.member(1, 10, false);
        txn.members(1, &[10]);
        txn.committed(Tid(1));
        let found = check(&recorder.history()).expect_err("the last one is wrong");
        assert!(found.0.len() == 1 && found.has(Anomaly::OwnWrites), "{found}");
    }
}
