//! Tests of a primary that stops while followers have not confirmed what it holds back.

use super::super::*;
use super::world::{Node, Told, WAIT_MS, World};
use crate::engine::answers::{Outcome, Preparing};
use crate::engine::{Caller, Owner, Turn};
use crate::storage::disk::SimDisk;
use std::time::Duration;
use zeolite_proto::{Cell, Draft};

/// No follower comes any more; one draft is prepared, another one's end is held, and so is a commit, when the server is to stop.
#[test]
fn a_stop_waits_for_followers_as_long_as_a_commit_does_and_loses_nothing() {
    let mut world = World::new(7);
    let mut drafts: Vec<Draft> = (0..3).map(|_| world.draft()).collect();
    for (n, draft) in drafts.iter_mut().enumerate() {
        draft.writes[0].cell = Cell::entry(zeolite_proto::Oid::ROOT, format!("counter {n}"));
    }
    world.drafts.clone_from(&drafts);
    let owner = Owner::default();
    for draft in &drafts[..2] {
        let told = Box::new(|told: Result<_, Fault>| drop(told.expect("prepares")));
        world.primary.engine.prepare(Caller::default(), draft.clone(), Preparing::default(), told);
    }
    world.primary.loops.run_dry();
    let (finished, committed) = (Told::default(), Told::default());
    let (tell, tell_too) = (finished.clone(), committed.clone());
    world.primary.engine.finish(&owner, 0, drafts[1].key, None, Box::new(move |told| *tell.lock() = Some(told)));
    world.primary.engine.commit(drafts[2].clone(), Box::new(move |told| *tell_too.lock() = Some(told)));
    world.primary.loops.run_dry();
    world.primary.engine.shut_down();
    world.primary.loops.run_dry();
    world.clock.advance(Duration::from_millis(WAIT_MS - 1));
    assert_eq!(world.primary.loops.turn_sequencer(), Turn::Idle, "followers may come yet");
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.primary.loops.turn_sequencer(), Turn::Ended, "nobody has come");
    world.primary.loops.run_dry();
    for told in [finished, committed] {
        let told = told.lock().take().expect("is told").expect_err("is not told as committed");
        assert_eq!(told.kind, FaultKind::OutcomeUnknown, "{told}");
    }
    world.crash_primary();
    world.connect();
    world.primary.engine.finish(&owner, 0, drafts[0].key, None, Box::new(|_| {}));
    world.end();
    for draft in drafts {
        let outcome = world.primary.engine.outcome(draft.key, None);
        assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{}: {outcome:?}", draft.key);
    }
}

/// As much is held as may be, and the writer takes nothing behind it.
#[test]
fn a_stop_refuses_what_cannot_be_written_behind_what_is_held() {
    let mut world = World::new(8);
    let replication =
        ReplicationSettings { sync: 1, wait_ms: WAIT_MS, held_bytes_max: 1, ..ReplicationSettings::default() };
    world.primary = Node::open_as(replication, SimDisk::new(), &world.clock, 9, None);
    let asked: Vec<Told> = (0..2)
        .map(|_| {
            let (draft, told) = (world.draft(), Told::default());
            let tell = told.clone();
            world.primary.engine.commit(draft, Box::new(move |result| *tell.lock() = Some(result)));
            world.primary.loops.run_dry();
            told
        })
        .collect();
    world.primary.engine.shut_down();
    world.primary.loops.run_dry();
    world.clock.advance(Duration::from_millis(WAIT_MS));
    world.primary.loops.run_dry();
    let told = |told: &Told| told.lock().take().expect("is told").expect_err("is not told as committed").kind;
    assert_eq!(asked.iter().map(told).collect::<Vec<_>>(), [FaultKind::OutcomeUnknown, FaultKind::ShuttingDown]);
}
