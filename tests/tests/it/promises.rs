//! What a copy of a database promises: its durable prepared drafts, met by what goes on where they are restored.

use zeolite_proto::resolvers::{class, counter};
use zeolite_proto::{Cell, CommitKey, FaultKind, Oid, Record, Tid};
use zeolite_server::engine::{Caller, Owner, Preparing, Turn};
use zeolite_server::store::Txn;
use zeolite_tests::support::work::key;
use zeolite_tests::support::{House, HouseSettings, Told, Work};

/// What is restored is no new draft, so the gate does not see it come; but from then on it may be finished, in the old shape.
#[test]
fn a_prepared_draft_of_an_old_shape_does_not_come_into_a_copy_while_its_gate_tries_to_close() {
    let log = log_of_a_promise();
    let mut here = House::new(Default::default());
    let (done, closed) = Told::pair();
    here.engine().close_gate("Note".into(), 2, "notes".into(), done);
    here.loops().turn_sequencer();
    assert!(here.engine().gates().is_empty(), "it tries, and waits for what is sealed");
    assert_eq!(restore(&mut here, &log), Err(FaultKind::Busy), "it comes back when the gate is closed or not");
    closed.expect().expect("nothing was in its way");
    assert_eq!(here.engine().gates().len(), 1);
    assert_eq!(finish(&mut here), Err(FaultKind::PrepareLost), "it is not there");
}

#[test]
fn a_prepared_draft_of_an_old_shape_is_not_behind_a_closed_gate_whichever_is_restored_first() {
    let (promise, closing) = (log_of_a_promise(), log_of_a_gate());
    let mut here = House::new(Default::default());
    restore(&mut here, &closing).expect("restores");
    assert_eq!(restore(&mut here, &promise), Err(FaultKind::Gated));
    assert_eq!(finish(&mut here), Err(FaultKind::PrepareLost), "it is not there");

    let mut here = House::new(Default::default());
    restore(&mut here, &promise).expect("restores");
    assert_eq!(restore(&mut here, &closing), Err(FaultKind::Busy), "it comes back when the draft is ended");
    assert!(here.engine().gates().is_empty());
    finish(&mut here).expect("it was promised");
    let later = Txn { tid: here.engine().visible().next(), ..closing.last().expect("the gate").clone() };
    restore(&mut here, &[later]).expect("nothing is promised any more");
    assert_eq!(here.engine().gates().len(), 1);
}

/// The gate is sealed and not in force when the draft comes: as in a log of an older program.
#[test]
fn what_is_behind_a_closed_gate_all_the_same_cannot_be_finished() {
    let both: Vec<Txn> = log_of_a_gate().into_iter().chain(log_of_a_promise()).collect();
    let mut here = House::new(Default::default());
    restore(&mut here, &both).expect("both are sealed before either is in force");
    for _ in 0..2 {
        assert_eq!(here.engine().gates().len(), 1);
        assert_eq!(finish(&mut here), Err(FaultKind::Gated));
        here.kill().expect("opens");
    }
    let (done, aborted) = Told::pair();
    here.engine().abort(&Owner::anonymous(), 0, (Some(key(1)), None), done);
    here.run_dry();
    aborted.expect().expect("it can be given up");
    assert_eq!(here.engine().kinds().expect("reads").0.iter().filter(|kind| kind.class == "Note").count(), 0);
}

#[test]
fn very_much_that_was_read_is_held_like_little_and_only_sixteen_times() {
    let mut here = House::new(Default::default());
    let first = here.oids(40_000).expect("oids").0;
    let cell = |n: u64| Cell::object(Oid(first + n));
    let record = Record::new("Note", 1, "a");
    let prepare = |here: &mut House, n: u64, base: Tid| {
        let reads = (0..2000).map(|at| cell(2000 * n + at));
        let work = reads.fold(Work::new(key(n)), |work, cell| work.read(cell, base));
        let (done, told) = Told::pair();
        here.engine().prepare(Caller::default(), work.draft(), Preparing::default(), done);
        here.run_dry();
        told.expect().map_err(|fault| fault.kind)
    };
    let put = |n: u64, at: u64| Work::new(key(100 + n)).put(cell(at), Tid::NONE, &record).draft();
    let tid = here.commit(put(0, 2345)).expect("commits").tid;
    assert_eq!(prepare(&mut here, 1, tid.prev()).map(drop), Err(FaultKind::ReadConflict));
    let ids: Vec<u64> = (0..16).map(|n| prepare(&mut here, n, tid).expect("prepares").prepared).collect();
    assert_eq!(prepare(&mut here, 17, tid).map(drop), Err(FaultKind::Busy));
    let beside = here.commit(put(1, 39_000));
    assert!(beside.is_ok(), "nobody has read that");
    let waits = here.submit(put(2, 31_999));
    here.run_dry();
    let (done, aborted) = Told::pair();
    here.engine().abort(&Owner::anonymous(), ids[15], (Some(key(15)), None), done);
    here.run_dry();
    aborted.expect().expect("aborts");
    waits.expect().expect("it waited for that");
    prepare(&mut here, 17, beside.expect("commits").tid).expect("there is room again");
}

