//! A network that is cut in the middle of each call, at ever later bytes of request and answer, or stands still with its connections open.

use super::proxy::{Proxy, Way};
use super::scene::{Scene, fault, put};
use crate::program::{program, text};
use std::time::{Duration, Instant};
use zeolite_client::{BlobId, Cell, Db, Error, FaultKind, Oid, Options, Range, Record, Remedy};

/// After so many bytes; each way until a call comes through before.
const CUTS: [usize; 14] = [0, 1, 8, 20, 50, 100, 200, 500, 1000, 2000, 5000, 20_000, 80_000, 320_000];

fn options(request_ms: u64) -> Options {
    Options::new()
        .request_timeout(Duration::from_millis(request_ms))
        .backoff_min(Duration::from_millis(1))
        .backoff_max(Duration::from_millis(20))
        .cache_bytes(0)
}

async fn connect(proxy: &Proxy, request_ms: u64) -> Db {
    Db::connect_with(&proxy.address, options(request_ms)).await.expect("connects")
}

/// Makes a call with its connection cut at each byte of the list, both ways; says how many calls were cut.
async fn cut_in(proxy: &Proxy, mut call: impl AsyncFnMut(&Db)) -> u32 {
    let mut cut = 0;
    for way in [Way::ToServer, Way::ToClient] {
        for bytes in CUTS {
            let db = connect(proxy, 60_000).await;
            proxy.arm(way, bytes);
            call(&db).await;
            if proxy.disarm() {
                break;
            }
            cut += 1;
        }
    }
    cut
}

