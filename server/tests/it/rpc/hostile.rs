//! One bad client, and everybody else: what it takes up is bounded, it is told so, and the others go on.

mod fairness;
mod shares;

use super::support::{Raw, cell, draft, fault, put, start, start_with, status_fault};
use bytes::Bytes;
use prost::Message;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::codec::MESSAGE_PARTS_MAX;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_filled_its_share_is_told_so_and_others_go_on() {
    let test = start_with(|settings| {
        settings.limits.draft_writes_max = 100;
        settings.limits.record_bytes_max = 20_000;
        settings.limits.draft_bytes_max = 50_000;
        settings.sessions.connection_bytes_max = 200_000;
        settings.sessions.requests_bytes_max = 300_000;
    })
    .await;
    let mut holder = test.session().await;
    let prepare = v2::PrepareRequest { draft: Some(draft(0, vec![put(cell(1), 0, "held")])), ..Default::default() };
    let Reply::Prepare(prepared) = holder.ask(Request::Prepare(prepare)).await else { panic!("not prepared") };

    // Each of them waits for the prepared one, in memory.
    let mut bad = test.session().await;
    let mut sent = Vec::new();
    for n in 0..20 {
        sent.push(bad.send(Request::Commit(draft(0, vec![put(cell(1), 0, vec![n; 15_000])]))).await);
    }
    let told = fault(next_answer(&mut bad).await);
    assert_eq!(told.kind, FaultKind::Busy, "{told}");
    assert!(told.message.contains("connection_bytes_max") && told.retry_after_ms > 0, "{told}");

    let mut other = test.session().await;
    other.commit(draft(0, vec![put(cell(2), 0, vec![0; 15_000])])).await.expect("another connection has its own share");
    let abort = v2::AbortRequest { prepared: prepared.prepared, ..Default::default() };
    assert!(matches!(holder.ask(Request::Abort(abort)).await, Reply::Done(_)));
    // One of those that waited is first, all others find it there; then there is room again.
    let (mut committed, mut refused) = (0, vec![told.kind]);
    while committed + refused.len() < sent.len() {
        match next_answer(&mut bad).await {
            Reply::Receipt(_) => committed += 1,
            reply => refused.push(fault(reply).kind),
        }
    }
    let count = |kind| refused.iter().filter(|refused| **refused == kind).count();
    assert_eq!(committed, 1, "{refused:?}");
    assert!(count(FaultKind::Busy) >= 5 && count(FaultKind::Conflict) >= 8, "{refused:?}");
    bad.commit(draft(0, vec![put(cell(3), 0, vec![0; 15_000])])).await.expect("there is room again");
}

/// The next answer, to whichever request; the feed is passed over.
async fn next_answer(raw: &mut Raw) -> Reply {
    loop {
        let frame = raw.next().await;
        if frame.id != 0 {
            return frame.reply.expect("a reply");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_empty_parts_are_refused_before_they_are_decoded_at_both_doors() {
    let test = start().await;
    let empty = v2::Draft { writes: vec![v2::Write::default(); MESSAGE_PARTS_MAX + 1], ..draft(0, Vec::new()) };
    assert!(empty.encoded_len() < 300_000, "a small message");
    let mut raw = test.session().await;
    let id = raw.send(Request::Commit(empty.clone())).await;
    let frame = raw.next().await;
    let told = fault(frame.reply.expect("a reply"));
    assert!(id != 0 && frame.id == 0, "the frame was not read, so its id is not known");
    assert!(told.kind == FaultKind::TooLarge && told.message.contains("parts"), "{told}");
    assert!(raw.next_or_end().await.is_none(), "the session is over");

    let mut unary = test.unary().await;
    let status = unary.writer.commit(empty.clone()).await.expect_err("too many parts");
    assert_eq!(status_fault(&status).kind, FaultKind::TooLarge, "{status}");

    // In parts of its own the same draft is read, and refused for what it says.
    let mut raw = test.session().await;
    let part = v2::DraftPart {
        commit_key: empty.commit_key.clone(),
        data: Bytes::from(empty.encode_to_vec()),
        last: true,
        purpose: None,
    };
    assert_eq!(raw.refused(Request::Part(part)).await.kind, FaultKind::Invalid);
    raw.commit(draft(0, vec![put(cell(1), 0, "x")])).await.expect("the session goes on");
}
