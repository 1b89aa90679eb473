//! The log, restores and history: what is copied is what was there, and says what it cannot know.

use super::support::{Unary, cell, draft, entry, put, record, start, start_bare, start_with, status_fault, within};
use bytes::Bytes;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_streams_transactions_and_restores_into_another_store() {
    let test = start_with(|settings| settings.limits.reply_bytes_aim = 50_000).await;
    // It may have handed out oids: that takes no time.
    let copy = start().await;
    let mut unary = test.unary().await;
    let before = test.server.engine().visible().0;
    for n in 0..30u64 {
        let note = Some(v2::Note { user: "u".into(), description: format!("d{n}").into(), extension: Bytes::new() });
        let writes = vec![put(cell(n + 1), 0, vec![n as u8; 20_000]), put(entry(50, format!("{n}")), 0, "e")];
        unary.writer.commit(v2::Draft { note, ..draft(0, writes) }).await.expect("new cells");
    }
    let request = v2::LogRequest { from: before + 1, with_records: true, ..Default::default() };
    let mut pages = unary.replicator.log(request).await.expect("a log").into_inner();
    let mut messages = Vec::new();
    while let Some(page) = within(pages.message()).await.expect("no fault") {
        assert!(prost::Message::encoded_len(&page) < 60_000);
        messages.extend(page.transactions);
    }
    let whole = messages.iter().filter(|message| !message.more).count();
    assert_eq!(whole, 30);
    let last = messages.last().map(|message| message.tid);

    let restored =
        copy.unary().await.replicator.restore(tokio_stream::iter(messages)).await.expect("restores").into_inner();
    assert_eq!((restored.transactions, Some(restored.tid)), (30, last));
    let mut copied = copy.unary().await;
    for n in 1..=30 {
        let load = v2::LoadRequest { cells: vec![cell(n), entry(50, format!("{}", n - 1))], ..Default::default() };
        let ours = unary.reader.load(load.clone()).await.expect("loads").into_inner().revisions;
        let theirs = copied.reader.load(load).await.expect("loads").into_inner().revisions;
        assert!(ours.len() == 2 && ours == theirs, "the copy has the same revisions under the same tids: {n}");
    }
    let history = v2::HistoryRequest { cell: Some(cell(7)), ..Default::default() };
    let history = copy.unary().await.reader.history(history).await.expect("a history").into_inner();
    assert_eq!(history.notes[0].description, "d6");

    // The first one that is refused ends the restore: what is on its way behind it does not leave a hole.
    let later = |after: u64, n: u8| v2::Transaction {
        tid: restored.tid + after,
        commit_key: vec![n; 16].into(),
        writes: vec![v2::LoggedWrite { cell: Some(cell(60 + u64::from(n))), deleted: true, ..Default::default() }],
        ..Default::default()
    };
    let far = v2::Transaction { tid: u64::MAX, ..later(2, 2) };
    let status = copy.unary().await.replicator.restore(tokio_stream::iter([later(1, 1), far, later(3, 3)])).await;
    let status = status.expect_err("a tid far ahead of the clock");
    assert!(status.message().contains("restore_ahead_max_s"), "{status}");
    let request = v2::LogRequest { from: restored.tid + 1, ..Default::default() };
    let page =
        within(copied.replicator.log(request).await.expect("a log").into_inner().message()).await.expect("no fault");
    let tids: Vec<u64> = page.into_iter().flat_map(|page| page.transactions).map(|txn| txn.tid).collect();
    assert_eq!(tids, [restored.tid + 1], "the first is there, nothing behind the refused one is");

    let old = v2::Transaction { tid: 1, commit_key: vec![1; 16].into(), ..Default::default() };
    let status =
        copy.unary().await.replicator.restore(tokio_stream::iter([old])).await.expect_err("older than the newest");
    assert!(zeolite_proto::wire::fault::from_status(&status).is_some(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_bytes_of_the_length_that_a_file_storage_keeps_and_goes_everywhere() {
    let (test, copy) = (start().await, start().await);
    let mut unary = test.unary().await;
    let full = |first: &[u8]| Bytes::from([first, &[b'n'; 65_535][first.len()..]].concat());
    let note = v2::Note { user: full(b"J\xfcrgen"), description: full(b"\xff\xfe"), extension: full(b"\x80") };
    let before = test.server.engine().visible().0;
    let draft_of = |note: &v2::Note, n: u8| v2::Draft {
        note: Some(note.clone()),
        ..draft(test.server.engine().visible().0, vec![put(cell(1), 0, vec![n])])
    };
    for n in 0..10 {
        unary.writer.commit(draft_of(&note, n)).await.expect("each part has 65,535 bytes");
    }
    for long in [
        v2::Note { user: full(b"").repeat(2).into(), ..note.clone() },
        v2::Note { description: vec![0; 65_536].into(), ..note.clone() },
        v2::Note { extension: vec![0; 65_536].into(), ..note.clone() },
    ] {
        let status = unary.writer.commit(draft_of(&long, 0)).await.expect_err("a part is too long");
        assert_eq!(status_fault(&status).kind, FaultKind::TooLarge, "{status}");
    }

    let mut pages = unary
        .replicator
        .log(v2::LogRequest { from: before + 1, with_records: true, ..Default::default() })
        .await
        .expect("a log")
        .into_inner();
    let mut messages = Vec::new();
    while let Some(page) = within(pages.message()).await.expect("no fault") {
        messages.extend(page.transactions);
    }
    let mut copied = copy.unary().await;
    let long = v2::Note { user: vec![0; 65_536].into(), ..v2::Note::default() };
    let refused = vec![v2::Transaction { note: Some(long), ..messages[0].clone() }];
    let status = copied.replicator.restore(tokio_stream::iter(refused)).await.expect_err("a part is too long");
    assert_eq!(status_fault(&status).kind, FaultKind::TooLarge, "{status}");
    copied.replicator.restore(tokio_stream::iter(messages)).await.expect("restores");

    // Ten of them are more than a reply has: the rest is asked for.
    let (mut before, mut notes) = (0, Vec::new());
    loop {
        let request = v2::HistoryRequest { cell: Some(cell(1)), before, ..Default::default() };
        let reply = copied.reader.history(request).await.expect("a history").into_inner();
        assert!(prost::Message::encoded_len(&reply) < (1 << 20) + 200_000 && !reply.notes.is_empty());
        before = reply.revisions.last().map_or(0, |last| last.tid);
        notes.extend(reply.notes);
        if !reply.more {
            break;
        }
    }
    assert_eq!(notes, vec![note; 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_begins_another_life_and_says_what_was_packed_where_it_comes_from() {
    let copy = start().await;
    let engine = copy.server.engine().clone();
    let (life, visible) = (engine.timeline(), engine.visible().0);
    let (packed_to, tid) = (visible + 1000, visible + 2000);
    let write = v2::LoggedWrite { cell: Some(cell(1)), record: Some(record("x")), ..Default::default() };
    let logged =
        v2::Transaction { tid, commit_key: vec![9; 16].into(), packed_to, writes: vec![write], ..Default::default() };
    let mut unary = copy.unary().await;
    unary.replicator.restore(tokio_stream::iter([logged])).await.expect("restores");
    let now = engine.timeline();
    assert_ne!(now, life);
    let load = |snapshot, timeline| v2::LoadRequest { snapshot, timeline, cells: vec![cell(1)], continued_from: 0 };
    let fault = |status: tonic::Status| status_fault(&status).kind;
    let loaded = unary.reader.load(load(tid, now)).await.expect("loads").into_inner();
    assert_eq!(loaded.revisions[0].record, Some(record("x")));
    let early = unary.reader.load(load(packed_to - 1, 0)).await.expect_err("what was there then is not known");
    assert_eq!(fault(early), FaultKind::SnapshotPacked);
    let other = unary.reader.load(load(tid, life)).await.expect_err("of another life");
    assert_eq!(fault(other), FaultKind::SnapshotAhead);
    let stale = v2::Draft { timeline: life, ..draft(tid, vec![put(cell(1), 0, "y")]) };
    assert_eq!(fault(unary.writer.commit(stale.clone()).await.expect_err("of another life")), FaultKind::SnapshotAhead);
    unary.writer.commit(v2::Draft { timeline: now, ..stale }).await.expect("of this life");
    let mut pages = unary.replicator.log(v2::LogRequest::default()).await.expect("a log").into_inner();
    let page = within(pages.message()).await.expect("no fault").expect("a page");
    assert_eq!((page.packed_to, page.timeline), (packed_to, now));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_backwards_and_without_the_servers_own() {
    let test = start_with(|settings| settings.limits.reply_bytes_aim = 20_000).await;
    let mut unary = test.unary().await;
    let mut tids = Vec::new();
    for n in 0..40u64 {
        let writes = vec![put(cell(n + 1), 0, vec![n as u8; 9_000])];
        tids.push(unary.writer.commit(draft(0, writes)).await.expect("new cells").into_inner().tid);
    }
    let mut read = async |request: v2::LogRequest| {
        let mut pages = unary.replicator.log(request).await.expect("a log").into_inner();
        let mut messages = Vec::new();
        while let Some(page) = within(pages.message()).await.expect("no fault") {
            messages.extend(page.transactions.into_iter().filter(|message| !message.more));
        }
        messages
    };
    let all = read(v2::LogRequest::default()).await;
    assert!(all.len() > 40 && all.iter().any(|message| message.own), "the server keeps books, too");
    let mut back = read(v2::LogRequest { reverse: true, ..Default::default() }).await;
    back.reverse();
    assert_eq!(back, all);
    let clients = v2::LogRequest { reverse: true, without_own: true, ..Default::default() };
    let newest: Vec<u64> = read(clients).await.iter().map(|message| message.tid).collect();
    assert_eq!(newest, tids.iter().rev().copied().collect::<Vec<_>>());
    let page = read(v2::LogRequest { to: tids[30] - 1, limit: 7, ..clients }).await;
    let page: Vec<u64> = page.iter().map(|message| message.tid).collect();
    assert_eq!(page, tids[23..30].iter().rev().copied().collect::<Vec<_>>());
}

/// Restores one cell of one transaction.
async fn restore_one(unary: &mut Unary, tid: u64, n: u64) -> Result<v2::RestoreReply, tonic::Status> {
    let write = v2::LoggedWrite { cell: Some(cell(n)), record: Some(record("x")), ..Default::default() };
    let logged = v2::Transaction { tid, writes: vec![write], ..Default::default() };
    unary.replicator.restore(tokio_stream::iter([logged])).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_takes_any_tid_and_one_that_keeps_books_any_above_these() {
    let new = start_bare().await;
    let mut unary = new.unary().await;
    for tid in 1..=3 {
        assert_eq!(restore_one(&mut unary, tid, tid).await.expect("nothing is older").tid, tid);
    }
    let load = v2::LoadRequest { snapshot: 2, cells: (1..=3).map(cell).collect(), ..Default::default() };
    let loaded = unary.reader.load(load).await.expect("loads").into_inner().revisions;
    assert_eq!(loaded.iter().map(|revision| revision.tid).collect::<Vec<_>>(), [1, 2, 0]);

    // Oids were handed out here: that is in the log, under the smallest tids that there are.
    let used = start().await;
    let mut unary = used.unary().await;
    let own = used.server.engine().visible().0;
    assert!((1..10).contains(&own), "bookkeeping takes no time: {own}");
    let status = restore_one(&mut unary, own, 1).await.expect_err("taken");
    assert_eq!(status_fault(&status).kind, FaultKind::Invalid);
    assert!(status.message().contains("bookkeeping") && status.message().contains("new database"), "{status}");
    assert_eq!(restore_one(&mut unary, own + 1, 1).await.expect("the first that is free").tid, own + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_revision_by_its_tid_is_found_below_what_is_packed_as_long_as_it_is_there() {
    let test = start_with(|settings| settings.engine.history_min_s = 0).await;
    let mut unary = test.unary().await;
    let mut tids = Vec::new();
    for n in 0..3u8 {
        let base = tids.last().copied().unwrap_or(0);
        tids.push(
            unary.writer.commit(draft(base, vec![put(cell(1), 0, vec![n])])).await.expect("new").into_inner().tid,
        );
    }
    let [first, second, third] = tids[..] else { panic!("three") };
    let last = unary.writer.commit(draft(0, vec![put(cell(2), 0, "x")])).await.expect("new").into_inner().tid;
    let exactly = async |unary: &mut Unary, tid: u64| {
        let request = v2::HistoryRequest { cell: Some(cell(1)), before: tid + 1, limit: 1, with_records: true };
        let reply = unary.reader.history(request).await.expect("is answered").into_inner();
        reply.revisions.into_iter().find(|revision| revision.tid == tid).and_then(|revision| revision.record)
    };
    let packed = async || {
        let mut admin = AdminClient::new(test.channel().await);
        let request = v2::PackRequest { keep_garbage: true, ..Default::default() };
        let mut stages = admin.pack(request).await.expect("packs").into_inner();
        while within(stages.message()).await.expect("no fault").is_some() {}
        test.server.engine().packed_to().0
    };
    let plain = |n: u8| Some(record(vec![n]));

    let pin = unary.reader.pin(v2::PinRequest { snapshot: second, lease_ms: 60_000 }).await.expect("pins").into_inner();
    assert!(packed().await <= second);
    let all = [exactly(&mut unary, first).await, exactly(&mut unary, second).await, exactly(&mut unary, third).await];
    assert_eq!(all, [None, plain(1), plain(2)], "what the pin keeps is there");

    unary.reader.unpin(v2::UnpinRequest { pin: pin.pin }).await.expect("unpins");
    assert_eq!(packed().await, last);
    let at = v2::LoadRequest { snapshot: third, cells: vec![cell(1)], ..Default::default() };
    let status = unary.reader.load(at).await.expect_err("what else was there then is not known");
    assert_eq!(status_fault(&status).kind, FaultKind::SnapshotPacked);
    let all = [exactly(&mut unary, first).await, exactly(&mut unary, second).await, exactly(&mut unary, third).await];
    assert_eq!(all, [None, None, plain(2)], "the newest one is there");
}
