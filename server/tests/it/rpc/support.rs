//! Owns the server on port 0 and the raw client of these tests.

use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::reader_client::ReaderClient;
use zeolite_proto::wire::v2::replicator_client::ReplicatorClient;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::wire::v2::writer_client::WriterClient;
use zeolite_proto::wire::v2::zeolite_client::ZeoliteClient;
use zeolite_proto::{Fault, FaultKind, Record, Registry};
use zeolite_server::engine::clock::{Clock, SystemClock};
use zeolite_server::server::{Components, Server};
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::sim::SimDisk;

/// The first oid that a new store hands out.
const FIRST_OID: u64 = 16;

/// Nothing here takes this long: a test that hangs fails instead.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

/// A server on port 0 with a data directory of its own.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) directory: Arc<tempfile::TempDir>,
}

pub(crate) async fn start() -> TestServer {
    start_with(|_| {}).await
}

pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> TestServer {
    start_in(Arc::new(tempfile::tempdir().expect("a temporary directory")), change).await
}

/// A server in whose database nothing has ever happened.
pub(crate) async fn start_bare() -> TestServer {
    bare_in(Arc::new(tempfile::tempdir().expect("a temporary directory")), |_| {}).await
}

pub(crate) async fn start_in(directory: Arc<tempfile::TempDir>, change: impl FnOnce(&mut Settings)) -> TestServer {
    let test = bare_in(directory, change).await;
    test.hand_out_oids().await;
    test
}

async fn bare_in(directory: Arc<tempfile::TempDir>, change: impl FnOnce(&mut Settings)) -> TestServer {
    let mut settings = Settings { data_dir: directory.path().join("data"), ..Settings::default() };
    change(&mut settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = Server::start(settings, Registry::built_in(), listener).await.expect("the server starts");
    TestServer { server, directory }
}

/// A server on a disk of the test's own.
pub(crate) async fn start_on(disk: SimDisk) -> TestServer {
    start_of(Components::new(Arc::new(disk), Arc::new(SystemClock::new()), 7), |_| {}).await
}

/// A server whose time is the test's own.
pub(crate) async fn start_timed(clock: Arc<dyn Clock>) -> TestServer {
    start_of(Components::new(Arc::new(SimDisk::new()), clock, 7), |_| {}).await
}

/// A server of components of the test's own.
pub(crate) async fn start_of(components: Components, change: impl FnOnce(&mut Settings)) -> TestServer {
    let mut settings = Settings::default();
    change(&mut settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = Server::start_with(components, settings, Registry::built_in(), listener).await;
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let test = TestServer { server: server.expect("the server starts"), directory };
    test.hand_out_oids().await;
    test
}

impl TestServer {
    /// These tests name the oids that they like; so enough of them are handed out first.
    async fn hand_out_oids(&self) {
        let engine = self.server.engine();
        for _ in 0..2 {
            let (done, first) = tokio::sync::oneshot::channel();
            engine.new_oids(engine.limits().oids_max, Box::new(move |result| drop(done.send(result))));
            let first = within(first).await.expect("an answer").expect("oids");
            assert!(first.0 >= FIRST_OID);
        }
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.expect("the server listens")
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.server.address()))
            .expect("an address")
            .initial_stream_window_size(2 << 20)
            .initial_connection_window_size(16 << 20)
    }

    pub(crate) async fn unary(&self) -> Unary {
        let channel = self.channel().await;
        Unary {
            reader: ReaderClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            writer: WriterClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            replicator: ReplicatorClient::new(channel).max_decoding_message_size(usize::MAX),
        }
    }

    /// An open session, with feed.
    pub(crate) async fn session(&self) -> Raw {
        let mut raw = Raw::connect(self.channel().await).await;
        raw.hello(v2::Hello { feed: true, ..hello() }).await;
        raw
    }
}

/// The unary doors, on one connection.
pub(crate) struct Unary {
    pub(crate) reader: ReaderClient<Channel>,
    pub(crate) writer: WriterClient<Channel>,
    pub(crate) replicator: ReplicatorClient<Channel>,
}

pub(crate) fn hello() -> v2::Hello {
    v2::Hello { protocol: 2, client: "test".into(), ..Default::default() }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, future).await.expect("this does not hang")
}

/// A session, frame by frame.
pub(crate) struct Raw {
    pub(crate) to: mpsc::Sender<v2::ClientFrame>,
    pub(crate) from: Streaming<v2::ServerFrame>,
    pub(crate) next_id: u64,
}

impl Raw {
    pub(crate) async fn connect(channel: Channel) -> Raw {
        Raw::try_connect(channel).await.expect("a session begins")
    }

    pub(crate) async fn try_connect(channel: Channel) -> Result<Raw, tonic::Status> {
        Raw::over(ZeoliteClient::new(channel).max_decoding_message_size(usize::MAX)).await
    }

    /// Over a client of the test's own.
    pub(crate) async fn over(mut client: ZeoliteClient<Channel>) -> Result<Raw, tonic::Status> {
        let (to, frames) = mpsc::channel(64);
        let from = within(client.session(ReceiverStream::new(frames))).await?.into_inner();
        Ok(Raw { to, from, next_id: 1 })
    }

