//! Several databases in one server: what is of one does not touch the other, and a bug in one does not end the other.

use super::support::{
    Raw, TestServer, cell, draft, hello, items, kind, oid, put, start_of, start_with, status_fault, within,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::{FaultKind, Registry};
use zeolite_server::engine::clock::SystemClock;
use zeolite_server::server::{Components, Server};
use zeolite_server::settings::{DatabaseSettings, Settings};
use zeolite_server::store::disk::Disk;
use zeolite_server::store::disk::sim::{SimDisk, SimOp};
use zeolite_server::store::disk::watched::{Call, WatchedDisk};

fn with_shop(settings: &mut Settings) {
    let mut shop = DatabaseSettings::default();
    shop.limits.insert("load_cells_max".into(), 3.into());
    settings.databases.insert("shop".into(), shop);
}

/// A session with feed, which has oids enough.
async fn session(test: &TestServer, database: &str) -> Raw {
    let mut raw = Raw::connect(test.channel().await).await;
    raw.hello(v2::Hello { database: database.into(), feed: true, ..hello() }).await;
    raw.ask(Request::NewOids(v2::NewOidsRequest { count: 1000 })).await;
    raw
}

fn on<T>(database: &'static str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("zeolite-database", MetadataValue::from_static(database));
    request
}

/// The answer to a ping, and the cells that the feed brought before it.
async fn fed(raw: &mut Raw) -> Vec<v2::Cell> {
    let id = raw.send(Request::Ping(v2::Ping {})).await;
    let mut cells = Vec::new();
    loop {
        match raw.next().await {
            v2::ServerFrame { reply: Some(Reply::Feed(feed)), .. } => {
                cells.extend(items(&feed).into_iter().flat_map(|item| item.cells));
            }
            frame if frame.id == id => return cells,
            other => panic!("neither feed nor answer: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_database_has_its_own_objects_feed_limits_mode_and_numbers() {
    let test = start_with(with_shop).await;
    let (mut main, mut shop) = (session(&test, "").await, session(&test, "shop").await);
    main.commit(draft(0, vec![put(cell(1), 0, "of main")])).await.expect("new there");
    shop.commit(draft(0, vec![put(cell(1), 0, "of shop")])).await.expect("new there too");
    shop.commit(draft(0, vec![put(cell(2), 0, "of shop")])).await.expect("new");
    let count = |cells: Vec<v2::Cell>| cells.iter().filter(|cell| cell.oid >= oid(0)).count();
    assert_eq!(
        (count(fed(&mut main).await), count(fed(&mut shop).await)),
        (0, 0),
        "own commits came with their receipts"
    );
    let mut again = session(&test, "shop").await;
    shop.commit(draft(0, vec![put(cell(3), 0, "of shop")])).await.expect("new");
    assert_eq!((count(fed(&mut again).await), count(fed(&mut main).await)), (1, 0));
    assert_eq!(main.load(vec![cell(2)]).await.revisions[0].record, None);
    assert_eq!(main.load((1..6).map(cell).collect()).await.revisions.len(), 5);
    let four = v2::LoadRequest { cells: (1..5).map(cell).collect(), ..Default::default() };
    assert_eq!(shop.refused(Request::Load(four.clone())).await.kind, FaultKind::TooLarge);
    let mut unary = test.unary().await;
    assert_eq!(
        status_fault(&unary.reader.load(on("shop", four)).await.expect_err("too many")).kind,
        FaultKind::TooLarge
    );
    let kinds = async |unary: &mut super::support::Unary, database| {
        let kinds = unary.reader.kinds(on(database, v2::KindsRequest {})).await.expect("kinds").into_inner().kinds;
        kinds.iter().find(|kind| kind.class == "Plain").map_or(0, |kind| kind.objects)
    };
    assert_eq!((kinds(&mut unary, "main").await, kinds(&mut unary, "shop").await), (1, 3));

    let mut admin = AdminClient::new(test.channel().await);
    let read_only = v2::SetModeRequest { kind: v2::ModeKind::ReadOnly.into(), ..Default::default() };
    admin.set_mode(on("shop", read_only)).await.expect("switched");
    assert_eq!(kind(shop.commit(draft(0, vec![put(cell(4), 0, "x")])).await), FaultKind::ReadOnly);
    main.commit(draft(0, vec![put(cell(4), 0, "x")])).await.expect("main is as it was");
    admin.pack(on("shop", v2::PackRequest::default())).await.expect("packs").into_inner();
    let status = admin.status(on("main", v2::StatusRequest {})).await.expect("a status").into_inner();
    assert_eq!((status.sessions, status.packed_to), (1, 0));
    test.server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_refused_with_those_that_are() {
    let test = start_with(with_shop).await;
    let mut raw = Raw::connect(test.channel().await).await;
    let refused = raw.refused(Request::Hello(v2::Hello { database: "shp".into(), ..hello() })).await;
    assert_eq!(refused.kind, FaultKind::NotFound);
    assert!(refused.message.contains("main, shop"), "{refused}");
    assert!(raw.next_or_end().await.is_none());
    let refused = test.unary().await.reader.kinds(on("shp", v2::KindsRequest {})).await.expect_err("none");
    assert_eq!(status_fault(&refused).kind, FaultKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_are_there_again_after_a_restart() {
    let test = start_with(with_shop).await;
    let mut shop = session(&test, "shop").await;
    shop.commit(draft(0, vec![put(cell(1), 0, "kept")])).await.expect("new");
    let TestServer { server, directory } = test;
    server.stop().await.expect("stops");
    assert!(directory.path().join("data/databases/shop/log").is_dir());
    let test = super::support::start_in(directory, with_shop).await;
    assert!(session(&test, "shop").await.load(vec![cell(1)]).await.revisions[0].record.is_some());
    assert!(session(&test, "main").await.load(vec![cell(1)]).await.revisions[0].record.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_opened_is_down_and_the_others_serve() {
    let gone = |_: Call<'_>| Err(std::io::Error::other("the volume is not there"));
    let mut components = Components::new(Arc::new(SimDisk::new()), Arc::new(SystemClock::new()), 7);
    components.disks.insert("shop".into(), Ok(Arc::new(WatchedDisk::new(Arc::new(SimDisk::new()), gone))));
    let test = start_of(components, with_shop).await;
    session(&test, "main").await.commit(draft(0, vec![put(cell(1), 0, "well")])).await.expect("serves");
    let mut raw = Raw::connect(test.channel().await).await;
    let refused = raw.refused(Request::Hello(v2::Hello { database: "shop".into(), ..hello() })).await;
    assert_eq!(refused.kind, FaultKind::Poisoned);
    assert!(refused.message.contains("shop") && refused.message.contains("the volume is not there"), "{refused}");
    let mut admin = AdminClient::new(test.channel().await);
    let refused = admin.status(on("shop", v2::StatusRequest {})).await.expect_err("is down");
    assert_eq!(status_fault(&refused).kind, FaultKind::Poisoned);
    let mut health = HealthClient::new(test.channel().await);
    for (service, serves) in [("database/shop", false), ("database/main", true), ("", true)] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.expect("known").into_inner();
        assert_eq!(answer.status() == ServingStatus::Serving, serves, "{service:?}");
    }
    within(test.server.stop()).await.expect("stops");
}

/// A disk whose log is not read further than its headers before it is let go.
fn held_up(disk: SimDisk) -> (WatchedDisk, impl FnOnce()) {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let let_go = gate.clone();
    let wait = move |call: Call<'_>| {
        // Headers, and whether anything is behind one, are looked at before it is told what is done.
        let is_batch = call.offset > 0 && call.len > 32;
        if call.op == SimOp::Read && call.path.starts_with("log/") && is_batch {
            let is_open = gate.0.lock().expect("nobody panics with it");
            drop(gate.1.wait_while(is_open, |is_open| !*is_open).expect("nobody panics with it"));
        }
        Ok(())
    };
    let open = move || {
        *let_go.0.lock().expect("nobody panics with it") = true;
        let_go.1.notify_all();
    };
    (WatchedDisk::new(Arc::new(disk), wait), open)
}

async fn http(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("an orderly end");
    answer
}

async fn serves(health: &mut HealthClient<Channel>, service: &str) -> bool {
    let answer = health.check(HealthCheckRequest { service: service.into() }).await.expect("known").into_inner();
    answer.status() == ServingStatus::Serving
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_being_opened_says_how_far_it_is_and_the_others_serve() {
    let disk = SimDisk::new();
    let components = |shop: Arc<dyn Disk>| {
        let mut components = Components::new(Arc::new(SimDisk::new()), Arc::new(SystemClock::new()), 7);
        components.disks.insert("shop".into(), Ok(shop));
        components
    };
    let test = start_of(components(Arc::new(disk.clone())), with_shop).await;
    session(&test, "shop").await.commit(draft(0, vec![put(cell(1), 0, "kept")])).await.expect("new");
    test.server.stop().await.expect("stops");
    disk.remove("index.redb").expect("there is an index");

    let (held, let_go) = held_up(disk);
    let mut settings = Settings::default();
    with_shop(&mut settings);
    settings.metrics.listen = "127.0.0.1:0".into();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let begun = Server::begin(components(Arc::new(held)), settings, Registry::built_in(), listener).await;
    let mut test =
        TestServer { server: begun.expect("listens"), directory: Arc::new(tempfile::tempdir().expect("a directory")) };
    let mut health = HealthClient::new(test.channel().await);
    within(async { while !serves(&mut health, "database/main").await {} }).await;
    session(&test, "main").await.commit(draft(0, vec![put(cell(1), 0, "well")])).await.expect("serves");
    assert!(!serves(&mut health, "database/shop").await && serves(&mut health, "").await);

    let mut admin = AdminClient::new(test.channel().await);
    let told = within(async {
        loop {
            let refused = admin.status(on("shop", v2::StatusRequest {})).await.expect_err("is not open");
            let fault = status_fault(&refused);
            assert!(fault.kind == FaultKind::Busy && fault.retry_after_ms > 0, "{fault}");
            if fault.message.contains('%') {
                return fault.message;
            }
        }
    });
    assert_eq!(
        told.await,
        "the database shop is being opened: its index is made anew from the log, 0 %; come back in a moment"
    );
    let mut raw = Raw::connect(test.channel().await).await;
    let refused = raw.refused(Request::Hello(v2::Hello { database: "shop".into(), ..hello() })).await;
    assert_eq!(refused.kind, FaultKind::Busy);
    let metrics = test.server.metrics_address().expect("metrics are on");
    let answer = http(metrics, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("shop is being opened"), "{answer}");
    let answer = http(metrics, "/metrics/shop").await;
    assert!(answer.contains("zeolite_opening 1") && !answer.contains("zeolite_opening_all_bytes 0\n"), "{answer}");
    assert!(http(metrics, "/metrics").await.contains("zeolite_opening 0"));

    let_go();
    within(test.server.opened()).await.expect("both are open");
    assert!(serves(&mut health, "database/shop").await);
    assert!(session(&test, "shop").await.load(vec![cell(1)]).await.revisions[0].record.is_some());
    assert!(http(metrics, "/healthz").await.starts_with("HTTP/1.1 200"));
    within(test.server.stop()).await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_main_cannot_be_opened_listens_no_longer() {
    let gone = |_: Call<'_>| Err(std::io::Error::other("the volume is not there"));
    let mut components =
        Components::new(Arc::new(WatchedDisk::new(Arc::new(SimDisk::new()), gone)), Arc::new(SystemClock::new()), 7);
    components.disks.insert("shop".into(), Ok(Arc::new(SimDisk::new())));
    let mut settings = Settings::default();
    with_shop(&mut settings);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let why = within(Server::start_with(components, settings, Registry::built_in(), listener)).await.err();
    assert!(why.is_some_and(|why| why.to_string().contains("the volume is not there")));
    tokio::net::TcpListener::bind(address).await.expect("the port is free again");
}

/// A disk on which, once it is armed, every write to the log meets a bug.
fn buggy(armed: Arc<AtomicBool>) -> WatchedDisk {
    WatchedDisk::new(Arc::new(SimDisk::new()), move |call: Call<'_>| {
        let hit = call.op == SimOp::Write && call.path.starts_with("log") && armed.load(Ordering::Acquire);
        assert!(!hit, "the bug of this test");
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bug_in_one_poisons_it_and_the_other_goes_on() {
    let armed = Arc::new(AtomicBool::new(false));
    let mut components = Components::new(Arc::new(SimDisk::new()), Arc::new(SystemClock::new()), 7);
    components.disks.insert("shop".into(), Ok(Arc::new(buggy(armed.clone()))));
    let test = start_of(components, with_shop).await;
    let (mut main, mut shop) = (session(&test, "").await, session(&test, "shop").await);
    shop.commit(draft(0, vec![put(cell(1), 0, "before")])).await.expect("new");
    armed.store(true, Ordering::Release);
    let mut waiting = session(&test, "shop").await;
    let in_the_batch = shop.commit(draft(0, vec![put(cell(2), 0, "lost?")])).await;
    assert_eq!(kind(in_the_batch), FaultKind::OutcomeUnknown, "who waited is told that nobody knows");
    assert_eq!(kind(waiting.commit(draft(0, vec![put(cell(3), 0, "late")])).await), FaultKind::Poisoned);
    let abort = waiting.ask(Request::Abort(v2::AbortRequest { prepared: 5, ..Default::default() })).await;
    assert!(matches!(abort, Reply::Fault(_)), "everything is answered: {abort:?}");
    assert!(shop.load(vec![cell(1)]).await.revisions[0].record.is_some(), "reads go on");
    main.commit(draft(0, vec![put(cell(1), 0, "well")])).await.expect("the other goes on");
    let mut admin = AdminClient::new(test.channel().await);
    let poisoned = async |admin: &mut AdminClient<_>, database| {
        within(admin.status(on(database, v2::StatusRequest {}))).await.expect("a status").into_inner().poisoned
    };
    assert!(poisoned(&mut admin, "shop").await.contains("writer"));
    assert_eq!(poisoned(&mut admin, "main").await, "");
    within(test.server.stop()).await.expect("it stops in order");
}
