//! A disk that fails under a running server: in the log, in the index, in blobs, in reads, in a pack.

use super::scene::{EIO, ENOSPC, Op, Scene, fault, kind, put};
use std::collections::HashSet;
use std::time::Duration;
use zeolite_client::{Cell, Db, Error, FaultKind, PackOptions};

/// Nothing is read from memory, and little is kept in the index.
const FROM_THE_DISK: [&str; 4] =
    ["store.cache_bytes=0", "store.kept_bytes_max=0", "store.inline_bytes_max=0", "store.inline_object_bytes_max=0"];

/// Commits what is acknowledged under ever new numbers, and can say later whether all of it is there.
struct Acknowledged(Vec<(Cell, Vec<u8>)>);

impl Acknowledged {
    async fn some(scene: &Scene, count: u8) -> Acknowledged {
        let mut all = Acknowledged(Vec::new());
        for n in 0..count {
            all.one(scene, n).await.expect("commits");
        }
        all
    }

    async fn one(&mut self, scene: &Scene, n: u8) -> Result<(), Error> {
        let cell = scene.cell().await;
        scene.put(&cell, &[n; 2000]).await?;
        self.0.push((cell, vec![n; 2000]));
        Ok(())
    }

    async fn are_there(&self, scene: &Scene) {
        for (cell, data) in &self.0 {
            assert_eq!(scene.read(cell).await.expect("reads").as_ref(), Some(data), "{cell}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_room_refuses_what_writes_and_goes_on_when_there_is_some() {
    let mut scene = Scene::start(&FROM_THE_DISK).await;
    let mut acknowledged = Acknowledged::some(&scene, 5).await;
    let cell = scene.cell().await;
    scene.faults.fail(&[Op::Write], "/log/", ENOSPC);
    let refused = fault(scene.put(&cell, b"x").await.expect_err("there is no room"));
    assert!(refused.kind == FaultKind::DiskFull && refused.message.contains("nothing was lost"), "{refused}");
    assert_eq!(kind(prepare(&scene.db, &cell).await), FaultKind::DiskFull);
    acknowledged.are_there(&scene).await;
    // It is not broken, and says so.
    let status = scene.status();
    assert!(status["poisoned"].is_null() && status["disk_errors"] == 0, "{status}");
    assert!(scene.check().0 == Some(0) && scene.is_healthy(), "{:?}", scene.check());
    scene.faults.heal();
    acknowledged.one(&scene, 9).await.expect("goes on");
    assert_eq!(scene.read(&cell).await.expect("reads"), None, "what was refused is not there");
    scene.kill_and_start().await;
    acknowledged.are_there(&scene).await;
    assert_eq!(scene.read(&cell).await.expect("reads"), None);
    scene.verify();
}

/// Prepares a durable transaction, and gives it up if that succeeds.
async fn prepare(db: &Db, cell: &Cell) -> Result<(), Error> {
    let tx = db.begin().await?;
    tx.put(cell.clone(), &zeolite_client::Record::new("Thing", 1, "prepared"))?;
    let (key, since) = (db.new_commit_key(), db.position());
    let prepared = tx.prepare_durable(key, since, Some(Duration::from_secs(600))).await?;
    prepared.abort().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_that_finds_no_room_is_finished_when_there_is_some() {
    let mut scene = Scene::start(&FROM_THE_DISK).await;
    let cell = scene.cell().await;
    let tx = scene.db.begin().await.expect("begins");
    tx.put(cell.clone(), &zeolite_client::Record::new("Thing", 1, "prepared")).expect("encodes");
    let (key, since) = (scene.db.new_commit_key(), scene.db.position());
    let prepared = tx.prepare_durable(key, since, None).await.expect("prepares");
    scene.faults.fail(&[Op::Write], "/log/", ENOSPC);
    assert_eq!(kind(scene.db.finish_prepared(key, since).await), FaultKind::DiskFull);
    assert_eq!(scene.status()["prepared"], 1);
    scene.faults.heal();
    std::mem::forget(prepared);
    scene.kill_and_start().await;
    scene.db.finish_prepared(key, since).await.expect("it was promised");
    assert_eq!(scene.read(&cell).await.expect("reads").as_deref(), Some(&b"prepared"[..]));
    scene.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_fails_is_poisoned_until_a_restart_and_nothing_acknowledged_is_lost() {
    for (op, what) in [(Op::Write, "writing the log"), (Op::Sync, "syncing the log")] {
        let mut scene = Scene::start(&FROM_THE_DISK).await;
        let mut acknowledged = Acknowledged::some(&scene, 5).await;
        let cell = scene.cell().await;
        let tx = scene.db.begin().await.expect("begins");
        tx.put(cell.clone(), &zeolite_client::Record::new("Thing", 1, "unknown")).expect("encodes");
        let (key, since) = (scene.db.new_commit_key(), scene.db.position());
        scene.faults.fail(&[op], "/log/", EIO);
        let unknown = tx.commit_as(key, since).await.expect_err("nobody knows what is on the disk");
        assert!(matches!(&unknown, Error::OutcomeUnknown { key: named, .. } if *named == key), "{unknown}");
        // The disk is well again; what it has lost meanwhile nobody knows.
        scene.faults.heal();
        assert_eq!(kind(scene.put(&cell, b"x").await), FaultKind::Poisoned);
        assert_eq!(kind(prepare(&scene.db, &cell).await), FaultKind::Poisoned);
        acknowledged.are_there(&scene).await;
        let (code, told) = scene.check();
        assert!(code == Some(2) && told.contains(&format!("poisoned: {what}")), "{told}");
        assert!(scene.number("zeolite_poisoned") == 1.0 && !scene.is_healthy());
        assert!(scene.number("zeolite_disk_errors_total") >= 1.0);
        scene.kill_and_start().await;
        acknowledged.are_there(&scene).await;
        // The same key says what became of it, and makes it so if it was not.
        let before = scene.read(&cell).await.expect("reads");
        let tx = scene.db.begin().await.expect("begins");
        tx.put(cell.clone(), &zeolite_client::Record::new("Thing", 1, "unknown")).expect("encodes");
        let again = tx.commit_as(key, since).await.expect("is told, or done");
        let revisions = scene.served().json(&["history", &cell.oid.to_string()]).len();
        assert_eq!((revisions, scene.read(&cell).await.expect("reads").as_deref()), (1, Some(&b"unknown"[..])));
        println!("{op:?}: there before it was asked: {}, {}", before.is_some(), again.tid);
        acknowledged.one(&scene, 9).await.expect("goes on");
        assert!(scene.check().0 == Some(0) && scene.is_healthy());
        scene.verify();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_fails_is_made_ready_again_beside_the_commits() {
    // Its reads are of pages that are in memory; store/tests/remake.rs has a disk that fails at them.
    for op in [Op::Write, Op::Sync] {
        let scene = Scene::start(&[&FROM_THE_DISK[..], &["store.checkpoint_revisions=1"]].concat()).await;
        let mut acknowledged = Acknowledged::some(&scene, 5).await;
        scene.faults.fail(&[op], "/index", EIO);
        let down = loop {
            // What is in memory waits for it.
            acknowledged.one(&scene, 7).await.expect("commits go on");
            let status = scene.status();
            if status["index_down"].is_string() {
                break status;
            }
        };
        let (code, told) = scene.check();
        assert!(code == Some(2) && told.contains("the index has failed"), "{op:?} {told}");
        assert!(scene.number("zeolite_index_down") == 1.0 && !scene.is_healthy(), "{down}");
        // It is tried again and again, and told once.
        while scene.faults.hits() < 30 {
            scene.status();
        }
        let told: Vec<String> = scene
            .logged()
            .into_iter()
            .filter(|line| line.contains("the index cannot take what is committed"))
            .collect();
        assert!(!told.is_empty() && told.iter().collect::<HashSet<_>>().len() == told.len(), "{told:#?}");
        scene.faults.heal();
        scene.until(|status| status["index_down"].is_null());
        acknowledged.are_there(&scene).await;
        acknowledged.one(&scene, 9).await.expect("goes on");
        assert!(scene.is_healthy());
        scene.verify();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_the_log_that_fails_is_told_to_who_reads_and_to_who_looks_and_stops_nobody_else() {
    let scene = Scene::start(&FROM_THE_DISK).await;
    let mut acknowledged = Acknowledged::some(&scene, 5).await;
    let cell = acknowledged.0[0].0.clone();
    let failed = loop {
        // What still waits for the index is in memory.
        scene.faults.fail(&[Op::Read], "/log/", EIO);
        let read = scene.read(&cell).await;
        if scene.faults.hits() > 0 {
            break read;
        }
        scene.faults.heal();
    };
    let failed = fault(failed.expect_err("the disk fails"));
    assert!(failed.message.contains("look at the disk"), "{failed}");
    acknowledged.one(&scene, 9).await.expect("commits go on");
    let (code, told) = scene.check();
    assert!(code == Some(1) && told.contains("the disk has failed") && told.contains("Read of log/"), "{told}");
    assert!(scene.number("zeolite_disk_errors_total") >= 1.0 && scene.is_healthy());
    scene.faults.heal();
    acknowledged.are_there(&scene).await;
    let status = scene.status();
    assert!(status["poisoned"].is_null() && status["disk_error"].as_str().is_some_and(|what| what.contains("log/")));
    scene.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_cannot_be_written_or_read_fails_alone_and_one_that_cannot_be_synced_poisons() {
    let mut scene = Scene::start(&FROM_THE_DISK).await;
    let mut acknowledged = Acknowledged::some(&scene, 2).await;
    let bytes = vec![7_u8; 3_000_000];
    for (op, error) in [(Op::Write, ENOSPC), (Op::Write, EIO), (Op::Create, ENOSPC), (Op::Create, EIO)] {
        scene.faults.fail(&[op], "/blobs/", error);
        let refused = fault(scene.db.put_blob(&bytes[..]).await.expect_err("it cannot be kept"));
        assert_eq!(refused.kind == FaultKind::DiskFull, error == ENOSPC, "{op:?} {error}: {refused}");
        acknowledged.one(&scene, 3).await.expect("commits go on");
        scene.faults.heal();
        assert!(scene.status()["poisoned"].is_null(), "{op:?} {error}");
    }
    let blob = scene.db.put_blob(&bytes[..]).await.expect("goes up");
    let cell = scene.cell().await;
    let tx = scene.db.begin().await.expect("begins");
    tx.put(cell.clone(), &zeolite_client::Record { blobs: vec![blob], ..zeolite_client::Record::new("File", 1, "") })
        .expect("encodes");
    tx.commit().await.expect("commits");
    scene.faults.fail(&[Op::Read], "/blobs/", EIO);
    let failed = fault(scene.db.blob(blob).bytes(0..3_000_000).await.expect_err("the disk fails"));
    assert!(failed.message.contains("look at the disk"), "{failed}");
    let (code, told) = scene.check();
    assert!(code == Some(1) && told.contains("the disk has failed"), "{told}");
    scene.faults.heal();
    assert_eq!(scene.db.blob(blob).bytes(0..3_000_000).await.expect("reads"), bytes);
    scene.faults.fail(&[Op::Sync], "/blobs/", EIO);
    assert_eq!(kind(scene.db.put_blob(&bytes[..]).await), FaultKind::Poisoned);
    scene.faults.heal();
    scene.kill_and_start().await;
    assert_eq!(scene.db.blob(blob).bytes(0..3_000_000).await.expect("reads"), bytes);
    acknowledged.are_there(&scene).await;
    scene.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_the_disk_ends_loses_nothing_and_the_next_one_packs() {
    for (op, error) in [(Op::Create, ENOSPC), (Op::Write, ENOSPC), (Op::Create, EIO), (Op::Write, EIO)] {
        let scene = Scene::start(&[&FROM_THE_DISK[..], &["store.segment_bytes_max=65536"]].concat()).await;
        let cell = scene.cell().await;
        for n in 0..80 {
            scene.put(&cell, &[n; 4000]).await.expect("commits");
        }
        let acknowledged = Acknowledged::some(&scene, 5).await;
        scene.faults.fail(&[op], "/log/", error);
        let packed = fault(pack(&scene.db).await.expect_err("it cannot be written"));
        assert!(scene.faults.hits() > 0);
        assert_eq!(packed.kind == FaultKind::DiskFull, error == ENOSPC, "{op:?}: {packed}");
        let status = scene.status();
        assert!(status["poisoned"].is_null() && status["pack"].is_null(), "{status}");
        acknowledged.are_there(&scene).await;
        scene.faults.heal();
        assert_eq!(scene.read(&cell).await.expect("reads").as_deref(), Some(&[79_u8; 4000][..]));
        put(&scene.db, &cell, b"x").await.expect("goes on");
        assert!(pack(&scene.db).await.expect("packs") >= 79);
        acknowledged.are_there(&scene).await;
        scene.verify();
    }
}

async fn pack(db: &Db) -> Result<u64, Error> {
    let mut told = db.admin().pack(PackOptions::new().to(None).keep_garbage(false).dry_run(false)).await?;
    let mut removed = 0;
    while let Some(progress) = told.next().await? {
        removed = progress.revisions_removed;
    }
    Ok(removed)
}
