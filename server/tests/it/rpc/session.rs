//! The session's requests: answers, ids, drafts in parts.

use super::support::{Raw, cell, draft, entry, fault, hello, kind, oid, put, record, start};
use bytes::Bytes;
use prost::Message;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_loaded_in_the_order_asked() {
    let test = start().await;
    let mut raw = test.session().await;
    let writes = vec![put(cell(1), 0, "one"), put(entry(2, "k"), 0, "two")];
    let receipt = raw.commit(draft(0, writes)).await.expect("new cells");
    let loaded = raw.load(vec![entry(2, "k"), cell(9), cell(1)]).await;
    assert_eq!(loaded.snapshot, receipt.tid);
    let found: Vec<_> = loaded.revisions.into_iter().map(|revision| (revision.tid, revision.record)).collect();
    assert_eq!(found, [(receipt.tid, Some(record("two"))), (0, None), (receipt.tid, Some(record("one")))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_names_cell_class_base_and_newest() {
    let test = start().await;
    let mut raw = test.session().await;
    let first = raw.commit(draft(0, vec![put(cell(1), 0, "a")])).await.expect("new").tid;
    let second = raw.commit(draft(first, vec![put(cell(1), 0, "b")])).await.expect("on its newest").tid;
    let refused = raw.commit(draft(first, vec![put(cell(1), 0, "c")])).await.expect_err("on an old one");
    assert_eq!(refused.kind, FaultKind::Conflict);
    let detail = refused.conflict.expect("a conflict says where");
    assert_eq!((detail.cell.oid.0, detail.base.0, detail.newest.0), (oid(1), first, second));
    assert_eq!(detail.class, "Plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_commit_key_one_receipt() {
    let test = start().await;
    let mut raw = test.session().await;
    let once = draft(0, vec![put(cell(1), 0, "a")]);
    let first = raw.commit(once.clone()).await.expect("new");
    let again = raw.commit(once.clone()).await.expect("the same key");
    assert_eq!(first, again);
    let asked = raw.ask(Request::Outcome(v2::OutcomeRequest { commit_key: once.commit_key, key_since: None })).await;
    assert!(matches!(asked, Reply::Outcome(outcome) if outcome.receipt == Some(first)));
    let unknown =
        raw.ask(Request::Outcome(v2::OutcomeRequest { commit_key: vec![255; 16].into(), key_since: None })).await;
    assert!(matches!(unknown, Reply::Outcome(outcome) if outcome == v2::OutcomeReply::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_in_flight_are_answered_each_under_its_id() {
    let test = start().await;
    let mut raw = test.session().await;
    let mut asked = Vec::new();
    for n in 0..60u64 {
        let commit = raw.send(Request::Commit(draft(0, vec![put(cell(1000 + n), 0, "x")]))).await;
        let load = raw.send(Request::Load(v2::LoadRequest { cells: vec![cell(n)], ..Default::default() })).await;
        asked.extend([(commit, true), (load, false)]);
    }
    while !asked.is_empty() {
        let frame = raw.next().await;
        if frame.id == 0 {
            continue;
        }
        let at = asked.iter().position(|(id, _)| *id == frame.id).expect("each id is answered once");
        let (_, commit) = asked.swap_remove(at);
        match frame.reply {
            Some(Reply::Receipt(_)) => assert!(commit),
            Some(Reply::Load(_)) => assert!(!commit),
            other => panic!("neither: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_sense_are_refused_and_the_session_goes_on() {
    let test = start().await;
    let mut raw = test.session().await;
    raw.send_as(5, None).await;
    assert_eq!(fault(raw.answer(5).await).kind, FaultKind::Invalid, "no request");
    raw.send_as(0, Some(Request::Ping(v2::Ping {}))).await;
    assert_eq!(fault(raw.answer(0).await).kind, FaultKind::Invalid, "no id");
    let bad_key = v2::Draft { commit_key: Bytes::from_static(b"short"), ..draft(0, vec![put(cell(1), 0, "x")]) };
    assert_eq!(kind(raw.commit(bad_key).await), FaultKind::Invalid);
    let bare = v2::Write { cell: Some(cell(1)), ..Default::default() };
    assert_eq!(kind(raw.commit(draft(0, vec![bare])).await), FaultKind::Invalid);
    assert_eq!(raw.refused(Request::Prepare(v2::PrepareRequest::default())).await.kind, FaultKind::Invalid);
    let nothing = Request::Load(v2::LoadRequest::default());
    assert_eq!(raw.refused(nothing).await.kind, FaultKind::Invalid);
    assert!(matches!(raw.ask(Request::Ping(v2::Ping {})).await, Reply::Done(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_flight_is_not_taken_twice() {
    let test = start().await;
    let mut raw = test.session().await;
    // A load of many cells runs beside the session's stream, so it is in flight when the next frame is read.
    let cells = (0..5000).map(cell).collect();
    raw.send_as(7, Some(Request::Load(v2::LoadRequest { cells, ..Default::default() }))).await;
    raw.send_as(7, Some(Request::Ping(v2::Ping {}))).await;
    let mut kinds = Vec::new();
    for _ in 0..2 {
        kinds.push(match raw.answer(7).await {
            Reply::Load(_) => "load",
            Reply::Done(_) => "ping",
            Reply::Fault(_) => "fault",
            other => panic!("{other:?}"),
        });
    }
    kinds.sort_unstable();
    // Either the load was still in flight, or it was answered before the ping was read: both are right.
    assert!(kinds == ["fault", "load"] || kinds == ["load", "ping"], "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_in_parts_is_one_commit() {
    let test = start().await;
    let mut raw = test.session().await;
    let writes = (0..40).map(|n| put(cell(n + 1), 0, vec![n as u8; 100_000])).collect();
    let whole = draft(0, writes);
    let encoded = Bytes::from(whole.encode_to_vec());
    let pieces: Vec<Bytes> =
        (0..encoded.len()).step_by(1 << 20).map(|at| encoded.slice(at..encoded.len().min(at + (1 << 20)))).collect();
    let id = 77;
    for (n, data) in pieces.iter().enumerate() {
        let last = n + 1 == pieces.len();
        let part = v2::DraftPart { commit_key: whole.commit_key.clone(), data: data.clone(), last, purpose: None };
        raw.send_as(id, Some(Request::Part(part))).await;
    }
    let Reply::Receipt(receipt) = raw.answer(id).await else { panic!("not committed") };
    let loaded = raw.load((1..=40).map(cell).collect()).await;
    assert!(loaded.revisions.iter().all(|revision| revision.tid == receipt.tid));

    let other_key = v2::DraftPart { commit_key: vec![9; 16].into(), data: encoded, last: true, purpose: None };
    assert_eq!(raw.refused(Request::Part(other_key)).await.kind, FaultKind::Invalid, "the keys differ");
    let data = Bytes::from_static(b"\xff\xff");
    let garbage = v2::DraftPart { commit_key: vec![9; 16].into(), data, last: true, purpose: None };
    assert_eq!(raw.refused(Request::Part(garbage)).await.kind, FaultKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_goes_on_page_by_page_in_both_directions() {
    let test = start().await;
    let mut raw = test.session().await;
    let keys: Vec<String> = (0..25).map(|n| format!("k{n:02}")).collect();
    let writes = keys.iter().map(|key| put(entry(3, key.clone()), 0, key.clone())).collect();
    raw.commit(draft(0, writes)).await.expect("new entries");
    for reverse in [false, true] {
        let mut request = v2::ScanRequest { oid: oid(3), limit: 10, reverse, ..Default::default() };
        let mut found = Vec::new();
        let mut pages = 0;
        loop {
            let Reply::Scan(page) = raw.ask(Request::Scan(request.clone())).await else { panic!("not a page") };
            found.extend(page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.key).into_owned()));
            pages += 1;
            request.snapshot = page.snapshot;
            if !page.more {
                break;
            }
            if reverse { request.to = page.next } else { request.from = page.next }
        }
        if reverse {
            found.reverse();
        }
        assert_eq!(found, keys, "reverse: {reverse}");
        assert_eq!(pages, 3, "reverse: {reverse}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_oids_history_prepare_and_undo_are_answered() {
    let test = start().await;
    let mut raw = test.session().await;
    let first = raw.commit(draft(0, vec![put(cell(1), 0, "a")])).await.expect("new").tid;
    let second = raw.commit(draft(first, vec![put(cell(1), 0, "b")])).await.expect("on its newest").tid;

    let Reply::Pin(pin) = raw.ask(Request::Pin(v2::PinRequest { snapshot: first, lease_ms: 1000 })).await else {
        panic!()
    };
    assert_eq!((pin.snapshot, pin.lease_ms), (first, 1000));
    let renew = v2::RenewRequest { pin: pin.pin, lease_ms: 2000, snapshot: 0 };
    assert!(matches!(raw.ask(Request::Renew(renew)).await, Reply::Pin(again) if again.lease_ms == 2000));
    assert!(matches!(raw.ask(Request::Unpin(v2::UnpinRequest { pin: pin.pin })).await, Reply::Done(_)));
    assert_eq!(raw.refused(Request::Renew(renew)).await.kind, FaultKind::PinLost);

    let Reply::NewOids(oids) = raw.ask(Request::NewOids(v2::NewOidsRequest { count: 10 })).await else { panic!() };
    let Reply::NewOids(more) = raw.ask(Request::NewOids(v2::NewOidsRequest { count: 10 })).await else { panic!() };
    assert!(more.first >= oids.first + 10, "{} {}", oids.first, more.first);

    let request = v2::HistoryRequest { cell: Some(cell(1)), with_records: true, ..Default::default() };
    let Reply::History(history) = raw.ask(Request::History(request)).await else { panic!() };
    let tids: Vec<u64> = history.revisions.iter().map(|revision| revision.tid).collect();
    assert_eq!(tids, [second, first]);
    assert_eq!(history.revisions[1].record, Some(record("a")));

    let third = Some(draft(second, vec![put(cell(1), 0, "c")]));
    let prepare = v2::PrepareRequest { draft: third, time_limit_ms: 10_000, ..Default::default() };
    let key = prepare.draft.as_ref().map(|draft| draft.commit_key.clone()).expect("a draft");
    let Reply::Prepare(prepared) = raw.ask(Request::Prepare(prepare)).await else { panic!() };
    let finish = v2::FinishRequest { prepared: prepared.prepared, commit_key: key, key_since: None };
    let Reply::Receipt(third) = raw.ask(Request::Finish(finish)).await else { panic!() };
    assert!(third.tid > second);

    let undo = v2::UndoRequest { tid: third.tid, commit_key: vec![200; 16].into(), note: None, key_since: None };
    let Reply::Receipt(undone) = raw.ask(Request::Undo(undo)).await else { panic!() };
    let loaded = raw.load(vec![cell(1)]).await;
    assert_eq!(loaded.revisions[0].tid, undone.tid);
    assert_eq!(loaded.revisions[0].record, Some(record("b")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gone_client_had_committed_is_finished() {
    let test = start().await;
    let mut raw = test.session().await;
    let left = draft(0, vec![put(cell(1), 0, "left")]);
    raw.send(Request::Commit(left.clone())).await;
    // The half-closed stream still answers; dropping it whole must not lose an admitted commit either.
    let Raw { to, mut from, .. } = raw;
    drop(to);
    let mut receipt = None;
    while let Some(frame) = super::support::within(from.message()).await.expect("no transport error") {
        if let Some(Reply::Receipt(found)) = frame.reply {
            receipt = Some(found);
        }
    }
    let receipt = receipt.expect("what was asked before the end is answered, then the stream ends");
    let mut other = Raw::connect(test.channel().await).await;
    other.hello(hello()).await;
    assert_eq!(other.load(vec![cell(1)]).await.revisions[0].tid, receipt.tid);
}
