//! Owns the clients of these tests: what they do in a transaction, and what they write down about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use zeolite_client::PackOptions;
use zeolite_client::{Cell, CommitKey, Db, Error, Oid, Outcome, Record, Remedy, Tid, Tx};
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{class, counter, list, set};
use zeolite_tests::checker::{ClientLog, OpenTxn, Recorder};

/// How many lists there are.
pub(crate) const LISTS: u64 = 3;
/// How many counters there are.
pub(crate) const COUNTERS: u64 = 2;
/// How many sets there are, and of how many members; they are for those who merge.
const SETS: u64 = 2;
const MEMBERS: u64 = 12;

/// How transactions write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// By operations of resolvers: nobody conflicts.
    Merging,
    /// By reading and putting, and what was read is checked.
    Serializable,
    /// By reading and putting; only what is written is checked.
    Snapshot,
}

/// The objects of a run.
#[derive(Clone)]
pub(crate) struct Objects {
    lists: Vec<Cell>,
    counters: Vec<Cell>,
    sets: Vec<Cell>,
}

impl Objects {
    /// Makes them.
    pub(crate) async fn make(db: &Db, kind: Kind) -> Objects {
        let mut cells = Vec::new();
        let sets = if kind == Kind::Merging { SETS } else { 0 };
        for _ in 0..LISTS + COUNTERS + sets {
            cells.push(Cell::object(db.new_oid().await.expect("an oid")));
        }
        // The root refers to them, or pack would take them.
        let root = Record { refs: cells.iter().map(|cell| cell.oid).collect(), ..plain(&[]) };
        let mut counters = cells.split_off(LISTS as usize);
        let sets = counters.split_off(COUNTERS as usize);
        let objects = Objects { lists: cells, counters, sets };
        let put = async |tx: Tx| {
            tx.put(Cell::object(Oid::ROOT), &root)?;
            match kind {
                Kind::Merging => Ok(()),
                Kind::Serializable | Kind::Snapshot => {
                    objects.lists.iter().try_for_each(|cell| tx.put(cell.clone(), &plain(&[])))
                }
            }
        };
        db.run(put).await.expect("puts");
        objects
    }
}

/// A list without a resolver: numbers with blanks between them.
fn plain(items: &[u64]) -> Record {
    let text: Vec<String> = items.iter().map(u64::to_string).collect();
    Record::new("Plain", 1, text.join(" ").into_bytes())
}

fn numbers(record: Option<&Record>) -> Vec<u64> {
    let Some(record) = record else { return Vec::new() };
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).expect("a number");
    match record.class.as_str() {
        class::LIST => list::items(record).expect("a list").iter().map(|item| number(&item.bytes)).collect(),
        _ => record.data.split(|byte| *byte == b' ').filter(|part| !part.is_empty()).map(number).collect(),
    }
}

/// What all clients of a run look at and count up.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) done: AtomicBool,
    pub(crate) acknowledged: AtomicUsize,
    /// Commits of which only a question told that they had happened.
    pub(crate) asked: AtomicUsize,
    pub(crate) packs: AtomicUsize,
}

/// One client.
pub(crate) struct Client {
    pub(crate) db: Db,
    pub(crate) log: ClientLog,
    pub(crate) recorder: Recorder,
    pub(crate) objects: Objects,
}

