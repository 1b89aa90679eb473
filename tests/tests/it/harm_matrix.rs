//! Lets every single disk call of a run go wrong, in every way in which it can, and looks at what clients are told.
//!
//! The run opens a new store, commits (pages, a counter, a list, stamped entries), reads, settles, packs, and shuts down in
//! order. Whatever goes wrong: an answer is right, or it is a fault; a commit that was acknowledged is there in the next life,
//! one that was refused is not, and the next life takes commits. Where the bytes themselves are wrong (a bit was flipped on
//! its way to the disk), what is lost must be named: a refusal to open, a fault, or an end of the log that was cut off and kept.

use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{class, counter, list};
use zeolite_proto::{Cell, Draft, Fault, FaultKind, Oid, PackOptions, Receipt, Record, Tid};
use zeolite_server::engine::Outcome;
use zeolite_server::store::Range;
use zeolite_server::store::disk::SimDisk;
use zeolite_tests::model::{Beside, Model};
use zeolite_tests::support::harm::{Harm, HarmedDisk};
use zeolite_tests::support::work::key;
use zeolite_tests::support::{House, HouseSettings, Work};

const ROUNDS: u64 = 7;
const PACK_AFTER: u64 = 4;

fn settings() -> HouseSettings {
    let mut settings = HouseSettings::default();
    settings.store.segment_bytes_max = 4096;
    settings.store.checkpoint_log_bytes = 3000;
    settings.store.cache_bytes = 2000;
    settings.store.recent_entries_max = 1;
    settings.engine.batch_txns_max = 4;
    // The draft of two pages is written before its turn.
    (settings.engine.ready_writes_min, settings.store.ahead_bytes_min) = (2, 1);
    (settings.engine.history_min_s, settings.engine.pin_grace_s) = (0, 0);
    settings
}

fn drafts(round: u64, first: Oid, base: Tid) -> Vec<Draft> {
    let cell = |n: u64| Cell::object(Oid(first.0 + n));
    let text = |n: u64| Record::new("Page", 1, format!("{round}.{n}{}", "-".repeat(200 * n as usize)).into_bytes());
    let append = list::append(&[Item::new(format!("item {round}"))]).expect("one short item");
    let root = Record { refs: (0..20).map(|n| Oid(first.0 + n)).collect(), ..text(0) };
    vec![
        Work::new(key(round * 10)).put(Cell::object(Oid::ROOT), base, &root).put(cell(0), base, &text(1)).draft(),
        Work::new(key(round * 10 + 1))
            .apply(cell(1), class::COUNTER, counter::add(1))
            .stamped(Cell::entry(cell(3).oid, "q"), &text(2))
            .draft(),
        Work::new(key(round * 10 + 2)).apply(cell(2), class::LIST, append).put(cell(4 + round), base, &text(3)).draft(),
        Work::new(key(round * 10 + 3)).apply(cell(1), class::COUNTER, counter::add(1)).draft(),
    ]
}

/// A run on a disk of which perhaps one call goes wrong.
struct Run {
    beside: Beside,
    first: Oid,
    acknowledged: Vec<(Draft, Receipt)>,
    /// Nobody was told what became of them.
    doubtful: Vec<Draft>,
    refused: Vec<Draft>,
}

impl Run {
    fn play(disk: &SimDisk, door: &HarmedDisk) -> Result<Option<Run>, String> {
        let Ok(mut house) = House::open_through(settings(), disk.clone(), Arc::new(door.clone())) else {
            return Ok(None);
        };
        let Ok(first) = house.oids(100) else { return Ok(None) };
        let beside = Beside { house, model: Model::default() };
        let mut run = Run { beside, first, acknowledged: Vec::new(), doubtful: Vec::new(), refused: Vec::new() };
        for round in 0..ROUNDS {
            run.beside.house.clock().advance(Duration::from_secs(1));
            run.round(round)?;
            run.look().map_err(|error| format!("round {round}: {error}"))?;
            if round % 2 == 1 {
                run.beside.house.settle();
            }
            if round == PACK_AFTER {
                run.pack();
            }
        }
        let _ = run.beside.house.shut_down();
        Ok(Some(run))
    }

    fn round(&mut self, round: u64) -> Result<(), String> {
        let drafts = drafts(round, self.first, self.beside.house.engine().visible());
        let told: Vec<_> = drafts.iter().map(|draft| self.beside.house.submit(draft.clone())).collect();
        self.beside.house.run_dry();
        let mut receipts = Vec::new();
        for (draft, told) in drafts.into_iter().zip(told) {
            match told.take() {
                Some(Ok(receipt)) => receipts.push((draft, receipt)),
                Some(Err(fault)) if fault.kind == FaultKind::OutcomeUnknown => self.doubtful.push(draft),
                Some(Err(_)) => self.refused.push(draft),
                None => return Err(format!("a draft of round {round} was never answered")),
            }
        }
        receipts.sort_by_key(|(_, receipt)| receipt.tid);
        for (draft, receipt) in receipts {
            self.beside.model.commit(&draft, &receipt)?;
            self.acknowledged.push((draft, receipt));
        }
        Ok(())
    }