#[test]
fn a_promise_is_given_at_once_or_when_what_it_rests_on_is_durable() {
    let mut here = House::new(Default::default());
    let first = here.oids(10).expect("oids").0;
    let cell = |n: u64| Cell::object(Oid(first + n));
    let record = Record::new("Note", 1, "a");
    let put = |n: u64| Work::new(key(n)).put(cell(n), Tid::NONE, &record);
    let add = |n: u64| Work::new(key(n)).apply(cell(0), class::COUNTER, counter::add(1));
    here.commit(add(0).draft()).expect("commits");
    let prepare = |here: &mut House, work: Work| {
        let (done, told) = Told::pair();
        here.engine().prepare(Caller::default(), work.draft(), Preparing::default(), done);
        here.loops().turn_sequencer();
        told
    };
    let at_once = prepare(&mut here, put(1));
    at_once.expect().expect("the writer was not asked");
    let on_its_way = here.submit(add(2).put(cell(6), Tid::NONE, &record).draft());
    here.loops().turn_sequencer();
    prepare(&mut here, put(3)).expect().expect("nothing on its way has to do with it");
    let merged = prepare(&mut here, add(4));
    let read = prepare(&mut here, put(5).read(cell(6), Tid::NONE));
    assert!(!merged.is_told() && !read.is_told(), "what they rest on may be refused");
    here.run_dry();
    on_its_way.expect().expect("commits");
    merged.expect().expect("is promised");
    assert_eq!(read.expect().map_err(|fault| fault.kind).map(drop), Err(FaultKind::ReadConflict));
}

/// What was promised at once is kept, whatever becomes of what was on its way; what rests on that was not promised.
#[test]
fn a_promise_beside_what_is_refused_is_kept() {
    let mut settings = HouseSettings::default();
    settings.store.log_room_bytes = 0;
    let mut here = House::new(settings);
    let first = here.oids(10).expect("oids").0;
    let cell = |n: u64| Cell::object(Oid(first + n));
    let record = Record::new("Note", 1, "a");
    let large = Record::new("Note", 1, vec![0; 9000]);
    let add = |n: u64| Work::new(key(n)).apply(cell(0), class::COUNTER, counter::add(1));
    let prepare = |here: &mut House, work: Work| {
        let (done, told) = Told::pair();
        here.engine().prepare(Caller::default(), work.draft(), Preparing::default(), done);
        here.loops().turn_sequencer();
        told
    };
    here.commit(add(0).draft()).expect("commits");
    let on_its_way = here.submit(add(1).put(cell(1), Tid::NONE, &large).draft());
    here.loops().turn_sequencer();
    let promised = prepare(&mut here, Work::new(key(2)).put(cell(2), Tid::NONE, &record));
    promised.expect().expect("is promised while that is on its way");
    let merged = prepare(&mut here, add(3));
    here.disk().set_room(Some(0));
    here.run_dry();
    assert_eq!(on_its_way.expect().map_err(|fault| fault.kind).map(drop), Err(FaultKind::DiskFull));
    assert!(merged.expect().is_err(), "it was merged with what was refused");
    here.disk().set_room(None);
    let (done, finished) = Told::pair();
    here.engine().finish(&Owner::anonymous(), 0, key(2), None, done);
    here.run_dry();
    finished.expect().expect("it was promised");
}

