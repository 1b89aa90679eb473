//! Every limit of a request, each with the fault that names it.

use super::support::{Raw, cell, draft, entry, fault, hello, kind, oid, put, start_with, status_fault};
use bytes::Bytes;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_server::settings::Settings;

fn small(settings: &mut Settings) {
    settings.limits.message_bytes_max = 64 << 10;
    settings.limits.record_bytes_max = 10_000;
    settings.limits.draft_bytes_max = 50_000;
    settings.limits.draft_writes_max = 10;
    settings.limits.key_bytes_max = 100;
    settings.limits.load_cells_max = 10;
    settings.limits.scan_entries_max = 5;
    settings.limits.oids_max = 10;
    settings.limits.pin_ms_max = 10_000;
    settings.limits.prepare_ms_max = 1_000;
    settings.sessions.open_drafts_max = 2;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_has_its_fault_and_changes_nothing() {
    let test = start_with(small).await;
    let mut raw = test.session().await;
    let load = |count| Request::Load(v2::LoadRequest { cells: (0..count).map(cell).collect(), ..Default::default() });
    let long_key = "k".repeat(102);
    let refused = [
        ("load", load(11)),
        ("load, key", Request::Load(v2::LoadRequest { cells: vec![entry(1, long_key.clone())], ..Default::default() })),
        ("oids", Request::NewOids(v2::NewOidsRequest { count: 11 })),
        ("writes", Request::Commit(draft(0, (1..12).map(|n| put(cell(n), 0, "x")).collect()))),
        ("record", Request::Commit(draft(0, vec![put(cell(1), 0, vec![0; 10_001])]))),
        ("key", Request::Commit(draft(0, vec![put(entry(1, long_key.clone()), 0, "x")]))),
        ("draft", Request::Commit(draft(0, (1..8).map(|n| put(cell(n), 0, vec![0; 9_000])).collect()))),
        ("scan, key", Request::Scan(v2::ScanRequest { oid: oid(1), from: long_key.into(), ..Default::default() })),
    ];
    for (what, request) in refused {
        let fault = raw.refused(request).await;
        assert_eq!(fault.kind, FaultKind::TooLarge, "{what}: {fault}");
        assert!(fault.message.contains("limit"), "{what}: {fault}");
    }
    assert!(matches!(raw.ask(load(10)).await, Reply::Load(_)), "just within the limit");
    let Reply::Done(done) = raw.ask(Request::Ping(v2::Ping {})).await else { panic!("not a ping") };
    assert_eq!(done.tid, test.server.engine().visible().0);
    assert!(raw.load(vec![cell(1)]).await.revisions.iter().all(|revision| revision.tid == 0), "nothing was written");
}

fn reading(oid: u64, from: &'static str, to: &'static str) -> v2::Draft {
    let range = v2::ReadRange { oid, from: from.into(), to: to.into(), base: Some(0) };
    v2::Draft { read_ranges: vec![range], ..draft(0, vec![put(cell(1), 0, "x")]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn senseless_requests_are_invalid() {
    let test = start_with(small).await;
    let mut raw = test.session().await;
    let cells = vec![cell(1), cell(2)];
    let requests = [
        ("continued beyond", Request::Load(v2::LoadRequest { cells, continued_from: 2, ..Default::default() })),
        ("no oids", Request::NewOids(v2::NewOidsRequest { count: 0 })),
        ("no cell", Request::History(v2::HistoryRequest::default())),
        (
            "turned around",
            Request::Scan(v2::ScanRequest { oid: oid(1), from: "b".into(), to: "a".into(), ..Default::default() }),
        ),
        ("a range turned around", Request::Commit(reading(oid(1), "b", "a"))),
        ("a range of own cells", Request::Commit(reading(1, "", ""))),
        ("a range of own cells, held", {
            let draft = Some(reading(1, "prepared/", ""));
            Request::Prepare(v2::PrepareRequest { draft, durable: true, ..Default::default() })
        }),
    ];
    for (what, request) in requests {
        let fault = raw.refused(request).await;
        assert_eq!(fault.kind, FaultKind::Invalid, "{what}: {fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_over_the_limit_ends_the_session_with_its_fault() {
    let test = start_with(small).await;
    let mut raw = test.session().await;
    raw.send(Request::Commit(draft(0, vec![put(cell(1), 0, vec![0; 65 << 10])]))).await;
    let frame = raw.next().await;
    assert_eq!(frame.id, 0);
    assert_eq!(fault(frame.reply.expect("a reply")).kind, FaultKind::TooLarge);
    assert!(raw.next_or_end().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_in_parts_are_bounded_in_size_and_number() {
    let test = start_with(small).await;
    let mut raw = test.session().await;
    let part = |key: u8, size: usize, last| {
        Request::Part(v2::DraftPart {
            commit_key: vec![key; 16].into(),
            data: Bytes::from(vec![0; size]),
            last,
            ..Default::default()
        })
    };
    raw.send(part(1, 30_000, false)).await;
    let fault = raw.refused(part(1, 30_000, false)).await;
    assert_eq!(fault.kind, FaultKind::TooLarge, "60,000 bytes are over 50,000");
    let fault = raw.refused(part(1, 10, true)).await;
    assert_eq!(fault.kind, FaultKind::Invalid, "its tail is not a new draft");
    raw.send(part(2, 10, false)).await;
    raw.send(part(3, 10, false)).await;
    assert_eq!(raw.refused(part(4, 10, false)).await.kind, FaultKind::TooLarge, "two may be open");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_cut_at_their_aim_and_continued() {
    let test = start_with(|settings| settings.limits.reply_bytes_aim = 100_000).await;
    let mut raw = test.session().await;
    let cells: Vec<v2::Cell> = (1..=20).map(cell).collect();
    let writes = cells.iter().map(|cell| put(cell.clone(), 0, vec![1; 30_000])).collect();
    let tid = raw.commit(draft(0, writes)).await.expect("new cells").tid;
    let (mut received, mut answers) = (0, 0);
    while received < cells.len() {
        let request =
            v2::LoadRequest { snapshot: tid, cells: cells.clone(), continued_from: received as u32, timeline: 0 };
        let Reply::Load(reply) = raw.ask(Request::Load(request)).await else { panic!("not a load") };
        assert!(!reply.revisions.is_empty() && reply.revisions.iter().all(|revision| revision.tid == tid));
        received += reply.revisions.len();
        answers += 1;
    }
    assert_eq!(received, cells.len());
    assert!((5..=8).contains(&answers), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_held_back_when_its_answers_pile_up() {
    let test = start_with(|settings| settings.sessions.in_flight_max = 1).await;
    let mut raw = Raw::connect(test.channel().await).await;
    raw.hello(hello()).await;
    // More than may be in flight: all are answered, one after the other.
    let mut asked = Vec::new();
    for n in 0..50 {
        asked.push(raw.send(Request::Commit(draft(0, vec![put(cell(n + 1), 0, "x")]))).await);
    }
    let mut answered = Vec::new();
    for _ in 0..50 {
        let frame = raw.next().await;
        assert!(matches!(frame.reply, Some(Reply::Receipt(_))), "{frame:?}");
        answered.push(frame.id);
    }
    assert_eq!(answered, asked, "one at a time keeps their order");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unary_door_has_the_same_limits() {
    let test = start_with(small).await;
    let mut unary = test.unary().await;
    let load = v2::LoadRequest { cells: (0..11).map(cell).collect(), ..Default::default() };
    let refused = unary.reader.load(load).await.expect_err("too many cells");
    assert_eq!(status_fault(&refused).kind, FaultKind::TooLarge);
    let refused = unary.writer.commit(draft(0, vec![put(cell(1), 0, vec![0; 10_001])])).await.map(|_| ());
    assert_eq!(kind(refused.map_err(|status| status_fault(&status))), FaultKind::TooLarge);
}
