//! What one uploader may have of what is staged, and what makes room where there is none.

use super::*;
use std::sync::Arc;

/// A connection: as long as this lives.
struct Connection {
    number: u64,
    alive: Arc<()>,
}

impl Connection {
    fn new(number: u64) -> Connection {
        Connection { number, alive: Arc::default() }
    }

    fn uploader(&self) -> Uploader {
        Uploader::new(self.number, 34, &self.alive)
    }
}

fn begin(world: &World, by: &Connection, n: u8) -> Result<Upload, StoreError> {
    world.blobs.upload(id(n), by.uploader(), world.now).map(|begun| begun.0.expect("not whole"))
}

/// A small one, whole.
fn whole(world: &World, by: &Connection, n: u8) -> Result<(), StoreError> {
    let upload = begin(world, by, n)?;
    upload.append(&[n; 10], world.now)?;
    upload.finish(10, crc32fast::hash(&[n; 10]), world.now)
}

fn is_told(refused: Result<(), StoreError>, what: &str) {
    let busy = refused.expect_err("too many").to_string();
    assert!(busy.contains(what), "{busy}");
}

#[test]
fn an_uploader_stages_its_share_and_others_go_on() {
    let mut world = World::new();
    let (bad, other) = (Connection::new(1), Connection::new(2));
    // A third of nine.
    whole(&world, &bad, 1).expect("the first");
    whole(&world, &bad, 2).expect("the second");
    drop(begin(&world, &bad, 3).expect("the third"));
    is_told(whole(&world, &bad, 4), "this connection has 3 uploads");
    is_told(whole(&world, &bad, 4), "sessions.connection_share_percent");
    whole(&world, &other, 4).expect("another connection has its own share");
    assert_eq!(world.standing(id(1)), BlobStanding::Whole(10), "nothing was removed");
    world.commit(ROOT, &[], &[id(1)]).expect("commits");
    whole(&world, &bad, 5).expect("what was named counts no more");
    is_told(whole(&world, &bad, 6), "this connection has 3 uploads");
    // Whoever goes on with an upload has it.
    begin(&world, &other, 3).expect("goes on").finish(0, 0, world.now).expect("ends");
    whole(&world, &bad, 6).expect("it is another's now");
    is_told(whole(&world, &bad, 7), "this connection has 3 uploads");
    world.now += KEEP;
    world.sweep().expect("sweeps");
    (10..13).for_each(|n| whole(&world, &bad, n).expect("what was swept counts no more"));
    is_told(whole(&world, &bad, 13), "this connection has 3 uploads");
}

#[test]
fn an_uploader_stages_its_share_of_bytes_but_one_of_any_size() {
    let world = World::new();
    let (bad, other) = (Connection::new(1), Connection::new(2));
    let large = vec![7; 2 << 20];
    let upload = begin(&world, &bad, 1).expect("begins");
    upload.append(&large, world.now).expect("two thirds of all, and the only one");
    drop(upload);
    let second = begin(&world, &bad, 2).map(|_| ());
    is_told(second, "sessions.connection_share_percent");
    let small = begin(&world, &other, 3).expect("begins");
    small.append(&large[..1 << 19], world.now).expect("another connection has its own share");
    is_told(small.append(&large, world.now), "store.staged_bytes_max");
}

#[test]
fn where_there_is_no_room_what_was_left_goes() {
    let mut world = World::new();
    let gone: Vec<Connection> = (1..=3).map(Connection::new).collect();
    let there = Connection::new(4);
    for n in 0..9 {
        whole(&world, &gone[usize::from(n) / 3], n).expect("uploads");
        world.now += Duration::from_secs(1);
    }
    let held = world.blobs.hold(vec![id(0)]).expect("whole");
    world.commit(ROOT, &[], &[id(1)]).expect("commits");
    world.sweep().expect("sweeps");
    whole(&world, &there, 9).expect("the second is not staged any more");
    drop(gone);
    is_told(whole(&world, &there, 10), "store.staged_blobs_max");
    world.now += Duration::from_secs(53);
    whole(&world, &there, 10).expect("the third was left a minute ago");
    assert_eq!(world.standing(id(2)), BlobStanding::Unknown);
    assert_eq!(world.standing(id(0)), BlobStanding::Whole(10), "the first is held");
    assert_eq!(world.standing(id(1)), BlobStanding::Whole(10), "the second is named");
    is_told(whole(&world, &there, 11), "store.staged_blobs_max");
    drop(held);
    whole(&world, &there, 11).expect("the first is held no more");
    assert_eq!(world.standing(id(0)), BlobStanding::Unknown);
    assert_eq!(world.problems(), Vec::<String>::new());
}

#[test]
fn what_an_uploader_has_not_touched_for_an_hour_makes_room_for_what_it_uploads() {
    let mut world = World::new();
    let bad = Connection::new(1);
    (1..=3).for_each(|n| whole(&world, &bad, n).expect("uploads"));
    world.now += Duration::from_secs(3599);
    is_told(whole(&world, &bad, 4), "this connection has 3 uploads");
    world.now += Duration::from_secs(1);
    whole(&world, &bad, 4).expect("one was left");
    assert_eq!(world.blobs.counts().staged, 3);
    // An upload of an earlier life is nobody's.
    let mut again = World::open(world.disk.clone()).expect("opens");
    again.sweep().expect("sweeps");
    (5..=7).for_each(|n| whole(&again, &bad, n).expect("a share of this life's"));
    (8..=9).for_each(|n| drop(begin(&again, &Connection::new(u64::from(n)), n)));
    again.now += Duration::from_secs(59);
    drop(begin(&again, &Connection::new(10), 10).expect("the ninth"));
    is_told(begin(&again, &Connection::new(11), 11).map(|_| ()), "store.staged_blobs_max");
    again.now += Duration::from_secs(1);
    drop(begin(&again, &Connection::new(11), 11).expect("what was left a minute ago goes, of whichever life"));
}
