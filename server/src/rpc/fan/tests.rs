//! Owns the tests of the fan: what is one frame, what goes beyond the limits, and that no answer overtakes its feed.

use super::super::budget::{Budget, Charge};
use super::super::outbox::{Outbox, Popped, TOGETHER_BYTES};
use super::*;
use prost::Message;
use zeolite_proto::wire::v2;
use zeolite_proto::{Cell, Oid};

/// A fan with one session at its beginning, which nobody wakes.
fn fan(bytes_max: usize, batches_max: usize) -> (Arc<Fan>, Arc<Outbox>) {
    let settings =
        SessionSettings { feed_queue_bytes_max: bytes_max, feed_queue_batches_max: batches_max, ..Default::default() };
    let (fan, waking) = Fan::start(&settings);
    drop(waking);
    let outbox = Outbox::new(&settings, tokio::runtime::Handle::current());
    fan.state.lock().members.push(Member { listener: outbox.clone(), interest: None });
    (fan, outbox)
}

const BEGIN: Cursor = Cursor { batch: 0, piece: 0 };

fn batch(tid: u64, keys: usize, key_bytes: usize) -> FeedBatch {
    let cells = (0..keys).map(|_| Cell::entry(Oid(tid), vec![0; key_bytes])).collect();
    FeedBatch { items: vec![crate::engine::FeedItem { tid: Tid(tid), cells }], timeline: 7 }
}

fn frame(fan: &Fan, from: Cursor) -> (v2::FeedBatch, Taking) {
    let frame = fan.take(from, None).unwrap_or_else(|has| panic!("{has:?}"));
    (v2::FeedBatch::decode(frame.bytes()).expect("a batch"), frame)
}

fn tids(batch: &v2::FeedBatch) -> Vec<u64> {
    batch.items.iter().map(|item| item.tid).collect()
}

#[tokio::test]
async fn what_waits_is_one_frame() {
    let (fan, _session) = fan(1 << 20, 100);
    assert_eq!(fan.has(BEGIN), Has::Nothing);
    for tid in [1, 2, 3] {
        assert!(fan.push(&batch(tid, 1, 8)));
    }
    let (told, first) = frame(&fan, BEGIN);
    assert_eq!((tids(&told), told.timeline, told.more), (vec![1, 2, 3], 7, false));
    assert_eq!((first.whole(), first.all), (Tid(3), true));
    assert_eq!(fan.has(first.next), Has::Nothing);
    fan.push(&FeedBatch { timeline: 8, ..batch(4, 1, 8) });
    fan.push(&FeedBatch { timeline: 9, ..batch(5, 1, 8) });
    let (told, second) = frame(&fan, first.next);
    assert_eq!((tids(&told), told.timeline, second.all), (vec![4], 8, false), "a frame is of one life of the store");
    let (told, _) = frame(&fan, second.next);
    assert_eq!((tids(&told), told.timeline), (vec![5], 9));
}

#[tokio::test]
async fn a_commit_in_pieces_ends_its_frames() {
    let (fan, _session) = fan(1 << 20, 100);
    fan.push(&batch(1, 1, 8));
    fan.push(&batch(2, 50, 50 << 10));
    fan.push(&batch(3, 1, 8));
    let (mut cursor, mut frames) = (BEGIN, Vec::new());
    while fan.has(cursor) == Has::More {
        let (told, frame) = frame(&fan, cursor);
        assert!(fan.untaken(frame.next, None).bytes < fan.untaken(cursor, None).bytes);
        frames.push((tids(&told), told.more, frame.whole().0));
        cursor = frame.next;
    }
    assert_eq!(frames, [(vec![1, 2], true, 1), (vec![2], true, 0), (vec![2], false, 2), (vec![3], false, 3)]);
    assert_eq!(fan.untaken(cursor, None).bytes, 0);
}

