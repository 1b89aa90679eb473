//! Restores: what is refused leaves nothing, and a copy lacks nothing that it does not say it lacks.

use super::support::{TestServer, Unary, cell, draft, put, record, start, start_in, start_with, status_fault, within};
use std::sync::Arc;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;

/// Restores what is given; the kind of the fault and its text.
async fn restore(unary: &mut Unary, logged: Vec<v2::Transaction>) -> Result<v2::RestoreReply, (FaultKind, String)> {
    let answer = unary.replicator.restore(tokio_stream::iter(logged)).await;
    answer.map(tonic::Response::into_inner).map_err(|status| (status_fault(&status).kind, status.message().to_owned()))
}

/// A transaction that puts one object.
fn logged(tid: u64, n: u64) -> v2::Transaction {
    let write = v2::LoggedWrite { cell: Some(cell(n)), record: Some(record("x")), ..Default::default() };
    v2::Transaction { tid, writes: vec![write], ..Default::default() }
}

/// The log as it comes: each transaction says up to where it is packed there.
async fn log(unary: &mut Unary, request: v2::LogRequest) -> Result<Vec<v2::Transaction>, tonic::Status> {
    let mut pages = unary.replicator.log(v2::LogRequest { with_records: true, ..request }).await?.into_inner();
    let mut all = Vec::new();
    while let Some(page) = within(pages.message()).await? {
        all.extend(page.transactions);
    }
    Ok(all)
}

async fn commit(unary: &mut Unary, writes: Vec<v2::Write>, at: u64) -> u64 {
    unary.writer.commit(draft(at, writes)).await.expect("nothing is in its way").into_inner().tid
}

async fn pack(test: &TestServer) {
    let mut admin = AdminClient::new(test.channel().await);
    let request = v2::PackRequest { keep_garbage: true, ..Default::default() };
    let mut stages = admin.pack(request).await.expect("packs").into_inner();
    while within(stages.message()).await.expect("no fault").is_some() {}
}

async fn load(unary: &mut Unary, snapshot: u64, cells: Vec<v2::Cell>) -> Result<Vec<v2::Revision>, FaultKind> {
    let request = v2::LoadRequest { snapshot, cells, ..Default::default() };
    let answer = unary.reader.load(request).await;
    answer.map(|loaded| loaded.into_inner().revisions).map_err(|status| status_fault(&status).kind)
}

fn segments(test: &TestServer) -> usize {
    std::fs::read_dir(test.directory.path().join("data/log")).expect("the log is there").count()
}

