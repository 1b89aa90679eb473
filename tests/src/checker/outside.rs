//! Owns the second opinion: the same histories, judged by a checker that nobody here wrote.
//!
//! Our own checkers know the tids, so they could share a mistake with the server that gave them. [adya] sees what a stranger
//! sees: who read and wrote what, in which order for each client and in real time. It infers who must have come before
//! whom (write-write, write-read and read-write, from A. Adya's thesis) and names the cycles that a model forbids.
//!
//! ```text
//!   History ──> as lists      an append is an append, a read is the whole list
//!           ──> as registers  an append is a write of its item (items are unique), a read is the last item
//! ```
//! What is not done: counters and sets, which it does not know (0.1 has lists that are appended to and registers); merged appends. That nobody conflicts there is the point, and no model of reads and writes has it.

use super::{History, Op, Outcome, Txn};
use adya::history::{Interner, Mop, OpType, ReadValue, Scalar};
use adya::{Opts, Valid, Workload};
use std::collections::BTreeMap;
use std::time::Duration;

// For each search for a cycle; a search that is given up is reported, and is no success.
const SEARCH: Duration = Duration::from_secs(60);

/// What must hold, in adya's words: `strict-serializable`, `strong-snapshot-isolation` and so on. An error names what it found.
pub fn check(history: &History, model: &str) -> Result<(), String> {
    for (name, workload) in [("lists", Workload::ListAppend), ("registers", Workload::RwRegister)] {
        let told = translated(history, workload);
        // Whoever writes a register here has read it before, and asked for the newest snapshot.
        let opts = Opts {
            models: vec![model.to_owned()],
            timeout: SEARCH,
            wfr_keys: true,
            linearizable_keys: true,
            ..Opts::default()
        };
        let report = adya::check(&told, workload, &opts);
        if report.valid != Valid::True {
            let first = report.anomalies.values().flatten().next().map(|anomaly| anomaly.explanation.clone());
            return Err(format!("as {name}, not {model}: {:?}: {}", report.anomaly_types, first.unwrap_or_default()));
        }
    }
    Ok(())
}

fn translated(history: &History, workload: Workload) -> adya::History {
    let mut names = Interner::default();
    let mut processes = Processes::default();
    let mut events = Vec::new();
    for txn in &history.txns {
        let process = processes.of(txn);
        let kind = match txn.outcome {
            Outcome::Committed(_) | Outcome::ReadOnly => OpType::Ok,
            Outcome::Aborted => OpType::Fail,
            Outcome::Unknown => OpType::Info,
        };
        let asked = steps(txn, workload, false, &mut names);
        // What somebody read who has not committed proves nothing: perhaps its own append.
        let answered = steps(txn, workload, kind == OpType::Ok, &mut names);
        events.push((txn.began, OpType::Invoke, process, asked));
        events.push((txn.ended.unwrap_or(u64::MAX), kind, process, answered));
    }
    events.sort_by_key(|(at, ..)| *at);
    let op = |(index, (_, kind, process, value)): (usize, _)| adya::history::Op {
        index: index as u64,
        kind,
        process: Some(process),
        value,
        time: None,
    };
    adya::History::from_ops(events.into_iter().enumerate().map(op).collect(), names)
}

fn steps(txn: &Txn, workload: Workload, answered: bool, names: &mut Interner) -> Vec<Mop> {
    let mut number = |number: u64| names.intern(Scalar::Int(number as i64));
    let mut steps = Vec::new();
    for op in &txn.ops {
        match (op, workload) {
            (Op::Read { list, seen }, _) => {
                let value = match workload {
                    _ if !answered => ReadValue::Nil,
                    Workload::ListAppend => ReadValue::List(seen.iter().map(|item| number(*item)).collect()),
                    Workload::RwRegister => seen.last().map_or(ReadValue::Nil, |item| ReadValue::Scalar(number(*item))),
                };
                steps.push(Mop::Read { key: number(*list), value });
            }
            (Op::Append { list, item }, Workload::ListAppend) => {
                steps.push(Mop::Append { key: number(*list), value: number(*item) });
            }
            (Op::Append { list, item }, Workload::RwRegister) => {
                steps.push(Mop::Write { key: number(*list), value: number(*item) });
            }
            // Sums and sets are no lists and no registers: it has no other kinds (`counter` and `sets` judge them).
            (Op::Value { .. } | Op::Add { .. } | Op::Members { .. } | Op::Member { .. }, _) => {}
        }
    }
    steps
}

/// Who does one thing after the other. Whose answer never came may still be at it: it goes on under another number.
#[derive(Default)]
struct Processes {
    numbers: BTreeMap<String, i64>,
    given: i64,
}

impl Processes {
    fn of(&mut self, txn: &Txn) -> i64 {
        let given = &mut self.given;
        let number = *self.numbers.entry(txn.client.clone()).or_insert_with(|| {
            *given += 1;
            *given
        });
        if txn.outcome == Outcome::Unknown {
            self.numbers.remove(&txn.client);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Recorder;
    use zeolite_proto::Tid;

    // Two clients read both lists as they were, and each appends to another one.
    fn write_skew() -> History {
        let recorder = Recorder::new();
        let (a, b) = (recorder.client("a"), recorder.client("b"));
        let (mut one, mut other) = (a.begin(), b.begin());
        for txn in [&mut one, &mut other] {
            txn.at(Tid(1));
            txn.read(1, &[]);
            txn.read(2, &[]);
        }
        one.append(1, 10);
        other.append(2, 20);
        one.committed(Tid(2));
        other.committed(Tid(3));
        let mut last = a.begin();
        last.at(Tid(3));
        last.read(1, &[10]);
        last.read(2, &[20]);
        last.read_only();
        recorder.history()
    }

    #[test]
    fn write_skew_is_snapshot_isolation_and_not_serializable() {
        assert_eq!(check(&write_skew(), "strong-snapshot-isolation"), Ok(()));
        let found = check(&write_skew(), "serializable").expect_err("a cycle");
        assert!(found.contains("G2-item"), "{found}");
    }

    #[test]
    fn a_lost_update_is_seen_by_both_kinds() {
        let recorder = Recorder::new();
        let (a, b) = (recorder.client("a"), recorder.client("b"));
        let (mut one, mut other) = (a.begin(), b.begin());
        for (txn, item) in [(&mut one, 10), (&mut other, 20)] {
            txn.read(1, &[]);
            txn.append(1, item);
        }
        one.committed(Tid(2));
        other.committed(Tid(3));
        let mut last = b.begin();
        last.read(1, &[20]);
        last.read_only();
        check(&recorder.history(), "snapshot-isolation").expect_err("10 is lost");
    }
}