#[tokio::test]
async fn the_oldest_goes_beyond_the_limits_but_not_for_the_largest() {
    let (fan, _session) = fan(10_000, 5);
    fan.push(&batch(1, 1, 8));
    fan.push(&batch(2, 100, 1000));
    fan.push(&batch(3, 1, 8));
    assert_eq!(fan.has(BEGIN), Has::More, "nobody is too slow for what has just been made");
    fan.push(&batch(4, 20, 1000));
    assert_eq!(fan.has(BEGIN), Has::Gone("feed_queue_bytes_max"), "twice is too much");
    let (told, newest) = frame(&fan, Cursor { batch: 3, piece: 0 });
    assert_eq!(tids(&told), [4], "it is kept until it is taken");
    for tid in 5..=9 {
        fan.push(&batch(tid, 1, 8));
    }
    assert_eq!(fan.has(Cursor { batch: 3, piece: 0 }), Has::Gone("feed_queue_batches_max"));
    assert_eq!(fan.untaken(newest.next, None).batches, 5);
}

#[tokio::test]
async fn what_all_have_taken_goes_and_so_does_everything_when_nobody_listens() {
    let (fan, session) = fan(1 << 20, 100);
    session.feed_begins(fan.clone(), BEGIN, None, Tid(0));
    for tid in [1, 2] {
        fan.push(&batch(tid, 1, 8));
    }
    let waker = std::task::Waker::noop();
    let context = std::task::Context::from_waker(waker);
    assert!(matches!(session.pop(&context), Popped::Frame(_)));
    fan.push(&batch(3, 1, 8));
    assert_eq!(fan.wake().await, 0, "it is not idle: it has not looked again");
    assert_eq!(fan.state.lock().batches.len(), 1);
    assert!(matches!(session.pop(&context), Popped::Frame(_)));
    assert!(matches!(session.pop(&context), Popped::Empty { .. }));
    fan.push(&batch(4, 1, 8));
    assert_eq!(fan.wake().await, 1);
    session.close();
    assert!(fan.state.lock().batches.is_empty(), "nobody is there who could take it");
    assert!(!fan.push(&batch(5, 1, 8)), "the engine need not push any more");
    assert!(fan.state.lock().batches.is_empty());
}

fn feed(bytes: bytes::Bytes) -> String {
    let batch = v2::FeedBatch::decode(bytes).expect("a batch");
    match batch.up_to {
        0 => format!("feed {:?}", tids(&batch)),
        up_to => format!("feed {:?} up to {up_to}", tids(&batch)),
    }
}

/// What a session sends next, in short: the tids of a feed frame, the text of a mode; and the feed before it, in the same message.
fn sent(session: &Arc<Outbox>) -> String {
    use v2::server_frame::Reply;
    match session.pop(&std::task::Context::from_waker(std::task::Waker::noop())) {
        Popped::Frame(frame) => {
            let before = match frame.feed_before.is_empty() {
                true => String::new(),
                false => format!("{}, ", feed(frame.feed_before)),
            };
            before
                + &match frame.reply.expect("a reply") {
                    Reply::Feed(bytes) => feed(bytes),
                    Reply::Mode(mode) => mode.banner,
                    Reply::Cut(cut) => format!("cut {}", cut.tid),
                    other => format!("{other:?}"),
                }
        }
        Popped::Empty { .. } => "empty".into(),
        Popped::End => "end".into(),
    }
}

fn answer(session: &Outbox, text: &str) {
    session.notice(v2::server_frame::Reply::Mode(v2::Mode { banner: text.into(), ..Default::default() }));
}

#[tokio::test]
async fn an_answer_is_sent_behind_all_feed_that_there_was_when_it_was_made() {
    let (fan, session) = fan(10_000, 100);
    session.feed_begins(fan.clone(), BEGIN, None, Tid(0));
    fan.push(&batch(1, 1, 8));
    answer(&session, "shows 1");
    answer(&session, "shows 1, too");
    assert_eq!(sent(&session), "feed [1]");
    fan.push(&batch(2, 1, 8));
    answer(&session, "shows 2");
    assert_eq!(sent(&session), "shows 1", "it need not wait for newer feed");
    assert_eq!(sent(&session), "shows 1, too");
    assert_eq!(sent(&session), "feed [2]");
    assert_eq!(sent(&session), "shows 2");
    assert_eq!(sent(&session), "empty");

    answer(&session, "shows 2 again");
    fan.push(&batch(3, 1, 8));
    assert_eq!(sent(&session), "feed [3]");
    for tid in [4, 5] {
        fan.push(&batch(tid, 20, 1000));
    }
    fan.push(&batch(6, 1, 8));
    answer(&session, "shows 6");
    assert_eq!(sent(&session), "shows 2 again");
    assert_eq!(sent(&session), "cut 3", "what shows 6 is not sent: the feed of 4 is gone");
    assert_eq!(sent(&session), "end");
}

