//! Owns the tests of interest: nothing that was noted is ever left out, whatever grows, comes and goes, or runs beside it.

use super::*;
use crate::engine::FeedBatch;
use crate::engine::feed::FeedSink;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use zeolite_proto::Oid;
use zeolite_proto::interest::Held;

fn cell(n: u64) -> Cell {
    if n.is_multiple_of(3) { Cell::entry(Oid(n), format!("key {n}")) } else { Cell::object(Oid(n)) }
}

fn items(cells: impl IntoIterator<Item = u64>) -> Vec<FeedItem> {
    vec![FeedItem { tid: Tid(1), cells: cells.into_iter().map(cell).collect() }]
}

fn is_told(interests: &Interests, place: Place, n: u64) -> bool {
    interests.of(&items([n])).who[place.table] & place.bit != 0
}

struct World {
    feed: Arc<Feed>,
    interests: Interests,
}

impl World {
    fn new() -> World {
        World { feed: Arc::new(Feed::new(Tid(1))), interests: Interests::default() }
    }

    fn session(&self, held: Option<&Held>) -> (Interest, Place) {
        let rows = held.and_then(Held::told);
        let interest = self.interests.begin(self.feed.clone(), rows.as_ref());
        let place = interest.listens();
        (interest, place)
    }
}

#[test]
fn who_has_asked_for_all_entries_is_told_of_each_and_of_no_other_collection() {
    let world = World::new();
    let ((one, place), (_, other)) = (world.session(None), world.session(None));
    one.note([interest::entries_of(Oid(6))].iter());
    for many in [1, 200] {
        let wrote = |oid: u64, key: &str| {
            let cells = (0..many).map(|n| Cell::entry(Oid(oid), format!("{key}{n}"))).collect();
            world.interests.of(&[FeedItem { tid: Tid(1), cells }])
        };
        let concern = wrote(6, "new");
        assert_eq!(
            (concern.who[place.table] & place.bit, concern.who[other.table] & other.bit),
            (place.bit, 0),
            "{many}"
        );
        assert_eq!(wrote(7, "new").who[place.table] & place.bit, 0, "{many}");
    }
    assert!(!is_told(&world.interests, place, 6 * 7), "and of no objects");
}

#[test]
fn who_writes_a_large_commit_is_told_all_of_it_and_nobody_else_for_that() {
    let world = World::new();
    let ((writer, of_writer), (holder, of_holder), (_, of_other)) =
        (world.session(None), world.session(None), world.session(None));
    let cells: Vec<Cell> = (0..1000).map(cell).collect();
    writer.note(cells.iter());
    holder.note([cell(7)].iter());
    let concern = world.interests.of(&items(0..1000));
    let is_in = |masks: &[u64], place: Place| masks[place.table] & place.bit != 0;
    assert!(is_in(&concern.everything, of_writer) && !is_in(&concern.everything, of_holder));
    assert!(is_in(&concern.who, of_holder) && !is_in(&concern.who, of_other));
    let held = concern.held.expect("it is large");
    assert!(held.iter().any(|held| held.cell == cell(7)) && held.len() < 10, "{}", held.len());
    assert!(held.iter().all(|held| !is_in(&held.who, of_writer)));
}

#[test]
fn each_session_is_told_of_its_cells() {
    let world = World::new();
    let sessions: Vec<_> = (0..150).map(|_| world.session(None)).collect();
    for (n, (interest, _)) in sessions.iter().enumerate() {
        interest.note([cell(7), cell(1000 + n as u64)].iter());
    }
    for (n, (_, place)) in sessions.iter().enumerate() {
        assert!(is_told(&world.interests, *place, 7) && is_told(&world.interests, *place, 1000 + n as u64));
        let others = (0..150).filter(|other| is_told(&world.interests, *place, 1000 + other)).count();
        assert!(others < 3, "{others}");
        assert!(!is_told(&world.interests, *place, 5000));
    }
    assert_eq!(world.interests.of(&items([7])).who[..], [u64::MAX, u64::MAX, (1 << 22) - 1]);
    sessions[3].0.leaves();
    assert!(!is_told(&world.interests, sessions[3].1, 7), "who has left is told nothing");
}

#[test]
fn a_column_is_clean_when_it_is_given_again_and_a_table_goes_with_its_last() {
    let world = World::new();
    let (stays, _) = world.session(None);
    let (first, place) = world.session(None);
    (0..5000).for_each(|n| first.note([cell(n)].iter()));
    first.everything();
    drop(first);
    let (second, again) = world.session(None);
    assert_eq!(again, place);
    assert!((0..5000).all(|n| !is_told(&world.interests, again, n)));
    let table = Arc::downgrade(&second.column.table);
    drop((stays, second));
    assert!(table.upgrade().is_none());
    assert!(world.interests.of(&items([1])).who.iter().all(|mask| *mask == 0));
}

