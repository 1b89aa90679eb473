//! A server on port 0 and its numbers: what is told, that counters only go up, and every limit.

use super::openmetrics::{Exposition, parse};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeolite_proto::resolvers::class;
use zeolite_proto::{Cell, Change, CommitKey, Draft, Note, Oid, Priority, Receipt, Record, Registry, Tid, Write};
use zeolite_server::engine::Caller;
use zeolite_server::engine::clock::{Clock, SystemClock};
use zeolite_server::server::{Components, Server};
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::sim::{SimDisk, SimOp};

/// Nothing here takes this long: a test that hangs fails instead.
const GUARD: Duration = Duration::from_secs(60);

pub(crate) async fn start(disk: SimDisk, change: impl FnOnce(&mut Settings)) -> Server {
    let mut settings = Settings::default();
    settings.metrics.listen = "127.0.0.1:0".into();
    change(&mut settings);
    let components = Components::new(Arc::new(disk), Arc::new(SystemClock::new()), 7);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    Server::start_with(components, settings, Registry::built_in(), listener).await.expect("the server starts")
}

fn address(server: &Server) -> SocketAddr {
    server.metrics_address().expect("metrics are on")
}

/// Sends bytes, reads until the server closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    tried(address, request).await.expect("an orderly end")
}

/// The same of a server that may close as soon as it has accepted: then what was sent, or is read, fails.
async fn tried(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(GUARD, stream.read_to_string(&mut answer)).await.expect("it does not hang")?;
    Ok(answer)
}

/// Head and body of a GET.
async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let answer = exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_ascii_lowercase(), body.to_owned())
}

pub(crate) async fn scrape(server: &Server) -> Exposition {
    let (head, body) = get(address(server), "/metrics").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.lines().any(|line| line == kind), "{head}");
    parse(&body)
}

pub(crate) async fn new_oid(server: &Server) -> Oid {
    let (done, first) = tokio::sync::oneshot::channel();
    server.engine().new_oids(1, Box::new(move |result| drop(done.send(result))));
    first.await.expect("an answer").expect("an oid")
}

pub(crate) async fn commit(server: &Server, number: u128, write: Write) -> Result<Receipt, zeolite_proto::Fault> {
    let (done, answer) = tokio::sync::oneshot::channel();
    let draft = Draft {
        key: CommitKey(number.to_be_bytes()),
        key_since: Tid::MAX,
        priority: Priority::Live,
        read_cells: Vec::new(),
        read_ranges: Vec::new(),
        writes: vec![write],
        note: Note::default(),
    };
    server.engine().commit(draft, Box::new(move |result| drop(done.send(result))));
    answer.await.expect("an answer")
}