/// A session that is told of these cells.
fn interested(fan: &Arc<Fan>, cells: &[Cell]) -> (Arc<Interest>, Place) {
    let feed = Arc::new(Feed::new(Tid(0)));
    let interest = Arc::new(fan.interests().begin(feed.clone(), None));
    interest.note(cells.iter());
    fan.join(&feed, outbox(), Some(interest.clone()));
    let place = interest.listens();
    (interest, place)
}

fn outbox() -> Arc<Outbox> {
    Outbox::new(&SessionSettings::default(), tokio::runtime::Handle::current())
}

fn take(fan: &Fan, from: Cursor, place: Place) -> (Vec<u64>, u64, Taking) {
    let frame = fan.take(from, Some(place)).unwrap_or_else(|has| panic!("{has:?}"));
    let told = v2::FeedBatch::decode(frame.bytes()).expect("a batch");
    assert!(!told.more && told.timeline == 7);
    (tids(&told), told.up_to, frame)
}

#[tokio::test]
async fn who_holds_nothing_of_it_is_told_how_far_the_order_has_come() {
    let (fan, _plain) = fan(1 << 20, 1000);
    let cell = |tid| Cell::entry(Oid(tid), vec![0; 8]);
    let ((_one, of_two), (all, of_all)) = (interested(&fan, &[cell(2)]), interested(&fan, &[]));
    for tid in [1, 2, 3] {
        fan.push(&batch(tid, 1, 8));
    }
    let (told, up_to, frame) = take(&fan, BEGIN, of_two);
    assert_eq!((told, up_to, frame.whole(), frame.all), (vec![2], 3, Tid(3), true));
    let (told, up_to, nothing) = take(&fan, BEGIN, of_all);
    assert_eq!((told, up_to, nothing.whole(), nothing.all), (vec![], 3, Tid(3), true));
    assert!(nothing.bytes().len() < 16, "{} bytes for three commits", nothing.bytes().len());
    assert_eq!((fan.untaken(nothing.next, Some(of_all)).bytes, fan.has(nothing.next)), (0, Has::Nothing));
    assert_eq!(fan.cost(), Cost { cells_told: 4, cells_left_out: 5, told_everything: 1 });
    all.everything();
    fan.push(&batch(4, 1, 8));
    fan.push(&batch(5, 200, 1000));
    let (told, up_to, frame) = take(&fan, nothing.next, of_all);
    assert_eq!((told, up_to, frame.whole()), (vec![4, 5], 0, Tid(5)), "from then on everything");
    assert_eq!(fan.cost().told_everything, 2);
    // The batch before is kept for others, and is still not told.
    let (told, up_to, _) = take(&fan, BEGIN, of_all);
    assert_eq!((told, up_to), (vec![4, 5], 0));
    let (told, up_to, _) = take(&fan, BEGIN, of_two);
    assert_eq!((told, up_to), (vec![2], 5));
}

#[tokio::test]
async fn an_import_is_kept_for_nobody_and_told_to_nobody() {
    let (fan, plain) = fan(1 << 20, 1000);
    fan.leave(&*plain);
    let held: Vec<Cell> = (0..40).map(|n| Cell::entry(Oid(3), vec![n; 8])).collect();
    let ((_one, of_three), (_none, of_none)) = (interested(&fan, &held), interested(&fan, &[]));
    fan.push(&batch(1, 10_000, 100));
    fan.push(&batch(2, 10_000, 100));
    assert!(fan.state.lock().bytes < 200, "{}", fan.state.lock().bytes);
    let cells = (0..100).map(|n| Cell::entry(Oid(3), vec![n; 8])).collect();
    fan.push(&FeedBatch { items: vec![crate::engine::FeedItem { tid: Tid(3), cells }], timeline: 7 });
    let (told, up_to, frame) = take(&fan, BEGIN, of_three);
    let told_cells = v2::FeedBatch::decode(frame.bytes()).expect("a batch").items[0].cells.len();
    assert_eq!((told, up_to, told_cells, frame.whole()), (vec![3], 3, 40, Tid(3)));
    let (told, up_to, _) = take(&fan, BEGIN, of_none);
    assert_eq!((told, up_to), (vec![], 3));
    assert_eq!(fan.cost(), Cost { cells_told: 40, cells_left_out: 40_000 + 160, told_everything: 0 });
}

