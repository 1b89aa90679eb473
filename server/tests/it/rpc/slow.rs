//! The log of slow commits says whose they were.

use super::support::{TestServer, cell, draft, hello, put, start_timed, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use zeolite_proto::wire::v2;
use zeolite_server::engine::clock::{Clock, SystemClock};

/// Two seconds pass whenever it is looked at: every commit is slow.
#[derive(Default)]
struct Racing {
    wall: SystemClock,
    looks: AtomicU64,
}

impl Clock for Racing {
    fn unix_nanos(&self) -> i128 {
        self.wall.unix_nanos()
    }
    fn steady(&self) -> Duration {
        Duration::from_secs(2 * self.looks.fetch_add(1, Ordering::Relaxed))
    }
}

/// The clients of slow commits that were told, one text per line of the log.
struct Told(watch::Sender<Vec<String>>);

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().ends_with("numbers::slow")
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut client = Of(String::new());
        event.record(&mut client);
        self.0.send_modify(|told| told.push(client.0));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Of(String);

impl Visit for Of {
    // As text it is escaped by whoever writes the line: a client cannot make lines of its own.
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "client" {
            value.clone_into(&mut self.0);
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

async fn until(told: &mut watch::Receiver<Vec<String>>, is: impl Fn(&str) -> bool) -> String {
    let all =
        within(told.wait_for(|told| told.iter().any(|client| is(client)))).await.expect("the log goes on").clone();
    all.into_iter().find(|client| is(client)).expect("waited for")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_commit_names_its_client() {
    let (sender, mut told) = watch::channel(Vec::new());
    // The commits of a server are told by threads of its own.
    tracing::subscriber::set_global_default(Told(sender)).expect("no other test here listens");
    let test: TestServer = start_timed(Arc::new(Racing::default())).await;
    let mut raw = super::support::Raw::connect(test.channel().await).await;
    raw.hello(v2::Hello { client: "shop web 3".into(), ..hello() }).await;
    raw.commit(draft(0, vec![put(cell(1), 0, "x")])).await.expect("new");
    until(&mut told, |client| client == "shop web 3").await;
    let mut unary = test.unary().await;
    within(unary.writer.commit(draft(0, vec![put(cell(2), 0, "x")]))).await.expect("new");
    until(&mut told, |client| client.starts_with("127.0.0.1:")).await;
}