fn thing(data: impl Into<bytes::Bytes>) -> Record {
    Record::new("Thing", 1, data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_cut_anywhere_happens_once() {
    let scene = Scene::start(&[]).await;
    let proxy = Proxy::to(&scene.served().address).await;
    let cell = scene.cell().await;
    let mut done = 0_u64;
    let cut = cut_in(&proxy, async |db: &Db| {
        let add = async |tx: zeolite_client::Tx| {
            let count = tx
                .get(&cell)
                .await?
                .map_or(0, |record| u64::from_le_bytes(record.data[..8].try_into().expect("a number")));
            tx.put(cell.clone(), &thing([&(count + 1).to_le_bytes()[..], &[0; 3000]].concat()))
        };
        db.run(add).await.expect("the library sends it again");
        done += 1;
    });
    let cut = cut.await;
    assert!(cut > 8 && done > u64::from(cut), "{cut} of {done}: nothing was tested");
    let counted = scene.read(&cell).await.expect("reads").expect("there");
    assert_eq!(counted[..8], done.to_le_bytes());
    let revisions = scene.served().json(&["history", &cell.oid.to_string(), "-n", "0"]).len();
    assert_eq!(revisions as u64, done, "each is one revision");
    scene.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepare_and_a_finish_that_are_cut_anywhere_are_done_once_or_not_at_all() {
    let scene = Scene::start(&[]).await;
    let proxy = Proxy::to(&scene.served().address).await;
    let mut finished = Vec::new();
    let cut = cut_in(&proxy, async |db: &Db| {
        let cell = scene.cell().await;
        let (key, since) = (db.new_commit_key(), db.position());
        let tx = scene_tx(db, &cell).await;
        let prepared = tx.prepare_durable(key, since, Some(Duration::from_secs(60))).await;
        match prepared {
            Ok(prepared) => drop(prepared.finish().await.expect("what is prepared is finished")),
            // Whoever did not hear the answer asks by the key, over any connection.
            Err(error) => {
                drop(db.finish_prepared(key, since).await.unwrap_or_else(|late| panic!("{error}, then {late}")))
            }
        }
        finished.push(cell);
    });
    let cut = cut.await;
    assert!(cut > 8, "{cut}: nothing was tested");
    for cell in &finished {
        assert_eq!(scene.served().json(&["history", &cell.oid.to_string()]).len(), 1, "{cell}");
    }
    let status = scene.until(|status| status["prepared"] == 0);
    assert!(status["poisoned"].is_null());
    scene.verify();
}

async fn scene_tx(db: &Db, cell: &Cell) -> zeolite_client::Tx {
    let tx = db.begin().await.expect("begins");
    tx.put(cell.clone(), &thing(vec![0; 3000])).expect("encodes");
    tx
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_whole_wherever_the_line_is_cut() {
    let scene = Scene::start(&[]).await;
    let proxy = Proxy::to(&scene.served().address).await;
    let mut cells = Vec::new();
    let tx = scene.db.begin().await.expect("begins");
    for n in 0..100_u64 {
        let cell = Cell::object(scene.db.new_oid().await.expect("an oid"));
        tx.put(cell.clone(), &thing(vec![n as u8; 1000])).expect("encodes");
        tx.put(Cell::entry(Oid::ROOT, format!("{n:04}")), &thing(vec![n as u8; 1000])).expect("encodes");
        cells.push(cell);
    }
    tx.commit().await.expect("commits");
    let film: Vec<u8> = (0..400_000_u32).map(|n| (n >> 3) as u8).collect();
    let blob = scene.db.put_blob(&film[..]).await.expect("goes up");
    let loads = cut_in(&proxy, async |db: &Db| {
        let view = db.transaction().fresh().begin().await.expect("begins");
        let all = view.get_many(&cells).await.expect("the library asks again");
        assert!(all.iter().all(Option::is_some));
    });
    let scans = cut_in(&proxy, async |db: &Db| {
        let view = db.transaction().fresh().begin().await.expect("begins");
        let all = view.entries(Oid::ROOT, Range::all()).await.expect("the library asks again");
        assert_eq!(all.len(), 100);
    });
    let blobs = cut_in(&proxy, async |db: &Db| {
        assert!(db.blob(blob).bytes(0..400_000).await.expect("goes on behind what came") == film);
    });
    let ups = cut_in(&proxy, async |db: &Db| {
        let id: BlobId = db.put_blob(&film[..]).await.expect("goes on behind what went");
        assert!(scene.db.blob(id).bytes(0..400_000).await.expect("is there") == film);
    });
    let (loads, scans, blobs, ups) = (loads.await, scans.await, blobs.await, ups.await);
    assert!([loads, scans, blobs, ups].iter().all(|cut| *cut > 8), "{loads} {scans} {blobs} {ups}: nothing was tested");
    let whole =
        scene.db.admin().log(None, None, None, true).await.expect("reads").collect().await.expect("reads").len();
    let mut told = Vec::new();
    let logs = cut_in(&proxy, async |db: &Db| {
        let pages = db.admin().log(None, None, None, true).await;
        let read = match pages {
            Ok(pages) => pages.collect().await,
            Err(error) => Err(error),
        };
        // A stream is not gone on with by itself: it is whole, or an error says that it is not.
        match read {
            Ok(read) => assert_eq!(read.len(), whole),
            Err(error) => told.push(error),
        }
    });
    assert!(logs.await > 4);
    assert!(told.iter().all(|error| matches!(error, Error::Disconnected { .. })), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_stands_still_is_told_within_the_time_limit_and_its_session_is_not_kept() {
    let settings = ["sessions.keepalive_interval_ms=200", "sessions.keepalive_timeout_ms=200"];
    let scene = Scene::start(&settings).await;
    let proxy = Proxy::to(&scene.served().address).await;
    let blob = scene.db.put_blob(&[5_u8; 100_000][..]).await.expect("goes up");
    let cell = scene.cell().await;
    scene.put(&cell, b"before").await.expect("commits");
    for what in ["commit", "load", "scan", "blob down", "blob up", "log"] {
        let db = connect(&proxy, 400).await;
        let tx = scene_tx(&db, &cell).await;
        let view = db.now();
        proxy.hold(&[Way::ToServer, Way::ToClient]);
        let since = Instant::now();
        let failed = match what {
            "commit" => tx.commit().await.err(),
            "load" => view.get_many(&[Cell::object(Oid::ROOT)]).await.err(),
            "scan" => view.entries(Oid::ROOT, Range::all()).await.err(),
            "blob down" => db.blob(blob).bytes(0..100_000).await.err(),
            "blob up" => db.put_blob(&[6_u8; 100_000][..]).await.err(),
            _ => match db.admin().log(None, None, None, true).await {
                Ok(pages) => pages.collect().await.err(),
                Err(error) => Some(error),
            },
        };
        let failed = failed.unwrap_or_else(|| panic!("{what}: nothing can have come"));
        assert!(since.elapsed() < Duration::from_secs(30), "{what}: {:?}", since.elapsed());
        match what {
            "commit" => assert!(matches!(failed, Error::OutcomeUnknown { .. }), "{failed}"),
            _ => assert!(
                failed.remedy() == Remedy::Wait || failed.remedy() == Remedy::Retry,
                "{what}: {failed} {:?}",
                failed.remedy()
            ),
        }
        // The server finds out by itself; the connection is still open.
        scene.until(|status| status["sessions"] == 1);
        proxy.cut();
        db.newest().await.unwrap_or_else(|error| panic!("{what}: it connects again: {error}"));
        assert!(db.now().get(&cell).await.expect("reads").is_some());
    }
    // The commit of the beginning never reached the server.
    assert_eq!(scene.read(&cell).await.expect("reads").as_deref(), Some(&b"before"[..]));
    scene.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_stands_still_is_learnt_by_its_key() {
    let scene = Scene::start(&[]).await;
    let proxy = Proxy::to(&scene.served().address).await;
    let cell = scene.cell().await;
    let db = connect(&proxy, 400).await;
    let tx = scene_tx(&db, &cell).await;
    let (key, since) = (db.new_commit_key(), db.position());
    proxy.hold(&[Way::ToClient]);
    let unknown = tx.commit_as(key, since).await.expect_err("nothing came back");
    assert!(matches!(&unknown, Error::OutcomeUnknown { key: named, .. } if *named == key), "{unknown}");
    // Late, and all at once.
    proxy.release();
    let there = scene.until(|status| status["commits"].as_u64() > Some(0));
    assert!(there["poisoned"].is_null());
    let again = scene_tx(&db, &cell).await.commit_as(key, since).await.expect("the key tells");
    assert_eq!(scene.served().json(&["history", &cell.oid.to_string()]).len(), 1);
    assert!(scene.db.newest().await.expect("told") >= again.tid);
    // Another transaction under that key is refused.
    let other = db.begin().await.expect("begins");
    other.put(cell.clone(), &thing("another")).expect("encodes");
    let refused = fault(other.commit_as(key, since).await.expect_err("it is another one"));
    assert!(refused.kind != FaultKind::Internal, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_cut_anywhere_goes_on_and_is_whole() {
    let scene = Scene::start(&[]).await;
    let proxy = Proxy::to(&scene.served().address).await;
    let to = scene.dir.path().join("backup").display().to_string();
    let backup = |server: &str| {
        program()
            .args(["--json", "--server", server, "backup", &to, "--full", "--object-bytes", "4096"])
            .output()
            .expect("runs")
    };
    let mut cut = 0;
    for (n, bytes) in [0, 100, 1000, 4000, 10_000, 20_000, 40_000, 80_000].into_iter().enumerate() {
        for time in 0..10_u8 {
            put(&scene.db, &scene.cell().await, &[n as u8 + time; 4000]).await.expect("commits");
        }
        scene.db.put_blob(&[n as u8; 50_000][..]).await.expect("goes up");
        proxy.arm(Way::ToClient, bytes);
        let taken = backup(&proxy.address);
        let told = text(&taken.stderr);
        if proxy.disarm() {
            assert_eq!(taken.status.code(), Some(0), "{told}");
            continue;
        }
        cut += 1;
        // Before it has a connection there is nobody there; behind that it makes another one.
        assert!(taken.status.code() == Some(0) || (bytes < 1000 && taken.status.code() == Some(3)), "{bytes}: {told}");
    }
    assert!(cut >= 5, "{cut}: nothing was tested");
    assert_eq!(backup(&scene.served().address).status.code(), Some(0));
    for command in ["verify", "drill"] {
        let good = program().args(["backup", command, &to]).output().expect("runs");
        assert_eq!(good.status.code(), Some(0), "{}{}", text(&good.stdout), text(&good.stderr));
    }
}
