//! Evolves in the numbers, from records as clients write them, good and bad ones.

use super::scrape::{commit, new_oid, scrape, start};
use zeolite_proto::evolve::{
    JobRecord, Owed, Part, Phase, Plan, ROOT_NAME, RangeRecord, Settings, Stored, Target, owed_cell, range_cell,
};
use zeolite_proto::resolvers::{class, collection, entry};
use zeolite_proto::{Cell, Change, Oid, Record, Tid, Write};
use zeolite_server::server::Server;
use zeolite_server::store::disk::sim::SimDisk;

fn job(name: &str, phase: Phase) -> JobRecord {
    JobRecord {
        name: name.into(),
        plan: Plan::below("Page", 2),
        target: Some(Target { class: "Page".into(), version: 2, gate: false }),
        settings: Settings::default(),
        phase,
        pause: None,
        reason: String::new(),
        snapshot: 1,
        planned: 1,
        started: 0,
        ended: 0,
        total: 10,
        ranges: 1,
        certificate: None,
        step: String::new(),
        beside: false,
    }
}

/// A database with a directory of evolves.
struct House {
    server: Server,
    directory: Oid,
    commits: u128,
}

impl House {
    async fn new() -> House {
        let server = start(SimDisk::new(), |_| {}).await;
        let directory = new_oid(&server).await;
        let mut house = House { server, directory, commits: 0 };
        house.put(Cell::object(directory), &collection::record(class::MAP)).await;
        house.put(Cell::entry(Oid::ROOT, ROOT_NAME), &entry::record(b"x", vec![directory])).await;
        house
    }

    async fn put(&mut self, cell: Cell, record: &Record) {
        self.write(cell, record.encode().expect("small")).await;
    }

    async fn write(&mut self, cell: Cell, record: bytes::Bytes) {
        self.commits += 1;
        let write = Write { cell, base: Tid::NONE, change: Change::Put(record), stamped: false };
        commit(&self.server, self.commits, write).await.expect("a first write");
    }

