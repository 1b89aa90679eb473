//! Cuts a recorded run at every call that changes the disk, and looks at what is left.
//!
//! The run commits (pages, a counter, a list, stamped entries, merges), fills several segments, settles and checkpoints the
//! index, and shuts down in order in between. At each cut the seed chooses which unsynced bytes survive. Then must hold:
//! it opens; everything acknowledged is there, nothing else but what was on its way; index and log agree in every read;
//! and everybody who sends again under the old key ends with the exact sum.

use std::collections::BTreeMap;
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{class, counter, list};
use zeolite_proto::{Cell, Draft, Oid, Receipt, Record, Tid};
use zeolite_server::store::disk::sim::SimDisk;
use zeolite_tests::model::{Beside, Model};
use zeolite_tests::support::recorder::{Picture, Recorder};
use zeolite_tests::support::work::key;
use zeolite_tests::support::{House, HouseSettings, Work};

const ROUNDS: u64 = 14;

fn settings() -> HouseSettings {
    let mut settings = HouseSettings::default();
    settings.store.segment_bytes_max = 4096;
    settings.store.checkpoint_log_bytes = 6000;
    settings.engine.batch_txns_max = 4;
    // The draft of two pages is written before its turn.
    (settings.engine.ready_writes_min, settings.store.ahead_bytes_min) = (2, 1);
    settings
}

/// What the run sent and what it was told, in the order of the tids.
struct Run {
    sent: Vec<Draft>,
    told: Vec<(Draft, Receipt)>,
    film: Vec<Picture>,
    /// The first picture after the oids had been handed out.
    has_oids: usize,
    counter: Cell,
}

fn drafts(round: u64, first: Oid, base: Tid) -> Vec<Draft> {
    let cell = |n: u64| Cell::object(Oid(first.0 + n));
    let text = |n: u64| Record::new("Page", 1, format!("{round}.{n}{}", "-".repeat(150 * n as usize)).into_bytes());
    let item = Item::new(format!("item {round}"));
    let append = list::append(&[item]).expect("one short item");
    let queue = cell(3);
    vec![
        Work::new(key(round * 10)).put(cell(0), base, &text(1)).apply(cell(1), class::COUNTER, counter::add(1)).draft(),
        Work::new(key(round * 10 + 1))
            .apply(cell(1), class::COUNTER, counter::add(1))
            .stamped(Cell::entry(queue.oid, "q"), &text(3))
            .draft(),
        Work::new(key(round * 10 + 2)).apply(cell(2), class::LIST, append).put(cell(4 + round), base, &text(2)).draft(),
        Work::new(key(round * 10 + 3))
            .put(cell(0), base, &text(0))
            .apply(cell(1), class::COUNTER, counter::add(1))
            .draft(),
        Work::new(key(round * 10 + 4))
            .apply(cell(1), class::COUNTER, counter::add(1))
            .delete(cell(4 + round / 2), base)
            .draft(),
        Work::new(key(round * 10 + 5)).put(cell(50 + round), base, &text(2)).put(cell(70), base, &text(4)).draft(),
    ]
}

fn play() -> Run {
    let disk = SimDisk::new();
    let recorder = Recorder::new(disk.clone());
    let mut house = House::open_through(settings(), disk, recorder.door()).expect("an empty disk opens");
    let first = house.oids(100).expect("a new house hands out oids");
    let has_oids = recorder.pictures();
    let (mut sent, mut told) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let drafts = drafts(round, first, house.engine().visible());
        let waiting: Vec<_> = drafts.iter().map(|draft| house.submit(draft.clone())).collect();
        sent.extend(drafts.iter().cloned());
        while house.loops().turn_sequencer() == zeolite_server::engine::Turn::Worked {}
        let mut answers = BTreeMap::new();
        // Batch by batch, so that a picture knows exactly what had been told before it.
        while house.loops().turn_writer() == zeolite_server::engine::Turn::Worked {
            for (draft, answer) in drafts.iter().zip(&waiting) {
                if let Some(Ok(receipt)) = answer.take() {
                    recorder.told();
                    answers.insert(receipt.tid, (draft.clone(), receipt));
                }
            }
        }
        told.extend(answers.into_values());
        if round % 3 == 2 {
            house.settle();
        }
    }
    house.shut_down().expect("a shutdown in order");
    let counter = Cell::object(Oid(first.0 + 1));
    Run { sent, told, film: recorder.film(), has_oids, counter }
}

fn look(run: &Run, picture: &Picture, seed: u64) -> Result<usize, String> {
    let mut model = Model::default();
    for (draft, receipt) in &run.told[..picture.told] {
        model.commit(draft, receipt)?;
    }
    let house = House::open(settings(), picture.disk.crash(seed)).map_err(|error| format!("does not open: {error}"))?;
    let mut beside = Beside { house, model };
    beside.catch_up(&run.sent)?;
    let found = beside.model.log().count();
    // Everybody whose draft touched the counter sends it again.
    let mut sum = 0;
    for draft in &run.sent {
        let adds = draft.writes.iter().filter(|write| write.cell == run.counter).count() as i64;
        match beside.house.commit(draft.clone()) {
            Ok(receipt) if beside.model.by_key(draft.key).is_some_and(|known| known.tid == receipt.tid) => sum += adds,
            Ok(receipt) => {
                beside.model.commit(draft, &receipt)?;
                sum += adds;
            }
            // Its page has moved on: it was never committed, and now it never will be.
            Err(fault) if beside.model.by_key(draft.key).is_none() && fault.conflict.is_some() => {}
            Err(fault) => return Err(format!("{:?} sent again: {fault}", draft.key)),
        }
    }
    let counted = beside.model.load(&run.counter, Tid::MAX).and_then(|revision| revision.record);
    let counted = counted.map_or(Ok(0), |bytes| Record::decode(&bytes).and_then(|record| counter::value(&record)));
    if counted != Ok(sum) {
        return Err(format!("the counter is {counted:?}, the commits that add to it make {sum}"));
    }
    beside.compare_everything()?;
    Ok(found)
}

/// Before the oids were handed out there is nothing yet that somebody could send.
fn only_open(picture: &Picture, seed: u64) -> Result<usize, String> {
    let house = House::open(settings(), picture.disk.crash(seed)).map_err(|error| format!("does not open: {error}"))?;
    let beside = Beside { house, model: Model::default() };
    beside.compare_everything().map(|()| 0)
}

#[test]
fn every_cut_leaves_what_was_acknowledged() {
    let run = play();
    let calls = |part: &str| run.film.iter().filter(|picture| picture.next_call.contains(part)).count();
    println!(
        "{} cuts: {} of the log, {} of the index; {} commits",
        run.film.len(),
        calls("log"),
        calls("index"),
        run.told.len()
    );
    assert!(calls("Create log") >= 3, "the run fills several segments");
    let mut more_than_told = 0;
    for (cut, picture) in run.film.iter().enumerate() {
        for seed in 0..4 {
            let seed = (cut * 10 + seed) as u64;
            let looked = if cut < run.has_oids { only_open(picture, seed) } else { look(&run, picture, seed) };
            match looked {
                Ok(found) => more_than_told += usize::from(found > picture.told),
                Err(error) => panic!("cut {cut} before {:?}, seed {seed}: {error}", picture.next_call),
            }
        }
    }
    println!("{more_than_told} times there was more than had been told");
    assert!(more_than_told > 0, "some cuts fall between the disk and the telling");
}
