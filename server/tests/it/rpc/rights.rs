//! Rights at the doors: every verb with every role, against the table of docs/protocol.md, said by metadata and proved by a token; who
//! acts as less and as more.

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
use zeolite_server::auth::token::Token;
use zeolite_server::auth::users::Users;

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
    /// By which the role is told.
    says: Says,
}

/// A metadata's name and value.
type Says = (&'static str, String);

fn as_role(role: Role) -> Says {
    ("zeolite-role", role.text().to_owned())
}

/// The message with this metadata.
fn saying<T>((name, value): &Says, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(*name, MetadataValue::try_from(value).expect("plain text"));
    request
}

/// The message in this role.
fn acting<T>(role: Role, message: T) -> Request<T> {
    saying(&as_role(role), message)
}

macro_rules! call {
    ($client:expr, $method:ident, $says:expr, $message:expr) => {
        within($client.$method(saying($says, $message))).await.map(|_| ())
    };
}

impl Doors {
    /// What comes of a call that asks for nothing sensible.
    async fn try_call(&mut self, name: &str) -> Result<(), Status> {
        let Doors { unary, admin, says } = self;
        let (reader, writer, replicator) = (&mut unary.reader, &mut unary.writer, &mut unary.replicator);
        match name {
            "Load" => call!(reader, load, says, v2::LoadRequest::default()),
            "History" => call!(reader, history, says, v2::HistoryRequest::default()),
            "Objects" => call!(reader, objects, says, v2::ObjectsRequest::default()),
            "Kinds" => call!(reader, kinds, says, v2::KindsRequest {}),
            "Heat" => call!(reader, heat, says, v2::HeatRequest::default()),
            "Pin" => call!(reader, pin, says, v2::PinRequest::default()),
            "Renew" => call!(reader, renew, says, v2::RenewRequest::default()),
            "Unpin" => call!(reader, unpin, says, v2::UnpinRequest::default()),
            "Scan" => match within(reader.scan(saying(says, v2::ScanRequest::default()))).await {
                Ok(pages) => within(pages.into_inner().message()).await.map(|_| ()),
                Err(status) => Err(status),
            },
            "GetBlob" => call!(reader, get_blob, says, v2::GetBlobRequest::default()),
            "PutBlob" => call!(writer, put_blob, says, tokio_stream::iter([v2::PutBlobPart::default()])),
            "BlobStatus" => call!(writer, blob_status, says, v2::BlobStatusRequest::default()),
            "Commit" => call!(writer, commit, says, v2::Draft::default()),
            "Undo" => call!(writer, undo, says, v2::UndoRequest::default()),
            "Prepare" => call!(writer, prepare, says, v2::PrepareRequest::default()),
            "Amend" => call!(writer, amend, says, v2::AmendRequest::default()),
            "Finish" => call!(writer, finish, says, v2::FinishRequest::default()),
            "Abort" => call!(writer, abort, says, v2::AbortRequest::default()),
            "Outcome" => call!(writer, outcome, says, v2::OutcomeRequest::default()),
            "NewOids" => call!(writer, new_oids, says, v2::NewOidsRequest::default()),
            "Log" => call!(replicator, log, says, v2::LogRequest::default()),
            "Restore" => call!(replicator, restore, says, tokio_stream::iter([v2::Transaction::default()])),
            "Follow" => {
                match within(replicator.follow(saying(says, tokio_stream::iter([v2::FollowRequest::default()])))).await
                {
                    Ok(pages) => within(pages.into_inner().message()).await.map(|_| ()),
                    Err(status) => Err(status),
                }
            }
            "Fence" => call!(replicator, fence, says, v2::FenceRequest::default()),
            "Promote" => call!(admin, promote, says, v2::PromoteRequest::default()),
            "Status" => call!(admin, status, says, v2::StatusRequest {}),
            "Resolvers" => call!(admin, resolvers, says, v2::ResolversRequest {}),
            "Gates" => call!(admin, gates, says, v2::GatesRequest {}),
            "CloseGate" => call!(admin, close_gate, says, v2::CloseGateRequest::default()),
            "OpenGate" => call!(admin, open_gate, says, v2::OpenGateRequest::default()),
            "SetMode" => call!(admin, set_mode, says, v2::SetModeRequest::default()),
            "Pack" => call!(admin, pack, says, v2::PackRequest { dry_run: true, ..Default::default() }),
            "ListPrepared" => call!(admin, list_prepared, says, v2::ListPreparedRequest {}),
            "FinishPrepared" => call!(admin, finish_prepared, says, v2::EndPreparedRequest::default()),
            "AbortPrepared" => call!(admin, abort_prepared, says, v2::EndPreparedRequest::default()),
            "ListSessions" => call!(admin, list_sessions, says, v2::ListSessionsRequest {}),
            "CutSession" => call!(admin, cut_session, says, v2::CutSessionRequest::default()),
            "Verify" => call!(admin, verify, says, v2::VerifyRequest {}),
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
    assert_eq!(table.len(), 38, "every call of the protocol but the session: {table:?}");
    for role in Role::ALL {
        let admin = AdminClient::new(test.channel().await);
        let mut doors = Doors { unary: test.unary().await, admin, says: as_role(role) };
        for (call, roles) in &table {
            let result = doors.try_call(call).await;
            assert_eq!(!denied(&result), roles.contains(&role), "{call} as {role}: {result:?}");
        }
    }
}

fn users_of_every_role(path: &std::path::Path) -> BTreeMap<&'static str, String> {
    let mut tokens = BTreeMap::new();
    for role in Role::ALL {
        let token = Token::new().expect("randomness");
        let written = Users::change(path, |users| {
            users.add(&format!("a-{role}"), role, &["main".to_owned()])?;
            users.keep(&format!("a-{role}"), &token, 0, None)
        });
        written.expect("written");
        tokens.insert(role.text(), format!("Bearer {}", token.secret()));
    }
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_allowed_to_the_tokens_of_these_roles_and_to_nobody_without_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let users_file = dir.path().join("users.toml");
    let tokens = users_of_every_role(&users_file);
    let test = start_with(|settings| settings.auth.users_file = users_file).await;
    let table = documented();
    for role in Role::ALL {
        let admin = AdminClient::new(test.channel().await);
        let says = ("authorization", tokens[role.text()].clone());
        let mut doors = Doors { unary: test.unary().await, admin, says };
        for (call, roles) in &table {
            let result = doors.try_call(call).await;
            assert_eq!(!denied(&result), roles.contains(&role), "{call} as {role}: {result:?}");
            doors.says = ("zeolite-database", String::new());
            let stranger = doors.try_call(call).await.expect_err("nobody");
            assert_eq!(stranger.code(), tonic::Code::Unauthenticated, "{call}: {stranger}");
            doors.says = ("authorization", tokens[role.text()].clone());
        }
    }
    let mut raw = Raw::connect(test.channel().await).await;
    assert_eq!(raw.refused(Client::Hello(hello())).await.kind, FaultKind::Unauthenticated);
}

/// An open session in this role.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_prove_nothing_take_nobodys_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let users_file = dir.path().join("users.toml");
    let tokens = users_of_every_role(&users_file);
    let test = start_with(|settings| {
        settings.auth.users_file = users_file;
        settings.sessions.connections_max = 16;
    })
    .await;
    let wrong: Says = ("authorization", "Bearer zlt_00000000_0".into());
    let mut kept = Vec::new();
    // Many more than there are places: each shows a wrong token and stays. Some find no place while another is being cut.
    while kept.len() < 64 {
        let Ok(channel) = test.endpoint().connect().await else { continue };
        let mut admin = AdminClient::new(channel);
        let told =
            within(admin.status(saying(&wrong, v2::StatusRequest::default()))).await.expect_err("nobody's token");
        if told.code() == tonic::Code::Unauthenticated {
            kept.push(admin);
        }
    }
    let right: Says = ("authorization", tokens["admin"].clone());
    // He may come in the moment in which the one is cut that makes room for him.
    let comes = async {
        loop {
            let Ok(channel) = test.endpoint().connect().await else { continue };
            let mut admin = AdminClient::new(channel);
            if admin.status(saying(&right, v2::StatusRequest::default())).await.is_ok() {
                return admin;
            }
        }
    };
    let mut admin = within(comes).await;
    for _ in 0..64 {
        let _ = test.endpoint().connect().await;
    }
    within(admin.status(saying(&right, v2::StatusRequest::default()))).await.expect("and he keeps it");
}

async fn session(test: &TestServer, role: &str) -> Raw {
    let mut raw = Raw::connect(test.channel().await).await;
    raw.hello(v2::Hello { role: role.into(), ..hello() }).await;
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_the_rights_of_its_role_and_never_more_than_its_principal() {
    let test = start_with(|settings| settings.auth.anonymous_role = Role::Write.into()).await;
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
