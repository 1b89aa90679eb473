//! What a program traces is traced by the server, and nothing else.

use crate::support::{World, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeolite_client::{Cell, Db, Options, Record, Resolvers, TraceContext, TracedBy};
use zeolite_server::server::Server;

/// Spans that the server has made; nobody takes them, so each waits or was dropped.
async fn spans(world: &World) -> u64 {
    let address = world.server.as_ref().and_then(Server::metrics_address).expect("metrics are on");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("an orderly end");
    let value = |name: &str| -> u64 {
        let value = answer.lines().find_map(|line| line.strip_prefix(name)).expect("it is told");
        value.trim().parse().expect("a number")
    };
    assert_eq!(value("zeolite_spans_sent_total "), 0);
    value("zeolite_spans_waiting ") + value("zeolite_spans_dropped_total ")
}

async fn commit(db: &Db) {
    let oid = within(db.new_oid()).await.expect("an oid");
    let tx = within(db.begin()).await.expect("begins");
    tx.put(Cell::object(oid), &Record::new("Thing", 1, "x")).expect("encodes");
    within(tx.commit()).await.expect("commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_traces_is_traced_by_the_server_and_nothing_else() {
    let world = World::start_of(
        |settings| {
            settings.metrics.listen = "127.0.0.1:0".into();
            settings.traces.endpoint = "http://127.0.0.1:9".into();
        },
        Resolvers::built_in(),
        None,
    )
    .await;
    let is_on = Arc::new(AtomicBool::new(false));
    let asked = is_on.clone();
    let context = TraceContext { trace: 7, span: 9, sampled: true };
    let traced_by = TracedBy::new(move || asked.load(Ordering::Relaxed).then_some(context));
    let db = world.db_with(Options::new().traced_by(Some(traced_by))).await;
    commit(&db).await;
    assert_eq!(spans(&world).await, 0);
    is_on.store(true, Ordering::Relaxed);
    commit(&db).await;
    let traced = spans(&world).await;
    assert!(traced >= 6, "the commit and its five stages, perhaps an oid: {traced}");
    is_on.store(false, Ordering::Relaxed);
    commit(&db).await;
    assert_eq!(spans(&world).await, traced);
}
