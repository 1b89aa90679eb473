//! Shows that each checker accepts good histories and catches each kind of bad one.

use super::reference::{Mode, Run};
use super::{Anomaly, History, Op, Outcome, Rules, Summary, Violations, counter, serial, snapshot};
use std::collections::BTreeMap;
use zeolite_proto::Tid;

const SEEDS: std::ops::Range<u64> = 0..60;

fn good(mode: Mode, seed: u64) -> (History, Rules) {
    let run = Run { mode, seed, txns: 150 };
    (run.history(), run.rules())
}

/// Damages good histories with each seed; the check must name the anomaly whenever the damage could be done, and that
/// must be so often.
fn caught(
    mode: Mode,
    anomaly: Anomaly,
    damage: impl Fn(&mut History, &mut fastrand::Rng) -> Option<()>,
    check: impl Fn(&History, &Rules) -> Result<Summary, Violations>,
) {
    let mut damaged = 0;
    for seed in SEEDS {
        let (mut history, rules) = good(mode, seed);
        if damage(&mut history, &mut fastrand::Rng::with_seed(seed)).is_none() {
            continue;
        }
        damaged += 1;
        let found = check(&history, &rules).expect_err("a damaged history is refused");
        assert!(found.has(anomaly), "seed {seed}: {anomaly:?} is not among {found}");
    }
    assert!(damaged > 20, "only {damaged} histories could be damaged");
}

/// One of them, by dice.
fn any<T>(rng: &mut fastrand::Rng, of: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = of.collect();
    if all.is_empty() { None } else { Some(all.swap_remove(rng.usize(..all.len()))) }
}

#[test]
fn good_histories_are_accepted() {
    for seed in SEEDS {
        for mode in [Mode::Snapshot, Mode::Serializable, Mode::Merging] {
            let (history, rules) = good(mode, seed);
            let summary = snapshot::check(&history, &rules).unwrap_or_else(|found| panic!("{mode:?} {seed}: {found}"));
            assert!(summary.committed > 20 && summary.reads > 50 && summary.unknown > 0, "{summary:?}");
            assert!(summary.appends_seen > 20, "{summary:?}");
        }
        let (history, rules) = good(Mode::Serializable, seed);
        let summary = serial::check(&history, &rules).unwrap_or_else(|found| panic!("{seed}: {found}"));
        assert!(summary.edges > 100, "{summary:?}");
        serial::check_commit_order(&history).unwrap_or_else(|found| panic!("{seed}: {found}"));
    }
}

/// Every read of a list, with the number of its transaction.
fn reads(history: &mut History) -> impl Iterator<Item = (usize, u64, &mut Vec<u64>)> {
    history.txns.iter_mut().enumerate().flat_map(|(at, txn)| {
        txn.ops.iter_mut().filter_map(move |op| match op {
            Op::Read { list, seen } => Some((at, *list, seen)),
            _ => None,
        })
    })
}

/// An acknowledged append, by dice: transaction, list, item.
fn acknowledged_append(history: &History, rng: &mut fastrand::Rng) -> Option<(usize, u64, u64)> {
    let commits = history.txns.iter().enumerate().filter(|(_, txn)| txn.tid().is_some());
    any(rng, commits.flat_map(|(at, txn)| txn.appends().map(move |(list, item)| (at, list, item))))
}

/// Whether any other transaction saw the item.
fn seen_by_others(history: &mut History, by: usize, item: u64) -> bool {
    reads(history).any(|(at, _, seen)| at != by && seen.contains(&item))
}

#[test]
fn a_lost_write_is_caught() {
    let lose = |history: &mut History, rng: &mut fastrand::Rng| {
        let (by, _, lost) = acknowledged_append(history, rng)?;
        reads(history).filter(|(at, ..)| *at != by).for_each(|(.., seen)| seen.retain(|item| *item != lost));
        Some(())
    };
    caught(Mode::Snapshot, Anomaly::StaleRead, lose, snapshot::check);
    caught(Mode::Merging, Anomaly::StaleRead, lose, snapshot::check);
}

