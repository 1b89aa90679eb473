//! A large draft that was made ready, and that something has come in the way of before its turn: judged like any other, without asking again for
//! what was found out about it.

use zeolite_proto::{Cell, Oid, Record, Tid};
use zeolite_tests::support::work::{Work, key};
use zeolite_tests::support::{House, HouseSettings};

#[test]
fn what_was_compared_with_the_store_already_is_not_fetched_when_something_else_is_committed_first() {
    let mut settings = HouseSettings::default();
    (settings.engine.ready_writes_min, settings.engine.recent_cells_max) = (4, 4);
    // All that is deleted below is more than may be fetched for a draft.
    settings.limits.draft_bytes_max = 3000;
    (settings.store.kept_bytes_max, settings.store.inline_bytes_max, settings.store.cache_bytes) = (0, 0, 0);
    let mut house = House::new(settings);
    let first = house.oids(40).expect("oids").0;
    let cell = |n: u64| Cell::object(Oid(first + n));
    let record = |n: u64| Record::new("Page", 1, vec![n as u8; 1000]);
    for n in 0..12 {
        house.commit(Work::new(key(n)).put(cell(n), Tid::NONE, &record(n)).draft()).expect("commits");
    }
    let base = house.engine().visible();
    for n in 12..20 {
        house.commit(Work::new(key(n)).put(cell(n), Tid::NONE, &record(n)).draft()).expect("commits");
    }
    house.settle();
    let before = house.submit(Work::new(key(20)).put(cell(20), Tid::NONE, &record(20)).draft());
    let deletes = (0..12).fold(Work::new(key(21)), |work, n| work.delete(cell(n), base));
    let large = house.submit(deletes.draft());
    house.run_dry();
    before.expect().expect("commits");
    large.expect().expect("nothing is in its way");
}
