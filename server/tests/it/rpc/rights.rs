//! Rights at the doors: every verb with every role, against the table of docs/protocol.md; who acts as less and as more.

use super::support::{Raw, TestServer, cell, draft, hello, items, kind, put, start, start_with, status_fault, within};
use std::collections::BTreeMap;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;
use zeolite_proto::wire::v2::client_frame::Request as Client;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::{FaultKind, Role};

const PROTOCOL: &str = include_str!("../../../../docs/protocol.md");

/// The table of the page: for each call, the roles that may make it.
fn documented() -> BTreeMap<String, Vec<Role>> {
    let section = PROTOCOL.split("## Rights").nth(1).expect("a section on rights");
    let rows =
        section.lines().skip_while(|line| !line.starts_with("| calls |")).take_while(|line| line.starts_with('|'));
    let mut calls = BTreeMap::new();
    for row in rows.skip(2) {
        let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(columns.len(), 6, "{row}");
        let roles: Vec<Role> =
            Role::ALL.into_iter().zip(&columns[1..]).filter(|(_, yes)| **yes == "yes").map(|(role, _)| role).collect();
        for call in columns[0].split(',') {
            calls.insert(call.trim().trim_matches('`').to_owned(), roles.clone());
        }
    }
    calls
}

struct Doors {
    unary: super::support::Unary,
    admin: AdminClient<Channel>,
    role: Role,
}

/// The message in this role.
fn acting<T>(role: Role, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("zeolite-role", MetadataValue::from_static(role.text()));
    request
}

macro_rules! call {
    ($client:expr, $method:ident, $role:expr, $message:expr) => {
        within($client.$method(acting($role, $message))).await.map(|_| ())
    };
}

impl Doors {
    /// What comes of a call that asks for nothing sensible.
    async fn try_call(&mut self, name: &str) -> Result<(), Status> {
        let Doors { unary, admin, role } = self;
        let (reader, writer, replicator, role) = (&mut unary.reader, &mut unary.writer, &mut unary.replicator, *role);
        match name {
            "Load" => call!(reader, load, role, v2::LoadRequest::default()),
            "History" => call!(reader, history, role, v2::HistoryRequest::default()),
            "Objects" => call!(reader, objects, role, v2::ObjectsRequest::default()),
            "Kinds" => call!(reader, kinds, role, v2::KindsRequest {}),
            "Heat" => call!(reader, heat, role, v2::HeatRequest::default()),
            "Pin" => call!(reader, pin, role, v2::PinRequest::default()),
            "Renew" => call!(reader, renew, role, v2::RenewRequest::default()),
            "Unpin" => call!(reader, unpin, role, v2::UnpinRequest::default()),
            "Scan" => match within(reader.scan(acting(role, v2::ScanRequest::default()))).await {
                Ok(pages) => within(pages.into_inner().message()).await.map(|_| ()),
                Err(status) => Err(status),
            },
            "GetBlob" => call!(reader, get_blob, role, v2::GetBlobRequest::default()),
            "PutBlob" => call!(writer, put_blob, role, tokio_stream::iter([v2::PutBlobPart::default()])),
            "BlobStatus" => call!(writer, blob_status, role, v2::BlobStatusRequest::default()),
            "Commit" => call!(writer, commit, role, v2::Draft::default()),
            "Undo" => call!(writer, undo, role, v2::UndoRequest::default()),
            "Prepare" => call!(writer, prepare, role, v2::PrepareRequest::default()),
            "Amend" => call!(writer, amend, role, v2::AmendRequest::default()),
            "Finish" => call!(writer, finish, role, v2::FinishRequest::default()),
            "Abort" => call!(writer, abort, role, v2::AbortRequest::default()),
            "Outcome" => call!(writer, outcome, role, v2::OutcomeRequest::default()),
            "NewOids" => call!(writer, new_oids, role, v2::NewOidsRequest::default()),
            "Log" => call!(replicator, log, role, v2::LogRequest::default()),
            "Restore" => call!(replicator, restore, role, tokio_stream::iter([v2::Transaction::default()])),
            "Status" => call!(admin, status, role, v2::StatusRequest {}),
            "Resolvers" => call!(admin, resolvers, role, v2::ResolversRequest {}),
            "Gates" => call!(admin, gates, role, v2::GatesRequest {}),
            "CloseGate" => call!(admin, close_gate, role, v2::CloseGateRequest::default()),
            "OpenGate" => call!(admin, open_gate, role, v2::OpenGateRequest::default()),
            "SetMode" => call!(admin, set_mode, role, v2::SetModeRequest::default()),
            "Pack" => call!(admin, pack, role, v2::PackRequest { dry_run: true, ..Default::default() }),
            "ListPrepared" => call!(admin, list_prepared, role, v2::ListPreparedRequest {}),
            "FinishPrepared" => call!(admin, finish_prepared, role, v2::EndPreparedRequest::default()),
            "AbortPrepared" => call!(admin, abort_prepared, role, v2::EndPreparedRequest::default()),
            "Verify" => call!(admin, verify, role, v2::VerifyRequest {}),
            other => panic!("docs/protocol.md names a call {other} that this test does not know"),
        }
    }
}