#[test]
fn a_second_committer_that_won_is_caught() {
    // The second of two writers of a list gets a snapshot before the first, and sees what was there then.
    let overlap = |history: &mut History, rng: &mut fastrand::Rng| {
        let (second, list, _) = acknowledged_append(history, rng)?;
        let second_tid = history.txns[second].tid()?;
        let first = history.txns.iter().filter(|txn| txn.tid().is_some_and(|tid| tid < second_tid));
        let first = first.filter(|txn| txn.appends().any(|(of, _)| of == list)).filter_map(super::Txn::tid).max()?;
        history.txns[second].snapshot = Tid(first.0 - 1);
        history.txns[second].ops.retain(|op| matches!(op, Op::Append { .. }));
        Some(())
    };
    caught(Mode::Snapshot, Anomaly::LostUpdate, overlap, snapshot::check);
    let (mut history, rules) = good(Mode::Merging, 1);
    overlap(&mut history, &mut fastrand::Rng::with_seed(1)).expect("can be done");
    let found = snapshot::check(&history, &rules).err();
    assert!(!found.is_some_and(|found| found.has(Anomaly::LostUpdate)), "merging lists may be written so");
}

#[test]
fn a_stale_read_is_caught() {
    let stale = |history: &mut History, rng: &mut fastrand::Rng| {
        let tids: BTreeMap<u64, Tid> = history
            .txns
            .iter()
            .filter_map(|txn| Some((txn, txn.tid()?)))
            .flat_map(|(txn, tid)| txn.appends().map(move |(_, item)| (item, tid)))
            .collect();
        let own: Vec<Vec<u64>> = history.txns.iter().map(|txn| txn.appends().map(|(_, item)| item).collect()).collect();
        let ends_acknowledged = reads(history).filter(|(at, _, seen)| {
            seen.last().is_some_and(|item| tids.contains_key(item) && !own[*at].contains(item))
        });
        any(rng, ends_acknowledged).map(|(.., seen)| seen.truncate(seen.len() - 1))
    };
    caught(Mode::Snapshot, Anomaly::StaleRead, stale, snapshot::check);
}

#[test]
fn a_read_of_the_future_is_caught() {
    let ahead = |history: &mut History, rng: &mut fastrand::Rng| {
        let (by, list, item) = acknowledged_append(history, rng)?;
        let tid = history.txns[by].tid()?;
        let earlier: Vec<bool> =
            history.txns.iter().map(|txn| txn.snapshot < tid && txn.appends().next().is_none()).collect();
        let reads = reads(history).filter(|(at, of, seen)| earlier[*at] && *of == list && !seen.contains(&item));
        any(rng, reads).map(|(.., seen)| seen.push(item))
    };
    caught(Mode::Snapshot, Anomaly::FutureRead, ahead, snapshot::check);
}

#[test]
fn a_fractured_read_is_caught() {
    // The last transaction read every list: it misses one of the two lists that a transaction wrote.
    let fracture = |history: &mut History, rng: &mut fastrand::Rng| {
        let wrote_two = |txn: &super::Txn| {
            let lists: std::collections::BTreeSet<u64> = txn.appends().map(|(list, _)| list).collect();
            lists.len() >= 2 && !matches!(txn.outcome, Outcome::Aborted)
        };
        let writer = any(rng, history.txns.iter().filter(|txn| wrote_two(txn)))?.clone();
        let (list, _) = writer.appends().next()?;
        let last = history.txns.len() - 1;
        let items: Vec<u64> = writer.appends().filter(|(of, _)| *of == list).map(|(_, item)| item).collect();
        let (.., seen) =
            reads(history).find(|(at, of, seen)| *at == last && *of == list && seen.contains(&items[0]))?;
        seen.retain(|item| !items.contains(item));
        Some(())
    };
    caught(Mode::Snapshot, Anomaly::FracturedRead, fracture, snapshot::check);
}

#[test]
fn part_of_a_transaction_is_caught() {
    let cut = |history: &mut History, rng: &mut fastrand::Rng| {
        let twice = |txn: &super::Txn| {
            let appends: Vec<(u64, u64)> = txn.appends().collect();
            let pair =
                appends.iter().find(|(list, item)| appends.iter().any(|(of, other)| of == list && other > item))?;
            txn.tid().map(|_| *pair)
        };
        let (list, first) = any(rng, history.txns.iter().filter_map(twice))?;
        let last = history.txns.len() - 1;
        let (.., seen) = reads(history).find(|(at, of, _)| *at == last && *of == list)?;
        let at = seen.iter().position(|item| *item == first)?;
        seen.truncate(at + 1);
        Some(())
    };
    caught(Mode::Snapshot, Anomaly::IntermediateRead, cut, snapshot::check);
}

#[test]
fn a_read_of_an_aborted_transaction_is_caught() {
    let abort = |history: &mut History, rng: &mut fastrand::Rng| {
        let (by, _, item) = acknowledged_append(history, rng)?;
        if !seen_by_others(history, by, item) {
            return None;
        }
        history.txns[by].outcome = Outcome::Aborted;
        Some(())
    };
    caught(Mode::Snapshot, Anomaly::AbortedRead, abort, snapshot::check);
    caught(Mode::Serializable, Anomaly::AbortedRead, abort, serial::check);
}

