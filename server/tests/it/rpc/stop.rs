//! Stopping: in order, without losing an answer; and what a restart keeps.

use super::support::{Raw, cell, draft, fault, hello, put, start, start_in, within};
use std::collections::HashSet;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_the_sessions_answers_what_is_in_flight_and_ends_them() {
    let test = start().await;
    let mut raw = test.session().await;
    let mut open = HashSet::new();
    for n in 0..50 {
        open.insert(raw.send(Request::Commit(draft(0, vec![put(cell(n + 1), 0, "x")]))).await);
    }
    // At least one is in: the stop comes in the middle.
    while !matches!(raw.next().await.reply, Some(Reply::Receipt(_))) {}
    let stopping = tokio::spawn(test.server.stop());
    let (mut told, mut answered) = (false, 1);
    while let Some(frame) = raw.next_or_end().await {
        match frame.reply.expect("a reply") {
            Reply::Fault(refused) if frame.id == 0 => {
                assert_eq!(zeolite_proto::Fault::from(refused).kind, FaultKind::ShuttingDown);
                told = true;
            }
            Reply::Receipt(_) => answered += 1,
            Reply::Fault(refused) => {
                assert_eq!(fault(Reply::Fault(refused)).kind, FaultKind::ShuttingDown);
                answered += 1;
            }
            _ => {}
        }
    }
    assert!(told, "the session heard of it");
    within(stopping).await.expect("no panic").expect("stops");
    // Frames that were still on the line when the server ended the stream are not answered; all others are.
    assert!(answered <= 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_data_and_commit_keys() {
    let test = start().await;
    let mut raw = test.session().await;
    let once = draft(0, vec![put(cell(1), 0, "kept")]);
    let receipt = raw.commit(once.clone()).await.expect("new");
    let (store_id, timeline) = (test.server.engine().store_id(), test.server.engine().timeline());
    drop(raw);
    test.server.stop().await.expect("stops");

    let again = start_in(test.directory, |_| {}).await;
    let mut raw = Raw::connect(again.channel().await).await;
    let back = v2::Hello { feed: true, resume_from: receipt.tid, cached_bytes: 1, store_id, timeline, ..hello() };
    let reply = raw.hello(back).await;
    assert_eq!((reply.store_id, reply.replayed), (store_id, true));
    assert!(reply.visible >= receipt.tid);
    assert_eq!(raw.commit(once).await.expect("the same key"), receipt);
    assert_eq!(raw.load(vec![cell(1)]).await.revisions[0].tid, receipt.tid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_does_not_wait_for_a_client_that_does_not_read() {
    let test = super::support::start_with(|settings| settings.sessions.shutdown_grace_ms = 50).await;
    let endpoint = test.endpoint().initial_stream_window_size(64 << 10).initial_connection_window_size(64 << 10);
    let mut raw = Raw::connect(endpoint.connect().await.expect("the server listens")).await;
    raw.hello(hello()).await;
    let cells: Vec<v2::Cell> = (1..=20).map(cell).collect();
    let writes = cells.iter().map(|cell| put(cell.clone(), 0, vec![1; 30_000])).collect();
    raw.commit(draft(0, writes)).await.expect("new cells");
    for _ in 0..10 {
        raw.send(Request::Load(v2::LoadRequest { cells: cells.clone(), ..Default::default() })).await;
    }
    within(test.server.stop()).await.expect("stops");
    // The client is still there, and reads nothing. Nothing of the server that was is left: its lock is free.
    let again = start_in(test.directory, |_| {}).await;
    let read = again.session().await.load(cells).await;
    assert_eq!(read.revisions.len(), 20);
    drop(raw);
}
