//! The beginning of a session: hello rules, replay.

use super::support::{GUARD, Raw, cell, draft, fault, hello, put, start, start_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_frame_must_be_hello_and_hello_is_said_once() {
    let test = start().await;
    let mut raw = Raw::connect(test.channel().await).await;
    let refused = raw.refused(Request::Ping(v2::Ping {})).await;
    assert_eq!(refused.kind, FaultKind::Invalid);
    assert!(refused.message.contains("hello"), "{}", refused.message);
    assert!(raw.next_or_end().await.is_none(), "the session is over");

    let mut raw = test.session().await;
    let refused = raw.refused(Request::Hello(hello())).await;
    assert_eq!(refused.kind, FaultKind::Invalid);
    raw.load(vec![cell(1)]).await;
    test.server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_and_an_unknown_role_are_refused() {
    let test = start().await;
    for (hello, kind) in [
        (v2::Hello { protocol: 1, ..hello() }, FaultKind::Unsupported),
        (v2::Hello { role: "king".into(), ..hello() }, FaultKind::Invalid),
    ] {
        let mut raw = Raw::connect(test.channel().await).await;
        assert_eq!(raw.refused(Request::Hello(hello)).await.kind, kind);
        assert!(raw.next_or_end().await.is_none(), "the session is over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_says_nothing_is_ended() {
    let test = start_with(|settings| settings.sessions.hello_timeout_ms = 1).await;
    let mut raw = Raw::connect(test.channel().await).await;
    let frame = raw.next().await;
    assert_eq!(frame.id, 0);
    assert_eq!(fault(frame.reply.expect("a reply")).kind, FaultKind::Invalid);
    assert!(raw.next_or_end().await.is_none());
}

/// Silent connections take places and file descriptors: nothing said, or only the half of what is said first.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_begin_to_speak_is_closed_and_one_that_does_stays() {
    let test = start_with(|settings| settings.sessions.keepalive_timeout_ms = 300).await;
    let mut session = test.session().await;
    for said in ["", "PRI * HTTP/2.0\r\n\r\n"] {
        let mut stream = TcpStream::connect(test.server.address()).await.expect("connects");
        stream.write_all(said.as_bytes()).await.expect("the server listens");
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(GUARD, stream.read_to_end(&mut answer)).await;
        // An end or a reset: whatever it is, it is over.
        assert!(ended.is_ok(), "{said:?}: still open");
    }
    session.load(vec![cell(1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hello_tells_limits_store_and_a_number_of_its_own() {
    let test = start_with(|settings| settings.limits.load_cells_max = 17).await;
    let first = Raw::connect(test.channel().await).await.hello(hello()).await;
    let second = Raw::connect(test.channel().await).await.hello(hello()).await;
    assert_eq!(first.limits.as_ref().map(|limits| limits.load_cells_max), Some(17));
    assert_eq!(first.store_id, second.store_id);
    assert_ne!(first.session_id, second.session_id);
    assert!(!first.replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_away_gets_everything_it_missed_before_the_answer() {
    let test = start().await;
    let mut writer = test.session().await;
    let seen = writer.commit(draft(0, vec![put(cell(1), 0, "seen")])).await.expect("first").tid;
    let mut missed = Vec::new();
    for n in 0..150 {
        missed.push(writer.commit(draft(0, vec![put(cell(100 + n), 0, "missed")])).await.expect("disjoint").tid);
    }
    let mut raw = Raw::connect(test.channel().await).await;
    let (store_id, timeline) = (test.server.engine().store_id(), test.server.engine().timeline());
    let back = v2::Hello { feed: true, resume_from: seen, cached_bytes: 1 << 30, store_id, timeline, ..hello() };
    let (replayed, reply) = raw.greet(back).await;
    assert!(reply.replayed);
    assert_eq!(reply.visible, *missed.last().expect("not empty"));
    assert_eq!(replayed.iter().map(|item| item.tid).collect::<Vec<_>>(), missed);
    assert!(replayed.iter().enumerate().all(|(n, item)| item.cells == [cell(100 + n as u64)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_another_store_or_of_an_unknown_tid_is_to_be_dropped() {
    let test = start().await;
    let mut writer = test.session().await;
    let tid = writer.commit(draft(0, vec![put(cell(1), 0, "x")])).await.expect("first").tid;
    let (store_id, timeline) = (test.server.engine().store_id(), test.server.engine().timeline());
    let cases = [
        ("another store", v2::Hello { resume_from: tid, store_id: store_id ^ 1, timeline, ..hello() }),
        ("another life of the store", v2::Hello { resume_from: tid, store_id, timeline: timeline ^ 1, ..hello() }),
        ("a tid that no transaction has", v2::Hello { resume_from: tid - 1, store_id, timeline, ..hello() }),
        ("a tid that is ahead", v2::Hello { resume_from: tid + (1 << 40), store_id, timeline, ..hello() }),
        ("nothing cached", v2::Hello { resume_from: 0, store_id, timeline, ..hello() }),
    ];
    for (case, back) in cases {
        let mut raw = Raw::connect(test.channel().await).await;
        let (replayed, reply) = raw.greet(v2::Hello { feed: true, cached_bytes: 1 << 30, ..back }).await;
        assert!(!reply.replayed && replayed.is_empty(), "{case}");
        assert_eq!(reply.visible, tid, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_costs_more_than_the_cache_is_not_made() {
    let test = start_with(|settings| settings.sessions.replay_cost_factor = 1).await;
    let mut writer = test.session().await;
    let seen = writer.commit(draft(0, vec![put(cell(1), 0, "seen")])).await.expect("first").tid;
    // More than the log that is replayed whatever the cache holds.
    for n in 0..3 {
        writer.commit(draft(0, vec![put(cell(100 + n), 0, vec![7; 1 << 20])])).await.expect("disjoint");
    }
    let (store_id, timeline) = (test.server.engine().store_id(), test.server.engine().timeline());
    for (cached_bytes, replayed) in [(1 << 20, false), (1 << 30, true)] {
        let mut raw = Raw::connect(test.channel().await).await;
        let back = v2::Hello { feed: true, resume_from: seen, cached_bytes, store_id, timeline, ..hello() };
        assert_eq!(raw.hello(back).await.replayed, replayed, "{cached_bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bounded() {
    let test = start_with(|settings| settings.sessions.sessions_max = 1).await;
    let first = test.session().await;
    let refused = Raw::try_connect(test.channel().await).await.err().expect("one too many");
    assert_eq!(super::support::status_fault(&refused).kind, FaultKind::Busy);
    drop(first);
    // The place is free as soon as the server has noticed that the client is gone.
    while Raw::try_connect(test.channel().await).await.is_err() {
        tokio::task::yield_now().await;
    }
}
