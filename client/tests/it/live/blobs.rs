//! Blobs between a client and a real server, over a network that is cut.

use crate::support::{World, object, within};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use zeolite_client::blobs::named_by;
use zeolite_client::{BlobId, BlobStanding, Db, Error, FaultKind, ModeEnd, ModeKind, Note, PackOptions, Record};

/// Bytes of which no two stretches are alike, made as they are read; at some places something is done.
struct Made<'a> {
    at: u64,
    len: u64,
    every: u64,
    done: &'a (dyn Fn() + Sync),
}

fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8
}

fn content(len: u64) -> Bytes {
    (0..len).map(byte).collect()
}

impl AsyncRead for Made<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let end = self.len.min(self.at + to.remaining() as u64).min(self.at + 10_007);
        if self.at / self.every != end / self.every {
            (self.done)();
        }
        let bytes: Vec<u8> = (self.at..end).map(byte).collect();
        to.put_slice(&bytes);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

/// What cannot be read to its end.
struct Breaks(Bytes);

impl AsyncRead for Breaks {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(io::Error::other("the disk is gone")));
        }
        let count = self.0.len().min(to.remaining());
        to.put_slice(&self.0.split_to(count));
        Poll::Ready(Ok(()))
    }
}

fn file(blobs: &[BlobId]) -> Record {
    Record { blobs: blobs.to_vec(), ..Record::new("File", 1, "a name") }
}

fn fault(error: &Error) -> FaultKind {
    match error {
        Error::Fault(fault) => fault.kind,
        other => panic!("{other}"),
    }
}

async fn pack(db: &Db) -> u64 {
    let mut pack = db.admin().pack(PackOptions::new().keep_garbage(true)).await.expect("answers");
    let mut last = None;
    while let Some(progress) = pack.next().await.expect("packs") {
        last = Some(progress);
    }
    last.expect("some progress").blobs_removed
}