    /// A named job with a range that is held, and the one for the end.
    async fn job(&mut self, job: &JobRecord) -> Oid {
        let oid = new_oid(&self.server).await;
        self.put(Cell::entry(self.directory, job.name.clone()), &entry::record(b"x", vec![oid])).await;
        self.write(Cell::object(oid), job.encode().expect("encodes")).await;
        let mut range = RangeRecord::new(Part::Objects { after: 0, last: 99 }, 10);
        (range.holder, range.rate, range.waits_for) = ("w".into(), 2.5, "live p99".into());
        (range.counts.done, range.counts.stepped_again) = (4, 3);
        self.write(range_cell(oid, 0), range.encode().expect("encodes")).await;
        let end = RangeRecord::new(Part::Finish, 0).encode().expect("encodes");
        self.write(range_cell(oid, 1), end).await;
        oid
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_told_whatever_its_name_is() {
    let mut house = House::new().await;
    let oid = house.job(&job("a \"b\"\\", Phase::Running)).await;
    let over = Cell::object(Oid(77));
    let owed = Owed::new(Tid(9), &over).encode().expect("encodes");
    house.write(owed_cell(oid, Tid(9), &over), owed).await;
    let told = scrape(&house.server).await;
    // Labels are kept as they are written: with what the format escapes.
    let of = |name: &str| told.value(&format!("zeolite_evolve_{name}{{evolve=\"a \\\"b\\\"\\\\\"}}"));
    assert_eq!(["objects", "objects_done", "workers"].map(of), [10.0, 4.0, 1.0]);
    assert_eq!(["objects_per_second", "stepped_again", "objects_bad"].map(of), [2.5, 3.0, 0.0]);
    assert_eq!(of("owed"), 1.0);
    assert_eq!(told.value("zeolite_evolves{state=\"throttled\"}"), 1.0);
    assert_eq!(told.value("zeolite_loads_total"), 0.0, "what the numbers need is no load of a client");
    house.server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_are_counted_and_break_nothing() {
    let mut house = House::new().await;
    house.job(&job("good", Phase::Running)).await;
    // One whose record is of another class, and one that refers to nothing.
    let other = new_oid(&house.server).await;
    house.put(Cell::object(other), &Record::new("Page", 1, "x")).await;
    house.put(Cell::entry(house.directory, "other"), &entry::record(b"x", vec![other])).await;
    house.put(Cell::entry(house.directory, "nothing"), &entry::record(b"x", Vec::new())).await;
    // One whose object is not there: it was just forgotten.
    house.put(Cell::entry(house.directory, "gone"), &entry::record(b"x", vec![Oid(999)])).await;
    // One that claims more ranges than anybody wants to read, one with half of its bytes, and one with a bad range.
    let mut huge = job("huge", Phase::Running);
    huge.ranges = u32::MAX;
    house.job(&huge).await;
    let half = new_oid(&house.server).await;
    let bytes = job("half", Phase::Running).encode().expect("encodes");
    house.write(Cell::object(half), bytes.slice(..bytes.len() / 2)).await;
    house.put(Cell::entry(house.directory, "half"), &entry::record(b"x", vec![half])).await;
    let mut three = job("three", Phase::Done);
    three.ranges = 2;
    let oid = house.job(&three).await;
    house.put(range_cell(oid, 2), &Record::new(RangeRecord::CLASS, 1, "not a range")).await;

    // Another entry for one job, and a name that nobody can have given.
    let again = house.job(&job("again", Phase::Running)).await;
    house.put(Cell::entry(house.directory, "twice"), &entry::record(b"x", vec![again])).await;
    let long = new_oid(&house.server).await;
    house.write(Cell::object(long), job(&"x".repeat(201), Phase::Running).encode().expect("encodes")).await;
    house.put(Cell::entry(house.directory, "long"), &entry::record(b"x", vec![long])).await;

    let told = scrape(&house.server).await;
    assert_eq!(told.value("zeolite_evolves_unreadable"), 6.0);
    assert_eq!(told.value("zeolite_evolve_state{evolve=\"good\",state=\"throttled\"}"), 1.0);
    assert_eq!(told.value("zeolite_evolve_objects_done{evolve=\"good\"}"), 4.0);
    assert_eq!(told.value("zeolite_evolve_state{evolve=\"huge\",state=\"running\"}"), 1.0);
    assert!(!told.samples.contains_key("zeolite_evolve_objects{evolve=\"huge\"}"), "its ranges are not known");
    assert_eq!(told.value("zeolite_evolve_state{evolve=\"three\",state=\"done\"}"), 1.0);
    assert!(told.value("zeolite_commits_total") > 0.0, "everything else is told");
    house.server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_jobs_the_unfinished_and_the_newest_are_told() {
    let mut house = House::new().await;
    house.job(&job("first", Phase::Planned)).await;
    for number in 0..60 {
        house.job(&job(&format!("done-{number:02}"), Phase::Done)).await;
    }
    let told = scrape(&house.server).await;
    assert_eq!(told.value("zeolite_evolves{state=\"done\"}"), 60.0);
    assert_eq!(told.value("zeolite_evolves_left_out"), 11.0);
    let is_told =
        |name: &str| told.samples.contains_key(&format!("zeolite_evolve_state{{evolve=\"{name}\",state=\"done\"}}"));
    assert!(is_told("first") && is_told("done-59") && is_told("done-11") && !is_told("done-10"));
    house.server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_sign_for_its_lease_has_no_rate() {
    let mut house = House::new().await;
    house.job(&job("alive", Phase::Running)).await;
    let mut gone = job("gone", Phase::Running);
    gone.settings.lease_ms = 0;
    house.job(&gone).await;
    let told = loop {
        let told = scrape(&house.server).await;
        if told.value("zeolite_evolve_workers{evolve=\"gone\"}") == 0.0 {
            break told;
        }
    };
    let of = |name: &str| told.value(&format!("zeolite_evolve_{name}"));
    assert_eq!(of("objects_per_second{evolve=\"gone\"}"), 0.0);
    assert_eq!(of("state{evolve=\"gone\",state=\"running\"}"), 1.0, "nobody waits for the site any more");
    assert_eq!(["workers", "objects_per_second"].map(|name| of(&format!("{name}{{evolve=\"alive\"}}"))), [1.0, 2.5]);
    house.server.stop().await.expect("stops");
}