async fn again(test: TestServer) -> TestServer {
    let directory = Arc::clone(&test.directory);
    test.server.stop().await.expect("stops");
    start_in(directory, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_restore_takes_force_that_is_refused_at_its_first_transaction() {
    let test = start().await;
    let mut unary = test.unary().await;
    let first = commit(&mut unary, vec![put(cell(1), 0, "a")], 0).await;
    let pin = unary.reader.pin(v2::PinRequest { snapshot: first, lease_ms: 60_000 }).await.expect("pins").into_inner();
    commit(&mut unary, vec![put(cell(1), first, "b")], 0).await;
    let (life, files) = (test.server.engine().timeline(), segments(&test));
    let ahead = test.server.engine().visible().0 + (1 << 40);
    for refused in [
        v2::Transaction { packed_to: ahead, ..logged(0, 2) },
        v2::Transaction { packed_to: u64::MAX, ..logged(ahead, 2) },
        v2::Transaction { packed_to: ahead, ..logged(ahead + 1, 2) },
        v2::Transaction { packed_to: ahead, more: true, ..logged(ahead, 2) },
    ] {
        restore(&mut unary, vec![refused]).await.expect_err("is refused");
        let engine = test.server.engine();
        assert_eq!((engine.packed_to().0, engine.timeline(), segments(&test)), (0, life, files));
    }
    assert!(load(&mut unary, first, vec![cell(1)]).await.is_ok(), "what is pinned is there");
    unary.reader.renew(v2::RenewRequest { pin: pin.pin, ..Default::default() }).await.expect("the pin is there");
    let test = again(test).await;
    let mut unary = test.unary().await;
    assert!(load(&mut unary, first, vec![cell(1)]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_packed_database_that_was_interrupted_opens_and_goes_on() {
    let source = start_with(|settings| settings.engine.history_min_s = 0).await;
    let mut there = source.unary().await;
    for n in 1..6 {
        let tid = commit(&mut there, vec![put(cell(n), 0, "old")], 0).await;
        commit(&mut there, vec![put(cell(n), tid, "new")], 0).await;
    }
    pack(&source).await;
    let packed_to = source.server.engine().packed_to().0;
    let all = log(&mut there, v2::LogRequest::default()).await.expect("a log");
    assert!(all.iter().all(|logged| logged.packed_to == packed_to) && all.last().is_some_and(|it| it.tid <= packed_to));
    let whole = load(&mut there, 0, (1..10).map(cell).collect()).await.expect("loads");

    // Without the source's own bookkeeping: the copy has its own, as new as that.
    let theirs: Vec<_> = all.into_iter().filter(|logged| !logged.own).collect();
    let mut copy = start().await;
    for (at, next) in theirs.iter().enumerate() {
        let mut here = copy.unary().await;
        restore(&mut here, vec![next.clone()]).await.expect("goes on behind the newest one that is there");
        assert!(copy.server.engine().packed_to().0 <= next.tid);
        load(&mut here, 0, vec![cell(1)]).await.expect("the newest snapshot can be read");
        let old = load(&mut here, next.tid - 1, vec![cell(1)]).await;
        assert_eq!(old.expect_err("what was there then is not known"), FaultKind::SnapshotPacked);
        if at < 2 {
            copy = again(copy).await;
        }
    }
    let mut here = copy.unary().await;
    assert_eq!(load(&mut here, 0, (1..10).map(cell).collect()).await.expect("loads"), whole);
    let forgotten =
        here.writer.commit(draft(0, vec![put(cell(20), 0, "again")])).await.expect_err("may have been there");
    assert_eq!(status_fault(&forgotten).kind, FaultKind::OutcomeUnknown);
    commit(&mut here, vec![put(cell(20), 0, "goes on")], packed_to).await;
    assert_eq!(copy.server.engine().packed_to().0, packed_to);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_behind_a_pack_of_its_source_only_if_nothing_is_missing() {
    let source = start_with(|settings| settings.engine.history_min_s = 0).await;
    let mut there = source.unary().await;
    let copy = start().await;
    let mut here = copy.unary().await;
    let clients = |all: Vec<v2::Transaction>| all.into_iter().filter(|logged| !logged.own).collect::<Vec<_>>();
    let behind = |tid: u64| v2::LogRequest { from: tid + 1, ..Default::default() };
    let mut newest = commit(&mut there, vec![put(cell(1), 0, "a"), put(cell(2), 0, "a")], 0).await;
    restore(&mut here, clients(log(&mut there, v2::LogRequest::default()).await.expect("a log")))
        .await
        .expect("restores");

    // Packed up to what is here: what comes is whole.
    pack(&source).await;
    commit(&mut there, vec![put(cell(1), newest, "b")], 0).await;
    restore(&mut here, clients(log(&mut there, behind(newest)).await.expect("a log"))).await.expect("goes on");
    newest = copy.server.engine().visible().0;
    assert!(load(&mut here, newest - 1, vec![cell(1)]).await.is_ok(), "the history that is here stays");

    // Packed further: a deletion is gone that the copy has not seen.
    let delete = v2::write::Change::Delete(v2::Delete {});
    let delete = v2::Write { change: Some(delete), ..put(cell(2), newest, "") };
    commit(&mut there, vec![delete], 0).await;
    commit(&mut there, vec![put(cell(3), 0, "c")], 0).await;
    pack(&source).await;
    let status = log(&mut there, behind(newest)).await.expect_err("lacks something");
    assert_eq!(status_fault(&status).kind, FaultKind::SnapshotPacked, "{status}");
    assert!(status.message().contains("as_left"), "{status}");
    let back = log(&mut there, v2::LogRequest { reverse: true, ..behind(newest) }).await.expect("to look at");
    let left = log(&mut there, v2::LogRequest { as_left: true, ..behind(newest) }).await.expect("to look at");
    assert!(!left.is_empty() && back.len() == left.len());
    let (kind, why) = restore(&mut here, left.clone()).await.expect_err("lacks something");
    assert_eq!(kind, FaultKind::SnapshotPacked, "{why}");
    assert!(why.contains("empty database"), "{why}");
    assert_eq!(copy.server.engine().visible().0, newest);

    // Also in the middle of a call.
    let further = |tid: u64| v2::Transaction { packed_to: tid - 1, ..logged(tid, 4) };
    let (kind, _) =
        restore(&mut here, vec![logged(newest + 10, 4), further(newest + 20)]).await.expect_err("packed meanwhile");
    assert_eq!((kind, copy.server.engine().visible().0), (FaultKind::SnapshotPacked, newest + 10));
    let whole = log(&mut there, v2::LogRequest::default()).await.expect("from the beginning");
    let anew = start().await;
    let mut anew = anew.unary().await;
    restore(&mut anew, clients(whole)).await.expect("into an empty one");
    let cells = || (1..4).map(cell).collect();
    assert_eq!(load(&mut anew, 0, cells()).await, load(&mut there, 0, cells()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_begins_a_segment_when_it_brings_something() {
    let test = start().await;
    let mut unary = test.unary().await;
    let first = commit(&mut unary, vec![put(cell(1), 0, "a")], 0).await;
    let (life, files) = (test.server.engine().timeline(), segments(&test));
    for _ in 0..5 {
        restore(&mut unary, vec![logged(1, 2)]).await.expect_err("too old");
        restore(&mut unary, Vec::new()).await.expect("of nothing");
    }
    assert_eq!((test.server.engine().timeline(), segments(&test)), (life, files));
    restore(&mut unary, (1..5).map(|n| logged(first + n, n)).collect()).await.expect("restores");
    let copied = test.server.engine().timeline();
    assert_ne!(copied, life);
    assert_eq!(segments(&test), files + 1);

    // Many small ones behind each other are one copy: not a file each.
    for n in 5..20 {
        restore(&mut unary, vec![logged(first + n, n)]).await.expect("restores");
    }
    assert_eq!((test.server.engine().timeline(), segments(&test)), (copied, files + 1));
    let own = commit(&mut unary, vec![put(cell(1), first + 1, "own")], 0).await;
    restore(&mut unary, vec![logged(own + 1, 2)]).await.expect("restores");
    assert_ne!(test.server.engine().timeline(), copied, "what was committed in between is in no other copy");
    assert_eq!(segments(&test), files + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_contradicts_itself_is_refused() {
    let test = start().await;
    let mut unary = test.unary().await;
    let tid = test.server.engine().visible().0 + 1000;
    let both = |deleted, record_more| v2::LoggedWrite {
        cell: Some(cell(1)),
        deleted,
        record: Some(record("x")),
        record_more,
        ..Default::default()
    };
    for write in [both(true, false), both(true, true), v2::LoggedWrite { record: None, ..both(true, true) }] {
        let both = v2::Transaction { writes: vec![write.clone()], more: write.record_more, ..logged(tid, 1) };
        assert_eq!(restore(&mut unary, vec![both]).await.expect_err("deleted, with a record").0, FaultKind::Invalid);
    }
    let own = v2::Transaction { own: true, ..logged(tid, 1) };
    assert_eq!(restore(&mut unary, vec![own]).await.expect_err("not the server's own").0, FaultKind::Invalid);
    restore(&mut unary, vec![logged(tid, 1)]).await.expect("restores");
}
