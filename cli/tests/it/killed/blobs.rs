//! The real binary, killed while blobs go up and are committed; and the memory of one that takes a large one.

use super::server::{End, Served};
use super::{GUARD, connect, patient, work};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use zeolite_client::{BlobId, Cell, Db, Record};

/// So much is told of as read.
const TOLD_BYTES: u64 = 1 << 20;

/// The bytes of a blob, made as they are read, told of as they go.
struct Made {
    seed: u64,
    at: u64,
    len: u64,
    read: Arc<watch::Sender<u64>>,
}

/// The same in words of eight bytes, which is fast also without an optimizer.
fn fill(seed: u64, at: u64, to: &mut [u8]) {
    for (word, number) in to.chunks_mut(8).zip(at / 8..) {
        let value = (seed + number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        word.copy_from_slice(&value[..word.len()]);
    }
}

impl AsyncRead for Made {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = (self.len - self.at).min(to.remaining() as u64).min(64 << 10);
        // Whole words, but for the end.
        let count = if left == self.len - self.at { left } else { left / 8 * 8 };
        let mut bytes = vec![0; count as usize];
        fill(self.seed, self.at, &mut bytes);
        to.put_slice(&bytes);
        let before = self.at;
        self.at += count;
        let told = self.at / TOLD_BYTES - before / TOLD_BYTES;
        self.read.send_modify(|read| *read += told);
        Poll::Ready(Ok(()))
    }
}

async fn check(db: &Db, id: BlobId, seed: u64, len: u64) {
    let (mut at, blob) = (0, db.blob(id));
    assert_eq!(blob.length().await.expect("tells"), len);
    while at < len {
        // A multiple of eight.
        let piece = blob.bytes(at..at + (8 << 20)).await.expect("reads");
        let mut expected = vec![0; piece.len()];
        fill(seed, at, &mut expected);
        assert!(!piece.is_empty() && piece == expected, "blob {id} from {at}");
        at += piece.len() as u64;
    }
}

fn file(blob: BlobId) -> Record {
    Record { blobs: vec![blob], ..Record::new("File", 1, "a name") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_blob_that_was_committed_is_lost_or_half_when_the_server_is_killed() {
    let mut served = Served::start();
    let (read, done) = (Arc::new(watch::Sender::new(0)), Arc::new(AtomicBool::new(false)));
    let db = connect(&served, patient("uploader")).await;
    let uploader = tokio::spawn(upload_all(db, read.clone(), done.clone()));
    let (mut dice, mut progress) = (fastrand::Rng::with_seed(3), read.subscribe());
    for end in [End::Kill, End::Kill, End::KillTwice, End::Term].into_iter().cycle().take(12) {
        let wanted = *progress.borrow() + dice.u64(1..12);
        let goes_on = tokio::time::timeout(GUARD, progress.wait_for(|read| *read >= wanted));
        goes_on.await.expect("uploads go on").expect("the uploader lives");
        served = served.end_and_start_again(end);
    }
    done.store(true, Ordering::SeqCst);
    let committed = tokio::time::timeout(GUARD, uploader).await.expect("ends").expect("does not panic");
    assert!(committed.len() >= 12, "{}", committed.len());
    served = served.end_and_start_again(End::Kill);
    let last = connect(&served, patient("last")).await;
    let all = committed.len() as u64;
    for (oid, id, seed, len) in committed {
        let named = last.now().blobs(&Cell::object(oid)).await.expect("reads");
        assert_eq!(named.iter().map(zeolite_client::Blob::id).collect::<Vec<_>>(), [id]);
        check(&last, id, seed, len).await;
    }
    assert_eq!(work::verify(&last).await, Vec::<String>::new());
    // What was named before the kill is told so by the log, within a moment; others wait for their time.
    let settled = async {
        let mut status = last.admin().status().await.expect("answers");
        while status.blobs < all {
            status = last.admin().status().await.expect("answers");
        }
        status
    };
    let status = tokio::time::timeout(GUARD, settled).await.expect("they are counted");
    assert!(status.blobs == all && status.staged_blobs <= 13, "{all} committed: {status:?}");
}

async fn upload_all(
    db: Db,
    read: Arc<watch::Sender<u64>>,
    done: Arc<AtomicBool>,
) -> Vec<(zeolite_client::Oid, BlobId, u64, u64)> {
    let (mut committed, mut dice) = (Vec::new(), fastrand::Rng::with_seed(4));
    while !done.load(Ordering::SeqCst) {
        let (seed, len) = (dice.u64(..1 << 40), dice.u64(0..9 << 20));
        let id = db.put_blob(Made { seed, at: 0, len, read: read.clone() }).await.expect("uploads");
        let oid = db.new_oid().await.expect("an oid");
        db.run(async |tx| tx.put(Cell::object(oid), &file(id))).await.expect("commits");
        committed.push((oid, id, seed, len));
    }
    committed
}

/// What a process holds now, and at most has held, in bytes, by the words of the system.
fn memory(pid: &str) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    Some((of("VmRSS:")?, of("VmHWM:")?))
}

/// `BLOB_TEST_MIB=4096` for a larger one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_takes_little_memory_on_both_sides() {
    let mib = std::env::var("BLOB_TEST_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(256_u64);
    let (served, read) = (Served::start(), Arc::new(watch::Sender::new(0)));
    let db = connect(&served, patient("large")).await;
    let pid = served.pid().to_string();
    // A system that does not tell is not asked.
    let Some((before, _)) = memory(&pid) else { return };
    let (begun, own) = (std::time::Instant::now(), memory("self").map_or(0, |memory| memory.0));
    let id = db.put_blob(Made { seed: 5, at: 0, len: mib << 20, read }).await.expect("uploads");
    let up = begun.elapsed();
    let oid = db.new_oid().await.expect("an oid");
    db.run(async |tx| tx.put(Cell::object(oid), &file(id))).await.expect("commits");
    let begun = std::time::Instant::now();
    check(&db, id, 5, mib << 20).await;
    let down = begun.elapsed();
    assert_eq!(work::verify(&db).await, Vec::<String>::new());
    let server = memory(&pid).map_or(0, |memory| memory.1.saturating_sub(before)) >> 20;
    let client = memory("self").map_or(0, |memory| memory.0.saturating_sub(own)) >> 20;
    println!("{mib} MiB: up in {up:?}, down in {down:?}; server at most {server} MiB more, client {client} MiB more");
    assert!(server < 96 && client < 192, "server {server} MiB, client {client} MiB");
}