impl Client {
    /// Transactions until `done`; each acknowledged one is counted.
    pub(crate) async fn work(self, kind: Kind, seed: u64, shared: Arc<Shared>) {
        let mut dice = fastrand::Rng::with_seed(seed);
        while !shared.done.load(Ordering::SeqCst) {
            let mut txn = self.log.begin();
            // Who does not merge asks for the newest snapshot, so that real time counts.
            let begun = match kind {
                Kind::Merging => self.db.begin().await,
                Kind::Serializable => self.db.transaction().serializable().fresh().begin().await,
                Kind::Snapshot => self.db.transaction().fresh().begin().await,
            };
            let Ok(tx) = begun else {
                txn.aborted();
                continue;
            };
            txn.at(tx.snapshot());
            if let Err(error) = self.steps(&tx, &mut txn, kind, &mut dice).await {
                assert_ne!(error.remedy(), Remedy::GiveUp, "{error}");
                txn.aborted();
                continue;
            }
            match tx.commit().await {
                Ok(receipt) => {
                    txn.committed(receipt.tid);
                    shared.acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                Err(Error::OutcomeUnknown { key, .. }) => match self.ask(key).await {
                    Some(tid) => {
                        txn.committed(tid);
                        shared.asked.fetch_add(1, Ordering::SeqCst);
                    }
                    None => txn.unknown(),
                },
                Err(error) => {
                    let conflict = error.is_conflict() && kind != Kind::Merging;
                    assert!(conflict || matches!(error.remedy(), Remedy::Wait | Remedy::ReopenSnapshot), "{error}");
                    txn.aborted();
                }
            }
        }
    }

    /// Asks what became of a commit. One that the server has not heard of may still come: then it stays unknown.
    async fn ask(&self, key: CommitKey) -> Option<Tid> {
        loop {
            match self.db.outcome(key, self.db.position()).await {
                Ok(Outcome::Committed(receipt)) => return Some(receipt.tid),
                Ok(Outcome::Unknown | Outcome::Forgotten) => return None,
                Ok(Outcome::InFlight) => {}
                Err(error) => assert_eq!(error.remedy(), Remedy::Wait, "{error}"),
            }
        }
    }

    async fn steps(&self, tx: &Tx, txn: &mut OpenTxn, kind: Kind, dice: &mut fastrand::Rng) -> Result<(), Error> {
        let (read, written) = (dice.u64(0..LISTS), dice.u64(0..LISTS));
        let seen = numbers(tx.get(&self.objects.lists[read as usize]).await?.as_ref());
        txn.read(read, &seen);
        let (item, to) = (self.recorder.new_item(), &self.objects.lists[written as usize]);
        let text = Item::new(item.to_string());
        if kind == Kind::Merging {
            let operation = list::append(&[text]).map_err(Error::app)?;
            tx.apply(to.clone(), class::LIST, operation)?;
            txn.append(written, item);
        } else {
            let mut all = numbers(tx.get(to).await?.as_ref());
            txn.read(written, &all);
            all.push(item);
            tx.put(to.clone(), &plain(&all))?;
            txn.append(written, item);
        }
        if kind == Kind::Merging {
            self.step_of_a_set(tx, txn, dice).await?;
        }
        let (number, by) = (dice.u64(0..COUNTERS), dice.i64(1..100));
        let cell = &self.objects.counters[number as usize];
        let value = value(tx, cell).await?;
        txn.value(number, value);
        match kind {
            Kind::Merging => tx.apply(cell.clone(), class::COUNTER, counter::add(by))?,
            // A class without a resolver: concurrent adds conflict.
            Kind::Serializable | Kind::Snapshot => {
                tx.put(cell.clone(), &Record { class: "Sum".into(), ..counter::record(value + by) })?
            }
        }
        txn.add(number, by);
        let own = numbers(tx.get(to).await?.as_ref());
        txn.read(written, &own);
        Ok(())
    }

    /// Puts one member in or takes it out, and reads the set before or after it.
    async fn step_of_a_set(&self, tx: &Tx, txn: &mut OpenTxn, dice: &mut fastrand::Rng) -> Result<(), Error> {
        let (number, item, there) = (dice.u64(0..SETS), dice.u64(0..MEMBERS), dice.bool());
        let cell = &self.objects.sets[number as usize];
        if dice.bool() {
            txn.members(number, &members(tx, cell).await?);
        }
        let member = Item::new(item.to_string());
        let operation = if there { set::add(member) } else { set::remove(member) };
        tx.apply(cell.clone(), class::SET, operation.map_err(Error::app)?)?;
        txn.member(number, item, there);
        txn.members(number, &members(tx, cell).await?);
        Ok(())
    }

    /// Reads every list, counter and set in one transaction; gives the counters.
    pub(crate) async fn read_everything(&self, kind: Kind) -> Result<BTreeMap<u64, i64>, Error> {
        let mut txn = self.log.begin();
        let tx = self.db.transaction().fresh().begin().await?;
        txn.at(tx.snapshot());
        for (number, cell) in self.objects.lists.iter().enumerate() {
            let seen = numbers(tx.get(cell).await?.as_ref());
            assert!(!seen.is_empty(), "{kind:?}: list {number} is empty");
            txn.read(number as u64, &seen);
        }
        let mut counters = BTreeMap::new();
        for (number, cell) in self.objects.counters.iter().enumerate() {
            let value = value(&tx, cell).await?;
            txn.value(number as u64, value);
            counters.insert(number as u64, value);
        }
        for (number, cell) in self.objects.sets.iter().enumerate() {
            txn.members(number as u64, &members(&tx, cell).await?);
        }
        txn.read_only();
        Ok(counters)
    }
}

async fn members(tx: &Tx, cell: &Cell) -> Result<Vec<u64>, Error> {
    let record = tx.get(cell).await?;
    let members = record.map_or(Ok(Default::default()), |record| set::members(&record)).map_err(Error::app)?;
    let number = |item: &Item| std::str::from_utf8(&item.bytes).ok().and_then(|text| text.parse().ok());
    Ok(members.iter().map(|item| number(item).expect("a number")).collect())
}

async fn value(tx: &Tx, cell: &Cell) -> Result<i64, Error> {
    let record = tx.get(cell).await?;
    record.map_or(Ok(0), |record| counter::value(&record)).map_err(Error::app)
}

/// Packs again and again; a pack that a kill has ended begins anew.
pub(crate) async fn pack(db: Db, shared: Arc<Shared>) {
    while !shared.done.load(Ordering::SeqCst) {
        let Ok(mut pages) = db.admin().pack(PackOptions::default()).await else { continue };
        while let Ok(Some(progress)) = pages.next().await {
            shared.packs.fetch_add(usize::from(progress.done), Ordering::SeqCst);
        }
    }
}

/// What the server's own check of log and index finds.
pub(crate) async fn verify(db: &Db) -> Vec<String> {
    let mut pages = db.admin().verify().await.expect("verifies");
    let mut problems = Vec::new();
    while let Some(progress) = pages.next().await.expect("verifies") {
        problems.extend(progress.problems.iter().map(|problem| format!("{problem:?}")));
        problems.extend(progress.dangling.iter().map(|reference| format!("{reference:?}")));
    }
    problems
}
