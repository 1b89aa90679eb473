//! Shows on histories of two transactions, written by hand, that each anomaly gets its own name.

use super::{Anomaly, History, Op, Outcome, Recorder, Rules, serial, snapshot};
use zeolite_proto::Tid;

/// Two transactions of two clients at snapshot 0, and what each of them did.
fn pair(a: &[Op], b: &[Op]) -> History {
    let recorder = Recorder::new();
    let (mut first, mut second) = (recorder.client("a").begin(), recorder.client("b").begin());
    for (txn, ops) in [(&mut first, a), (&mut second, b)] {
        for op in ops {
            match op {
                Op::Read { list, seen } => txn.read(*list, seen),
                Op::Append { list, item } => txn.append(*list, *item),
                Op::Value { counter, seen } => txn.value(*counter, *seen),
                Op::Add { counter, difference } => txn.add(*counter, *difference),
                Op::Members { set, seen } => txn.members(*set, seen),
                Op::Member { set, item, there } => txn.member(*set, *item, *there),
            }
        }
    }
    first.committed(Tid(1));
    second.committed(Tid(2));
    recorder.history()
}

fn read(list: u64, seen: &[u64]) -> Op {
    Op::Read { list, seen: seen.to_vec() }
}

fn append(list: u64, item: u64) -> Op {
    Op::Append { list, item }
}

#[test]
fn each_kind_of_cycle_has_its_name() {
    let named = |history: &History| serial::check(history, &Rules::default()).expect_err("a cycle");
    let skew = pair(&[read(1, &[]), append(2, 20)], &[read(2, &[]), append(1, 10)]);
    let found = named(&skew);
    assert!(found.has(Anomaly::WriteSkew), "{found}");
    assert!(
        found.to_string().contains("#0 of a (snapshot 0, committed 1) --read list 1 before item 10 of-->"),
        "{found}"
    );
    snapshot::check(&skew, &Rules::default()).expect("write skew is allowed by snapshot isolation");

    let circular = pair(&[append(1, 10), read(2, &[20])], &[append(2, 20), read(1, &[10])]);
    assert!(named(&circular).has(Anomaly::InformationCycle));
    snapshot::check(&circular, &Rules::default()).expect_err("nor is that snapshot isolation");

    let lost = pair(&[read(1, &[]), append(1, 10)], &[read(1, &[]), append(1, 11)]);
    assert!(named(&lost).has(Anomaly::ReadSkew));

    let mut overtaken = pair(&[append(1, 10), append(2, 20)], &[append(1, 11), append(2, 21)]);
    let recorder = Recorder::new();
    let mut reader = recorder.client("c").begin();
    reader.read(1, &[10, 11]);
    reader.read(2, &[21, 20]);
    reader.read_only();
    overtaken.txns.extend(recorder.history().txns);
    assert!(named(&overtaken).has(Anomaly::WriteCycle));
}

#[test]
fn a_serializable_history_that_turns_time_round_is_caught() {
    // b begins after a was acknowledged, and does not see it: an order exists (b, a), but not in real time.
    let recorder = Recorder::new();
    let mut first = recorder.client("a").begin();
    first.append(1, 10);
    first.committed(Tid(1));
    let mut second = recorder.client("b").begin();
    second.read(1, &[]);
    second.append(2, 20);
    second.committed(Tid(2));
    let history = recorder.history();
    serial::check(&history, &Rules::default()).expect("serializable");
    let strict = Rules { real_time: true, ..Rules::default() };
    assert!(serial::check(&history, &strict).expect_err("not strictly").has(Anomaly::RealTimeCycle));
}

#[test]
fn a_malformed_record_is_refused() {
    let twice = pair(&[append(1, 10)], &[append(1, 10)]);
    assert!(snapshot::check(&twice, &Rules::default()).expect_err("refused").has(Anomaly::Malformed));
    let mut same_tid = pair(&[append(1, 10)], &[append(2, 20)]);
    same_tid.txns[1].outcome = Outcome::Committed(Tid(1));
    assert!(snapshot::check(&same_tid, &Rules::default()).expect_err("refused").has(Anomaly::Malformed));
}

#[test]
fn a_transaction_that_was_dropped_is_unknown() {
    let recorder = Recorder::new();
    let mut txn = recorder.client("killed").begin();
    txn.append(1, 10);
    drop(txn);
    let history = recorder.history();
    assert_eq!(history.txns[0].outcome, Outcome::Unknown);
    assert_eq!(history.txns[0].ended, None);
}