/// The session of a client that may hold the cells of tid 2 and of tid 4, and requests that it waits for.
fn one_that_waits_for_answers(fan: &Arc<Fan>, with_answers: bool) -> (Arc<Outbox>, Charge) {
    let feed = Arc::new(Feed::new(Tid(0)));
    let interest = Arc::new(fan.interests().begin(feed.clone(), None));
    interest.note([2, 4].map(|tid| Cell::entry(Oid(tid), vec![0; 8])).iter());
    let session = outbox();
    if with_answers {
        session.feed_goes_with_answers();
    }
    fan.join(&feed, session.clone(), Some(interest));
    (session, Budget::new(&SessionSettings::default()).account().take(0).expect("there is room"))
}

#[tokio::test]
async fn who_has_said_what_it_may_hold_gets_feed_and_answer_as_one() {
    let (fan, plain) = fan(1 << 20, 1000);
    plain.close();
    let (session, charge) = one_that_waits_for_answers(&fan, true);
    fan.push(&batch(1, 1, 8));
    fan.push(&batch(2, 1, 8));
    assert_eq!(sent(&session), "empty", "it waits for an answer");
    answer(&session, "shows 2");
    answer(&session, "shows 2, too");
    fan.push(&batch(3, 1, 8));
    answer(&session, "shows 3");
    assert_eq!(sent(&session), "feed [2] up to 3, shows 2");
    assert_eq!(sent(&session), "shows 2, too");
    assert_eq!(sent(&session), "shows 3");

    fan.push(&batch(4, 1, 8));
    assert_eq!(sent(&session), "empty");
    assert_eq!(fan.wake().await, 1, "no answer came");
    assert_eq!((sent(&session), sent(&session)), ("feed [4]".into(), "empty".into()));

    let long = "x".repeat(TOGETHER_BYTES);
    fan.push(&batch(2, 1, 8));
    assert!(session.begin(1, charge));
    session.reply(1, v2::server_frame::Reply::Mode(v2::Mode { banner: long.clone(), ..Default::default() }));
    assert_eq!((sent(&session), sent(&session)), ("feed [2]".into(), long), "too large for one message");
}

#[tokio::test]
async fn how_far_the_order_has_come_waits_for_an_answer_but_not_for_ever() {
    let (fan, plain) = fan(1 << 20, 1000);
    plain.close();
    let (session, charge) = one_that_waits_for_answers(&fan, true);
    assert!(session.begin(1, charge));
    assert_eq!(sent(&session), "empty");
    fan.push(&batch(1, 1, 8));
    for _ in 0..PUT_OFF_MAX {
        assert_eq!(fan.wake().await, 1, "it is asked again");
        assert_eq!(sent(&session), "empty", "the answer will take it along");
    }
    assert_eq!(fan.wake().await, 1);
    assert_eq!((sent(&session), sent(&session)), ("feed [] up to 1".into(), "empty".into()), "long enough");
    fan.push(&batch(3, 1, 8));
    assert_eq!((fan.wake().await, sent(&session)), (1, "empty".into()), "and begins anew");
    fan.push(&batch(4, 1, 8));
    assert_eq!((fan.wake().await, sent(&session)), (1, "feed [4]".into()), "what it may hold does not wait");
}

#[tokio::test]
async fn who_does_not_look_for_feed_in_answers_gets_none_there() {
    let (fan, plain) = fan(1 << 20, 1000);
    plain.close();
    let (session, _) = one_that_waits_for_answers(&fan, false);
    fan.push(&batch(2, 1, 8));
    answer(&session, "shows 2");
    assert_eq!((sent(&session), sent(&session)), ("feed [2]".into(), "shows 2".into()));
}

#[tokio::test]
async fn an_operators_cut_says_up_to_where_it_was_told() {
    let (fan, plain) = fan(1 << 20, 1000);
    plain.close();
    let (session, _) = one_that_waits_for_answers(&fan, true);
    fan.push(&batch(1, 1, 8));
    session.cut_by_operator();
    fan.push(&batch(2, 1, 8));
    assert_eq!((sent(&session), sent(&session)), ("feed [2], cut 2".into(), "end".into()));
}