    /// Says hello; returns what came before its answer, pieces put together, and the answer.
    pub(crate) async fn greet(&mut self, hello: v2::Hello) -> (Vec<v2::FeedItem>, v2::HelloReply) {
        let id = self.send(Request::Hello(hello)).await;
        let mut replayed = Vec::new();
        loop {
            match self.next().await {
                v2::ServerFrame { id: 0, reply: Some(Reply::Feed(feed)), .. } => {
                    for item in items(&feed) {
                        match replayed.last_mut() {
                            Some(open @ v2::FeedItem { .. }) if open.tid == item.tid => open.cells.extend(item.cells),
                            _ => replayed.push(item),
                        }
                    }
                }
                v2::ServerFrame { id: answered, reply: Some(Reply::Hello(reply)), .. } => {
                    assert_eq!(answered, id);
                    return (replayed, reply);
                }
                other => panic!("not part of a greeting: {other:?}"),
            }
        }
    }

    pub(crate) async fn hello(&mut self, hello: v2::Hello) -> v2::HelloReply {
        self.greet(hello).await.1
    }

    /// Sends a request under a fresh id.
    pub(crate) async fn send(&mut self, request: Request) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_as(id, Some(request)).await;
        id
    }

    pub(crate) async fn send_as(&mut self, id: u64, request: Option<Request>) {
        let sent = within(self.to.send(v2::ClientFrame { id, request, ..Default::default() })).await;
        assert!(sent.is_ok(), "the session is open");
    }

    /// The next frame; `None`: the stream has ended.
    pub(crate) async fn next_or_end(&mut self) -> Option<v2::ServerFrame> {
        within(self.from.message()).await.expect("no transport error")
    }

    pub(crate) async fn next(&mut self) -> v2::ServerFrame {
        self.next_or_end().await.expect("the session goes on")
    }

    /// The answer to a request; passes over the feed and over other answers.
    pub(crate) async fn answer(&mut self, id: u64) -> Reply {
        loop {
            let frame = self.next().await;
            if frame.id == id {
                return frame.reply.expect("a frame has a reply");
            }
        }
    }

    pub(crate) async fn ask(&mut self, request: Request) -> Reply {
        let id = self.send(request).await;
        self.answer(id).await
    }

    pub(crate) async fn refused(&mut self, request: Request) -> Fault {
        fault(self.ask(request).await)
    }

    pub(crate) async fn commit(&mut self, draft: v2::Draft) -> Result<v2::Receipt, Fault> {
        match self.ask(Request::Commit(draft)).await {
            Reply::Receipt(receipt) => Ok(receipt),
            other => Err(fault(other)),
        }
    }

    pub(crate) async fn load(&mut self, cells: Vec<v2::Cell>) -> v2::LoadReply {
        match self.ask(Request::Load(v2::LoadRequest { cells, ..Default::default() })).await {
            Reply::Load(reply) => reply,
            other => panic!("not a load: {other:?}"),
        }
    }
}

pub(crate) fn fault(reply: Reply) -> Fault {
    match reply {
        Reply::Fault(fault) => fault.into(),
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn status_fault(status: &tonic::Status) -> Fault {
    zeolite_proto::wire::fault::from_status(status).expect("a refusal carries its fault")
}

pub(crate) fn items(feed: &Bytes) -> Vec<v2::FeedItem> {
    prost::Message::decode(feed.clone()).map(|batch: v2::FeedBatch| batch.items).expect("a feed batch")
}

/// Object 0, 1, ... of a test.
pub(crate) fn oid(number: u64) -> u64 {
    FIRST_OID + number
}

pub(crate) fn cell(number: u64) -> v2::Cell {
    v2::Cell { oid: oid(number), key: Bytes::new() }
}

pub(crate) fn entry(number: u64, key: impl Into<Bytes>) -> v2::Cell {
    v2::Cell { oid: oid(number), key: key.into() }
}

/// An encoded record of a class that has no resolver.
pub(crate) fn record(data: impl Into<Bytes>) -> Bytes {
    Record { class: "Plain".into(), version: 1, refs: Vec::new(), blobs: Vec::new(), data: data.into() }
        .encode()
        .expect("a small header")
}

pub(crate) fn put(cell: v2::Cell, base: u64, data: impl Into<Bytes>) -> v2::Write {
    let change = Some(v2::write::Change::Put(record(data)));
    v2::Write { cell: Some(cell), base: (base != 0).then_some(base), change, stamped: false, absent: false }
}

/// A draft under a key of its own; without a snapshot its writes are of cells that are not there.
pub(crate) fn draft(snapshot: u64, writes: Vec<v2::Write>) -> v2::Draft {
    static KEYS: AtomicU64 = AtomicU64::new(1);
    let key = u128::from(KEYS.fetch_add(1, Ordering::Relaxed)).to_be_bytes();
    let key_since = Some(snapshot);
    let absent = |write: v2::Write| v2::Write { absent: snapshot == 0 && write.base.is_none(), ..write };
    let writes = writes.into_iter().map(absent).collect();
    v2::Draft { commit_key: key.to_vec().into(), key_since, snapshot: Some(snapshot), writes, ..Default::default() }
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, Fault>) -> FaultKind {
    result.expect_err("this is refused").kind
}
