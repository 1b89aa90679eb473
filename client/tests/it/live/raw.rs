//! Raw drafts, and what a binding of another language needs beside them: what has changed between two snapshots, further
//! addresses, records by the page.

use crate::support::{World, number, object, oid, value, within};
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use zeolite_client::revision::Listing;
use zeolite_client::{Cell, Db, Error, FaultKind, Note, Oid, Options, Record, Tid};
use zeolite_proto::resolvers::counter;
use zeolite_server::settings::Settings;

const LIMIT: Duration = Duration::from_secs(20);

fn encoded(n: u64) -> Bytes {
    number(n).encode().expect("encodes")
}

async fn put(db: &Db, n: u64, with: u64) -> Tid {
    db.transaction().run_for_receipt(async |tx| tx.put(object(n), &number(with))).await.expect("commits").1.tid
}

fn followed() -> Options {
    Options::new().changed_oids_max(1000)
}

#[tokio::test]
async fn a_held_draft_is_resolved_in_one_further_round_trip() {
    let world = World::start().await;
    let db = world.db().await;
    let first = put(&db, 1, 10).await;
    let at = db.place();
    let theirs = put(&db, 1, 15).await;

    let mut draft = db.draft(at);
    draft.put(object(1), first, encoded(11)).expect("stages");
    draft.put(object(2), Tid::NONE, encoded(20)).expect("stages");
    draft.set_note(Note::new("amy", "raw"));
    assert_eq!((draft.len(), draft.written(&object(2)).flatten()), (2, Some(&encoded(20))));
    let mut held = within(draft.hold(LIMIT)).await.expect("is held");
    let stale: Vec<_> = held.stale().iter().map(|stale| (stale.cell.clone(), stale.newest)).collect();
    assert_eq!(stale, [(object(1), theirs)]);

    let mut again = db.draft(db.place());
    again.put(object(1), theirs, encoded(16)).expect("stages");
    again.set_note(Note::new("amy", "raw"));
    within(held.replace(&again)).await.expect("is replaced");
    assert!(held.stale().is_empty());
    let receipt = within(held.finish()).await.expect("finishes");
    let view = db.now();
    assert_eq!(view.snapshot(), receipt.tid);
    let before = db.cache_stats().misses;
    let one = view.get(&object(1)).await.expect("reads").as_ref().map(value);
    let two = view.get(&object(2)).await.expect("reads").as_ref().map(value);
    assert_eq!((one, two), (Some(16), Some(20)));
    assert_eq!(db.cache_stats().misses, before, "what was committed is in the cache, as it was replaced");
}

/// Whoever does not wait for the answer of an amendment does not know which of the two is committed, and keeps neither. On the
/// server the second phase may overtake it: both ends are right, and the client reads the one that came.
#[tokio::test]
async fn what_was_replaced_and_not_heard_of_is_read_from_the_server() {
    let world = World::start().await;
    let (db, other) = (world.db().await, world.db().await);
    let mut replaced = false;
    for n in 1..=1000 {
        let first = put(&db, n, 10).await;
        let staged = |with| {
            let mut draft = db.draft(db.place());
            draft.put(object(n), first, encoded(with)).expect("stages");
            draft
        };
        let mut held = within(staged(11).hold(LIMIT)).await.expect("is held");
        let again = staged(12);
        {
            let mut replaced = pin!(held.replace(&again));
            let once = poll_fn(|context| Poll::Ready(replaced.as_mut().poll(context).is_ready())).await;
            assert!(!once, "it has to ask the server");
        }
        let committed = within(held.finish()).await.expect("finishes").tid;
        assert!(other.wait_for(committed, LIMIT).await);
        let of_client = db.now().get(&object(n)).await.expect("reads").as_ref().map(value);
        let of_server = other.now().get(&object(n)).await.expect("reads").as_ref().map(value);
        assert_eq!(of_client, of_server, "object {n}");
        assert!(matches!(of_server, Some(11 | 12)), "object {n}: {of_server:?}");
        replaced = of_server == Some(12);
        if replaced {
            break;
        }
    }
    assert!(replaced, "no amendment came before its second phase");
}

#[tokio::test]
async fn what_was_merged_is_in_the_cache_when_a_held_draft_is_committed() {
    let world = World::start().await;
    let (db, other) = (world.db().await, world.db().await);
    let counter = |n: i64| counter::record(n).encode().expect("encodes");
    let committed = async |db: &Db, base: Tid, n: i64| {
        let mut draft = db.draft(db.place());
        draft.put(object(1), base, counter(n)).expect("stages");
        within(within(draft.hold(LIMIT)).await.expect("is held").finish()).await.expect("finishes")
    };
    let first = committed(&db, Tid::NONE, 10).await.tid;
    assert!(other.wait_for(first, LIMIT).await);
    let theirs = committed(&other, first, 13).await;
    let merged = committed(&db, first, 11).await;
    assert!(merged.tid > theirs.tid && merged.merged.len() == 1);
    let (view, before) = (db.now(), db.cache_stats().misses);
    let read = view.get(&object(1)).await.expect("reads").expect("is there");
    assert_eq!((counter::value(&read).expect("a counter"), db.cache_stats().misses), (14, before));
    // And is told when it is over, like everything that is in the cache.
    let later = committed(&other, theirs.tid, 20).await.tid;
    assert!(db.wait_for(later, LIMIT).await);
    let read = db.now().get(&object(1)).await.expect("reads").expect("is there");
    assert_eq!(counter::value(&read).expect("a counter"), 21);
}

