//! What a copy of a database promises: its durable prepared drafts, met by what goes on where they are restored.

use zeolite_proto::{Cell, FaultKind, Record, Tid};
use zeolite_server::engine::{Caller, Owner, Preparing, Turn};
use zeolite_server::store::Txn;
use zeolite_tests::support::work::key;
use zeolite_tests::support::{House, Told, Work};

/// What is restored is no new draft, so the gate does not see it come; but from then on it may be finished, in the old shape.
#[test]
fn a_prepared_draft_of_an_old_shape_does_not_come_into_a_copy_while_its_gate_tries_to_close() {
    let mut there = House::new(Default::default());
    let note = Cell::object(there.oids(1).expect("an oid"));
    let draft = Work::new(key(1)).put(note, Tid::NONE, &Record::new("Note", 1, "old")).draft();
    let (done, prepared) = Told::pair();
    there.engine().prepare(Caller::default(), draft, Preparing { durable: true, ..Preparing::default() }, done);
    there.run_dry();
    prepared.expect().expect("prepares");
    let log = there.engine().log_page(Tid(1), Tid::NONE, 0).expect("reads");

    let mut here = House::new(Default::default());
    let restore = |here: &mut House| {
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
        told.into_iter().map(|told| told.expect().map_err(|fault| fault.kind)).collect::<Result<Vec<_>, _>>()
    };
    let (done, closed) = Told::pair();
    here.engine().close_gate("Note".into(), 2, "notes".into(), done);
    here.loops().turn_sequencer();
    assert!(here.engine().gates().is_empty(), "it tries, and waits for what is sealed");
    assert_eq!(restore(&mut here).map(drop), Err(FaultKind::Busy), "it comes back when the gate is closed or not");
    closed.expect().expect("nothing was in its way");
    assert_eq!(here.engine().gates().len(), 1);
    let (done, finished) = Told::pair();
    here.engine().finish(&Owner::anonymous(), 0, key(1), None, done);
    here.run_dry();
    assert_eq!(finished.expect().map(drop).map_err(|fault| fault.kind), Err(FaultKind::PrepareLost), "it is not there");
}
