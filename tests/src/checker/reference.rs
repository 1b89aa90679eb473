//! Owns the reference database: a few lines that are right by inspection, to make good histories for the checkers' tests.
//!
//! Clients are interleaved by seeded dice. A transaction reads its snapshot, and a commit is checked as the mode says. Some answers
//! are lost: those transactions are recorded as unknown, whether they happened or not.

use super::{ClientLog, History, OpenTxn, Recorder, Rules};
use std::collections::{BTreeMap, BTreeSet};
use zeolite_proto::Tid;

/// How the reference database decides on a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// First committer wins on lists.
    Snapshot,
    /// Also, nothing that was read may have changed.
    Serializable,
    /// Appends are merged.
    Merging,
}

pub(super) struct Run {
    pub(super) mode: Mode,
    pub(super) seed: u64,
    pub(super) txns: usize,
}

const CLIENTS: usize = 5;
const LISTS: u64 = 4;
const COUNTERS: u64 = 2;

struct Open {
    log: OpenTxn,
    snapshot: Tid,
    read_lists: BTreeSet<u64>,
    read_counters: BTreeSet<u64>,
    appends: Vec<(u64, u64)>,
    adds: Vec<(u64, i64)>,
    steps: usize,
}

#[derive(Default)]
struct Database {
    visible: Tid,
    lists: BTreeMap<u64, Vec<(Tid, u64)>>,
    counters: BTreeMap<u64, Vec<(Tid, i64)>>,
}

impl Database {
    fn list(&self, list: u64, at: Tid) -> Vec<u64> {
        let items = self.lists.get(&list).into_iter().flatten();
        items.filter(|(tid, _)| *tid <= at).map(|(_, item)| *item).collect()
    }

    fn counter(&self, counter: u64, at: Tid) -> i64 {
        self.counters.get(&counter).into_iter().flatten().filter(|(tid, _)| *tid <= at).map(|(_, add)| add).sum()
    }

    fn changed_since<T>(cells: &BTreeMap<u64, Vec<(Tid, T)>>, cell: u64, snapshot: Tid) -> bool {
        cells.get(&cell).and_then(|writes| writes.last()).is_some_and(|(tid, _)| *tid > snapshot)
    }

    fn commit(&mut self, txn: &Open, mode: Mode) -> Option<Tid> {
        let list_changed = |list: &u64| Database::changed_since(&self.lists, *list, txn.snapshot);
        let counter_changed = |counter: &u64| Database::changed_since(&self.counters, *counter, txn.snapshot);
        let lost = mode != Mode::Merging && txn.appends.iter().any(|(list, _)| list_changed(list));
        let outdated = txn.read_lists.iter().any(list_changed) || txn.read_counters.iter().any(counter_changed);
        if lost || (mode == Mode::Serializable && outdated) {
            return None;
        }
        self.visible = Tid(self.visible.0 + 1);
        let tid = self.visible;
        txn.appends.iter().for_each(|(list, item)| self.lists.entry(*list).or_default().push((tid, *item)));
        txn.adds.iter().for_each(|(counter, add)| self.counters.entry(*counter).or_default().push((tid, *add)));
        Some(tid)
    }
}

impl Run {
    pub(super) fn rules(&self) -> Rules {
        Rules { lists_merge: self.mode == Mode::Merging, counters_conflict: false, real_time: true }
    }

    /// A history that keeps every promise of the mode. The last transaction, of client "last", reads everything.
    pub(super) fn history(&self) -> History {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let recorder = Recorder::new();
        let clients: Vec<ClientLog> = (0..CLIENTS).map(|at| recorder.client(&format!("client-{at}"))).collect();
        let mut open: Vec<Option<Open>> = (0..CLIENTS).map(|_| None).collect();
        let mut database = Database::default();
        let mut begun = 0;
        while begun < self.txns {
            let at = rng.usize(..CLIENTS);
            match open[at].take() {
                None => {
                    begun += 1;
                    open[at] = Some(begin(&clients[at], database.visible, &mut rng));
                }
                Some(mut txn) if txn.steps > 0 => {
                    txn.steps -= 1;
                    step(&mut txn, &database, &recorder, &mut rng);
                    open[at] = Some(txn);
                }
                Some(txn) => finish(txn, &mut database, self.mode, &mut rng),
            }
        }
        open.into_iter().flatten().for_each(|txn| txn.log.aborted());
        let mut last = begin(&recorder.client("last"), database.visible, &mut rng);
        (0..LISTS).for_each(|list| last.log.read(list, &database.list(list, last.snapshot)));
        (0..COUNTERS).for_each(|counter| last.log.value(counter, database.counter(counter, last.snapshot)));
        last.log.read_only();
        recorder.history()
    }
}

fn begin(client: &ClientLog, snapshot: Tid, rng: &mut fastrand::Rng) -> Open {
    let mut log = client.begin();
    log.at(snapshot);
    Open {
        log,
        snapshot,
        read_lists: BTreeSet::new(),
        read_counters: BTreeSet::new(),
        appends: Vec::new(),
        adds: Vec::new(),
        steps: rng.usize(1..6),
    }
}

fn step(txn: &mut Open, database: &Database, recorder: &Recorder, rng: &mut fastrand::Rng) {
    let (list, counter) = (rng.u64(..LISTS), rng.u64(..COUNTERS));
    match rng.u8(..10) {
        0..=3 => {
            let mut seen = database.list(list, txn.snapshot);
            seen.extend(txn.appends.iter().filter(|(of, _)| *of == list).map(|(_, item)| item));
            txn.read_lists.insert(list);
            txn.log.read(list, &seen);
        }
        4..=6 => {
            let item = recorder.new_item();
            txn.appends.push((list, item));
            txn.log.append(list, item);
        }
        7 => {
            let own: i64 = txn.adds.iter().filter(|(of, _)| *of == counter).map(|(_, add)| add).sum();
            txn.read_counters.insert(counter);
            txn.log.value(counter, database.counter(counter, txn.snapshot) + own);
        }
        _ => {
            let difference = rng.i64(-3..10);
            txn.adds.push((counter, difference));
            txn.log.add(counter, difference);
        }
    }
}

fn finish(txn: Open, database: &mut Database, mode: Mode, rng: &mut fastrand::Rng) {
    let wrote = !txn.appends.is_empty() || !txn.adds.is_empty();
    let fate = rng.u8(..30);
    match fate {
        _ if !wrote => txn.log.read_only(),
        0 => txn.log.unknown(),
        1 => {
            database.commit(&txn, mode);
            txn.log.unknown();
        }
        2 => txn.log.aborted(),
        _ => match database.commit(&txn, mode) {
            Some(tid) => txn.log.committed(tid),
            None => txn.log.aborted(),
        },
    }
}