#[tokio::test]
async fn a_check_is_held_until_the_second_phase() {
    let world = World::start().await;
    let (db, other) = (world.db().await, world.db().await);
    let first = put(&db, 1, 10).await;
    let mut draft = db.draft(db.place());
    draft.check(object(1), first);
    draft.put(object(2), Tid::NONE, encoded(1)).expect("stages");
    let held = within(draft.hold(LIMIT)).await.expect("is held");
    assert!(held.stale().is_empty());
    // Whoever writes what was checked waits for the second phase.
    let writing = tokio::spawn(async move { put(&other, 1, 11).await });
    let finished = within(held.finish()).await.expect("finishes").tid;
    assert!(within(writing).await.expect("writes") > finished);
}

#[tokio::test]
async fn what_has_moved_on_and_is_not_replaced_is_never_committed() {
    let world = World::start().await;
    let db = world.db().await;
    let first = put(&db, 1, 10).await;
    put(&db, 1, 11).await;
    let mut draft = db.draft(db.place());
    draft.check(object(1), first);
    draft.delete(object(1), first);
    let held = within(draft.hold(LIMIT)).await.expect("is held");
    assert_eq!(held.stale().len(), 1);
    let refused = within(held.finish()).await.expect_err("it is stale");
    assert_eq!(refused.kind(), Some(FaultKind::Invalid), "{refused}");
}