async fn verify(db: &Db) -> (u64, Vec<String>) {
    let mut verify = db.admin().verify().await.expect("answers");
    let mut last = None;
    while let Some(progress) = verify.next().await.expect("verifies") {
        last = Some(progress);
    }
    last.map(|last| (last.blobs, last.problems)).expect("some progress")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_goes_up_and_comes_back_whole_and_in_ranges() {
    let world = World::start().await;
    let db = world.db().await;
    let bytes = content(9_000_001);
    let id = db.put_blob(&bytes[..]).await.expect("uploads");
    let empty = db.put_blob(&b""[..]).await.expect("uploads");
    db.run(async |tx| tx.put(object(1), &file(&[id, empty]))).await.expect("commits");
    let [blob, none] = db.now().blobs(&object(1)).await.expect("reads").try_into().expect("two");
    assert_eq!((blob.id(), blob.length().await.expect("tells")), (id, bytes.len() as u64));
    assert_eq!(none.length().await.expect("tells"), 0);
    assert_eq!(none.bytes(0..10).await.expect("reads"), "");
    assert_eq!(blob.bytes(0..u64::MAX).await.expect("reads"), bytes);
    for (from, to) in
        [(0, 1), (65_535, 65_537), (1_000_000, 4_000_000), (9_000_000, 9_000_001), (9_000_000, 10_000_000)]
    {
        let expected = bytes.slice(from..to.min(bytes.len()));
        assert_eq!(blob.bytes(from as u64..to as u64).await.expect("reads"), expected, "{from}..{to}");
    }
    assert_eq!(blob.bytes(9_000_001..9_000_009).await.expect("reads"), "", "behind the end");
    let pieces: Vec<Bytes> = blob.read(100..5_000_000).map(|piece| piece.expect("reads")).collect().await;
    assert!(pieces.len() > 10 && pieces.concat() == bytes[100..5_000_000]);
    let status = db.admin().status().await.expect("answers");
    assert_eq!((status.blobs, status.staged_blobs), (2, 0), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_and_a_read_go_on_by_themselves_when_the_line_is_cut() {
    let world = World::start().await;
    let (db, len) = (world.db().await, 12_000_000);
    let source = Made { at: 0, len, every: 1_500_000, done: &|| world.network.cut() };
    let id = within(db.put_blob(source)).await.expect("uploads");
    assert!(world.network.connections() >= 4, "{} connections", world.network.connections());
    let before = world.network.connections();
    world.network.shorten(3_000_000);
    assert!(within(db.blob(id).bytes(0..len)).await.expect("reads") == content(len));
    assert!(world.network.connections() > before + 2, "{} connections", world.network.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_begun_goes_on_in_another_life_and_a_draft_that_names_it_is_told_so() {
    let mut world = World::start().await;
    let (id, bytes) = (BlobId([7; 16]), content(6_000_000));
    let db = world.db().await;
    let refused = db.put_blob_as(id, Breaks(bytes.slice(..5_000_000))).await.expect_err("breaks");
    assert!(refused.to_string().contains("the disk is gone"), "{refused}");
    assert_eq!(db.blob_standing(id).await.expect("tells"), BlobStanding::Begun(4 << 20));
    let commit = || db.run(async |tx| tx.put(object(1), &file(&[id])));
    let refused = commit().await.expect_err("not whole");
    assert!(fault(&refused) == FaultKind::NotFound && refused.to_string().contains("byte 4194304"), "{refused}");
    let unread = db.blob(id).bytes(0..1).await.expect_err("not whole");
    assert_eq!(fault(&unread), FaultKind::NotFound);
    world.restart().await;
    assert_eq!(db.blob_standing(id).await.expect("tells"), BlobStanding::Begun(4 << 20));
    db.put_blob_as(id, &bytes[..]).await.expect("goes on");
    commit().await.expect("names it");
    assert!(db.blob(id).bytes(0..6_000_000).await.expect("reads") == bytes);
    let unknown = db.run(async |tx| tx.put(object(1), &file(&[BlobId([8; 16])]))).await.expect_err("never uploaded");
    assert!(fault(&unknown) == FaultKind::NotFound && unknown.to_string().contains("upload it"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_names_the_earlier_blob_again_and_pack_takes_what_no_revision_names() {
    let world = World::start_with(|settings| {
        (settings.engine.history_min_s, settings.engine.pin_grace_s) = (0, 0);
    })
    .await;
    let db = world.db().await;
    let mut ids = Vec::new();
    for n in 1..=3_u8 {
        let id = db.put_blob(&vec![n; 100_000][..]).await.expect("uploads");
        db.run(async |tx| tx.put(object(1), &file(&[id]))).await.expect("commits");
        ids.push(id);
    }
    let named = async || db.now().blobs(&object(1)).await.expect("reads")[0].id();
    let newest = db.history(&object(1), None, 1, false).await.expect("answers").items[0].revision.tid;
    let receipt = db.undo(newest, Note::default()).await.expect("undoes");
    assert!(db.wait_for(receipt.tid, crate::support::GUARD).await);
    assert_eq!(named().await, ids[1], "the one before");
    assert_eq!(pack(&db).await, 2, "the first and the third");
    assert_eq!(db.blob(ids[1]).bytes(0..9).await.expect("kept"), vec![2; 9]);
    for gone in [ids[0], ids[2]] {
        assert_eq!(fault(&db.blob(gone).bytes(0..1).await.expect_err("gone")), FaultKind::NotFound);
        let again = db.run(async |tx| tx.put(object(2), &file(&[gone]))).await.expect_err("gone");
        assert_eq!(fault(&again), FaultKind::NotFound);
    }
    assert_eq!(verify(&db).await, (1, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_brings_the_blobs_and_one_that_lacks_any_says_so() {
    let (from, to) = (World::start().await, World::start_bare(|_| {}).await);
    let (source, copy) = (from.db().await, to.db().await);
    let bytes = content(5_000_000);
    let id = source.put_blob(&bytes[..]).await.expect("uploads");
    source.run(async |tx| tx.put(object(1), &file(&[id]))).await.expect("commits");
    // Promised only, and to be named by what keeps the promise.
    let promised = source.put_blob(&b"promised"[..]).await.expect("uploads");
    let tx = source.transaction().begin().await.expect("begins");
    tx.put(object(2), &file(&[promised])).expect("puts");
    tx.prepare_durable(source.new_commit_key(), source.position(), None).await.expect("prepares");
    let log = source.admin().log(None, None, None, true).await.expect("answers").collect().await.expect("reads");
    let named: Vec<BlobId> = log.iter().flat_map(named_by).collect();
    assert!(named.contains(&id) && named.contains(&promised), "{named:?}");
    let refused = copy.admin().restore(stream::iter(log.clone())).await.expect_err("it lacks them");
    assert!(fault(&refused) == FaultKind::NotFound && refused.to_string().contains(&id.to_string()), "{refused}");
    let there = copy.newest().await.expect("tells");
    let mut came = 0;
    for transaction in &log {
        came += copy.bring_blobs(&source, transaction).await.expect("brings");
    }
    assert_eq!(came, 2);
    let rest: Vec<_> = log.into_iter().filter(|transaction| transaction.tid > there).collect();
    copy.admin().restore(stream::iter(rest)).await.expect("restores");
    assert!(copy.blob(id).bytes(0..6_000_000).await.expect("reads") == bytes);
    assert_eq!(verify(&copy).await, (2, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_what_it_does_not_take() {
    let world = World::start_with(|settings| settings.limits.blob_bytes_max = 1_000_000).await;
    let db = world.db().await;
    let large = db.put_blob(&content(1_000_001)[..]).await.expect_err("too large");
    assert!(fault(&large) == FaultKind::TooLarge && large.to_string().contains("1000000"), "{large}");
    db.put_blob(&content(1_000_000)[..]).await.expect("just fits");
    db.admin().set_mode(ModeKind::ReadOnly, "", ModeEnd::Never).await.expect("switches");
    let writer = world.db_with(zeolite_client::Options::new().role("write")).await;
    assert_eq!(fault(&writer.put_blob(&b"x"[..]).await.expect_err("read-only")), FaultKind::ReadOnly);
    let reader = world.db_with(zeolite_client::Options::new().role("read")).await;
    assert_eq!(fault(&reader.put_blob(&b"x"[..]).await.expect_err("may not")), FaultKind::Denied);
}
