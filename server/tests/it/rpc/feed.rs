//! The ordered feed: nothing is shown before its invalidation, a slow reader is cut where it can go on.

use super::support::{Raw, TestServer, cell, draft, entry, hello, items, oid, put, record, start, start_with, within};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::transport::Endpoint;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::wire::v2::zeolite_client::ZeoliteClient;
use zeolite_proto::{Cell, Change, CommitKey, Draft, Note, Oid, Priority, Tid, Write};

const WRITERS: u64 = 4;
const COMMITS: u64 = 200;

/// One client: keeps commits and loads in flight, and checks every frame against the feed seen so far.
async fn client(test: &TestServer, number: u64) -> (u64, Vec<u64>, BTreeSet<u64>) {
    let mut raw = Raw::connect(test.channel().await).await;
    let visible = raw.hello(v2::Hello { feed: true, ..hello() }).await.visible;
    let mut fed: Vec<u64> = Vec::new();
    let mut own = BTreeSet::new();
    let (mut sent, mut open) = (0, 0);
    while sent < COMMITS || open > 0 {
        while sent < COMMITS && open < 32 {
            sent += 1;
            open += 2;
            raw.send(Request::Commit(draft(0, vec![put(cell(number * 10_000 + sent), 0, "x")]))).await;
            let cells = (0..WRITERS).map(|other| cell(other * 10_000 + sent)).collect();
            raw.send(Request::Load(v2::LoadRequest { cells, ..Default::default() })).await;
        }
        let reached = fed.last().copied().unwrap_or(visible);
        match raw.next().await.reply.expect("a reply") {
            Reply::Feed(feed) => {
                for item in items(&feed) {
                    assert!(item.tid > fed.last().copied().unwrap_or(visible), "the feed goes forward");
                    fed.push(item.tid);
                }
            }
            Reply::Receipt(receipt) => {
                assert!(receipt.tid <= reached, "a receipt overtook its feed: {} > {reached}", receipt.tid);
                own.insert(receipt.tid);
                open -= 1;
            }
            Reply::Load(load) => {
                assert!(load.snapshot <= reached, "a load overtook its feed: {} > {reached}", load.snapshot);
                for revision in &load.revisions {
                    assert!(revision.tid <= load.snapshot);
                }
                open -= 1;
            }
            other => panic!("{other:?}"),
        }
    }
    (visible, fed, own)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_overtakes_its_feed_and_every_session_sees_the_same_order() {
    let test = std::sync::Arc::new(start().await);
    let clients: Vec<_> = (0..WRITERS)
        .map(|number| {
            let test = test.clone();
            tokio::spawn(async move { client(&test, number).await })
        })
        .collect();
    let mut seen = Vec::new();
    for client in clients {
        seen.push(within(client).await.expect("no assertion of a client failed"));
    }
    let all: BTreeSet<u64> = seen.iter().flat_map(|(_, _, own)| own.iter().copied()).collect();
    assert_eq!(all.len() as u64, WRITERS * COMMITS, "every commit has a tid of its own");
    for (visible, fed, _) in &seen {
        let last = fed.last().copied().unwrap_or_default();
        let expected: Vec<u64> = all.iter().copied().filter(|tid| tid > visible && *tid <= last).collect();
        assert_eq!(*fed, expected, "the feed leaves nothing out");
    }
}

/// Commits until it is told to stop; returns its tids.
async fn commit_on_and_on(test: &TestServer, number: u64, stop: &AtomicBool) -> Vec<u64> {
    let mut raw = Raw::connect(test.channel().await).await;
    raw.hello(hello()).await;
    let mut tids = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let write = put(cell(number * 10_000 + tids.len() as u64), 0, "x");
        tids.push(raw.commit(draft(0, vec![write])).await.expect("a new cell").tid);
    }
    tids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reconnects_all_the_time_sees_every_commit_once_and_in_order() {
    let test = std::sync::Arc::new(start().await);
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let before = test.server.engine().visible().0;
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (test, stop) = (test.clone(), stop.clone());
            tokio::spawn(async move { commit_on_and_on(&test, number, &stop).await })
        })
        .collect();
    let (store_id, timeline) = (test.server.engine().store_id(), test.server.engine().timeline());
    let mut seen = Vec::new();
    let mut resume_from = before;
    for round in 0..60 {
        let mut raw = Raw::connect(test.channel().await).await;
        let back = v2::Hello { feed: true, resume_from, cached_bytes: 1 << 30, store_id, timeline, ..hello() };
        let (replayed, reply) = raw.greet(back).await;
        assert!(reply.replayed, "round {round}");
        seen.extend(replayed.iter().map(|item| item.tid));
        assert!(seen.last().is_none_or(|last| *last <= reply.visible));
        // A little of the live feed, then away again: in the middle of whatever the writers do.
        for _ in 0..round % 5 {
            if let Reply::Feed(feed) = raw.next().await.reply.expect("a reply") {
                assert!(items(&feed)[0].tid > reply.visible, "the feed begins after what was told");
                seen.extend(items(&feed).iter().map(|item| item.tid));
            }
        }
        resume_from = seen.last().copied().unwrap_or(before).max(resume_from);
    }
    stop.store(true, Ordering::Release);
    let mut committed = Vec::new();
    for writer in writers {
        committed.extend(within(writer).await.expect("no assertion of a writer failed"));
    }
    committed.sort_unstable();
    committed.retain(|tid| *tid <= resume_from);
    assert!(committed.len() > 100, "the writers were at it");
    assert_eq!(seen, committed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_feed_gets_none() {
    let test = start().await;
    let mut raw = Raw::connect(test.channel().await).await;
    raw.hello(hello()).await;
    let id = raw.send(Request::Commit(draft(0, vec![put(cell(1), 0, "x")]))).await;
    assert_eq!(raw.next().await.id, id, "the receipt is the first frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_too_slow_for_its_feed_is_cut_and_goes_on_from_there() {
    let test = start_with(|settings| settings.sessions.feed_queue_bytes_max = 256 << 10).await;
    // A small window: what the slow client does not read stays in the server.
    let endpoint = test.endpoint().initial_stream_window_size(64 << 10).initial_connection_window_size(64 << 10);
    let mut slow = Raw::connect(endpoint.connect().await.expect("the server listens")).await;
    let visible = slow.hello(v2::Hello { feed: true, ..hello() }).await.visible;

    let mut writer = test.session().await;
    let mut committed = Vec::new();
    for n in 0..40u64 {
        // 100 keys of 1,000 bytes: the feed of one commit has 100 kB.
        let key = |at: u64| format!("{n:04}-{at:04}-{}", "k".repeat(990));
        let writes = (0..100).map(|at| put(entry(5, key(at)), 0, "")).collect();
        committed.push(writer.commit(draft(0, writes)).await.expect("new entries").tid);
    }

    let mut seen = Vec::new();
    let cut = loop {
        match slow.next().await.reply.expect("a reply") {
            Reply::Feed(feed) => seen.extend(items(&feed).iter().map(|item| item.tid)),
            Reply::Cut(cut) => break cut,
            other => panic!("{other:?}"),
        }
    };
    assert!(slow.next_or_end().await.is_none(), "nothing follows a cut");
    assert!(cut.reason.contains("feed_queue_bytes_max"), "{}", cut.reason);
    assert!(seen.len() < committed.len(), "it was cut before the end");
    assert_eq!(cut.tid, seen.last().copied().unwrap_or(visible));

    let (store_id, timeline) = (test.server.engine().store_id(), test.server.engine().timeline());
    let back = v2::Hello { feed: true, resume_from: cut.tid, cached_bytes: 1 << 30, store_id, timeline, ..hello() };
    let mut again = Raw::connect(test.channel().await).await;
    let (replayed, reply) = again.greet(back).await;
    assert!(reply.replayed);
    seen.extend(replayed.iter().map(|item| item.tid));
    assert_eq!(seen, committed, "cut and replay leave nothing out and repeat nothing");
}

/// Commits so many entries of one object at once, as a program in the server's own process would.
async fn commit_entries(test: &TestServer, n: u64, entries: u64) -> u64 {
    let write = |at: u64| Write {
        cell: Cell::entry(Oid(oid(n)), at.to_be_bytes().to_vec()),
        base: Tid::NONE,
        change: Change::Put(record("e")),
        stamped: false,
    };
    let draft = Draft {
        key: CommitKey([n as u8; 16]),
        key_since: Tid::MAX,
        priority: Priority::Live,
        read_cells: Vec::new(),
        read_ranges: Vec::new(),
        writes: (0..entries).map(write).collect(),
        note: Note::default(),
    };
    let (done, receipt) = tokio::sync::oneshot::channel();
    test.server.engine().commit(draft, Box::new(move |result| drop(done.send(result))));
    within(receipt).await.expect("an answer").expect("new entries").tid.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_any_size_reaches_an_idle_session_in_pieces_that_fit() {
    const ENTRIES: u64 = 350_000;
    let test = start().await;
    // As gRPC libraries are by default: messages up to 4 MiB.
    let open = async || {
        let endpoint = Endpoint::from_shared(format!("http://{}", test.server.address())).expect("an address");
        Raw::over(ZeoliteClient::new(endpoint.connect().await.expect("listens"))).await.expect("a session")
    };
    let (mut idle, mut second) = (open().await, open().await);
    let visible = idle.hello(v2::Hello { feed: true, ..hello() }).await.visible;
    second.hello(v2::Hello { feed: true, ..hello() }).await;
    let large = commit_entries(&test, 1, ENTRIES).await;
    // What comes right behind it is not too much either.
    let small = commit_entries(&test, 2, 1).await;
    let (mut told, mut pieces) = (Vec::new(), 0);
    while told.last().is_none_or(|(tid, _)| *tid < small) {
        let Reply::Feed(feed) = idle.next().await.reply.expect("a reply") else { panic!("it was cut") };
        pieces += 1;
        told.extend(items(&feed).into_iter().map(|item| (item.tid, item.cells.len() as u64)));
    }
    assert!(pieces > 5, "{pieces}");
    let heard = |of: u64| told.iter().filter(|(tid, _)| *tid == of).map(|(_, cells)| cells).sum::<u64>();
    assert_eq!((heard(large), heard(small)), (ENTRIES, 1));

    // Who goes away between two pieces knows nothing of that commit yet, and hears all of it again.
    let Reply::Feed(first) = second.next().await.reply.expect("a reply") else { panic!("it was cut") };
    let first: v2::FeedBatch = prost::Message::decode(first).expect("a batch");
    assert!(first.more && first.items.last().is_some_and(|item| item.tid == large));
    drop(second);
    let (store_id, timeline) = (test.server.engine().store_id(), test.server.engine().timeline());
    let back = v2::Hello { feed: true, resume_from: visible, cached_bytes: 1 << 30, store_id, timeline, ..hello() };
    let (replayed, reply) = open().await.greet(back).await;
    let replayed: Vec<_> = replayed.iter().map(|item| (item.tid, item.cells.len() as u64)).collect();
    assert!(reply.replayed);
    assert_eq!(replayed, [(large, ENTRIES), (small, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_the_queue_reaches_a_reader_that_has_kept_up() {
    let test = start_with(|settings| settings.sessions.feed_queue_bytes_max = 16 << 10).await;
    let mut idle = Raw::connect(test.channel().await).await;
    idle.hello(v2::Hello { feed: true, ..hello() }).await;
    let writes = (0..2000u64).map(|n| put(entry(50, format!("{n:05}")), 0, "e")).collect();
    let receipt = test.unary().await.writer.commit(draft(0, writes)).await.expect("new entries").into_inner();
    match idle.next().await.reply.expect("a frame") {
        Reply::Feed(feed) => {
            let items = items(&feed);
            assert_eq!((items.len(), items[0].tid, items[0].cells.len()), (1, receipt.tid, 2000));
        }
        other => panic!("{other:?}"),
    }
}