#[tokio::test]
async fn a_first_phase_that_nobody_waits_for_is_given_up() {
    let world = World::start_with(holds_for_an_hour).await;
    let line = world.line().await;
    let db = Db::connect(line.url()).await.expect("connects");
    let first = put(&db, 1, 10).await;
    let mut draft = db.draft(db.place());
    draft.put(object(1), first, encoded(11)).expect("stages");
    // Its answer never comes; whoever waited for it has gone.
    line.deafen();
    let waiting = tokio::spawn(draft.hold(LIMIT));
    let prepared = async || world.db().await.admin().status().await.expect("answers").prepared;
    while prepared().await == 0 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    assert!(waiting.await.expect_err("was ended").is_cancelled());
    within(async {
        while prepared().await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let other = world.db().await;
    assert!(put(&other, 1, 12).await > first);
}

#[tokio::test]
async fn oids_that_nobody_handed_out_are_taken_when_that_is_said() {
    let world = World::start_bare(|_| {}).await;
    let db = world.db().await;
    let draft = |take: bool| {
        let mut draft = db.draft(db.place());
        draft.put(Cell::object(Oid(7000)), Tid::NONE, encoded(1)).expect("stages");
        if take {
            draft.take_oids();
        }
        draft
    };
    let refused = within(draft(false).hold(LIMIT)).await.expect_err("nobody handed it out");
    assert_eq!(refused.kind(), Some(FaultKind::Invalid), "{refused}");
    within(within(draft(true).hold(LIMIT)).await.expect("is held").finish()).await.expect("finishes");
    assert!(db.new_oid().await.expect("an oid") > Oid(7000));
}

#[tokio::test]
async fn changes_between_two_places_are_told_without_asking() {
    let mut world = World::start().await;
    let (db, plain) = (world.db_with(followed()).await, world.db().await);
    put(&db, 1, 1).await;
    for number in [2, 3] {
        assert_eq!(db.now().get(&object(number)).await.expect("reads"), None);
    }
    let before = db.place();
    let (two, three) = (put(&plain, 2, 1).await, put(&plain, 3, 1).await);
    let never_asked_for = put(&plain, 4, 1).await;
    assert!(db.wait_for(never_asked_for, LIMIT).await);
    let changes = db.changes(before, db.place()).expect("is remembered");
    let told: Vec<_> = changes.iter().map(|changed| (changed.tid, changed.oids.to_vec())).collect();
    assert_eq!(told, [(two, vec![oid(2)]), (three, vec![oid(3)])]);
    assert_eq!(plain.changes(before, plain.place()), None, "who did not ask for it keeps nothing");
    // Another store behind the address: nothing that was known counts.
    world.replace().await;
    put(&db, 1, 1).await;
    assert_eq!(db.changes(before, db.place()), None);
}

#[tokio::test]
async fn changes_are_told_across_a_lost_connection() {
    let world = World::start_with(holds_for_an_hour).await;
    let line = world.line().await;
    let db = Db::connect_with(line.url(), followed()).await.expect("connects");
    put(&db, 1, 1).await;
    // What it has asked for it is told, whether it is back before the commit or behind it.
    assert_eq!(db.now().get(&object(5)).await.expect("reads"), None);
    let before = db.place();
    line.cut();
    let other = world.db().await;
    let tid = put(&other, 5, 1).await;
    assert!(db.wait_for(tid, LIMIT).await);
    let changes = db.changes(before, db.place()).expect("was replayed");
    assert!(changes.iter().any(|changed| changed.tid == tid && *changed.oids == [oid(5)]), "{changes:?}");
}

#[tokio::test]
async fn a_further_address_is_taken_when_the_first_is_not_there() {
    let world = World::start_with(holds_for_an_hour).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = free.local_addr().expect("an address").to_string();
    drop(free);
    let options = || Options::new().other_addresses(vec![world.network.url()]);
    let db = Db::connect_with(nobody.clone(), options()).await.expect("the other one is there");
    put(&db, 1, 1).await;
    let none = Options::new().other_addresses(vec![nobody.clone()]);
    assert!(matches!(Db::connect_with(nobody, none).await, Err(Error::Disconnected { .. })));
}

#[tokio::test]
async fn records_come_by_the_page_in_the_order_of_oids() {
    let world = World::start_with(holds_for_an_hour).await;
    let db = world.db().await;
    for n in 0..5 {
        put(&db, n, n).await;
    }
    let at = db.position();
    let (mut after, mut found) = (Oid::ROOT, Vec::new());
    loop {
        let Listing { items: page, more, .. } = within(db.admin().records(at, after, 2)).await.expect("lists");
        after = page.last().map_or(after, |(oid, _)| *oid);
        found.extend(page.into_iter().filter(|(found, _)| *found >= oid(0)));
        if !more {
            break;
        }
    }
    let numbers = found.iter().map(|(oid, revision)| {
        let record = Record::decode(revision.record.as_ref().expect("is there")).expect("decodes");
        (*oid, value(&record))
    });
    assert_eq!(numbers.collect::<Vec<_>>(), (0..5).map(|n| (oid(n), n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_pin_that_is_released_is_gone_when_that_returns() {
    let world = World::start_with(holds_for_an_hour).await;
    let db = world.db().await;
    put(&db, 1, 1).await;
    let pin = db.pin().await.expect("pins");
    let pins = async || db.admin().status().await.expect("answers").pins;
    assert_eq!(pins().await, 1);
    within(pin.clone().release()).await.expect("is not the last");
    assert_eq!(pins().await, 1);
    within(pin.release()).await.expect("is given up");
    assert_eq!(pins().await, 0);
}

/// Longer than any test waits.
const HOUR: Duration = Duration::from_secs(3600);

fn holds_for_an_hour(settings: &mut Settings) {
    settings.limits.prepare_ms_max = HOUR.as_millis() as u64;
}

/// Until nobody is prepared; by the status, which is asked again and again.
async fn nothing_is_prepared(db: &Db) {
    let nothing = async { while db.admin().status().await.expect("answers").prepared > 0 {} };
    within(nothing).await;
}

#[tokio::test]
async fn a_first_phase_that_nobody_waits_for_any_more_is_not_held_when_its_turn_comes() {
    let world = World::start_with(holds_for_an_hour).await;
    let db = world.db().await;
    let first = put(&db, 1, 10).await;
    let draft = |db: &Db| {
        let mut draft = db.draft(db.place());
        draft.put(object(1), first, encoded(11)).expect("stages");
        draft
    };
    let slow = within(draft(&db).hold(HOUR)).await.expect("is held");
    let options = Options::new().request_timeout(Duration::from_millis(200));
    let hasty = world.db_with(options).await;
    assert!(hasty.wait_for(first, LIMIT).await);
    // Its own time limit ends the call, while the draft waits for the slow one.
    let ended = within(draft(&hasty).hold(HOUR)).await;
    assert!(matches!(ended, Err(Error::NoAnswer { .. })), "{ended:?}");
    let tx = hasty.begin().await.expect("begins");
    tx.put(object(1), &number(12)).expect("open");
    let ended = within(tx.prepare(HOUR)).await;
    assert!(matches!(ended, Err(Error::NoAnswer { .. })), "{ended:?}");
    within(slow.finish()).await.expect("finishes");
    nothing_is_prepared(&db).await;
    put(&db, 1, 12).await;
}

#[tokio::test]
async fn a_second_phase_that_is_refused_leaves_nothing_held() {
    let world = World::start_with(holds_for_an_hour).await;
    let db = world.db().await;
    let first = put(&db, 1, 10).await;
    put(&db, 1, 11).await;
    let mut draft = db.draft(db.place());
    draft.put(object(1), first, encoded(12)).expect("stages");
    let held = within(draft.hold(HOUR)).await.expect("is held");
    let refused = within(held.finish()).await.expect_err("it is stale");
    assert_eq!(refused.kind(), Some(FaultKind::Invalid));
    nothing_is_prepared(&db).await;
    put(&db, 1, 13).await;
}