#[test]
fn a_commit_applied_twice_is_caught() {
    let double = |history: &mut History, rng: &mut fastrand::Rng| {
        let (by, list, item) = acknowledged_append(history, rng)?;
        let reads = reads(history).filter(|(at, of, seen)| *at != by && *of == list && seen.contains(&item));
        reads.for_each(|(.., seen)| seen.push(item));
        seen_by_others(history, by, item).then_some(())
    };
    caught(Mode::Merging, Anomaly::AppliedTwice, double, snapshot::check);
    let add_twice = |history: &mut History, rng: &mut fastrand::Rng| {
        let commits = history.txns.iter().filter(|txn| txn.tid().is_some());
        let (counter, add) = any(rng, commits.flat_map(super::Txn::adds).filter(|(_, add)| *add > 0))?;
        // Too few unknown adds to explain the difference.
        let unknown: i64 = history
            .txns
            .iter()
            .filter(|txn| txn.outcome == Outcome::Unknown)
            .flat_map(super::Txn::adds)
            .map(|(_, add)| add.abs())
            .sum();
        let last = history.txns.last_mut()?;
        let value = last.ops.iter_mut().find_map(|op| match op {
            Op::Value { counter: of, seen } if *of == counter => Some(seen),
            _ => None,
        })?;
        *value += add + 2 * unknown;
        Some(())
    };
    caught(Mode::Snapshot, Anomaly::WrongSum, add_twice, snapshot::check);
}

#[test]
fn contradicting_orders_are_caught() {
    let swap = |history: &mut History, rng: &mut fastrand::Rng| {
        let last = history.txns.len() - 1;
        let (.., seen) = any(rng, reads(history).filter(|(at, _, seen)| *at != last && seen.len() > 3))?;
        seen.swap(0, 1);
        Some(())
    };
    caught(Mode::Merging, Anomaly::IncompatibleOrder, swap, snapshot::check);
    // All agree on an order that is not that of the commits.
    let swap_all = |history: &mut History, rng: &mut fastrand::Rng| {
        let (by, list, item) = acknowledged_append(history, rng)?;
        let order = reads(history)
            .filter(|(_, of, _)| *of == list)
            .max_by_key(|(.., seen)| seen.len())
            .map(|(.., seen)| seen.clone())?;
        let at = order.iter().position(|other| *other == item)?;
        let before = *order.get(at.checked_sub(1)?)?;
        let writer = history.txns.iter().position(|txn| txn.appends().any(|(_, other)| other == before))?;
        if writer == by || history.txns[writer].tid().is_none() {
            return None;
        }
        for (.., seen) in reads(history).filter(|(_, of, _)| *of == list) {
            if let Some(at) = seen.iter().position(|other| *other == item).filter(|at| *at > 0) {
                seen.swap(at - 1, at);
            }
        }
        Some(())
    };
    caught(Mode::Merging, Anomaly::OrderAgainstTids, swap_all, snapshot::check);
}

#[test]
fn a_phantom_and_a_lost_own_write_are_caught() {
    let phantom = |history: &mut History, rng: &mut fastrand::Rng| {
        any(rng, reads(history)).map(|(.., seen)| seen.insert(0, 999_999))
    };
    caught(Mode::Snapshot, Anomaly::Phantom, phantom, snapshot::check);
    let forget_own = |history: &mut History, rng: &mut fastrand::Rng| {
        let own: Vec<Vec<u64>> = history.txns.iter().map(|txn| txn.appends().map(|(_, item)| item).collect()).collect();
        let reads = reads(history).filter(|(at, _, seen)| seen.last().is_some_and(|item| own[*at].contains(item)));
        any(rng, reads).map(|(.., seen)| seen.truncate(seen.len() - 1))
    };
    caught(Mode::Snapshot, Anomaly::OwnWrites, forget_own, snapshot::check);
}

