//! Held drafts: in parts, amended, and gone with their session. What holding means is in the golden script `holds`.

use super::support::{Raw, cell, draft, put, record, start};
use prost::Message;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::draft_part::Purpose;
use zeolite_proto::wire::v2::server_frame::Reply;

fn hold(draft: Option<v2::Draft>) -> v2::PrepareRequest {
    v2::PrepareRequest { draft, time_limit_ms: 60_000, hold: true, durable: false }
}

/// A draft in two parts with a purpose.
async fn in_parts(raw: &mut Raw, draft: &v2::Draft, purpose: Purpose) -> Reply {
    let encoded = draft.encode_to_vec();
    let (first, second) = encoded.split_at(encoded.len() / 2);
    let part = |data: &[u8], purpose: Option<Purpose>| v2::DraftPart {
        commit_key: draft.commit_key.clone(),
        data: data.to_vec().into(),
        last: purpose.is_some(),
        purpose,
    };
    let id = raw.send(Request::Part(part(first, None))).await;
    raw.send_as(id, Some(Request::Part(part(second, Some(purpose))))).await;
    raw.answer(id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_in_parts_is_held_amended_and_finished() {
    let test = start().await;
    let mut raw = test.session().await;
    let first = raw.commit(draft(0, vec![put(cell(1), 0, "a"), put(cell(2), 0, "b")])).await.expect("new").tid;
    let second = raw.commit(draft(first, vec![put(cell(2), 0, "B")])).await.expect("on its newest").tid;
    let whole = draft(first, vec![put(cell(1), 0, "a!"), put(cell(2), 0, "b!")]);
    let Reply::Prepare(held) = in_parts(&mut raw, &whole, Purpose::Prepare(hold(None))).await else { panic!() };
    let stale: Vec<_> = held.stale.iter().map(|stale| (stale.cell.clone(), stale.newest)).collect();
    assert_eq!(stale, [(Some(cell(2)), second)]);
    let finish = v2::FinishRequest { prepared: held.prepared, commit_key: whole.commit_key.clone(), key_since: None };
    assert_eq!(raw.refused(Request::Finish(finish.clone())).await.kind, FaultKind::Invalid, "it is stale");
    let anew = v2::Draft { commit_key: whole.commit_key.clone(), ..draft(second, vec![put(cell(2), 0, "B!")]) };
    let amend = v2::AmendRequest { prepared: held.prepared, draft: None, withdrawn: vec![cell(3)] };
    let Reply::Prepare(now) = in_parts(&mut raw, &anew, Purpose::Amend(amend)).await else { panic!() };
    assert_eq!((now.prepared, now.stale), (held.prepared, vec![]));
    let Reply::Receipt(receipt) = raw.ask(Request::Finish(finish)).await else { panic!() };
    let loaded = raw.load(vec![cell(1), cell(2)]).await;
    let found: Vec<_> = loaded.revisions.into_iter().map(|revision| (revision.tid, revision.record)).collect();
    assert_eq!(found, [(receipt.tid, Some(record("a!"))), (receipt.tid, Some(record("B!")))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_with_its_session_and_a_plain_prepared_draft_does_not() {
    let test = start().await;
    let (mut holder, mut other) = (test.session().await, test.session().await);
    let plain = v2::PrepareRequest { hold: false, ..hold(Some(draft(0, vec![put(cell(2), 0, "plain")]))) };
    let key = plain.draft.as_ref().map(|draft| draft.commit_key.clone()).expect("a draft");
    let Reply::Prepare(plain) = holder.ask(Request::Prepare(plain)).await else { panic!() };
    let held = hold(Some(draft(0, vec![put(cell(1), 0, "held")])));
    let Reply::Prepare(_) = holder.ask(Request::Prepare(held)).await else { panic!() };
    // It waits for as long as the cell is held, which is a minute, or as the session lives.
    let waits = other.send(Request::Commit(draft(0, vec![put(cell(1), 0, "waits")]))).await;
    drop(holder);
    let Reply::Receipt(_) = other.answer(waits).await else { panic!("the hold is gone") };
    assert_eq!(other.load(vec![cell(1)]).await.revisions[0].record, Some(record("waits")));
    let finish = v2::FinishRequest { prepared: plain.prepared, commit_key: key, key_since: None };
    let Reply::Receipt(_) = other.ask(Request::Finish(finish)).await else { panic!("its promise is kept") };
    assert_eq!(other.load(vec![cell(2)]).await.revisions[0].record, Some(record("plain")));
}