fn denied(result: &Result<(), Status>) -> bool {
    result.as_ref().is_err_and(|status| {
        zeolite_proto::wire::fault::from_status(status).is_some_and(|fault| fault.kind == FaultKind::Denied)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_allowed_to_the_roles_that_the_page_names_and_to_no_others() {
    let test = start().await;
    let table = documented();
    assert_eq!(table.len(), 33, "every call of the protocol but the session: {table:?}");
    for role in Role::ALL {
        let admin = AdminClient::new(test.channel().await);
        let mut doors = Doors { unary: test.unary().await, admin, role };
        for (call, roles) in &table {
            let result = doors.try_call(call).await;
            assert_eq!(!denied(&result), roles.contains(&role), "{call} as {role}: {result:?}");
        }
    }
}

/// An open session in this role.
async fn session(test: &TestServer, role: &str) -> Raw {
    let mut raw = Raw::connect(test.channel().await).await;
    raw.hello(v2::Hello { role: role.into(), ..hello() }).await;
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_the_rights_of_its_role_and_never_more_than_its_principal() {
    let test = start_with(|settings| settings.auth.anonymous_role = Role::Write).await;
    for more in ["admin", "evolve", "replicate"] {
        let mut raw = Raw::connect(test.channel().await).await;
        let refused = raw.refused(Client::Hello(v2::Hello { role: more.into(), ..hello() })).await;
        assert_eq!(refused.kind, FaultKind::Denied, "{more}");
        assert!(raw.next_or_end().await.is_none(), "the session is over");
    }
    let mut writer = session(&test, "").await;
    writer.commit(draft(0, vec![put(cell(1), 0, "x")])).await.expect("it may write");
    let status = within(AdminClient::new(test.channel().await).status(v2::StatusRequest {})).await;
    assert!(status.is_ok(), "everybody may look");
    let mut reader = session(&test, "read").await;
    assert_eq!(reader.load(vec![cell(1)]).await.revisions.len(), 1);
    assert_eq!(kind(reader.commit(draft(0, vec![put(cell(2), 0, "x")])).await), FaultKind::Denied);
    let status = within(AdminClient::new(test.channel().await).pack(v2::PackRequest::default())).await.map(|_| ());
    assert_eq!(status_fault(&status.expect_err("no operator")).kind, FaultKind::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_cells_are_for_replicate_and_admin_and_in_no_feed() {
    let test = start().await;
    let mut watcher = Raw::connect(test.channel().await).await;
    watcher.hello(v2::Hello { feed: true, ..hello() }).await;
    let mut admin = AdminClient::new(test.channel().await);
    within(admin.set_mode(v2::SetModeRequest::default())).await.expect("sets");
    watcher.send(Client::Commit(draft(0, vec![put(cell(1), 0, "x")]))).await;
    let mut told = Vec::new();
    loop {
        match watcher.next().await.reply {
            Some(Reply::Feed(feed)) => told.extend(items(&feed)),
            Some(Reply::Receipt(_)) => break,
            _ => {}
        }
    }
    assert!(told.iter().any(|item| item.cells.is_empty()), "the mode's own commit: {told:?}");
    assert!(told.iter().flat_map(|item| &item.cells).all(|cell| cell.oid != 1), "{told:?}");
    let mut unary = test.unary().await;
    for role in Role::ALL {
        let own = v2::Cell { oid: 1, key: "mode".into() };
        let load = v2::LoadRequest { cells: vec![own.clone()], ..Default::default() };
        let history = v2::HistoryRequest { cell: Some(own), ..Default::default() };
        let scan = v2::ScanRequest { oid: 1, ..Default::default() };
        let answers = [
            within(unary.reader.load(acting(role, load))).await.map(|_| ()),
            within(unary.reader.history(acting(role, history))).await.map(|_| ()),
            match within(unary.reader.scan(acting(role, scan))).await {
                Ok(mut pages) => within(pages.get_mut().message()).await.map(|_| ()),
                Err(status) => Err(status),
            },
        ];
        let may = matches!(role, Role::Replicate | Role::Admin);
        for answer in answers {
            let kind = answer.map_err(|status| status_fault(&status).kind);
            assert_eq!(kind, if may { Ok(()) } else { Err(FaultKind::Denied) }, "{role}");
        }
        if role != Role::Read {
            let log = acting(role, v2::LogRequest { with_records: true, ..Default::default() });
            let mut pages = within(unary.replicator.log(log)).await.expect("reads").into_inner();
            let mut own = 0;
            while let Some(page) = within(pages.message()).await.expect("no fault") {
                own += page
                    .transactions
                    .iter()
                    .flat_map(|txn| &txn.writes)
                    .filter(|write| write.cell.as_ref().is_some_and(|cell| cell.oid == 1))
                    .count();
            }
            assert_eq!(own > 0, may, "{role}");
        }
    }
}
