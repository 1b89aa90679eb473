//! Tests of a primary that is fenced while it lives: what it still tells, and what it says of itself where the disk does not take it.

use super::super::*;
use super::world::{Node, Told, World};
use crate::engine::Turn;
use crate::engine::answers::Outcome;
use crate::storage::disk::sim::SimOp;
use std::io::ErrorKind;

/// A primary that lives on when its follower is promoted: one commit is on both disks and not confirmed, one is on its way to the disk.
#[test]
fn a_primary_that_lives_on_follows_and_tells_what_it_held_back() {
    let mut world = World::new(10);
    world.primary = Node::open(world.primary.disk.crash(1), &world.clock, true, 11, None);
    let term = world.primary.engine.next_term();
    world.primary.engine.promote(term, Box::new(|told| drop(told.expect("is promoted"))));
    world.primary.loops.run_dry();
    world.connect();
    for _ in 0..10 {
        world.deliver();
        world.follower.loops.run_dry();
        world.acknowledge();
    }
    let commit = |world: &mut World| {
        let (draft, told) = (world.draft(), Told::default());
        let (key, tell) = (draft.key, told.clone());
        world.primary.engine.commit(draft, Box::new(move |result| *tell.lock() = Some(result)));
        (key, told)
    };
    let (held, is_told) = commit(&mut world);
    world.primary.loops.run_dry();
    world.deliver();
    world.follower.loops.run_dry();
    let (late, is_refused) = commit(&mut world);
    while world.primary.loops.turn_sequencer() == Turn::Worked {}
    world.cut();
    let term = world.follower.engine.next_term();
    world.follower.engine.promote(term, Box::new(|told| drop(told.expect("is promoted"))));
    world.follower.loops.run_dry();
    world.primary.engine.fence(term, "the new one").expect("is kept");
    world.primary.loops.run_dry();
    std::mem::swap(&mut world.primary, &mut world.follower);
    world.connect();
    assert_ne!(world.follower.engine.written(), Tid::NONE, "it is not begun anew");
    world.promoted_at = world.primary.engine.written();
    world.end();
    assert_eq!(world.follower.engine.seat(), Seat::Follower);
    assert_eq!(world.follower.engine.visible(), world.primary.engine.visible());
    let in_doubt = is_told.lock().take().expect("is told").expect_err("nobody had said to have it");
    assert_eq!(in_doubt.kind, FaultKind::OutcomeUnknown);
    let outcome = |node: &Node, key| node.engine.outcome(key, None);
    for node in [&world.primary, &world.follower] {
        assert!(matches!(outcome(node, held), Ok(Outcome::Committed(_))));
        assert!(!matches!(outcome(node, late), Ok(Outcome::Committed(_))));
    }
    let refused = is_refused.lock().take().expect("is told").expect_err("nothing is written by one that is fenced");
    assert_eq!(refused.kind, FaultKind::NotPrimary);
}

/// The disk fails while a primary is fenced by the follower that it hands over to.
#[test]
fn a_primary_whose_disk_does_not_take_its_fence_says_so_and_gives_followers_nothing_more() {
    let mut world = World::new(12);
    world.primary = Node::open(world.primary.disk.crash(1), &world.clock, false, 13, None);
    let (disk, engine) = (world.primary.disk.clone(), world.primary.engine.clone());
    let term = engine.next_term();
    disk.fail(SimOp::Rename, "seat", 0, ErrorKind::StorageFull);
    let handed = engine.hand_over(term, "the new one", Box::new(|_| panic!("nothing is handed over")));
    handed.expect_err("the disk has not taken it");
    assert_eq!(engine.seat(), Seat::Fenced, "no writes from here on, whatever the disk says");
    assert_eq!(engine.check_followed().expect_err("it does not hand over").kind, FaultKind::NotPrimary);
    let told = engine.replication();
    let problem = told.problem.expect("it says so");
    assert!(told.seat == Seat::Fenced && problem.contains("its disk has not taken that"), "{problem}");
    let refused = Told::default();
    let (draft, tell) = (world.draft(), refused.clone());
    engine.commit(draft, Box::new(move |result| *tell.lock() = Some(result)));
    world.primary.loops.run_dry();
    let refused = refused.lock().take().expect("is told").expect_err("is refused");
    assert_eq!(refused.kind, FaultKind::NotPrimary);
    // Told again, it tries again; and then it outlives a restart.
    assert!(!engine.fence(term, "the new one").expect("the disk takes it now"), "no newer one");
    assert!(!engine.replication().problem.expect("it is fenced").contains("its disk"));
    world.crash_primary();
    assert_eq!(world.primary.engine.seat(), Seat::Fenced);
}
