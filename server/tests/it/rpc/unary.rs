//! The unary door: the same calls, refusals as statuses with the fault in their details, streams.

use super::support::{TestServer, cell, draft, entry, oid, put, record, start, start_with, status_fault, within};
use bytes::Bytes;
use tonic::Code;
use zeolite_proto::FaultKind;
use zeolite_proto::resolvers::{class, counter};
use zeolite_proto::wire::v2;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_says_to_be_younger_than_everything_here_is_refused() {
    let test = start().await;
    let mut unary = test.unary().await;
    let tid = unary.writer.commit(draft(0, vec![put(cell(1), 0, "a")])).await.expect("commits").into_inner().tid;
    for since in [tid + 1, u64::MAX] {
        let key_since = Some(since);
        let late = v2::Draft { key_since, ..draft(0, vec![put(cell(2), 0, "b")]) };
        let key = late.commit_key.clone();
        let refused = [
            unary.writer.commit(late.clone()).await.map(drop),
            unary.writer.prepare(v2::PrepareRequest { draft: Some(late), ..Default::default() }).await.map(drop),
            unary.writer.outcome(v2::OutcomeRequest { commit_key: key.clone(), key_since }).await.map(drop),
            unary.writer.finish(v2::FinishRequest { prepared: 0, commit_key: key.clone(), key_since }).await.map(drop),
            unary.writer.abort(v2::AbortRequest { prepared: 0, commit_key: key.clone(), key_since }).await.map(drop),
            unary.writer.undo(v2::UndoRequest { tid, commit_key: key, key_since, note: None }).await.map(drop),
        ];
        for refused in refused {
            assert_eq!(status_fault(&refused.expect_err("nobody has seen that tid")).kind, FaultKind::SnapshotAhead);
        }
    }
    assert_eq!(test.server.engine().visible().0, tid);
    let now = v2::Draft { key_since: Some(tid), ..draft(0, vec![put(cell(2), 0, "b")]) };
    unary.writer.commit(now).await.expect("is as old as what was committed last");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_doors_lead_to_the_same_data() {
    let test = start().await;
    let mut unary = test.unary().await;
    let tid = unary.writer.commit(draft(0, vec![put(cell(1), 0, "x")])).await.expect("new").into_inner().tid;
    let mut raw = test.session().await;
    assert_eq!(raw.load(vec![cell(1)]).await.revisions[0].tid, tid);
    let request = v2::LoadRequest { cells: vec![cell(1), cell(2)], ..Default::default() };
    let loaded = unary.reader.load(request).await.expect("loads").into_inner();
    assert_eq!(loaded.revisions[0].record, Some(record("x")));
    assert_eq!(loaded.revisions[1], v2::Revision::default());
    let many = v2::LoadRequest { cells: (1..500).map(cell).collect(), ..Default::default() };
    assert_eq!(unary.reader.load(many).await.expect("loads").into_inner().revisions.len(), 499);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_status_with_the_fault_in_its_details() {
    let test = start().await;
    let mut unary = test.unary().await;
    let first = unary.writer.commit(draft(0, vec![put(cell(1), 0, "a")])).await.expect("new").into_inner().tid;
    let second = unary.writer.commit(draft(first, vec![put(cell(1), 0, "b")])).await.expect("newest").into_inner().tid;
    let status = unary.writer.commit(draft(first, vec![put(cell(1), 0, "c")])).await.expect_err("a conflict");
    assert_eq!(status.code(), Code::Aborted);
    let fault = status_fault(&status);
    assert_eq!(fault.kind, FaultKind::Conflict);
    let detail = fault.conflict.expect("a conflict says where");
    assert_eq!((detail.base.0, detail.newest.0), (first, second));

    let ahead = v2::LoadRequest { snapshot: second + (1 << 40), cells: vec![cell(1)], ..Default::default() };
    let status = unary.reader.load(ahead).await.expect_err("nothing is there yet");
    assert_eq!((status.code(), status_fault(&status).kind), (Code::OutOfRange, FaultKind::SnapshotAhead));
    let status = unary.reader.history(v2::HistoryRequest::default()).await.expect_err("no cell");
    assert_eq!((status.code(), status_fault(&status).kind), (Code::InvalidArgument, FaultKind::Invalid));
}

async fn scan(test: &TestServer, request: v2::ScanRequest) -> (Vec<Bytes>, usize) {
    let mut pages = test.unary().await.reader.scan(request).await.expect("scans").into_inner();
    let (mut keys, mut count) = (Vec::new(), 0);
    let mut more = true;
    while let Some(page) = within(pages.message()).await.expect("no fault") {
        keys.extend(page.entries.into_iter().map(|entry| entry.key));
        count += 1;
        more = page.more;
    }
    assert_eq!(more, keys.len() < 100, "only a scan that stopped at its limit has more");
    (keys, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_streams_all_pages_of_one_snapshot() {
    let test = start_with(|settings| settings.limits.scan_entries_max = 30).await;
    let key = |n: usize| Bytes::from(format!("k{n:03}"));
    let writes = (0..100).map(|n| put(entry(4, key(n)), 0, "v")).collect();
    test.unary().await.writer.commit(draft(0, writes)).await.expect("new entries");
    let expected: Vec<Bytes> = (0..100).map(key).collect();
    assert_eq!(scan(&test, v2::ScanRequest { oid: oid(4), ..Default::default() }).await, (expected.clone(), 4));
    let reverse = scan(&test, v2::ScanRequest { oid: oid(4), reverse: true, ..Default::default() }).await;
    assert_eq!(reverse, (expected.iter().rev().cloned().collect(), 4));
    let limited = scan(&test, v2::ScanRequest { oid: oid(4), limit: 45, ..Default::default() }).await;
    assert_eq!(limited, (expected[..45].to_vec(), 2));
    assert_eq!(test.server.engine().status().pins, 0, "the scan's pin is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_and_objects_are_counted_exactly() {
    let test = start().await;
    let mut unary = test.unary().await;
    let writes = (1..=5).map(|n| put(cell(n), 0, "x")).collect();
    unary.writer.commit(draft(0, writes)).await.expect("new cells");
    let kinds = unary.reader.kinds(v2::KindsRequest {}).await.expect("kinds").into_inner();
    let plain = kinds.kinds.iter().find(|kind| kind.class == "Plain").expect("its class is known");
    assert_eq!((plain.version, plain.objects), (1, 5));
    let mut oids: Vec<u64> = Vec::new();
    let mut request = v2::ObjectsRequest { class: "Plain".into(), limit: 2, ..Default::default() };
    loop {
        let page = unary.reader.objects(request.clone()).await.expect("a page").into_inner();
        oids.extend(&page.oids);
        if !page.more {
            break;
        }
        request.after = page.oids.last().copied().expect("a page that has more is not empty");
    }
    assert_eq!(oids, (1..=5).map(oid).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_objects_are_listed_with_their_records_as_of_a_snapshot() {
    let test = start_with(|settings| settings.limits.reply_bytes_aim = 16_384).await;
    let mut unary = test.unary().await;
    let root = v2::Cell::default();
    let first = vec![put(root, 0, vec![1; 30_000]), put(cell(1), 0, "a"), put(cell(2), 0, vec![2; 20_000])];
    let snapshot = unary.writer.commit(draft(0, first)).await.expect("new cells").into_inner().tid;
    let later = vec![put(cell(1), 0, "b"), put(cell(3), 0, "c")];
    let mut later = draft(snapshot, later);
    later.writes[1].absent = true;
    unary.writer.commit(later).await.expect("on the newest");
    let mut request = v2::ObjectsRequest { snapshot, with_records: true, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let page = unary.reader.objects(request.clone()).await.expect("a page").into_inner();
        assert_eq!(page.oids.len(), page.revisions.len());
        found.extend(page.oids.iter().copied().zip(page.revisions));
        if !page.more {
            break;
        }
        request.after = page.oids.last().copied().expect("a page that has more is not empty");
    }
    let at = |n| found.iter().find(|(found, _)| *found == n).map(|(_, revision)| revision.clone()).expect("listed");
    assert_eq!(found.iter().map(|(oid, _)| *oid).collect::<Vec<_>>(), [0, oid(1), oid(2), oid(3)]);
    assert_eq!((at(oid(1)).tid, at(oid(1)).record), (snapshot, Some(record("a"))));
    assert_eq!(at(oid(3)), v2::Revision::default(), "it is newer than the snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_bring_oids_of_its_own_if_it_says_so() {
    let test = start().await;
    let mut unary = test.unary().await;
    let far = oid(1) + 1_000_000;
    let there = |oid| v2::Cell { oid, key: Bytes::new() };
    let refused = unary.writer.commit(draft(0, vec![put(there(far), 0, "x")])).await.expect_err("never handed out");
    assert_eq!(status_fault(&refused).kind, FaultKind::Invalid);
    let taking = |oid| v2::Draft { take_oids: true, ..draft(0, vec![put(there(oid), 0, "x")]) };
    unary.writer.commit(taking(far)).await.expect("it says so");
    let next = unary.writer.new_oids(v2::NewOidsRequest { count: 1 }).await.expect("an oid").into_inner().first;
    assert!(next > far, "{next} is behind what was taken");
    for beyond in [next + (1 << 33), u64::MAX - 1, u64::MAX] {
        let refused = unary.writer.commit(taking(beyond)).await.expect_err("a gap that cannot be meant");
        assert_eq!(status_fault(&refused).kind, FaultKind::Invalid, "{beyond}");
    }
    assert_eq!(
        unary.writer.new_oids(v2::NewOidsRequest { count: 1 }).await.expect("an oid").into_inner().first,
        next + 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_is_refused_for_good_is_not_a_conflict() {
    let test = start().await;
    let mut unary = test.unary().await;
    let apply = |class: &str, operation: Bytes| v2::Write {
        cell: Some(cell(1)),
        change: Some(v2::write::Change::Apply(v2::Apply { class: class.into(), operation })),
        ..Default::default()
    };
    let add = |n| apply(class::COUNTER, counter::add(n));
    let first = unary.writer.commit(draft(0, vec![add(i64::MAX)])).await.expect("a new counter").into_inner().tid;
    let refused = unary.writer.commit(draft(first, vec![add(1)])).await.expect_err("beyond 64 bits");
    let fault = status_fault(&refused);
    assert_eq!((fault.kind, refused.code()), (FaultKind::Refused, Code::FailedPrecondition), "{fault}");
    assert!(fault.conflict.is_some_and(|detail| detail.reason.contains("beyond 64 bits")));
    // Seeing what is there now, the transaction might do something else.
    let second = unary.writer.commit(draft(first, vec![add(-1)])).await.expect("there is room").into_inner().tid;
    let unseen = unary.writer.commit(draft(first, vec![add(2)])).await.expect_err("beyond 64 bits");
    assert_eq!(status_fault(&unseen).kind, FaultKind::Conflict);
    assert!(second > first);
    let refused =
        unary.writer.commit(draft(second, vec![apply("Nobody", Bytes::new())])).await.expect_err("no such class");
    assert_eq!(status_fault(&refused).kind, FaultKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_names_all_that_is_in_the_way() {
    let test = start().await;
    let mut raw = test.session().await;
    let writes = |data: &'static str| (1..=150).map(|n| put(cell(n), 0, data)).collect::<Vec<_>>();
    let first = raw.commit(draft(0, writes("a"))).await.expect("new").tid;
    raw.commit(draft(first, writes("b"))).await.expect("on the newest");
    let fault = raw.commit(draft(first, writes("c"))).await.expect_err("all are stale");
    let named: Vec<_> = fault.in_the_way().map(|detail| detail.cell.oid.0).collect();
    assert_eq!(named, (1..=101).map(oid).collect::<Vec<_>>(), "the first, and a hundred more");
    let whole = |detail: &zeolite_proto::ConflictDetail| {
        (detail.base_record.clone(), detail.newest_record.clone()) == (Some(record("a")), Some(record("b")))
    };
    assert!(fault.in_the_way().all(whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_says_its_base_or_that_the_cell_is_absent() {
    let test = start().await;
    let mut unary = test.unary().await;
    let write = |base, absent| v2::Write { base, absent, ..put(cell(1), 0, "x") };
    let one = |write| v2::Draft { writes: vec![write], snapshot: None, ..draft(0, Vec::new()) };
    let mut refused = async |draft| status_fault(&unary.writer.commit(draft).await.expect_err("refused")).kind;
    assert_eq!(refused(one(write(None, false))).await, FaultKind::Invalid, "neither base nor snapshot");
    assert_eq!(refused(one(write(Some(1), true))).await, FaultKind::Invalid, "both");
    let first = test.unary().await.writer.commit(one(write(None, true))).await.expect("it is absent").into_inner().tid;
    for (base, absent) in [(None, true), (Some(0), false)] {
        let of_new = v2::Draft { snapshot: Some(first), ..one(write(base, absent)) };
        assert_eq!(refused(of_new).await, FaultKind::Conflict, "it is there, whatever the snapshot is");
    }
    test.unary()
        .await
        .writer
        .commit(v2::Draft { snapshot: Some(first), ..one(write(None, false)) })
        .await
        .expect("of the snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snapshot_of_an_empty_database_is_one_if_it_is_said() {
    let test = start().await;
    let mut unary = test.unary().await;
    let write = v2::Write { base: None, absent: false, ..put(cell(1), 0, "x") };
    let of_empty = || v2::Draft { key_since: None, snapshot: Some(0), ..draft(0, vec![write.clone()]) };
    unary.writer.commit(of_empty()).await.expect("nothing is there");
    let again = v2::Draft { commit_key: vec![9; 16].into(), ..of_empty() };
    let fault = status_fault(&unary.writer.commit(again).await.expect_err("it is there"));
    assert_eq!(fault.kind, FaultKind::Conflict, "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_works_where_pins_are_shorter_than_its_own() {
    let test = start_with(|settings| settings.limits.pin_ms_max = 1000).await;
    test.unary().await.writer.commit(draft(0, vec![put(entry(1, "k"), 0, "x")])).await.expect("new");
    let request = v2::ScanRequest { oid: oid(1), ..Default::default() };
    let mut pages = test.unary().await.reader.scan(request).await.expect("scans").into_inner();
    let page = within(pages.message()).await.expect("no fault").expect("a page");
    assert_eq!(page.entries[0].key, "k");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_is_refused_with_a_fault() {
    let test = start().await;
    let mut client = tonic::client::Grpc::new(test.channel().await);
    client.ready().await.expect("connected");
    // As a load this is a cell of which the first field has no end.
    let message = tonic::Request::new(v2::Cell { oid: 0, key: Bytes::from_static(b"\x12\xff") });
    let codec = tonic_prost::ProstCodec::<v2::Cell, v2::LoadReply>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/zeolite.v2.Reader/Load");
    let status = within(client.unary(message, path, codec)).await.expect_err("it makes no sense");
    assert_eq!((status.code(), status_fault(&status).kind), (Code::InvalidArgument, FaultKind::Invalid));
}
