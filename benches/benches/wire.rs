//! The server through gRPC on loopback, without the client library: sessions that commit and load, frame by frame.
//!
//! ```text
//! cargo bench -p zeolite-benches --bench wire -- [directory] [seconds] [only]
//! ```
//! Loads are also asked of a bare echo of the same bytes, turn and turn about: `echo-1 load-1`, `echo-128 load-128`.
//! The directory (default: a temporary one) is on the disk to be measured; `only` names one row. Server and clients share
//! the machine, so that the numbers are those of both. A commit writes one record of 1 KiB.

#![expect(clippy::print_stdout, reason = "a bench tells its numbers")]

use bytes::Bytes;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use zeolite_proto::resolvers::{self, counter};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::wire::v2::zeolite_client::ZeoliteClient;
use zeolite_proto::{Record, Registry};
use zeolite_server::server::Server;
use zeolite_server::settings::Settings;

const RECORD_BYTES: usize = 1024;
const OBJECTS: u64 = 50_000;
const FIRST_OID: u64 = 16;
const LOAD_BATCH: u64 = 1000;
const ENTRIES: u64 = 100_000;
const WINDOW_BYTES: u32 = 8 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a session keeps asking for.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    Commit,
    /// Adds to one counter.
    Hot,
    Load(u64),
    Scan,
}

/// One row of the table.
struct Row {
    name: &'static str,
    work: Work,
    sessions: u64,
    in_flight: u64,
    feed: bool,
}

const fn row(name: &'static str, work: Work, sessions: u64, in_flight: u64, feed: bool) -> Row {
    Row { name, work, sessions, in_flight, feed }
}

const ROWS: &[Row] = &[
    row("commit-1", Work::Commit, 1, 1, true),
    row("commit-64-sessions", Work::Commit, 64, 1, true),
    row("commit-64-sessions-no-feed", Work::Commit, 64, 1, false),
    row("commit-64-in-flight", Work::Commit, 1, 64, true),
    row("commit-8x8", Work::Commit, 8, 8, true),
    row("hot-64-sessions", Work::Hot, 64, 1, true),
    row("hot-64-in-flight", Work::Hot, 1, 64, true),
    row("load-batched", Work::Load(LOAD_BATCH), 1, 4, true),
    row("scan", Work::Scan, 1, 1, true),
];

/// Those that are compared with the echo.
const LOADS: [Row; 2] = [row("load-1", Work::Load(1), 1, 1, true), row("load-128", Work::Load(1), 1, 128, true)];

/// A disturbance of the machine hits both.
const TURNS: u32 = 10;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let temporary = tempfile::tempdir()?;
    let root = args.first().map_or(temporary.path(), Path::new).join("zeolite-bench");
    let seconds = args.get(1).map_or(Ok(3), |text| text.parse())?;
    let only = args.get(2).map(String::as_str);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let settings = Settings { data_dir: root.clone(), ..Settings::default() };
        let server = Server::start(settings, Registry::built_in(), listener).await?;
        let address = server.address().to_string();
        fill(&address).await?;
        for row in ROWS.iter().filter(|row| only.is_none_or(|only| row.name == only)) {
            let seen = measure(&address, row, Duration::from_secs(seconds)).await?;
            seen.tell(row.name);
        }
        let echo = zeolite_benches::echo(one_reply(&address).await?).await?.to_string();
        for row in LOADS.iter().filter(|row| only.is_none_or(|only| row.name == only)) {
            let (mut ours, mut bare) = (Seen::default(), Seen::default());
            for _ in 0..TURNS {
                bare.take_in(measure(&echo, row, Duration::from_secs(seconds) / TURNS).await?);
                ours.take_in(measure(&address, row, Duration::from_secs(seconds) / TURNS).await?);
            }
            bare.tell(&row.name.replace("load", "echo"));
            ours.tell(row.name);
            println!(
                "{:<28} p50 {:.2} x, rate {:.2} x the echo's",
                row.name,
                ours.at(0.5) / bare.at(0.5),
                ours.rate() / bare.rate()
            );
        }
        server.stop().await?;
        Ok::<(), Failure>(())
    })?;
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

struct Session {
    to: mpsc::Sender<v2::ClientFrame>,
    from: Streaming<v2::ServerFrame>,
    visible: u64,
}