fn put(oid: Oid, class: &str) -> Write {
    let record = Record { class: class.into(), version: 1, refs: Vec::new(), blobs: Vec::new(), data: "x".into() };
    let change = Change::Put(record.encode().expect("small"));
    Write { cell: Cell::object(oid), base: Tid::NONE, change, stamped: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_follows_the_format_and_counters_only_go_up() {
    let server = start(SimDisk::new(), |_| {}).await;
    let before = scrape(&server).await;
    for family in ["zeolite_commits", "zeolite_conflicts", "zeolite_merges", "zeolite_loads", "zeolite_batches"] {
        assert_eq!(before.kinds.get(family).map(String::as_str), Some("counter"), "{family}");
    }
    let oid = new_oid(&server).await;
    for number in 0..10 {
        let taken = commit(&server, number, put(oid, "Plain")).await;
        assert_eq!(taken.is_ok(), number == 0, "one is first, the others conflict: {taken:?}");
    }
    let after = scrape(&server).await;
    for (sample, value) in &before.samples {
        let family = |suffix: &str| sample.split('{').next().unwrap_or_default().strip_suffix(suffix);
        let counts = family("_total").or(family("_bucket")).or(family("_count")).or(family("_sum"));
        assert!(counts.is_none() || after.value(sample) >= *value, "{sample} went down from {value}");
    }
    assert!(after.value("zeolite_commits_total") > before.value("zeolite_commits_total"));
    assert_eq!(after.value("zeolite_conflicts_total"), 9.0);
    assert_eq!(after.value("zeolite_class_conflicts_total{class=\"Plain\"}"), 9.0);
    assert_eq!(after.value("zeolite_mode{mode=\"normal\"}"), 1.0);
    assert_eq!(after.value("zeolite_mode{mode=\"read-only\"}"), 0.0);
    assert!(after.value("zeolite_disk_size_bytes") >= after.value("zeolite_disk_free_bytes"));
    let fsyncs = "zeolite_commit_stage_seconds_count{stage=\"fsync\"}";
    assert_eq!(after.value(fsyncs), after.value("zeolite_commits_total"), "each commit waited for one");
    for stage in ["decode", "queue", "check", "merge", "write", "fsync", "publish"] {
        after.value(&format!("zeolite_commit_stage_seconds_bucket{{le=\"+Inf\",stage=\"{stage}\"}}"));
    }
    for sample in ["zeolite_poisoned", "zeolite_pins", "zeolite_sessions", "zeolite_oldest_pin_age_seconds"] {
        assert_eq!(after.value(sample), 0.0, "{sample}");
    }
    assert!(after.value("zeolite_log_bytes") > 0.0 && after.value("process_resident_memory_bytes") > 1e6);
    server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_are_those_of_the_status() {
    let server = start(SimDisk::new(), |_| {}).await;
    let oid = new_oid(&server).await;
    commit(&server, 1, put(oid, class::MAP)).await.expect("new");
    server.engine().pin(&Caller::default(), Tid::NONE, 0).expect("a pin");
    let (told, status) = (scrape(&server).await, server.engine().status());
    for (sample, value) in [
        ("zeolite_commits_total", status.commits),
        ("zeolite_batches_total", status.batches),
        ("zeolite_objects", status.objects),
        ("zeolite_pins", 1),
        ("zeolite_log_bytes", status.log_bytes),
        ("zeolite_log_segments", status.segments),
        ("zeolite_queued_drafts{priority=\"batch\"}", 0),
    ] {
        assert_eq!(told.value(sample), value as f64, "{sample}");
    }
    let build = told.samples.keys().find(|key| key.starts_with("zeolite_build_info{")).expect("an info");
    assert!(build.contains(&format!("version={:?}", env!("CARGO_PKG_VERSION"))), "{build}");
    server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_store_is_told_by_the_numbers_and_by_healthz() {
    let disk = SimDisk::new();
    let server = start(disk.clone(), |_| {}).await;
    let oid = new_oid(&server).await;
    let (head, body) = get(address(&server), "/healthz").await;
    assert!(head.starts_with("http/1.1 200") && body == "ok\nmain primary\n", "{head} {body}");
    for (seat, code) in [("primary", 200), ("follower", 503), ("nonsense", 503)] {
        let (head, body) = get(address(&server), &format!("/healthz?seat={seat}")).await;
        assert!(head.starts_with(&format!("http/1.1 {code}")), "{seat}: {head} {body}");
    }
    disk.fail(SimOp::Sync, "log/", 0, std::io::ErrorKind::Other);
    commit(&server, 1, put(oid, "Plain")).await.expect_err("the sync fails");
    let (head, body) = get(address(&server), "/healthz").await;
    assert!(head.starts_with("http/1.1 503") && body.starts_with("poisoned: "), "{head} {body}");
    assert_eq!(scrape(&server).await.value("zeolite_poisoned"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_and_methods_are_refused_by_name() {
    let server = start(SimDisk::new(), |_| {}).await;
    let address = address(&server);
    let (head, body) = get(address, "/other").await;
    assert!(head.starts_with("http/1.1 404") && body.contains("/metrics"), "{head} {body}");
    let answer =
        exchange(address, "POST /metrics HTTP/1.1\r\nHost: localhost\r\nX-Zeolite: t\r\nContent-Length: 0\r\n\r\n")
            .await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.to_ascii_lowercase().contains("allow: get,head"), "{answer}");
    let answer = exchange(address, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "a head alone: {answer}");
    let answer = exchange(address, "no http at all\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_head_is_refused() {
    let server = start(SimDisk::new(), |settings| settings.metrics.header_bytes_max = 8 << 10).await;
    // Exactly what the limit lets in and one byte more: so nothing is left unread, and the refusal arrives.
    let request = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(8 << 10));
    let answer = exchange(address(&server), &request[..(8 << 10) + 1]).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_says_nothing_is_closed() {
    let server = start(SimDisk::new(), |settings| settings.metrics.request_timeout_ms = 20).await;
    let answer = exchange(address(&server), "GET /metrics HTTP/1.1\r\n").await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn for_one_reader_too_many_the_one_that_has_said_nothing_goes_and_a_place_is_free_again() {
    let one = |settings: &mut Settings| {
        settings.metrics.connections_max = 1;
        // The first one says nothing for as long as the test takes.
        settings.metrics.request_timeout_ms = GUARD.as_millis() as u64;
    };
    let server = start(SimDisk::new(), one).await;
    let address = address(&server);
    // They are accepted in this order.
    let mut first = TcpStream::connect(address).await.expect("it listens");
    let mut second = TcpStream::connect(address).await.expect("it listens");
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    tokio::time::timeout(GUARD, second.read_to_string(&mut answer)).await.expect("in time").expect("an orderly end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut nothing = Vec::new();
    let end = tokio::time::timeout(GUARD, first.read_to_end(&mut nothing)).await.expect("it is closed");
    assert!(end.is_err() || nothing.is_empty(), "closed without an answer");
    // The place is free when the server has seen the end of the second connection.
    let again = async {
        let ask = || tried(address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        while !ask().await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, again).await.expect("a place becomes free");
    server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_address_must_be_said_in_so_many_words() {
    let mut settings = Settings::default();
    settings.metrics.listen = "0.0.0.0:0".into();
    let problems = settings.check().expect_err("public");
    assert!(problems.iter().any(|problem| problem.contains("metrics.listen_publicly")), "{problems:?}");
    settings.listen_publicly = true;
    assert!(settings.check().is_err(), "that is for the database's own port");
    settings.metrics.listen_publicly = true;
    assert_eq!(settings.check(), Ok(()));
    settings.metrics.listen = "nowhere".into();
    assert!(settings.check().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_before_the_store_is_opened() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut settings = Settings::default();
    settings.metrics.listen = taken.local_addr().expect("an address").to_string();
    let components = Components {
        progress: Box::new(|_| panic!("nothing is opened")),
        ..Components::new(Arc::new(SimDisk::new()), Arc::new(SystemClock::new()), 7)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let refused = Server::start_with(components, settings, Registry::built_in(), listener).await.err();
    assert!(refused.is_some_and(|error| error.to_string().contains("metrics.listen")));
}

/// A clock that a second passes on with each look at it: everything takes long.
struct Rushing(std::sync::atomic::AtomicU64);

impl Clock for Rushing {
    fn unix_nanos(&self) -> i128 {
        1_800_000_000_000_000_000 + self.steady().as_nanos() as i128
    }

    fn steady(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_commits_are_counted() {
    for (slow_commit_ms, are_slow) in [(1000, true), (0, false)] {
        let mut settings = Settings::default();
        settings.metrics.listen = "127.0.0.1:0".into();
        settings.engine.slow_commit_ms = slow_commit_ms;
        let clock = Arc::new(Rushing(0.into()));
        let components = Components::new(Arc::new(SimDisk::new()), clock, 7);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = Server::start_with(components, settings, Registry::built_in(), listener).await.expect("starts");
        let oid = new_oid(&server).await;
        let before = scrape(&server).await.value("zeolite_slow_commits_total");
        commit(&server, 1, put(oid, "Plain")).await.expect("new");
        let after = scrape(&server).await.value("zeolite_slow_commits_total");
        assert_eq!(after - before, if are_slow { 1.0 } else { 0.0 });
        server.stop().await.expect("stops");
    }
}
