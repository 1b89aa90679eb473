//! A power cut at every call of the disk, in uploads, commits, sweeps and packs: what an acknowledged commit names is whole, and what is
//! named by nothing is gone after a while.

use super::*;
use std::collections::BTreeSet;

/// What was acknowledged until the machine stopped.
#[derive(Default)]
struct Told {
    /// By object: the blob that its newest revision names.
    named: Vec<(u64, u8)>,
    whole: BTreeSet<u8>,
}

fn len(n: u8) -> usize {
    usize::from(n) * 17_000
}

/// A life: uploads, commits, an upload that is never named, one that is cut, sweeps and packs. Ends with the first error.
fn live(world: &mut World, told: &mut Told) -> Result<(), StoreError> {
    world.commit(ROOT, &[1, 2, 3], &[])?;
    for n in 1..=3 {
        world.upload(id(n), &content(n, len(n)))?;
        told.whole.insert(n);
        world.commit(u64::from(n), &[], &[id(n)])?;
        told.named.push((u64::from(n), n));
    }
    let (Some(cut), _) = world.blobs.upload(id(9), Uploader::default(), world.now)? else { panic!("new") };
    cut.append(&content(9, 100_000), world.now)?;
    drop(cut);
    world.sweep()?;
    world.upload(id(4), &content(4, len(4)))?;
    told.whole.insert(4);
    // The second names another one, so that the first is packed away.
    told.named.retain(|(oid, _)| *oid != 2);
    world.commit(2, &[], &[id(4)])?;
    told.named.push((2, 4));
    told.whole.remove(&2);
    world.upload(id(5), &content(5, len(5)))?;
    world.pack()?;
    world.now += KEEP;
    world.sweep()?;
    world.upload(id(6), &content(6, len(6)))?;
    told.whole.remove(&5);
    world.commit(6, &[], &[id(6)])?;
    world.pack().map(|_| ())
}

fn check(disk: SimDisk, told: &Told, what: &str) {
    let mut world = World::open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (oid, n) in &told.named {
        let revision = world.read.get(&Cell::object(Oid(*oid)), world.read.published()).expect("reads");
        let record = revision.and_then(|revision| revision.record).unwrap_or_else(|| panic!("{what}: object {oid}"));
        // The very next commit of it may have come as well.
        let named = blobs_of_record(&record).next().unwrap_or_else(|| panic!("{what}: object {oid} names none"));
        assert!(named == id(*n) || *oid == 2, "{what}: object {oid}");
        let n = (1..=9).find(|n| id(*n) == named).expect("one of ours");
        assert_eq!(world.bytes(named, 0).unwrap_or_else(|error| panic!("{what}: {error}")), content(n, len(n)));
    }
    assert_eq!(world.problems(), Vec::<String>::new(), "{what}");
    for n in 1..=9 {
        if let BlobStanding::Whole(length) = world.standing(id(n)) {
            assert_eq!(length, len(n) as u64, "{what}: half a blob passes for a whole one");
            assert_eq!(world.bytes(id(n), 0).unwrap_or_else(|error| panic!("{what}: {error}")), content(n, len(n)));
        }
    }
    // After a while, and a pack, there is what is named and nothing else.
    world.sweep().unwrap_or_else(|error| panic!("{what}: {error}"));
    world.now += KEEP;
    world.sweep().unwrap_or_else(|error| panic!("{what}: {error}"));
    if world.tid > 0 {
        world.pack().unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert_eq!(world.problems(), Vec::<String>::new(), "{what}, packed");
    let named: BTreeSet<String> = (1..=30)
        .filter_map(|oid| world.read.get(&Cell::object(Oid(oid)), world.read.published()).expect("reads"))
        .filter_map(|revision| revision.record)
        .flat_map(|record| blobs_of_record(&record).collect::<Vec<_>>())
        .map(|id| format!("blobs/{:02x}/{id}", id.0[0]))
        .collect();
    assert_eq!(world.files().into_iter().collect::<BTreeSet<_>>(), named, "{what}");
}

#[test]
fn a_power_cut_at_any_call_loses_no_blob_that_was_acknowledged_and_leaves_none_half() {
    let calls = {
        let mut world = World::new();
        live(&mut world, &mut Told::default()).expect("lives");
        world.disk.calls()
    };
    assert!(calls > 100, "{calls}");
    for stop in 0..calls {
        let disk = SimDisk::new();
        disk.stop_at(stop);
        let mut told = Told::default();
        if let Ok(mut world) = World::open(disk.clone()) {
            drop(live(&mut world, &mut told));
        }
        let killed = disk.fork();
        for seed in 0..3 {
            check(disk.crash(stop * 3 + seed), &told, &format!("stopped at call {stop}, seed {seed}"));
        }
        if !told.named.is_empty() {
            go_on(killed, told, stop);
        }
    }
}

/// After a kill another life builds on what is there, and then the power is cut.
fn go_on(disk: SimDisk, mut told: Told, stop: u64) {
    disk.stop_at(u64::MAX);
    let what = format!("killed at call {stop}");
    let mut world = World::open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    for n in [3, 4, 6] {
        world.upload(id(n), &content(n, len(n))).unwrap_or_else(|error| panic!("{what}: {error}"));
        world.commit(20 + u64::from(n), &[], &[id(n)]).unwrap_or_else(|error| panic!("{what}: {error}"));
        told.named.push((20 + u64::from(n), n));
    }
    for seed in 0..3 {
        let crashed = World::open(world.disk.crash(seed)).unwrap_or_else(|error| panic!("{what}: {error}"));
        for n in [3, 4, 6] {
            let bytes = crashed.bytes(id(n), 0).unwrap_or_else(|error| panic!("{what}, seed {seed}: {error}"));
            assert_eq!(bytes, content(n, len(n)), "{what}, seed {seed}");
        }
        drop(crashed);
        check(world.disk.crash(seed), &told, &what);
    }
}
