//! What is counted for all, one connection has a share of: beyond it is told what to do, and others go on.

use super::super::support::{Raw, TestServer, cell, draft, hello, put, start_with, status_fault, within};
use tonic::transport::Channel;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::reader_client::ReaderClient;
use zeolite_proto::wire::v2::replicator_client::ReplicatorClient;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::wire::v2::writer_client::WriterClient;
use zeolite_proto::{Fault, FaultKind};

fn is_told(fault: &Fault, what: &str) {
    assert_eq!(fault.kind, FaultKind::Busy, "{fault}");
    assert!(fault.retry_after_ms > 0 && fault.message.contains("connection_share_percent"), "{fault}");
    assert!(fault.message.contains(what), "{fault}");
}

async fn pin(channel: &Channel) -> Result<u64, Fault> {
    let pinned = ReaderClient::new(channel.clone()).pin(v2::PinRequest { snapshot: 0, lease_ms: 60_000 }).await;
    pinned.map(|reply| reply.into_inner().pin).map_err(|status| status_fault(&status))
}

async fn prepare(channel: &Channel, n: u64) -> Result<u64, Fault> {
    let draft = Some(draft(0, vec![put(cell(n), 0, "x")]));
    let request = v2::PrepareRequest { draft, time_limit_ms: 60_000, ..Default::default() };
    let prepared = WriterClient::new(channel.clone()).prepare(request).await;
    prepared.map(|reply| reply.into_inner().prepared).map_err(|status| status_fault(&status))
}

async fn session(channel: &Channel) -> Result<Raw, Fault> {
    let mut raw = Raw::try_connect(channel.clone()).await.map_err(|status| status_fault(&status))?;
    raw.hello(hello()).await;
    Ok(raw)
}

async fn two(test: &TestServer) -> (Channel, Channel) {
    (test.channel().await, test.channel().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_pins_a_quarter_and_no_more() {
    let test = start_with(|settings| settings.engine.pins_max = 8).await;
    let (bad, other) = two(&test).await;
    let first = pin(&bad).await.expect("a pin");
    pin(&bad).await.expect("a quarter of 8");
    is_told(&pin(&bad).await.expect_err("a third"), "2 pinned snapshots");
    pin(&other).await.expect("another connection has its own share");
    ReaderClient::new(bad.clone()).unpin(v2::UnpinRequest { pin: first }).await.expect("unpins");
    pin(&bad).await.expect("there is room again");
    // Pins outlive their connection.
    drop(bad);
    assert_eq!(test.server.engine().status().pins, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_prepares_its_share_of_drafts_and_of_their_bytes() {
    let test = start_with(|settings| {
        settings.sessions.connection_share_percent = 1;
        settings.engine.prepared_bytes_max = 10_000_000;
    })
    .await;
    let (bad, other) = two(&test).await;
    let mut prepared = Vec::new();
    for n in 0..10 {
        prepared.push(prepare(&bad, n).await.expect("a hundredth of 1024"));
    }
    is_told(&prepare(&bad, 10).await.expect_err("one more"), "10 prepared drafts");
    prepare(&other, 11).await.expect("another connection has its own share");
    let abort = v2::AbortRequest { prepared: prepared[0], ..Default::default() };
    WriterClient::new(bad.clone()).abort(abort).await.expect("aborts");
    prepare(&bad, 12).await.expect("there is room again");

    let large = |n| Some(draft(0, vec![put(cell(n), 0, vec![0; 150_000])]));
    let mut writer = WriterClient::new(other.clone());
    let again = v2::PrepareRequest { draft: large(13), ..Default::default() };
    let refused = status_fault(&writer.prepare(again).await.expect_err("a hundredth of the bytes, and one is there"));
    is_told(&refused, "bytes of prepared drafts");
    let first = v2::PrepareRequest { draft: large(14), ..Default::default() };
    WriterClient::new(test.channel().await).prepare(first).await.expect("the first of a connection has any size");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_opens_its_share_of_sessions() {
    let test = start_with(|settings| settings.sessions.sessions_max = 8).await;
    let (bad, other) = two(&test).await;
    let first = session(&bad).await.expect("a session");
    let second = session(&bad).await.expect("a quarter of 8");
    is_told(&session(&bad).await.err().expect("a third"), "2 open sessions");
    let mut third = session(&other).await.expect("another connection has its own share");
    third.commit(draft(0, vec![put(cell(1), 0, "x")])).await.expect("and goes on");
    drop(first);
    // The place is free as soon as the server has noticed that the session is over.
    while session(&bad).await.is_err() {
        tokio::task::yield_now().await;
    }
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_streams_its_share_of_the_log() {
    let test = start_with(|settings| {
        settings.limits.reply_bytes_aim = 50_000;
        settings.sessions.log_streams_max = 8;
    })
    .await;
    let mut writer = WriterClient::new(test.channel().await);
    for n in 0..100 {
        writer.commit(draft(0, vec![put(cell(n), 0, vec![7; 90_000])])).await.expect("new");
    }
    let small_windows = test.endpoint().initial_stream_window_size(64 << 10).initial_connection_window_size(64 << 10);
    let bad = small_windows.connect().await.expect("connects");
    let log = async |channel: &Channel| {
        let request = v2::LogRequest { with_records: true, ..Default::default() };
        let stream = ReplicatorClient::new(channel.clone()).log(request).await;
        stream.map(tonic::Response::into_inner).map_err(|status| status_fault(&status))
    };
    // It asks, and does not read.
    let (first, second) = (log(&bad).await.expect("a stream"), log(&bad).await.expect("a quarter of 8"));
    is_told(&log(&bad).await.expect_err("a third"), "2 streams of the log");
    let other = test.channel().await;
    let mut whole = log(&other).await.expect("another connection has its own share");
    let mut committed = 0;
    while let Some(page) = within(whole.message()).await.expect("no fault") {
        committed += page.transactions.iter().filter(|txn| !txn.own && !txn.more).count();
    }
    assert_eq!(committed, 100);
    drop((first, second));
    while log(&bad).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aborts_of_nothing_are_answered_and_do_not_keep_drafts_waiting() {
    let test = start_with(|settings| settings.engine.live_queue_max = 16).await;
    let (mut bad, mut other) = (test.session().await, test.session().await);
    let abort = |n| Request::Abort(v2::AbortRequest { prepared: 1000 + n, ..Default::default() });
    for n in 0..500 {
        bad.send(abort(n)).await;
        if n % 50 == 0 {
            other.commit(draft(0, vec![put(cell(n), 0, "x")])).await.expect("goes on");
        }
    }
    let mut busy = 0;
    let mut answered = 0;
    while answered < 500 {
        let frame = bad.next().await;
        answered += usize::from(frame.id != 0);
        match frame.reply {
            Some(Reply::Done(_) | Reply::Feed(_)) => {}
            Some(Reply::Fault(fault)) => {
                let fault = Fault::from(fault);
                assert!(fault.kind == FaultKind::Busy && fault.retry_after_ms > 0, "{fault}");
                busy += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(busy < 500, "some were taken");
}
