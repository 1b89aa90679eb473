//! A real disk that fills up, of a few megabytes: a file system in memory, in name spaces in which anybody may mount.

use super::scene::{fault, put};
use crate::program::{program, text};
use crate::served::Served;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use zeolite_client::{Cell, Db, Error, FaultKind, Remedy};

/// A small disk; it is there as long as this is.
struct SmallDisk {
    holder: Child,
    root: PathBuf,
    _dir: TempDir,
}

impl SmallDisk {
    fn new(size: &str) -> SmallDisk {
        let dir = TempDir::new().expect("a directory");
        let script = format!("mount -t tmpfs -o size={size} small \"$0\" && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) runs");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("has an output")).read_line(&mut line).expect("reads");
        assert_eq!(line, "mounted\n");
        // Seen from outside, where the server runs.
        let root = PathBuf::from(format!("/proc/{}/root{}", holder.id(), dir.path().display()));
        SmallDisk { holder, root, _dir: dir }
    }

    /// Takes room, for something else.
    fn fill(&self, name: &str, leave: u64) {
        let stat = rustix::fs::statvfs(&self.root).expect("told");
        let bytes = (stat.f_bavail * stat.f_frsize).saturating_sub(leave);
        let mut file = std::fs::File::create(self.root.join(name)).expect("makes");
        file.write_all(&vec![1; bytes as usize]).expect("there is that much room");
    }

    fn free(&self, name: &str) {
        std::fs::remove_file(self.root.join(name)).expect("is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing is asked of it any more.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn serve(data: &Path) -> Served {
    // Its own caution aside: the disk is to be met when it is full.
    serve_with(data, &["engine.read_only_below_free_bytes=0", "store.cache_bytes=0"])
}

/// The disk is gone when nobody is on it any more.
fn serve_with(data: &Path, settings: &[&str]) -> Served {
    Served::start_by(program(), data, "127.0.0.1:0", settings)
}

async fn commit_until_full(db: &Db, acknowledged: &mut Vec<Cell>, bytes: usize) -> Error {
    loop {
        let cell = match db.new_oid().await {
            Ok(oid) => Cell::object(oid),
            Err(error) => return error,
        };
        match put(db, &cell, &vec![acknowledged.len() as u8; bytes]).await {
            Ok(_) => acknowledged.push(cell),
            Err(error) => return error,
        }
    }
}

async fn are_there(db: &Db, acknowledged: &[Cell], bytes: usize) {
    let view = db.transaction().fresh().begin().await.expect("begins");
    for (n, cell) in acknowledged.iter().enumerate() {
        let record = view.get(cell).await.expect("reads").expect("there");
        assert!(record.data.len() == bytes && record.data.iter().all(|byte| *byte == n as u8), "{cell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_loses_nothing_over_kills_and_goes_on_when_there_is_room() {
    const BYTES: usize = 50_000;
    let disk = SmallDisk::new("48m");
    let data = disk.root.join("data");
    let mut served = serve(&data);
    let mut acknowledged = Vec::new();
    let mut db = Db::connect(&served.address).await.expect("connects");
    disk.fill("something else", 4 << 20);
    for round in 0..3 {
        let full = fault(commit_until_full(&db, &mut acknowledged, BYTES).await);
        assert_eq!(full.kind, FaultKind::DiskFull, "round {round}: {full}");
        assert!(full.kind.remedy() == Remedy::Wait && full.message.contains("free some space"), "{full}");
        are_there(&db, &acknowledged, BYTES).await;
        let told = served.run(&["check"]);
        assert!(told.status.code() == Some(2) && text(&told.stdout).contains("free_percent"), "{}", text(&told.stdout));
        let status = served.json(&["status"]).remove(0);
        assert!(status["poisoned"].is_null(), "{status}");
        assert_eq!(
            fault(db.put_blob(&[1_u8; 2_000_000][..]).await.expect_err("nor for blobs")).kind,
            FaultKind::DiskFull
        );
        // Killed as it is, and started on a disk that is full.
        served.kill();
        served = serve(&data);
        db = Db::connect(&served.address).await.expect("connects");
        are_there(&db, &acknowledged, BYTES).await;
        let before = acknowledged.len();
        disk.free("something else");
        for _ in 0..20 {
            let cell = Cell::object(db.new_oid().await.expect("an oid"));
            put(&db, &cell, &vec![acknowledged.len() as u8; BYTES]).await.expect("goes on");
            acknowledged.push(cell);
        }
        assert!(acknowledged.len() > before);
        disk.fill("something else", 1 << 20);
    }
    disk.free("something else");
    assert_eq!(served.code(&["verify"]), Some(0));
    assert_eq!(served.stop(), Some(0));
    let served = serve(&data);
    let db = Db::connect(&served.address).await.expect("connects");
    are_there(&db, &acknowledged, BYTES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_makes_the_database_read_only_until_there_is_room() {
    let disk = SmallDisk::new("48m");
    let data = disk.root.join("data");
    let served = serve_with(&data, &["engine.read_only_below_free_bytes=8MiB", "metrics.listen=127.0.0.1:0"]);
    let db = Db::connect(&served.address).await.expect("connects");
    let cell = Cell::object(db.new_oid().await.expect("an oid"));
    put(&db, &cell, b"before").await.expect("commits");
    disk.fill("something else", 4 << 20);
    // It looks at its disk now and then.
    let refused = loop {
        match put(&db, &cell, b"more").await {
            Ok(_) => {}
            Err(error) => break fault(error),
        }
    };
    assert!(refused.kind == FaultKind::ReadOnly && refused.kind.remedy() == Remedy::Wait, "{refused}");
    let told = served.run(&["check"]);
    let words = text(&told.stdout);
    assert!(told.status.code() == Some(2) && words.contains("set by the server") && words.contains("free"), "{words}");
    let view = db.transaction().fresh().begin().await.expect("begins");
    assert!(view.get(&cell).await.expect("reads").is_some());
    disk.free("something else");
    while put(&db, &cell, b"after").await.is_err() {}
    let now = served.json(&["mode"]).remove(0);
    assert!(now["automatic"].is_null(), "{now}");
    assert_eq!(served.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fills_the_disk_is_gone_on_with_when_there_is_room() {
    let scene = TempDir::new().expect("a directory");
    let served = Served::start(&scene.path().join("data"));
    let db = Db::connect(&served.address).await.expect("connects");
    let mut cells = Vec::new();
    for n in 0..300_u32 {
        let cell = Cell::object(db.new_oid().await.expect("an oid"));
        let mut dice = fastrand::Rng::with_seed(u64::from(n));
        let data: Vec<u8> = (0..50_000).map(|_| dice.u8(..)).collect();
        put(&db, &cell, &data).await.expect("commits");
        cells.push((cell, data));
    }
    let place = scene.path().join("backup").display().to_string();
    assert_eq!(served.code(&["backup", &place, "--object-bytes", "1000000"]), Some(0));
    let disk = SmallDisk::new("48m");
    disk.fill("something else", 8 << 20);
    let into = disk.root.join("restored").display().to_string();
    let mut restore = program();
    // Its own caution aside, as above.
    restore.args(["restore", &place, "--into", &into]).env("ZEOLITE_ENGINE_READ_ONLY_BELOW_FREE_BYTES", "0");
    let full = restore.output().expect("runs");
    let told = text(&full.stderr);
    assert!(full.status.code().is_some_and(|code| code > 0) && told.contains("full"), "{told}");
    disk.free("something else");
    let again = restore.args(["--resume", "--json"]).output().expect("runs");
    let told = format!("{}{}", text(&again.stdout), text(&again.stderr));
    assert!(again.status.code() == Some(0) && !told.contains("\"resumed\":null"), "{told}");
    let restored = serve(Path::new(&into));
    let db = Db::connect(&restored.address).await.expect("connects");
    for (cell, data) in &cells {
        assert_eq!(db.now().get(cell).await.expect("reads").expect("there").data.as_ref(), data);
    }
    assert_eq!(restored.code(&["verify"]), Some(0));
}