impl Session {
    async fn open(address: &str, feed: bool) -> Result<Session, Failure> {
        let channel: Channel = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES)
            .connect()
            .await?;
        let (to, frames) = mpsc::channel(256);
        let mut client = ZeoliteClient::new(channel).max_decoding_message_size(usize::MAX);
        let from = client.session(ReceiverStream::new(frames)).await?.into_inner();
        let mut session = Session { to, from, visible: 0 };
        let hello = v2::Hello { protocol: 2, client: "bench".into(), feed, ..Default::default() };
        match session.ask(Request::Hello(hello)).await? {
            Reply::Hello(reply) => session.visible = reply.visible,
            other => return Err(format!("no hello: {other:?}").into()),
        }
        Ok(session)
    }

    async fn send(&mut self, id: u64, request: Request) -> Result<(), Failure> {
        Ok(self.to.send(v2::ClientFrame { id, request: Some(request), ..Default::default() }).await?)
    }

    /// The next answer; the feed is read and dropped.
    async fn answer(&mut self) -> Result<(u64, Reply), Failure> {
        loop {
            let frame = self.from.message().await?.ok_or("the session ended")?;
            match frame.reply {
                Some(Reply::Feed(_)) => {}
                Some(Reply::Fault(fault)) => return Err(fault.message.into()),
                Some(reply) => return Ok((frame.id, reply)),
                None => return Err("an empty frame".into()),
            }
        }
    }

    async fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        self.send(1, request).await?;
        Ok(self.answer().await?.1)
    }
}

fn put(oid: u64, key: Bytes, record: Bytes) -> v2::Write {
    let change = Some(v2::write::Change::Put(record));
    v2::Write { cell: Some(v2::Cell { oid, key }), base: Some(0), change, stamped: false, absent: false }
}

fn draft(number: u64, writes: Vec<v2::Write>) -> v2::Draft {
    let commit_key = u128::from(number).to_be_bytes().to_vec().into();
    v2::Draft { commit_key, key_since: Some(0), writes, ..Default::default() }
}

/// Objects to load and a collection to scan.
async fn fill(address: &str) -> Result<(), Failure> {
    let mut session = Session::open(address, false).await?;
    let (mut handed, mut next_key) = (0, 1 << 40);
    while handed < OBJECTS + 100_000 {
        session.ask(Request::NewOids(v2::NewOidsRequest { count: 50_000 })).await?;
        handed += 50_000;
    }
    let record = Record::new("Bench", 1, vec![7; RECORD_BYTES]).encode()?;
    let small = Record::new("Bench", 1, vec![7; 32]).encode()?;
    for from in (0..OBJECTS).step_by(1000) {
        let writes = (from..from + 1000).map(|n| put(FIRST_OID + n, Bytes::new(), record.clone())).collect();
        next_key += 1;
        session.ask(Request::Commit(draft(next_key, writes))).await?;
    }
    for from in (0..ENTRIES).step_by(10_000) {
        let key = |n: u64| Bytes::from(n.to_be_bytes().to_vec());
        let writes = (from..from + 10_000).map(|n| put(FIRST_OID, key(n), small.clone())).collect();
        next_key += 1;
        session.ask(Request::Commit(draft(next_key, writes))).await?;
    }
    Ok(())
}

/// What one session did: operations, their latencies, and objects or entries.
#[derive(Default)]
struct Done {
    latencies_ns: Vec<u64>,
    units: u64,
}

/// What was seen in some time.
#[derive(Default)]
struct Seen {
    done: Done,
    time: Duration,
    cpu_us: u64,
}

impl Seen {
    fn take_in(&mut self, other: Seen) {
        self.done.latencies_ns.extend(other.done.latencies_ns);
        self.done.latencies_ns.sort_unstable();
        self.done.units += other.done.units;
        self.time += other.time;
        self.cpu_us += other.cpu_us;
    }

    fn rate(&self) -> f64 {
        self.done.latencies_ns.len() as f64 / self.time.as_secs_f64()
    }

    /// In microseconds.
    fn at(&self, part: f64) -> f64 {
        let all = &self.done.latencies_ns;
        let index = ((all.len() as f64 * part) as usize).min(all.len().saturating_sub(1));
        all.get(index).copied().unwrap_or_default() as f64 / 1000.0
    }

    fn tell(&self, name: &str) {
        let units = self.done.units as f64 / self.time.as_secs_f64();
        let cpu_us = self.cpu_us as f64 / self.done.latencies_ns.len().max(1) as f64;
        println!(
            "{name:<28} {:>9.0} requests/s  {units:>10.0} units/s   p50 {:>8.0} us   p99 {:>8.0} us   cpu {cpu_us:>7.1} us",
            self.rate(),
            self.at(0.5),
            self.at(0.99)
        );
    }
}

