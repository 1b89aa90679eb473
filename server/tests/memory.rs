//! Hostile clients let loose on a server, one kind after the other, in a program of its own, so that its memory is theirs and the server's alone.
//!
//! After each: another client's commits go on, memory is below the figure that the settings name, and when they are gone nothing
//! is left of them: no session, no request, no pin, no prepared draft.

#[expect(dead_code, reason = "the tests of the doors need more of it")]
#[path = "it/rpc/support.rs"]
mod support;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use std::convert::Infallible;
use support::{GUARD, Raw, TestServer, cell, draft, entry, fault, hello, put, start_with, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_server::settings::Settings;

const RECORD_BYTES: usize = 400_000;
const STREAMS: u32 = 64;
const MESSAGE_BYTES: usize = 1 << 20;
/// So many connections send half messages: more than the figure, if all of it were kept.
const HALF_CONNECTIONS: usize = 8;
/// What this program takes beside the server: code that is paged in, the clients, what the allocator keeps.
const BESIDE_BYTES: u64 = 96 << 20;

/// A small server, so that its bounds are soon met.
fn small(settings: &mut Settings) {
    settings.metrics.listen = "127.0.0.1:0".into();
    (settings.store.cache_bytes, settings.store.index_cache_bytes) = (4 << 20, 4 << 20);
    (settings.store.overlay_bytes_max, settings.store.keys_count_max) = (16 << 20, 10_000);
    (settings.store.kinds_max, settings.store.recent_entries_max) = (1000, 1000);
    (settings.engine.batch_bytes_max, settings.sessions.long_calls_max) = (1 << 20, 8);
    (settings.engine.recent_bytes_max, settings.engine.recent_cells_max) = (2 << 20, 10_000);
    (settings.engine.prepared_bytes_max, settings.engine.pins_max) = (8 << 20, 400);
    (settings.limits.draft_bytes_max, settings.limits.record_bytes_max) = (2 << 20, 1 << 20);
    (settings.limits.message_bytes_max, settings.limits.draft_writes_max) = (MESSAGE_BYTES, 25_000);
    let sessions = &mut settings.sessions;
    (sessions.connections_max, sessions.streams_max, sessions.window_bytes) = (32, STREAMS, 256 << 10);
    (sessions.requests_bytes_max, sessions.connection_bytes_max) = (24 << 20, 8 << 20);
    (sessions.feed_queue_bytes_max, sessions.keepalive_timeout_ms) = (1 << 20, 300);
}

/// The server, what it may take, and what there was before.
struct Site {
    test: TestServer,
    figure: u64,
    before: u64,
}

/// What the system says; where it says nothing, nothing is compared.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl Site {
    async fn start() -> Site {
        let mut settings = Settings::default();
        small(&mut settings);
        let figure = settings.memory().iter().map(|part| part.bytes).sum::<u64>() + BESIDE_BYTES;
        assert!(figure < (HALF_CONNECTIONS * STREAMS as usize * MESSAGE_BYTES) as u64, "{figure}");
        let test = start_with(small).await;
        let mut writer = test.session().await;
        writer.commit(draft(0, vec![put(cell(1), 0, vec![7; RECORD_BYTES])])).await.expect("new");
        Site { test, figure, before: resident_bytes() }
    }

    /// While they are there: others go on, and memory is bounded.
    async fn others_go_on(&self, what: &str) {
        let mut other = self.test.session().await;
        for _ in 0..10 {
            let base = self.test.server.engine().visible().0;
            let writes = vec![put(cell(2), base, "goes on"), put(entry(3, "zzz"), base, "goes on")];
            other.commit(draft(base, writes)).await.expect("others go on");
        }
        let grown = resident_bytes().saturating_sub(self.before);
        assert!(grown <= self.figure, "{what}: {grown} bytes more, at most {} may be", self.figure);
    }

    /// When they are gone: so is what they held.
    async fn nothing_is_left(&self, what: &str) {
        let left = async {
            loop {
                let status = self.test.server.engine().status();
                let requests = self.number("zeolite_requests_bytes").await;
                let sessions = self.number("zeolite_sessions").await;
                if (status.pins, status.prepared, requests, sessions) == (0, 0, 0, 0) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(GUARD, left).await.is_ok();
        let requests = self.number("zeolite_requests_bytes").await;
        assert!(gone, "{what}: {requests} bytes of requests are left, {:?}", self.test.server.engine().status());
    }

    async fn number(&self, name: &str) -> u64 {
        let address = self.test.server.metrics_address().expect("metrics are on");
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.expect("an answer");
        let line = answer.lines().find_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{'])));
        let number = line.and_then(|rest| rest.split_whitespace().next_back()?.parse::<f64>().ok());
        number.unwrap_or_else(|| panic!("no {name} in:\n{answer}")) as u64
    }

    /// A connection that takes in little at a time.
    async fn narrow(&self) -> Channel {
        let endpoint = self.test.endpoint();
        let narrow = endpoint.initial_stream_window_size(64 << 10).initial_connection_window_size(64 << 10);
        narrow.connect().await.expect("connects")
    }
}

/// Begins a call with these bytes, which do not end.
async fn call(
    mut channel: Channel,
    path: &str,
    bytes: impl Stream<Item = Bytes> + Send + 'static,
) -> http::Response<Body> {
    let frames = bytes.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(frames)))
        .expect("a request");
    std::future::poll_fn(|context| channel.poll_ready(context)).await.expect("open");
    channel.call(request).await.expect("an answer")
}

fn framed(message: &[u8], length: usize) -> Bytes {
    let prefix = [&[0], &(length as u32).to_be_bytes()[..]].concat();
    Bytes::from([&prefix, message].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_take_what_the_settings_name_and_leave_nothing_behind() {
    let site = Site::start().await;
    site.nothing_is_left("the test's own writer").await;
    half_messages(&site).await;
    answers_that_nobody_reads(&site).await;
    pages_that_nobody_reads(&site).await;
    pins(&site).await;
    prepared_ranges(&site).await;
    equal_hashes_and_empty_writes(&site).await;
    silent_connections(&site).await;
    within(site.test.server.stop()).await.expect("stops");
}

/// All of a message but its last byte, on every stream of eight connections.
async fn half_messages(site: &Site) {
    for path in ["/zeolite.v2.Writer/Commit", "/zeolite.v2.Zeolite/Session", "/zeolite.v2.Reader/Load"] {
        let mut begun = JoinSet::new();
        // Here it is kept once.
        let half = framed(&vec![0; MESSAGE_BYTES - 1], MESSAGE_BYTES);
        for _ in 0..HALF_CONNECTIONS {
            let channel = site.test.channel().await;
            for _ in 0..STREAMS {
                let sent = stream::iter([half.clone()]).chain(stream::pending());
                begun.spawn(call(channel.clone(), path, sent));
            }
        }
        let in_all = HALF_CONNECTIONS * STREAMS as usize;
        let most = (24 << 20) / MESSAGE_BYTES;
        // A call is answered when it finds no room; a session says so as its last frame.
        let mut answered = Vec::new();
        while answered.len() < in_all - most {
            answered.push(within(begun.join_next()).await.expect("one more").expect("answered"));
        }
        site.others_go_on(path).await;
        drop((answered, begun));
        site.nothing_is_left(path).await;
    }
}

/// Loads of a large record, in sessions and in calls, and no look at the answers.
async fn answers_that_nobody_reads(site: &Site) {
    let load = v2::LoadRequest { cells: vec![cell(1)], ..Default::default() };
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect(site.narrow().await).await;
        raw.hello(v2::Hello { feed: true, ..hello() }).await;
        for _ in 0..200 {
            let request = Some(Request::Load(load.clone()));
            if raw.to.try_send(v2::ClientFrame { id: raw.next_id, request, ..Default::default() }).is_err() {
                tokio::task::yield_now().await;
            }
            raw.next_id += 1;
        }
        slow.push(raw);
    }
    let mut calls = Vec::new();
    for _ in 0..4 {
        let channel = site.narrow().await;
        for _ in 0..STREAMS / 2 {
            let asked = framed(&load.encode_to_vec(), load.encoded_len());
            // Its head is read, its body is not.
            calls.push(within(call(channel.clone(), "/zeolite.v2.Reader/Load", stream::iter([asked]))).await);
        }
    }
    let refused = calls.iter().filter(|answer| answer.headers().contains_key("grpc-status")).count();
    assert!(refused > 0, "{} answers of {RECORD_BYTES} bytes found room", calls.len());
    site.others_go_on("answers that nobody reads").await;
    drop((slow, calls));
    site.nothing_is_left("answers that nobody reads").await;
}

/// Scans, which pin, and no look at their pages.
async fn pages_that_nobody_reads(site: &Site) {
    let scan = v2::ScanRequest { oid: cell(1).oid, ..Default::default() };
    let channel = site.narrow().await;
    let mut calls = Vec::new();
    for _ in 0..STREAMS / 2 {
        let asked = framed(&scan.encode_to_vec(), scan.encoded_len());
        calls.push(within(call(channel.clone(), "/zeolite.v2.Reader/Scan", stream::iter([asked]))).await);
    }
    site.others_go_on("pages that nobody reads").await;
    drop(calls);
    site.nothing_is_left("pages that nobody reads").await;
}

async fn pins(site: &Site) {
    let mut bad = site.test.session().await;
    let mut pinned = Vec::new();
    let told = loop {
        match bad.ask(Request::Pin(v2::PinRequest { snapshot: 0, lease_ms: 60_000 })).await {
            Reply::Pin(pin) => pinned.push(pin.pin),
            other => break fault(other),
        }
    };
    assert_eq!((told.kind, pinned.len()), (FaultKind::Busy, 100), "{told}");
    site.others_go_on("pins").await;
    for pin in pinned {
        bad.ask(Request::Unpin(v2::UnpinRequest { pin })).await;
    }
    drop(bad);
    site.nothing_is_left("pins").await;
}

/// Drafts that hold very many ranges of the collection that others write in.
async fn prepared_ranges(site: &Site) {
    let mut bad = site.test.session().await;
    let range = |n: u64| v2::ReadRange {
        oid: cell(3).oid,
        from: format!("{n:06}a").into(),
        to: format!("{n:06}b").into(),
        base: Some(0),
    };
    let mut prepared = Vec::new();
    let told = loop {
        let ranges = (0..5_000).map(range).collect();
        let draft = Some(v2::Draft { read_ranges: ranges, ..draft(0, Vec::new()) });
        match bad.ask(Request::Prepare(v2::PrepareRequest { draft, ..Default::default() })).await {
            Reply::Prepare(reply) => prepared.push(reply.prepared),
            other => break fault(other),
        }
    };
    assert!(told.kind == FaultKind::Busy && !prepared.is_empty(), "{told}");
    site.others_go_on("prepared ranges").await;
    for prepared in prepared {
        bad.ask(Request::Abort(v2::AbortRequest { prepared, ..Default::default() })).await;
    }
    drop(bad);
    site.nothing_is_left("prepared ranges").await;
}

/// Keys that all fall together where the hash is known to everybody, and messages of nothing but empty writes.
async fn equal_hashes_and_empty_writes(site: &Site) {
    let mut bad = site.test.session().await;
    let key = |n: u64| Bytes::from([0x243f_6a88_85a3_08d3_u64.to_le_bytes(), n.to_le_bytes()].concat());
    let delete = |n| v2::Write {
        cell: Some(v2::Cell { oid: cell(4).oid, key: key(n) }),
        absent: true,
        change: Some(v2::write::Change::Delete(v2::Delete {})),
        ..Default::default()
    };
    bad.commit(draft(0, (0..10_000).map(delete).collect())).await.expect("as quick as any other");
    let empty = v2::Draft { writes: vec![v2::Write::default(); 100_000], ..draft(0, Vec::new()) };
    for _ in 0..20 {
        bad.send(Request::Commit(empty.clone())).await;
    }
    site.others_go_on("empty writes").await;
    drop(bad);
    site.nothing_is_left("empty writes").await;
}

/// Nothing is said, or half of what must be said first: others find a place again.
async fn silent_connections(site: &Site) {
    let mut silent = Vec::new();
    for n in 0..31 {
        let mut stream = TcpStream::connect(site.test.server.address()).await.expect("it listens");
        if n % 2 == 0 {
            stream.write_all(b"PRI * HTT").await.expect("sent");
        }
        silent.push(stream);
    }
    for mut stream in silent {
        // Until it is closed, or cut; what the server has said before does not matter.
        drop(within(stream.read_to_end(&mut Vec::new())).await);
    }
    site.others_go_on("silent connections").await;
    site.nothing_is_left("silent connections").await;
}