#[test]
fn what_was_noted_is_told_however_often_the_table_grows() {
    let world = World::new();
    let ((many, place), (few, other)) = (world.session(None), world.session(None));
    few.note([cell(1)].iter());
    for n in 0..30_000 {
        many.note([cell(n)].iter());
    }
    assert_eq!(many.column.table.size.load(Ordering::Relaxed), 2);
    assert!((0..30_000).all(|n| is_told(&world.interests, place, n)) && is_told(&world.interests, other, 1));
    let others = (0..10_000).filter(|n| is_told(&world.interests, place, 1_000_000 + n)).count();
    assert!(others < 1000, "{others} of 10,000");
    assert_eq!((0..10_000).filter(|n| is_told(&world.interests, other, 1_000_000 + n)).count(), 0);
    assert!(!many.is_everything());
    (30_000..400_000).for_each(|n| many.note([cell(n)].iter()));
    assert!(many.is_everything() && is_told(&world.interests, place, 9_999_999), "too many to tell which");
    assert!(!few.is_everything());
}

#[test]
fn what_a_client_says_that_it_holds_is_told_in_a_table_of_any_size() {
    for (noted, grown) in [(100, false), (100, true), (3000, false), (3000, true), (40_000, false)] {
        let world = World::new();
        if grown {
            let (other, _) = world.session(None);
            (500_000..520_000).for_each(|n| other.note([cell(n)].iter()));
            std::mem::forget(other);
        }
        let mut held = Held::default();
        (0..noted).for_each(|n| held.note(&cell(n)));
        let (back, place) = world.session(Some(&held));
        assert!((0..noted).all(|n| is_told(&world.interests, place, n)), "{noted} {grown}");
        assert!(!back.is_everything());
        let others = (0..10_000).filter(|n| is_told(&world.interests, place, 1_000_000 + n)).count();
        assert!(others < 1500, "{noted} {grown}: {others} of 10,000");
    }
}

#[test]
fn of_a_large_batch_each_is_told_its_cells() {
    let world = World::new();
    let ((one, its), (all, everything), (_none, nothing)) =
        (world.session(None), world.session(None), world.session(None));
    one.note([cell(5), cell(50)].iter());
    all.everything();
    let concern = world.interests.of(&items(0..1000));
    assert_eq!((concern.who[0], concern.everything[0]), (its.bit | everything.bit, everything.bit));
    let held = concern.held.expect("a large batch");
    assert_eq!(held.iter().map(|held| held.cell.clone()).collect::<Vec<_>>(), [cell(5), cell(50)]);
    assert!(held.iter().all(|held| held.who[..] == [its.bit]) && nothing.bit & concern.who[0] == 0);
    (0..1000).for_each(|n| one.note([cell(n)].iter()));
    let all_of_it = world.interests.of(&items(0..1000));
    assert_eq!(all_of_it.everything[0], its.bit | everything.bit, "all of it is somebody's");
    assert!(all_of_it.held.is_some_and(|held| held.is_empty()));
    assert!(world.interests.of(&items(0..10)).held.is_none(), "a small one");
}

/// Looks each commit up as a fan does, and keeps whether the session of this place was told.
struct Told {
    interests: Arc<Interests>,
    place: Place,
    told: Mutex<Vec<(Tid, Cell, bool)>>,
}

impl FeedSink for Told {
    fn push(&self, batch: &FeedBatch) -> bool {
        let item = &batch.items[0];
        let cell = item.cells.iter().next().expect("a cell");
        let concern = self.interests.of(&batch.items);
        let is_told = concern.held.iter().flatten().any(|held| held.cell == *cell);
        self.told.lock().push((item.tid, cell.clone(), is_told || concern.everything[self.place.table] != 0));
        true
    }
}

/// A session that notes one cell after the other, and the writer, which writes the one that is noted just now.
#[test]
fn there_is_no_third_case() {
    const CELLS: u64 = 3000;
    let (feed, interests) = (Arc::new(Feed::new(Tid(1))), Arc::new(Interests::default()));
    let interest = interests.begin(feed.clone(), None);
    let place = interest.listens();
    let told = Arc::new(Told { interests, place, told: Mutex::default() });
    feed.join(|_| Some(told.clone()));
    let (now, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let seen: Vec<Tid> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut tid = 1;
            while !over.load(Ordering::Relaxed) {
                tid += 1;
                let first = cell(now.load(Ordering::Relaxed));
                // What follows is on the way for a while.
                let cells = std::iter::once(first).chain((0..200).map(|n| cell(1_000_000 + n))).collect();
                feed.publish(Tid(tid), 7, || vec![FeedItem { tid: Tid(tid), cells }]);
            }
        });
        let noted = (0..CELLS).map(|n| {
            now.store(n, Ordering::Relaxed);
            let before = feed.visible();
            while feed.visible() == before {
                std::hint::spin_loop();
            }
            interest.note([cell(n)].iter());
            feed.visible()
        });
        let seen = noted.collect();
        over.store(true, Ordering::Relaxed);
        seen
    });
    let visible: BTreeMap<Cell, Tid> = (0..).map(cell).zip(seen).collect();
    let (mut looked, mut missed) = (0, 0);
    for (tid, written, is_told) in &*told.told.lock() {
        if visible.get(written).is_some_and(|visible| tid > visible) {
            (looked, missed) = (looked + 1, missed + u64::from(!is_told));
        }
    }
    assert!(looked > CELLS / 4, "{looked} commits only came behind their cell");
    assert_eq!(missed, 0, "of {looked} commits that were not visible when their cell had been noted");
}