#[test]
fn a_snapshot_older_than_what_was_told_is_caught() {
    let step_back = |only_own: bool| {
        move |history: &mut History, rng: &mut fastrand::Rng| {
            let acknowledged: Vec<(String, u64, Tid)> =
                history.txns.iter().filter_map(|txn| Some((txn.client.clone(), txn.ended?, txn.tid()?))).collect();
            let told = |txn: &super::Txn| {
                let of = acknowledged
                    .iter()
                    .filter(|(client, ended, _)| *ended < txn.began && (!only_own || *client == txn.client));
                of.map(|(.., tid)| *tid).max()
            };
            let readers = history.txns.iter().enumerate().filter(|(_, txn)| !txn.ops.is_empty());
            let (at, tid) = any(rng, readers.filter_map(|(at, txn)| Some((at, told(txn)?))))?;
            history.txns[at].snapshot = Tid(tid.0 - 1);
            Some(())
        }
    };
    caught(Mode::Snapshot, Anomaly::SessionOrder, step_back(true), snapshot::check);
    // Another client's commit matters by rule only.
    let mut real_time = 0;
    for seed in SEEDS {
        let (mut history, rules) = good(Mode::Snapshot, seed);
        if step_back(false)(&mut history, &mut fastrand::Rng::with_seed(seed)).is_none() {
            continue;
        }
        let found = snapshot::check(&history, &rules).expect_err("refused");
        assert!(found.has(Anomaly::RealTime) || found.has(Anomaly::SessionOrder), "{seed}: {found}");
        let without = snapshot::check(&history, &Rules { real_time: false, ..rules });
        real_time += usize::from(found.has(Anomaly::RealTime));
        assert!(!without.is_err_and(|found| found.has(Anomaly::RealTime)));
    }
    assert!(real_time > 10, "{real_time}");
}

#[test]
fn an_unknown_commit_that_comes_and_goes_is_caught() {
    let vanish = |history: &mut History, rng: &mut fastrand::Rng| {
        let last = history.txns.len() - 1;
        let unknown = history.txns.iter().filter(|txn| txn.outcome == Outcome::Unknown);
        let items: Vec<(u64, u64)> = unknown.flat_map(super::Txn::appends).collect();
        let known: Vec<bool> = history.txns.iter().map(|txn| txn.outcome != Outcome::Unknown).collect();
        let seen_before: Vec<u64> =
            reads(history).filter(|(at, ..)| *at != last && known[*at]).flat_map(|(.., seen)| seen.clone()).collect();
        let (list, item) = any(rng, items.into_iter().filter(|(_, item)| seen_before.contains(item)))?;
        let (.., seen) = reads(history).find(|(at, of, _)| *at == last && *of == list)?;
        seen.retain(|other| *other != item);
        Some(())
    };
    let mut damaged = 0;
    for seed in 0..200 {
        let (mut history, rules) = good(Mode::Merging, seed);
        if vanish(&mut history, &mut fastrand::Rng::with_seed(seed)).is_some() {
            damaged += 1;
            snapshot::check(&history, &rules).expect_err("refused");
        }
    }
    assert!(damaged > 20, "{damaged}");
}

#[test]
fn snapshot_isolation_alone_lets_write_skew_through_and_the_serial_checkers_see_it() {
    let (mut skewed, mut outdated) = (0, 0);
    for seed in SEEDS {
        let (history, rules) = good(Mode::Snapshot, seed);
        if let Err(found) = serial::check(&history, &rules) {
            assert!(found.has(Anomaly::WriteSkew) || found.has(Anomaly::RealTimeCycle), "{seed}: {found}");
            skewed += usize::from(found.has(Anomaly::WriteSkew));
        }
        let by_tids = serial::check_commit_order(&history);
        outdated += usize::from(by_tids.is_err_and(|found| found.has(Anomaly::OutdatedAtCommit)));
    }
    assert!(skewed > 20 && outdated > 20, "{skewed} {outdated}");
}

#[test]
fn merged_appends_of_readers_show_read_skew() {
    let found = SEEDS.filter_map(|seed| {
        let (history, rules) = good(Mode::Merging, seed);
        serial::check(&history, &rules).err()
    });
    assert!(found.filter(|found| found.has(Anomaly::ReadSkew)).count() > 20);
}

#[test]
fn final_sums_are_exact_but_for_the_unknown() {
    let (history, _) = good(Mode::Merging, 3);
    let last: BTreeMap<u64, i64> = history
        .txns
        .last()
        .expect("the last")
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::Value { counter, seen } => Some((*counter, *seen)),
            _ => None,
        })
        .collect();
    assert_eq!(counter::check(&history, &last).expect("exact").reads, 2);
    let total = counter::totals(&history);
    let wrong = last.iter().map(|(counter, value)| {
        let unknown: i64 = total[counter].unknown.iter().map(|add| add.abs()).sum();
        (*counter, value + 2 * unknown + 1)
    });
    assert!(counter::check(&history, &wrong.collect()).expect_err("wrong").has(Anomaly::WrongSum));
}