/// The answer to a load of one object.
async fn one_reply(address: &str) -> Result<v2::LoadReply, Failure> {
    let mut session = Session::open(address, false).await?;
    let cells = vec![v2::Cell { oid: FIRST_OID, key: Bytes::new() }];
    match session.ask(Request::Load(v2::LoadRequest { cells, ..Default::default() })).await? {
        Reply::Load(reply) => Ok(reply),
        other => Err(format!("no load: {other:?}").into()),
    }
}

async fn measure(address: &str, row: &Row, time: Duration) -> Result<Seen, Failure> {
    let mut tasks = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..row.sessions {
        sessions.push(Session::open(address, row.feed).await?);
    }
    let (begun, cpu) = (Instant::now(), cpu_us()?);
    for (number, session) in sessions.into_iter().enumerate() {
        let seed = number as u64 + 1 + row.name.bytes().map(u64::from).sum::<u64>() * 1000;
        tasks.push(tokio::spawn(keep_asking(session, row.work, row.in_flight, seed, number as u64, begun + time)));
    }
    let mut all = Done::default();
    for task in tasks {
        let done = task.await??;
        all.latencies_ns.extend(done.latencies_ns);
        all.units += done.units;
    }
    all.latencies_ns.sort_unstable();
    Ok(Seen { done: all, time: begun.elapsed(), cpu_us: cpu_us()? - cpu })
}

/// What this process (server and clients) has used of the processors; says more than time on a machine that is shared.
fn cpu_us() -> Result<u64, Failure> {
    const TICK_US: u64 = 10_000;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or_default()).sum::<u64>() * TICK_US)
}

async fn keep_asking(
    mut session: Session,
    work: Work,
    in_flight: u64,
    seed: u64,
    number: u64,
    until: Instant,
) -> Result<Done, Failure> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let record = Record::new("Bench", 1, vec![8; RECORD_BYTES]).encode()?;
    let mut done = Done::default();
    let mut begun = std::collections::HashMap::new();
    let mut id = 1;
    loop {
        while begun.len() < in_flight as usize && Instant::now() < until {
            id += 1;
            begun.insert(id, Instant::now());
            let own = FIRST_OID + (number * 700 + id % 700) % OBJECTS;
            let key = (u64::from(u32::MAX) & seed) << 40 | number << 32 | id;
            session.send(id, request(work, &mut dice, own, key, &record, session.visible)).await?;
        }
        if begun.is_empty() {
            return Ok(done);
        }
        let (answered, reply) = session.answer().await?;
        let sent = begun.remove(&answered).ok_or("an answer to nothing")?;
        done.latencies_ns.push(sent.elapsed().as_nanos() as u64);
        if let Reply::Receipt(receipt) = &reply {
            session.visible = session.visible.max(receipt.tid);
        }
        done.units += match reply {
            Reply::Load(load) => load.revisions.len() as u64,
            Reply::Scan(page) => page.entries.len() as u64,
            _ => 1,
        };
    }
}

fn request(work: Work, dice: &mut fastrand::Rng, own: u64, key: u64, record: &Bytes, visible: u64) -> Request {
    match work {
        Work::Commit => Request::Commit(draft(
            key,
            vec![v2::Write { base: Some(visible), ..put(own, Bytes::new(), record.clone()) }],
        )),
        Work::Hot => {
            let apply = v2::Apply { class: resolvers::class::COUNTER.into(), operation: counter::add(1) };
            let cell = Some(v2::Cell { oid: FIRST_OID + OBJECTS, key: Bytes::new() });
            let change = Some(v2::write::Change::Apply(apply));
            Request::Commit(draft(key, vec![v2::Write { cell, base: None, change, stamped: false, absent: true }]))
        }
        Work::Load(count) => {
            let oid = |_| v2::Cell { oid: FIRST_OID + dice.u64(0..OBJECTS), key: Bytes::new() };
            Request::Load(v2::LoadRequest { cells: (0..count).map(oid).collect(), ..Default::default() })
        }
        Work::Scan => {
            let from = Bytes::from(dice.u64(0..ENTRIES - 10_000).to_be_bytes().to_vec());
            Request::Scan(v2::ScanRequest { oid: FIRST_OID, from, limit: 10_000, ..Default::default() })
        }
    }
}
