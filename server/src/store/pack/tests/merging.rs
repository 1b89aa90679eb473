//! Small segments become one: the number of files follows the data, and nothing is lost on the way there.

use super::*;
use crate::store::frame::SEGMENT_HEADER_LEN;
use crate::store::log::walk::Walk;

// Two cells that are written over and over in small segments of their own; the newest tid.
fn small_segments(world: &mut World, count: u64) -> Tid {
    let mut to = world.put(Cell::object(ROOT), &[1, 2]);
    for round in 0..count {
        to = world.put(Cell::object(Oid(1 + round % 2)), &[]);
        world.appender.roll().expect("rolls");
    }
    to
}

fn all_tids(world: &World) -> Vec<Tid> {
    let (mut tids, mut from) = (Vec::new(), Tid(1));
    loop {
        let page = world.reader.txns(from, Tid::MAX, 1).expect("reads");
        let Some(last) = page.last() else { return tids };
        from = last.tid.next();
        tids.extend(page.iter().map(|txn| txn.tid));
    }
}

#[test]
fn the_number_of_files_follows_the_data_and_not_how_often_it_was_packed() {
    let mut world = World::new(1);
    world.put(Cell::object(ROOT), &[1, 2, 3]);
    world.put(Cell::object(Oid(3)), &[]);
    for round in 0..150 {
        world.put(Cell::object(Oid(1 + round % 2)), &[]);
        let to = world.put(Cell::object(Oid(1)), &[]);
        world = pack(world, to).0;
        let files = segments(&world.disk);
        // Emptied transactions are kept for their keys: some bytes a round.
        let bytes = world.reader.stats().log_bytes;
        assert!(files.len() as u64 <= 3 + 8 * bytes / 4096, "round {round}, {bytes} bytes: {files:?}");
        let numbers = numbers(&world.disk);
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "round {round}: {numbers:?}");
        if round % 50 == 49 {
            world.check(to, "packed");
            world.verify("packed");
            let World { disk, model, settler, .. } = world;
            drop(settler);
            if round == 99 {
                Store::remove_index(&disk).expect("removes");
            }
            world = World::open(&disk, model, round).expect("opens");
            world.check(to, "opened");
            world.verify("opened");
        }
    }
    assert!(numbers(&world.disk).len() > 70);
    let named = world.settler.lock().writer.generations().len();
    assert!(named <= segments(&world.disk).len(), "{named}: what the index says of them is as short");
}

#[test]
fn cut_at_every_write_while_small_segments_become_one_nothing_is_lost() {
    let run = |seed| {
        let mut world = World::new(seed);
        for round in 0..30 {
            world.random_commit(&RoaringTreemap::new()).expect("commits");
            if round % 3 == 0 {
                world.appender.roll().expect("rolls");
            }
        }
        world.settle();
        world.settler.lock().checkpoint().expect("checkpoint");
        for _ in 0..3 {
            world.random_commit(&RoaringTreemap::new()).expect("commits");
        }
        let to = Tid(world.reader.published().0 - 50);
        (world, to)
    };
    // What is changed half-way is durable.
    let mut between = |world: &mut World, gone: &RoaringTreemap, stage| {
        if stage == Stage::Shift {
            world.settler.lock().checkpoint()?;
        }
        between(world, gone, stage)
    };
    let (cut, half_way) = cut_at_every_write(&run, &mut between, 3);
    assert!(cut > 20 && half_way > 5, "{cut} cuts, {half_way} with two files for one number");
}

#[test]
fn who_reads_on_while_segments_become_one_misses_nothing_and_gets_nothing_twice() {
    for read in 1..9 {
        let mut world = World::new(1);
        let to = small_segments(&mut world, 8);
        let later: Vec<Tid> = (0..4).map(|_| world.put(Cell::object(Oid(1)), &[])).collect();
        let state = world.reader.state.clone();
        let first = state.segments.current_from(1).expect("there");
        let mut walk = Walk::new(first, SEGMENT_HEADER_LEN as u64, Tid::NONE);
        let mut seen = Vec::new();
        for _ in 0..read {
            seen.extend(walk.next(&state.segments).expect("reads").expect("more").txns);
        }
        let before = all_tids(&world);
        (world, _) = pack(world, to);
        assert!(segments(&world.disk).len() < 4);
        while let Some(batch) = walk.next(&state.segments).expect("reads") {
            seen.extend(batch.txns);
        }
        let seen: Vec<Tid> = seen.iter().map(|parsed| parsed.txn.tid).collect();
        assert!(seen.is_sorted_by(|a, b| a < b), "{read}: {seen:?}");
        assert_eq!(seen[..read], before[..read]);
        // What pack has taken may be missing, nothing else.
        assert!(all_tids(&world).iter().all(|tid| seen.contains(tid)), "{read}: {seen:?}");
        assert!(later.iter().all(|tid| seen.contains(tid)));
        let current = state.segments.current();
        let bytes = current.iter().map(|segment| segment.end()).sum::<u64>() - SEGMENT_HEADER_LEN as u64;
        assert_eq!(world.reader.log_bytes_since(Tid(1)).expect("counts"), bytes);
    }
}

#[test]
fn a_missing_segment_is_named_also_when_it_stood_for_several() {
    let mut world = World::new(1);
    let to = small_segments(&mut world, 8);
    (world, _) = pack(world, to);
    let World { disk, settler, .. } = world;
    settler.lock().close().expect("closes");
    drop(settler);
    let files = segments(&disk);
    assert!(files.len() > 1 && numbers(&disk).len() > 4, "{files:?}");
    for file in &files {
        let path = format!("log/{file}");
        let bytes = disk.bytes(&path).expect("there");
        let header = SegmentHeader::parse(bytes.first_chunk().expect("a header")).expect("parses");
        let bad = disk.crash(0);
        bad.remove(&path).expect("removes");
        let error = World::open(&bad, Model::default(), 1).err().expect("refused");
        let StoreError::Damaged { segment, what, .. } = error else { panic!("{error}") };
        assert!(header.numbers().contains(&segment), "{segment}, {what}");
    }
}

#[test]
fn lives_of_the_store_stay_apart_when_their_segments_become_few() {
    let mut world = World::new(1);
    small_segments(&mut world, 4);
    let end = world.reader.published();
    world.appender.begin_timeline(99, Tid::NONE).expect("begins");
    let to = small_segments(&mut world, 4);
    (world, _) = pack(world, to);
    assert_eq!(segments(&world.disk).len(), 3, "{:?}", segments(&world.disk));
    let World { disk, model, settler, .. } = world;
    settler.lock().close().expect("closes");
    drop(settler);
    let mut world = World::open(&disk, model, 1).expect("opens");
    assert!(world.reader.shares(7, end) && !world.reader.shares(7, end.next()));
    assert!(world.reader.shares(99, to));
    world.check(to, "opened");
    world.verify("opened");
}
