//! Kinds are bounded: one too many is refused by name, at both doors and in a restore, and what is known goes on.

use super::support::{Raw, TestServer, cell, draft, entry, start, start_in, start_with, status_fault, within};
use bytes::Bytes;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::{FaultKind, Record};
use zeolite_server::settings::Settings;

fn sixteen(settings: &mut Settings) {
    settings.store.kinds_max = 16;
}

/// A write of a record whose version is a time, say.
fn stamped(cell: v2::Cell, version: u32) -> v2::Write {
    let record = Record { class: "Stamped".into(), version, refs: Vec::new(), blobs: Vec::new(), data: Bytes::new() };
    let change = Some(v2::write::Change::Put(record.encode().expect("a small header")));
    v2::Write { cell: Some(cell), change, ..Default::default() }
}

/// Commits objects of version 1, 2, ... until one is refused; says how many were not.
async fn fill(raw: &mut Raw) -> u32 {
    for version in 1..100 {
        if let Err(fault) = raw.commit(draft(0, vec![stamped(cell(u64::from(version)), version)])).await {
            assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
            let named = format!("\"Stamped\" at version {version}");
            assert!(fault.message.contains(&named) && fault.message.contains("store.kinds_max"), "{fault}");
            assert_eq!(fault.retry_after_ms, 0, "for good");
            return version - 1;
        }
    }
    panic!("nothing was refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_too_many_is_refused_by_name_and_what_is_known_goes_on() {
    let test = start_with(sixteen).await;
    let mut raw = test.session().await;
    let known = fill(&mut raw).await;
    assert!((12..=16).contains(&known), "the server has few of its own: {known}");
    let refused = async |raw: &mut Raw, writes: Vec<v2::Write>| {
        let request =
            v2::PrepareRequest { draft: Some(draft(0, writes.clone())), time_limit_ms: 1000, ..Default::default() };
        assert_eq!(raw.refused(Request::Prepare(request)).await.kind, FaultKind::Refused, "nothing is promised");
        let fault = raw.commit(draft(0, writes)).await.expect_err("refused");
        assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    };
    refused(&mut raw, vec![stamped(cell(300), known), stamped(cell(301), known + 1)]).await;
    refused(&mut raw, vec![stamped(entry(302, "k"), known + 1)]).await;
    let there = raw.load(vec![cell(300), cell(301)]).await.revisions;
    assert!(there.iter().all(|revision| revision.tid == 0), "nothing of what was refused is there");
    raw.commit(draft(0, vec![stamped(cell(303), known), stamped(entry(303, "k"), 1)])).await.expect("known kinds");
    let read_only = |kind: v2::ModeKind| v2::SetModeRequest { kind: kind.into(), ..Default::default() };
    let mut admin = AdminClient::new(test.channel().await);
    admin.set_mode(read_only(v2::ModeKind::ReadOnly)).await.expect("the server's own records are of no kind too many");
    admin.set_mode(read_only(v2::ModeKind::Normal)).await.expect("nor is this");

    let TestServer { server, directory } = test;
    server.stop().await.expect("stops");
    let test = start_in(directory, sixteen).await;
    let mut raw = test.session().await;
    refused(&mut raw, vec![stamped(cell(304), known + 1)]).await;
    raw.commit(draft(0, vec![stamped(cell(304), known)])).await.expect("known before the restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_and_aborted_takes_no_place() {
    let test = start_with(sixteen).await;
    let mut raw = test.session().await;
    for round in 0..4 {
        let writes = (0..9).map(|n| stamped(cell(300 + u64::from(n)), 100 * (round + 1) + n)).collect();
        let draft = draft(0, writes);
        let key = draft.commit_key.clone();
        let prepare = v2::PrepareRequest { draft: Some(draft), ..Default::default() };
        assert!(matches!(raw.ask(Request::Prepare(prepare)).await, Reply::Prepare(_)), "round {round}");
        let abort = v2::AbortRequest { prepared: 0, commit_key: key, key_since: Some(0) };
        assert!(matches!(raw.ask(Request::Abort(abort)).await, Reply::Done(_)), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_database_at_its_limit_needs_the_same_limit_and_says_so() {
    let test = start_with(|settings| settings.store.kinds_max = 30).await;
    let known = fill(&mut test.session().await).await;
    let request = v2::LogRequest { with_records: true, ..Default::default() };
    let mut pages = test.unary().await.replicator.log(request).await.expect("a log").into_inner();
    let mut all = Vec::new();
    while let Some(page) = within(pages.message()).await.expect("no fault") {
        all.extend(page.transactions.into_iter().filter(|message| !message.own));
    }
    let copy = start().await;
    let restored = copy.unary().await.replicator.restore(tokio_stream::iter(all.clone())).await.expect("restores");
    assert_eq!(restored.into_inner().transactions, u64::from(known));

    let small = start_with(sixteen).await;
    let status = small.unary().await.replicator.restore(tokio_stream::iter(all.clone())).await.expect_err("too many");
    let fault = status_fault(&status);
    assert!(fault.kind == FaultKind::Refused && fault.message.contains("as many as its source"), "{fault}");
    let visible = small.server.engine().visible().0;
    let TestServer { server, directory } = small;
    server.stop().await.expect("stops");
    let small = start_in(directory, |settings| settings.store.kinds_max = 30).await;
    let rest: Vec<_> = all.into_iter().filter(|message| message.tid > visible).collect();
    assert!(!rest.is_empty() && (rest.len() as u32) < known, "it had begun");
    small.unary().await.replicator.restore(tokio_stream::iter(rest)).await.expect("goes on where it ended");
}
