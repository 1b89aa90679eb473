//! Open files of the real process: idle connections never take those of the log, and the number of segments needs no more.

use crate::served::Served;
use std::io::Read;
use std::net::TcpStream;
use tempfile::TempDir;
use zeolite_client::{Cell, Db, Record};

const LIMIT: &str = "-n 256";
// A segment for each commit below, nothing of it in memory, and silent connections stay.
const SETTINGS: [&str; 5] = [
    "store.segment_bytes_max=4096",
    "store.cache_bytes=0",
    "store.kept_bytes_max=0",
    "sessions.keepalive_timeout_ms=600000",
    "sessions.connections_max=1000",
];
const COMMITS: usize = 300;

async fn put(db: &Db, cell: &Cell, n: usize) {
    let tx = db.begin().await.expect("begins");
    tx.put(cell.clone(), &Record::new("Page", 1, vec![n as u8; 5000])).expect("encodes");
    tx.commit().await.unwrap_or_else(|error| panic!("commit {n}: {error}"));
}

async fn read(db: &Db, cells: &[Cell]) {
    let tx = db.begin().await.expect("begins");
    for (n, cell) in cells.iter().enumerate() {
        let record = tx.get(cell).await.expect("reads").expect("there");
        assert_eq!(record.data.first(), Some(&(n as u8)), "{cell}");
    }
}

#[tokio::test]
async fn idle_connections_beyond_the_limit_of_open_files_never_stop_commits_over_new_segments() {
    let dir = TempDir::new().expect("a directory");
    let served = Served::start_with_files(dir.path(), LIMIT, &SETTINGS);
    let db = Db::connect(&served.address).await.expect("connects");
    let idle: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(&served.address).expect("the kernel accepts")).collect();
    // The last one is closed at once: all places are taken.
    let closed = idle.last().expect("there").read(&mut [0]);
    assert!(closed.as_ref().map_or(true, |bytes| *bytes == 0), "{closed:?}");
    let mut cells = Vec::new();
    for n in 0..COMMITS {
        cells.push(Cell::object(db.new_oid().await.expect("an oid")));
        put(&db, &cells[n], n).await;
    }
    read(&db, &cells).await;
    drop((db, idle));
    assert_eq!(served.stop(), Some(0));
    let segments = std::fs::read_dir(dir.path().join("log")).expect("lists").count();
    assert!(segments >= COMMITS, "{segments}");
    // More segments than files: it starts, and serves.
    let served = Served::start_with_files(dir.path(), LIMIT, &SETTINGS);
    let db = Db::connect(&served.address).await.expect("connects");
    read(&db, &cells).await;
    put(&db, &cells[0], 1).await;
    drop(db);
    let packed = served.json(&["pack"]);
    assert!(!packed.is_empty());
    assert_eq!(served.code(&["verify"]), Some(0));
    assert_eq!(served.stop(), Some(0));
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_the_system_allows() {
    let dir = TempDir::new().expect("a directory");
    let served = Served::start_with_files(dir.path(), "-S -n 100", &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", served.pid())).expect("Linux tells");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("told");
    let numbers: Vec<&str> = line.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert!(numbers.len() == 2 && numbers[0] == numbers[1] && numbers[0] != "100", "{line}");
}
