//! Durable prepared drafts at the doors: over a session's end and a restart, by key, and by an operator.

use super::support::{Raw, cell, draft, hello, kind, put, record, start, start_in, status_fault, within};
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;

fn durable(draft: v2::Draft) -> Request {
    Request::Prepare(v2::PrepareRequest { draft: Some(draft), durable: true, ..Default::default() })
}

fn finish_request(draft: &v2::Draft) -> v2::FinishRequest {
    let commit_key = draft.commit_key.clone();
    v2::FinishRequest { prepared: 0, commit_key, key_since: draft.snapshot }
}

fn finish(draft: &v2::Draft) -> Request {
    Request::Finish(finish_request(draft))
}

fn abort(draft: &v2::Draft) -> Request {
    Request::Abort(v2::AbortRequest { prepared: 0, commit_key: draft.commit_key.clone(), key_since: draft.key_since })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_prepared_draft_outlives_its_session_and_the_server() {
    let test = start().await;
    let mut raw = test.session().await;
    let (kept, given_up) = (draft(0, vec![put(cell(1), 0, "kept")]), draft(0, vec![put(cell(2), 0, "given up")]));
    for prepared in [&kept, &given_up] {
        let Reply::Prepare(_) = raw.ask(durable(prepared.clone())).await else { panic!("prepares") };
    }
    drop(raw);
    test.server.stop().await.expect("stops");

    let again = start_in(test.directory, |_| {}).await;
    let mut raw = Raw::connect(again.channel().await).await;
    raw.hello(hello()).await;
    let refused = kind(raw.commit(draft(0, vec![put(cell(1), 0, "another")])).await);
    assert_eq!(refused, FaultKind::Busy, "its cell is held, and nobody waits for it");
    let Reply::Prepare(same) = raw.ask(durable(kept.clone())).await else { panic!("it is the same") };
    assert_ne!(same.prepared, 0);
    let Reply::Receipt(receipt) = raw.ask(finish(&kept)).await else { panic!("by its key alone") };
    let Reply::Receipt(told_again) = raw.ask(finish(&kept)).await else { panic!("exactly once") };
    assert_eq!(receipt, told_again);
    assert_eq!(raw.refused(abort(&kept)).await.kind, FaultKind::Invalid, "it is committed");
    for _ in 0..2 {
        let Reply::Done(_) = raw.ask(abort(&given_up)).await else { panic!("gone already is no error") };
    }
    assert_eq!(raw.refused(finish(&given_up)).await.kind, FaultKind::PrepareLost);
    let nameless = Request::Abort(v2::AbortRequest::default());
    assert_eq!(raw.refused(nameless).await.kind, FaultKind::Invalid, "neither an id nor a key");
    let loaded = raw.load(vec![cell(1), cell(2)]).await.revisions;
    assert_eq!((loaded[0].tid, &loaded[0].record, loaded[1].tid), (receipt.tid, &Some(record("kept")), 0));
}

/// Prepared in the usual strength, or held.
fn plain(draft: v2::Draft, hold: bool) -> Request {
    Request::Prepare(v2::PrepareRequest { draft: Some(draft), hold, ..Default::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_in_order_keeps_what_is_prepared_for_its_next_life() {
    let test = start().await;
    let mut raw = test.session().await;
    let one = |number, text| draft(0, vec![put(cell(number), 0, text)]);
    let (ours, given_up, held) = (one(1, "ours"), one(2, "given up"), one(3, "held"));
    let Reply::Prepare(first) = raw.ask(plain(ours.clone(), false)).await else { panic!("prepares") };
    let Reply::Prepare(_) = raw.ask(plain(given_up.clone(), false)).await else { panic!("prepares") };
    let Reply::Prepare(_) = raw.ask(plain(held.clone(), true)).await else { panic!("prepares") };
    // One with a part that is stale is no promise yet.
    let Reply::Receipt(newer) = raw.ask(Request::Commit(one(4, "newer"))).await else { panic!("commits") };
    let Reply::Prepare(stale) = raw.ask(plain(one(4, "stale"), true)).await else { panic!("is held") };
    assert_eq!(stale.stale.len(), 1);
    // Its session is open until the server ends it: what is held must not go with it.
    let stopped = test.server.stop().await;
    stopped.expect("stops");

    let again = start_in(test.directory, |_| {}).await;
    let mut admin = AdminClient::new(again.channel().await);
    let status = within(admin.status(v2::StatusRequest {})).await.expect("tells").into_inner();
    assert_eq!((status.prepared, status.prepared_durable), (3, 3));
    let mut raw = Raw::connect(again.channel().await).await;
    raw.hello(hello()).await;
    let Reply::Prepare(_) = raw.ask(plain(ours.clone(), false)).await else { panic!("an answer that got lost") };
    let by_both = v2::FinishRequest { prepared: first.prepared, ..finish_request(&ours) };
    let Reply::Receipt(receipt) = raw.ask(Request::Finish(by_both)).await else { panic!("as if nothing had been") };
    let Reply::Done(_) = raw.ask(abort(&given_up)).await else { panic!("is given up") };
    let Reply::Receipt(of_held) = raw.ask(finish(&held)).await else { panic!("finishes") };
    let loaded = raw.load(vec![cell(1), cell(2), cell(3), cell(4)]).await.revisions;
    let tids: Vec<u64> = loaded.iter().map(|revision| revision.tid).collect();
    assert_eq!(tids, [receipt.tid, 0, of_held.tid, newer.tid]);
    let status = within(admin.status(v2::StatusRequest {})).await.expect("tells").into_inner();
    assert_eq!(status.prepared, 0, "and nothing is left of them");
    let Reply::Receipt(_) = raw.ask(Request::Commit(draft(receipt.tid, vec![put(cell(1), receipt.tid, "next")]))).await
    else {
        panic!("nothing is held")
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lists_what_is_prepared_and_ends_it() {
    let test = start().await;
    let mut raw = test.session().await;
    let mut admin = AdminClient::new(test.channel().await);
    let drafts = [draft(0, vec![put(cell(1), 0, "one")]), draft(0, vec![put(cell(2), 0, "two")])];
    for prepared in &drafts {
        let Reply::Prepare(_) = raw.ask(durable(prepared.clone())).await else { panic!("prepares") };
    }
    let plain = v2::PrepareRequest { draft: Some(draft(0, vec![put(cell(3), 0, "three")])), ..Default::default() };
    let Reply::Prepare(_) = raw.ask(Request::Prepare(plain)).await else { panic!("prepares") };
    let listed = within(admin.list_prepared(v2::ListPreparedRequest {})).await.expect("lists").into_inner().prepared;
    let told: Vec<_> = listed.iter().map(|one| (one.cells, one.durable, one.owner.as_str())).collect();
    assert_eq!(told.iter().filter(|(_, durable, _)| *durable).count(), 2, "{told:?}");
    assert!(told.len() == 3 && told.iter().all(|(cells, _, owner)| *cells == 1 && owner.is_empty()), "{told:?}");
    let status = within(admin.status(v2::StatusRequest {})).await.expect("tells").into_inner();
    assert_eq!((status.prepared, status.prepared_durable), (3, 2));

    let named = |draft: &v2::Draft| v2::EndPreparedRequest { commit_key: draft.commit_key.clone() };
    let receipt = within(admin.finish_prepared(named(&drafts[0]))).await.expect("finishes").into_inner();
    within(admin.abort_prepared(named(&drafts[1]))).await.expect("aborts");
    let lost = within(admin.finish_prepared(named(&drafts[1]))).await.expect_err("it is gone");
    assert_eq!(status_fault(&lost).kind, FaultKind::PrepareLost);
    let Reply::Receipt(told) = raw.ask(finish(&drafts[0])).await else { panic!("its coordinator hears of it") };
    assert_eq!(told.tid, receipt.tid);
}
