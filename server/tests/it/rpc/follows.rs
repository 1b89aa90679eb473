//! What a follower is sent, and when: by a clock that stands until the test moves it.

use super::support::{TestServer, Unary, draft, put, within};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use zeolite_proto::wire::v2;
use zeolite_proto::{Oid, Registry};
use zeolite_server::clock::HandClock;
use zeolite_server::server::{Components, Server};
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::sim::SimDisk;

/// A server with so many followers to wait for, by a clock that stands.
async fn start(sync: u64) -> (TestServer, Arc<HandClock>) {
    let clock = Arc::new(HandClock::at(1_800_000_000_000_000_000));
    let components = Components::new(Arc::new(SimDisk::new()), clock.clone(), 7);
    let mut settings = Settings::default();
    settings.replication.sync = sync;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = Server::start_with(components, settings, Registry::built_in(), listener).await.expect("starts");
    (TestServer { server, directory: Arc::new(tempfile::tempdir().expect("a temporary directory")) }, clock)
}

/// A follower that says what it has when the test does.
struct Follower {
    words: mpsc::Sender<v2::FollowRequest>,
    pages: Streaming<v2::FollowPage>,
}

impl Follower {
    async fn begin(unary: &mut Unary) -> Follower {
        let (words, requests) = mpsc::channel(4);
        let hello = v2::FollowHello { follower: vec![1; 16].into(), name: "f".into(), ..v2::FollowHello::default() };
        let first = v2::FollowRequest { hello: Some(hello), have: 0 };
        words.send(first).await.expect("there is room");
        let mut pages =
            within(unary.replicator.follow(ReceiverStream::new(requests))).await.expect("follows").into_inner();
        // From then on what is committed is kept for it.
        let page = within(pages.message()).await.expect("no fault").expect("a page");
        assert!(page.welcome.is_some());
        Follower { words, pages }
    }

    /// The tids of the next message that has some.
    async fn next(&mut self) -> Vec<u64> {
        loop {
            let page = within(self.pages.message()).await.expect("no fault").expect("it goes on");
            let page = v2::LogPage::decode(page.log).expect("a page of the log");
            if !page.transactions.is_empty() {
                return page.transactions.iter().map(|txn| txn.tid).collect();
            }
        }
    }

    async fn has(&self, tid: u64) {
        self.words.send(v2::FollowRequest { hello: None, have: tid }).await.expect("it is followed");
    }
}

async fn commit(unary: &mut Unary, n: u64) -> u64 {
    let cell = v2::Cell { oid: Oid::ROOT.0, key: format!("entry {n}").into() };
    let writes = vec![put(cell, 0, vec![n as u8; 1000])];
    within(unary.writer.commit(draft(0, writes))).await.expect("a new cell").into_inner().tid
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_told_together_whole_and_in_order() {
    let (test, clock) = start(0).await;
    let mut unary = test.unary().await;
    let mut follower = Follower::begin(&mut unary).await;
    let first = commit(&mut unary, 1).await;
    assert_eq!(follower.next().await, [first], "after a while in which nothing came it waits for nothing");
    let mut told = Vec::new();
    for n in 2..=30 {
        told.push(commit(&mut unary, n).await);
    }
    // All of them are acknowledged, and none was sent: the clock stands.
    clock.advance(Duration::from_secs(1));
    assert_eq!(follower.next().await, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_waited_for_is_told_at_once() {
    let (test, _clock) = start(1).await;
    let mut unary = test.unary().await;
    let mut follower = Follower::begin(&mut unary).await;
    for n in 1..=10 {
        let mut writer = test.unary().await;
        let committing = tokio::spawn(async move { commit(&mut writer, n).await });
        let told = follower.next().await;
        follower.has(told[0]).await;
        assert_eq!(told, [within(committing).await.expect("commits")], "by a clock that stands");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_gathered_is_told_before_the_end() {
    let (test, _clock) = start(0).await;
    let mut unary = test.unary().await;
    let mut follower = Follower::begin(&mut unary).await;
    let first = commit(&mut unary, 1).await;
    assert_eq!(follower.next().await, [first]);
    let told = [commit(&mut unary, 2).await, commit(&mut unary, 3).await];
    let stopping = tokio::spawn(test.server.stop());
    assert_eq!(follower.next().await, told, "the clock stands");
    drop((follower, unary));
    within(stopping).await.expect("stops").expect("in order");
}
