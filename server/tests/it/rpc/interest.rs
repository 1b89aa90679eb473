//! Interest: a session hears of what it has loaded or written, whenever that is written after it looked, and of nothing else.

use super::support::{Raw, TestServer, draft, fault, hello, put, start, within};
use zeolite_proto::interest::Held;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::{Cell, FaultKind};

fn cell(oid: u64) -> v2::Cell {
    v2::Cell { oid, ..Default::default() }
}

fn interested() -> v2::Hello {
    v2::Hello { feed: true, interest: true, ..hello() }
}

/// The feed up to a commit: what was told of each, and how far it went without cells.
async fn feed_to(raw: &mut Raw, tid: u64) -> Vec<(u64, Vec<u64>)> {
    let (mut told, mut at) = (Vec::new(), 0);
    while at < tid {
        let frame = raw.next().await;
        let alone = if let Some(Reply::Feed(feed)) = frame.reply { feed } else { bytes::Bytes::new() };
        for feed in [frame.feed_before, alone] {
            let batch: v2::FeedBatch = prost::Message::decode(feed).expect("a batch");
            for item in batch.items {
                at = at.max(item.tid);
                told.push((item.tid, item.cells.iter().map(|cell| cell.oid).collect()));
            }
            at = at.max(batch.up_to);
        }
    }
    told
}

async fn write(writer: &mut Raw, oids: impl IntoIterator<Item = u64>) -> u64 {
    let Reply::Done(newest) = writer.ask(Request::Ping(v2::Ping {})).await else { panic!("not done") };
    let writes = oids.into_iter().map(|oid| put(cell(oid), 0, "x")).collect();
    writer.commit(draft(newest.tid, writes)).await.expect("committed").tid
}

async fn writer(test: &TestServer) -> Raw {
    let mut raw = Raw::connect(test.channel().await).await;
    raw.hello(hello()).await;
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_hears_of_what_it_has_loaded_or_written_alone() {
    let test = start().await;
    let (mut reader, mut writer) = (Raw::connect(test.channel().await).await, writer(&test).await);
    assert!(reader.hello(interested()).await.interest);
    reader.load(vec![cell(100)]).await;
    let own = reader.commit(draft(0, vec![put(cell(101), 0, "x")])).await.expect("committed").tid;
    let mut last = 0;
    for oid in [200, 100, 201, 101] {
        last = write(&mut writer, [oid]).await;
    }
    let told = feed_to(&mut reader, last).await;
    assert_eq!(told.iter().map(|(_, oids)| oids.clone()).collect::<Vec<_>>(), [vec![100], vec![101]], "{own} {last}");

    let last = write(&mut writer, 1000..1500).await;
    assert_eq!(feed_to(&mut reader, last).await, [], "an import");
    let last = write(&mut writer, (2000..2500).chain([100])).await;
    assert_eq!(feed_to(&mut reader, last).await, [(last, vec![100])], "of a large commit its cells");

    let Reply::Done(done) = reader.ask(Request::Everything(v2::Everything {})).await else { panic!("not done") };
    assert!(done.tid >= last);
    let last = write(&mut writer, [3000, 3001]).await;
    assert_eq!(feed_to(&mut reader, last).await, [(last, vec![3000, 3001])], "whoever asked hears everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_after_an_old_snapshot_is_in_the_answer() {
    let test = start().await;
    let mut writer = writer(&test).await;
    let first = write(&mut writer, [101]).await;
    let second = write(&mut writer, [101, 102]).await;
    let mut reader = Raw::connect(test.channel().await).await;
    reader.hello(interested()).await;
    let cells = vec![cell(101), cell(102), cell(103)];
    let load = v2::LoadRequest { snapshot: first, cells, ..Default::default() };
    let Reply::Load(loaded) = reader.ask(Request::Load(load)).await else { panic!("not loaded") };
    let told: Vec<_> = loaded.revisions.iter().map(|revision| (revision.tid, revision.end)).collect();
    assert_eq!(told, [(first, second), (0, first + 1), (0, 0)], "102 was not there, and is now; 103 is not there yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_says_what_it_holds() {
    let test = start().await;
    let mut writer = writer(&test).await;
    let mut reader = Raw::connect(test.channel().await).await;
    let begun = reader.hello(interested()).await;
    drop(reader);
    let missed = write(&mut writer, [100, 200]).await;
    let mut held = Held::default();
    held.note(&Cell::object(zeolite_proto::Oid(100)));
    let back = v2::Hello {
        resume_from: begun.visible,
        cached_bytes: 1 << 20,
        store_id: begun.store_id,
        timeline: begun.timeline,
        held: held.told().map(v2::Held::from),
        ..interested()
    };
    let mut reader = Raw::connect(test.channel().await).await;
    let (replayed, reply) = reader.greet(back).await;
    assert!(begun.visible == 0 || (reply.replayed && replayed.last().is_some_and(|item| item.tid == missed)));
    write(&mut writer, [200]).await;
    let last = write(&mut writer, [100, 300]).await;
    assert_eq!(feed_to(&mut reader, last).await, [(last, vec![100, 300])]);

    let mut wrong = Raw::connect(test.channel().await).await;
    let held = Some(v2::Held { rows_log2: 15, rows: vec![0; 7].into(), cells: 0 });
    let id = wrong.send(Request::Hello(v2::Hello { held, ..interested() })).await;
    let refused = fault(wrong.answer(id).await);
    assert_eq!(refused.kind, FaultKind::Invalid, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_ask_for_it_is_told_everything() {
    let test = start().await;
    let mut writer = writer(&test).await;
    let mut old = Raw::connect(test.channel().await).await;
    assert!(!old.hello(v2::Hello { feed: true, ..hello() }).await.interest);
    let mut deaf = Raw::connect(test.channel().await).await;
    assert!(!deaf.hello(v2::Hello { interest: true, ..hello() }).await.interest, "without a feed there is none");
    let last = write(&mut writer, 500..600).await;
    let told = within(feed_to(&mut old, last)).await;
    assert_eq!(told, [(last, (500..600).collect())]);
}