    /// A pack waits for the loops, which stand still here unless somebody turns them.
    fn pack(&mut self) {
        let engine = self.beside.house.engine().clone();
        let packing = std::thread::spawn(move || engine.pack(PackOptions::default(), &mut |_| true));
        while !packing.is_finished() {
            self.beside.house.run_dry();
            std::thread::yield_now();
        }
        // Refused or done: what can be read afterwards tells.
        let _ = packing.join().expect("a pack does not panic");
    }

    /// Everything there is now: right, or a fault.
    fn look(&self) -> Result<(), String> {
        let cells: Vec<Cell> = self.beside.model.cells().cloned().collect();
        for cell in &cells {
            told(self.beside.compare_load(Tid::NONE, std::slice::from_ref(cell)))?;
        }
        let all = |oid| Range { oid, from: "".into(), to: "".into(), reverse: false, keys_only: false };
        told(self.beside.compare_scan(Tid::NONE, &all(Oid(self.first.0 + 3)), 0))?;
        told(self.beside.compare_kinds())
    }

    /// The next life, on the disk as it is.
    fn after(mut self, disk: &SimDisk, harm: Option<Harm>) -> Result<(), String> {
        let is_rotten = harm == Some(Harm::FlipsWritten);
        let house = match House::open(settings(), disk.clone()) {
            Ok(house) => house,
            Err(_) if is_rotten => return Ok(()),
            Err(error) => return Err(format!("does not open again: {error}")),
        };
        let torn = house.engine().status().torn;
        self.beside.house = house;
        if is_rotten && torn > 0 {
            return Ok(());
        }
        for (draft, receipt) in &self.acknowledged {
            match self.beside.house.engine().outcome(draft.key, Some(Tid::MAX)) {
                Ok(Outcome::Committed(now)) if now.tid == receipt.tid => {}
                Err(_) if is_rotten => {}
                other => return Err(format!("{} was acknowledged at {}, now it is {other:?}", draft.key, receipt.tid)),
            }
        }
        self.settle_doubts()?;
        self.look()?;
        let now = self.beside.house.engine().visible();
        let answer = self.beside.house.commit(Work::new(key(999)).put(Cell::object(self.first), now, &page()).draft());
        match answer {
            Err(fault) if !is_rotten => Err(format!("the next life takes no commit: {fault}")),
            _ => Ok(()),
        }
    }

    fn settle_doubts(&mut self) -> Result<(), String> {
        let mut found = Vec::new();
        for draft in self.doubtful.drain(..) {
            if let Ok(Outcome::Committed(receipt)) = self.beside.house.engine().outcome(draft.key, Some(Tid::MAX)) {
                found.push((draft, receipt));
            }
        }
        found.sort_by_key(|(_, receipt): &(Draft, Receipt)| receipt.tid);
        for (draft, receipt) in found {
            self.beside.model.commit(&draft, &receipt)?;
        }
        for draft in &self.refused {
            if let Ok(Outcome::Committed(receipt)) = self.beside.house.engine().outcome(draft.key, Some(Tid::MAX)) {
                return Err(format!("{} was refused, and is committed at {}", draft.key, receipt.tid));
            }
        }
        Ok(())
    }
}

fn page() -> Record {
    Record::new("Page", 1, "afterwards")
}

/// A fault is an answer; anything else that differs from the model is not.
fn told(compared: Result<(), String>) -> Result<(), String> {
    let says_so = |error: &String| {
        let kinds = [FaultKind::Internal, FaultKind::Damaged, FaultKind::Busy, FaultKind::Poisoned];
        kinds.iter().any(|kind| error.starts_with(&Fault::new(*kind, "").to_string()))
    };
    match compared {
        Err(error) if says_so(&error) => Ok(()),
        compared => compared,
    }
}

fn harmed(at: usize, harm: Harm) -> Result<(), String> {
    let disk = SimDisk::new();
    let door = HarmedDisk::new(Arc::new(disk.clone()), Some((at, harm)));
    match Run::play(&disk, &door)? {
        Some(run) => run.after(&disk, Some(harm)),
        None => match House::open(settings(), disk) {
            Err(error) if harm != Harm::FlipsWritten => Err(format!("a new store does not open again: {error}")),
            _ => Ok(()),
        },
    }
}

#[test]
fn whatever_one_call_does_what_is_told_is_right_or_a_fault() {
    let disk = SimDisk::new();
    let door = HarmedDisk::new(Arc::new(disk.clone()), None);
    let run = Run::play(&disk, &door).expect("all goes well").expect("opens");
    assert_eq!((run.doubtful.len(), run.refused.len()), (0, 0));
    run.after(&disk, None).expect("all is well in the next life");
    let calls = door.calls();
    let wanted = |name: &str| calls.iter().filter(|call| call.starts_with(name)).count();
    let (reads, writes) = (wanted("read"), wanted("write"));
    println!("{} calls: {reads} reads, {writes} writes, {} renames", calls.len(), wanted("rename"));
    assert!(reads > 50 && writes > 50 && wanted("rename") > 0, "the run does what it should");
    for (at, call) in calls.iter().enumerate() {
        for harm in Harm::ways(call) {
            if let Err(error) = harmed(at, *harm) {
                panic!("call {at} ({call}) {harm:?}: {error}");
            }
        }
    }
}