/// What a draft had read whose end is on its way is nobody's until that has become durable: it may be prepared again.
#[test]
fn what_is_being_ended_keeps_what_it_had_read_until_it_has_ended() {
    let mut settings = HouseSettings::default();
    settings.store.log_room_bytes = 0;
    for by_range in [false, true] {
        let mut here = House::new(settings.clone());
        let first = here.oids(10).expect("oids").0;
        let cell = |n: u64| Cell::object(Oid(first + n));
        let entry = Cell::entry(Oid(first), "k");
        let large = Record::new("Note", 1, vec![0; 9000]);
        let read = here.commit(Work::new(key(0)).put(entry.clone(), Tid::NONE, &large).draft()).expect("commits").tid;
        let prepare = |here: &mut House, work: Work| {
            let (done, told) = Told::pair();
            here.engine().prepare(Caller::default(), work.draft(), Preparing::default(), done);
            here.loops().turn_sequencer();
            told
        };
        let finish = |here: &mut House| {
            let (done, told) = Told::pair();
            here.engine().finish(&Owner::anonymous(), 0, key(1), None, done);
            here.loops().turn_sequencer();
            told
        };
        let reader = Work::new(key(1)).put(cell(1), Tid::NONE, &large);
        let reader =
            if by_range { reader.range(entry.oid, b"a", b"z", read) } else { reader.read(entry.clone(), read) };
        prepare(&mut here, reader).expect().expect("is promised");
        let refused = finish(&mut here);
        let writer = prepare(&mut here, Work::new(key(2)).put(entry, read, &large));
        let stamped = prepare(&mut here, Work::new(key(4)).stamped(Cell::entry(Oid(first), ""), &large));
        let stranger = prepare(&mut here, Work::new(key(3)).put(cell(3), Tid::NONE, &large));
        assert!(!writer.is_told() && stranger.is_told(), "what had read it may be prepared again");
        assert!(!stamped.is_told(), "its key may be in the range");
        here.disk().set_room(Some(0));
        here.run_dry();
        assert_eq!(refused.expect().map_err(|fault| fault.kind).map(drop), Err(FaultKind::DiskFull));
        assert!(writer.expect().is_err() && stamped.expect().is_err(), "somebody holds it");
        here.disk().set_room(None);
        let finished = finish(&mut here);
        here.run_dry();
        finished.expect().expect("nothing that it had read has changed");
    }
}

/// Of a database with one durable prepared draft, of a note in its old shape.
fn log_of_a_promise() -> Vec<Txn> {
    let mut there = House::new(Default::default());
    let note = Cell::object(there.oids(1).expect("an oid"));
    let draft = Work::new(key(1)).put(note, Tid::NONE, &Record::new("Note", 1, "old")).draft();
    let (done, prepared) = Told::pair();
    there.engine().prepare(Caller::default(), draft, Preparing { durable: true, ..Preparing::default() }, done);
    there.run_dry();
    prepared.expect().expect("prepares");
    there.engine().log_page(Tid(1), Tid::NONE, 0).expect("reads")
}

/// Of one in which the gate of notes is closed.
fn log_of_a_gate() -> Vec<Txn> {
    let mut there = House::new(Default::default());
    let (done, closed) = Told::pair();
    there.engine().close_gate("Note".into(), 2, "notes".into(), done);
    there.run_dry();
    closed.expect().expect("nothing was in its way");
    let log = there.engine().log_page(Tid(1), Tid::NONE, 0).expect("reads");
    // All houses begin with the same number, and so make the same keys.
    log.into_iter().map(|txn| Txn { key: CommitKey([0; 16]), ..txn }).collect()
}

fn restore(here: &mut House, log: &[Txn]) -> Result<(), FaultKind> {
    let restoring = here.engine().restoring().expect("may be restored into");
    let add = |txn: &Txn| {
        let (done, told) = Told::pair();
        restoring.add(txn.clone(), Tid::NONE, done);
        told
    };
    let told: Vec<_> = log.iter().map(add).collect();
    // Without the writer, through which a gate's attempt comes back to the sequencer.
    while [here.loops().turn_sequencer(), here.loops().turn_merger()].contains(&Turn::Worked) {}
    here.run_dry();
    told.into_iter().try_for_each(|told| told.expect().map(drop).map_err(|fault| fault.kind))
}

fn finish(here: &mut House) -> Result<(), FaultKind> {
    let (done, finished) = Told::pair();
    here.engine().finish(&Owner::anonymous(), 0, key(1), None, done);
    here.run_dry();
    finished.expect().map(drop).map_err(|fault| fault.kind)
}
