//! The cache in a file: warm after a restart of the client, and never stale, whatever happened to server, store, file and process meanwhile.

use crate::support::{World, number, object, read, within};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use zeolite_client::{Db, Error, Options, Record, Tid};

const LIMIT: Duration = Duration::from_secs(20);
const OBJECTS: u64 = 50;

fn kept(dir: &Path) -> Options {
    Options::new().cache_dir(dir.to_owned()).cache_file_bytes(1 << 20)
}

async fn put(db: &Db, n: u64, with: u64) -> Tid {
    db.transaction().run_for_receipt(async |tx| tx.put(object(n), &number(with))).await.expect("commits").1.tid
}

async fn put_all(db: &Db, with: u64) {
    db.run(async |tx| (1..=OBJECTS).try_for_each(|n| tx.put(object(n), &number(with)))).await.expect("commits");
}

/// What the objects have, and how many of them the server had to be asked for.
async fn read_all(db: &Db) -> (Vec<u64>, u64) {
    let (view, before, mut values) = (db.now(), db.cache_stats().misses, Vec::new());
    for n in 1..=OBJECTS {
        values.push(read(&view, n).await.expect("reads"));
    }
    (values, db.cache_stats().misses - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_away_starts_warm_and_is_told_what_it_missed() {
    let (mut world, dir) = (World::start().await, tempfile::tempdir().expect("a directory"));
    let writer = world.db().await;
    put_all(&writer, 1).await;
    let db = world.db_with(kept(dir.path())).await;
    assert_eq!(read_all(&db).await, (vec![1; 50], 50), "cold");
    drop(db);
    let file = dir.path().join("main-1.zeocache");
    let about = fs::metadata(&file).expect("is there");
    assert_eq!((about.len(), about.permissions().mode() & 0o777), (1 << 20, 0o600));
    for round in 2..6 {
        put(&writer, round, round).await;
        if round % 2 == 0 {
            world.restart().await;
            within(writer.newest()).await.expect("is back");
        }
        put(&writer, 10 + round, round).await;
        let db = world.db_with(kept(dir.path())).await;
        let (values, misses) = read_all(&db).await;
        assert_eq!(misses, 2, "round {round}: what was written meanwhile");
        for (n, value) in (1..).zip(values) {
            let written = |of: u64| (2..=round).contains(&of).then_some(of);
            assert_eq!(value, written(n).or(written(n.saturating_sub(10))).unwrap_or(1), "{n}");
        }
        let stats = db.cache_stats();
        assert_eq!(stats.file_hits, 48, "{stats:?}");
        assert!(stats.hits >= 48 && stats.file_bytes > 48 * 40, "{stats:?}");
        assert_eq!(read_all(&db).await.1, 0, "in memory now");
        assert_eq!(db.cache_stats().file_hits, 48);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_memory_has_no_room_for_is_read_from_the_file() {
    let (world, dir) = (World::start().await, tempfile::tempdir().expect("a directory"));
    let writer = world.db().await;
    put_all(&writer, 1).await;
    let first = world.db_with(kept(dir.path()).cache_bytes(0)).await;
    read_all(&first).await;
    drop(first);
    let db = world.db_with(kept(dir.path()).cache_bytes(0)).await;
    for _ in 0..3 {
        assert_eq!(read_all(&db).await, (vec![1; 50], 0));
    }
    assert_eq!((db.cache_stats().bytes, db.cache_stats().file_hits), (0, 150));
    // It is told of what it has in the file alone.
    let last = put(&writer, 7, 2).await;
    assert!(db.wait_for(last, LIMIT).await);
    let (values, misses) = read_all(&db).await;
    assert_eq!((values[6], misses), (2, 1));
    let cells: Vec<_> = (1..=OBJECTS).map(object).collect();
    let before = db.cache_stats().misses;
    db.now().prefetch(&cells).await.expect("reads");
    assert!(db.cache_stats().misses - before <= 1, "what is in the file is not fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_store_or_another_life_of_it_begins_with_an_empty_file() {
    let (mut world, dir) = (World::start().await, tempfile::tempdir().expect("a directory"));
    let writer = world.db().await;
    put_all(&writer, 1).await;
    let copy = world.copy_log().await;
    within(writer.newest()).await.expect("is back");
    put_all(&writer, 2).await;
    drop(writer);
    let reads = async |world: &World, with: u64| {
        let db = world.db_with(kept(dir.path())).await;
        let all = read_all(&db).await;
        assert_eq!(all.0, vec![with; 50]);
        all.1
    };
    assert_eq!(reads(&world, 2).await, 50);
    assert_eq!(reads(&world, 2).await, 0);
    world.put_back(&copy).await;
    assert_eq!(reads(&world, 1).await, 50, "the life in which 2 was written is gone");
    assert_eq!(reads(&world, 1).await, 0);
    world.replace().await;
    let other = world.db().await;
    put_all(&other, 3).await;
    assert_eq!(reads(&world, 3).await, 50, "another store");
    assert_eq!(reads(&world, 3).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_of_a_directory_has_a_file_of_its_own() {
    let (world, dir) = (World::start().await, tempfile::tempdir().expect("a directory"));
    let writer = world.db().await;
    put_all(&writer, 1).await;
    let (one, other) = (world.db_with(kept(dir.path())).await, world.db_with(kept(dir.path())).await);
    assert_eq!((read_all(&one).await.1, read_all(&other).await.1), (50, 50));
    let names = || {
        let entries = fs::read_dir(dir.path()).expect("lists");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("lists").file_name().into_string().expect("a name")).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["main-1.zeocache", "main-2.zeocache"]);
    drop(one);
    let again = world.db_with(kept(dir.path())).await;
    assert_eq!((read_all(&again).await.1, names().len()), (0, 2), "the first that is free");
    // More than there are files for.
    drop(again);
    let mut held = Vec::new();
    for number in 1..=64 {
        let path = dir.path().join(format!("main-{number}.zeocache"));
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).expect("opens");
        held.extend(file.try_lock().is_ok().then_some(file));
    }
    let without = world.db_with(kept(dir.path())).await;
    assert_eq!(read_all(&without).await, (vec![1; 50], 50));
    assert_eq!((without.cache_stats().file_bytes, names().len(), held.len()), (0, 64, 63));
}

async fn refused(world: &World, options: Options, says: &str) {
    let error: Error = Db::connect_with(world.network.url(), options).await.expect_err("is refused");
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_this_users_cache_is_left_as_it_is_and_the_next_one_taken() {
    let (world, dir) = (World::start().await, tempfile::tempdir().expect("a directory"));
    put_all(&world.db().await, 1).await;
    let file = |number: u8| dir.path().join(format!("main-{number}.zeocache"));
    let mut later = vec![0; 1 << 20];
    later[..12].copy_from_slice(b"zeocache\x02\0\0\0");
    let elsewhere = dir.path().join("elsewhere");
    fs::write(file(1), "somebody's letters").expect("writes");
    fs::write(file(2), &later).expect("writes");
    std::os::unix::fs::symlink(&elsewhere, file(3)).expect("links");
    fs::write(file(4), []).expect("writes");
    fs::hard_link(file(4), dir.path().join("of two names")).expect("links");
    fs::create_dir(file(5)).expect("makes");
    fs::write(file(6), "z").expect("writes");
    let made = std::process::Command::new("mkfifo").arg(file(7)).status().expect("is there");
    assert!(made.success());
    assert_eq!(read_all(&world.db_with(kept(dir.path())).await).await, (vec![1; 50], 50));
    assert_eq!(read_all(&world.db_with(kept(dir.path())).await).await.1, 0, "from the eighth");
    assert_eq!(fs::read(file(1)).expect("reads"), b"somebody's letters");
    assert_eq!(fs::read(file(2)).expect("reads"), later);
    assert!(!elsewhere.exists() && fs::metadata(file(4)).expect("is there").len() == 0);
    assert_eq!(fs::read(file(6)).expect("reads"), b"z");
    // One that was copied by somebody is nobody else's to read again.
    fs::set_permissions(file(8), PermissionsExt::from_mode(0o644)).expect("sets");
    assert_eq!(read_all(&world.db_with(kept(dir.path())).await).await.1, 0);
    assert_eq!(fs::metadata(file(8)).expect("is there").permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be_are_refused() {
    let (world, dir) = (World::start().await, tempfile::tempdir().expect("a directory"));
    let file = dir.path().join("main-1.zeocache");
    refused(&world, kept(dir.path()).feed(false), "leave cache_dir out").await;
    refused(&world, kept(dir.path()).cache_file_bytes(1000), "cache_file_bytes is 1000").await;
    fs::write(dir.path().join("plain"), "").expect("writes");
    refused(&world, kept(&dir.path().join("plain/below")), "give another cache_dir").await;
    // What was begun and no more is made.
    fs::write(&file, []).expect("writes");
    assert_eq!(read_all(&world.db_with(kept(dir.path())).await).await.1, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_size_is_made_anew() {
    let (world, dir) = (World::start().await, tempfile::tempdir().expect("a directory"));
    put_all(&world.db().await, 1).await;
    for (bytes, misses) in [(1 << 20, 50), (1 << 20, 0), (2 << 20, 50), (2 << 20, 0), (1 << 20, 50)] {
        let db = world.db_with(kept(dir.path()).cache_file_bytes(bytes)).await;
        assert_eq!(read_all(&db).await, (vec![1; 50], misses), "{bytes}");
        assert_eq!(fs::metadata(dir.path().join("main-1.zeocache")).expect("is there").len(), bytes);
    }
}

/// Writers, clients that come, read, are killed (their file as it was at some moment before) and come again, over a file that wraps.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_others_write_while_it_is_away_is_never_read_stale() {
    let seed = 20_261_130;
    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut world, dir) = (World::start().await, tempfile::tempdir().expect("a directory"));
    let (mut writer, file) = (world.db().await, dir.path().join("main-1.zeocache"));
    let mut truth: BTreeMap<u64, u64> = BTreeMap::new();
    let mut images: Vec<Vec<u8>> = Vec::new();
    let mut warm = 0;
    for round in 1..80_u64 {
        let db = world.db_with(kept(dir.path()).cache_bytes(dice.u64(0..2) << 14)).await;
        for _ in 0..dice.u32(1..5) {
            for _ in 0..dice.u32(0..12) {
                let (n, by) = (dice.u64(1..400), if dice.bool() { &writer } else { &db });
                let data = [round.to_le_bytes().to_vec(), vec![7; dice.usize(0..9000)]].concat();
                let record = Record::new("Number", 1, data);
                by.run(async |tx| tx.put(object(n), &record)).await.expect("commits");
                truth.insert(n, round);
            }
            let newest = within(writer.newest()).await.expect("answers");
            assert!(db.wait_for(newest, LIMIT).await);
            let view = db.now();
            for _ in 0..dice.u32(0..300) {
                let n = dice.u64(1..400);
                let record = view.get(&object(n)).await.expect("reads");
                let told = record.map(|record| u64::from_le_bytes(record.data[..8].try_into().expect("a number")));
                assert_eq!(told, truth.get(&n).copied(), "seed {seed}, round {round}: {n}");
            }
            // As a process that is killed now would leave it, but for what its kernel has not been given.
            images.push(fs::read(&file).expect("reads"));
            if images.len() > 6 {
                images.remove(0);
            }
        }
        warm += db.cache_stats().file_hits;
        drop(db);
        match dice.u8(0..4) {
            0 => fs::write(&file, &images[dice.usize(0..images.len())]).expect("writes"),
            1 => {
                world.restart().await;
                within(writer.newest()).await.expect("is back");
            }
            2 => writer = world.db().await,
            _ => {}
        }
    }
    assert!(warm > 1000, "{warm} read from the file");
}
