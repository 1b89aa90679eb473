//! What a transaction sees, and when a commit is refused.

use crate::support::{World, add_one, number, object, oid, read, value, within};
use bytes::Bytes;
use std::sync::Arc;
use zeolite_client::{Cell, Error, FaultKind, Options, Range, Record, Resolver, Resolvers, Tid};
use zeolite_proto::resolver::Unresolved;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_reads_its_own_writes_and_one_snapshot() {
    let world = World::start().await;
    let (a, b) = (world.db().await, world.db().await);
    let tx = a.begin().await.expect("begins");
    assert_eq!(tx.get(&object(5)).await.expect("reads"), None);
    tx.put(object(5), &number(1)).expect("puts");
    assert_eq!(read(&tx, 5).await.expect("reads"), 1);
    let first = tx.commit().await.expect("commits");
    assert!(b.wait_for(first.tid, crate::support::GUARD).await);
    let old = b.begin().await.expect("begins");
    let second = a.run(async |tx| add_one(&tx, 5).await).await.expect("commits");
    assert_eq!(second, 2);
    assert_eq!(read(&old, 5).await.expect("reads"), 1, "the snapshot does not move");
    let now = b.transaction().fresh().begin().await.expect("begins");
    assert_eq!(read(&now, 5).await.expect("reads"), 2);
    now.delete(object(5)).expect("deletes");
    assert_eq!(now.get(&object(5)).await.expect("reads"), None);
    let deleted = now.commit().await.expect("commits");
    assert_eq!(b.now().get(&object(5)).await.expect("reads"), None);
    let history = [(first.tid, Some(1)), (deleted.tid, None), (deleted.tid.prev(), Some(2))];
    for (tid, expected) in history {
        let seen = a.at(tid).get(&object(5)).await.expect("reads");
        assert_eq!(seen.as_ref().map(value), expected, "at {tid}");
    }
    drop(old);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_cell_conflict_and_run_repeats_them() {
    let world = World::start().await;
    let (a, b) = (world.db().await, world.db().await);
    let (one, two) = (a.begin().await.expect("begins"), b.begin().await.expect("begins"));
    add_one(&one, 7).await.expect("adds");
    add_one(&two, 7).await.expect("adds");
    one.commit().await.expect("the first one is right");
    let refused = two.commit().await.expect_err("the second one is refused");
    assert!(refused.is_conflict(), "{refused}");
    let Error::Fault(fault) = &refused else { panic!("{refused}") };
    assert_eq!(fault.conflict.as_ref().map(|detail| detail.cell.clone()), Some(object(7)));

    let work = |db: zeolite_client::Db| async move {
        for _ in 0..20 {
            db.run(async |tx| add_one(&tx, 8).await).await.expect("comes through");
        }
    };
    let tasks: Vec<_> = (0..16).map(|n| tokio::spawn(work(if n % 2 == 0 { a.clone() } else { b.clone() }))).collect();
    for task in tasks {
        within(task).await.expect("no panic");
    }
    let sum = a.transaction().fresh().begin().await.expect("begins");
    assert_eq!(read(&sum, 8).await.expect("reads"), 16 * 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn write_skew_happens_in_snapshot_and_not_in_serializable_isolation() {
    let world = World::start().await;
    let db = world.db().await;
    for serializable in [false, true] {
        let settings = || if serializable { db.transaction().serializable() } else { db.transaction() };
        let (one, two) = (settings().begin().await.expect("begins"), settings().begin().await.expect("begins"));
        let base = if serializable { 100 } else { 200 };
        for (tx, written) in [(&one, 1), (&two, 2)] {
            let both = tx.get_many(&[object(base + 1), object(base + 2)]).await.expect("reads");
            assert_eq!(both, [None, None]);
            tx.put(object(base + written), &number(1)).expect("puts");
        }
        one.commit().await.expect("commits");
        let second = two.commit().await;
        match second {
            Ok(_) => assert!(!serializable, "write skew"),
            Err(error) => assert!(serializable && error.kind() == Some(FaultKind::ReadConflict), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanned_range_is_checked_as_far_as_the_scan_came() {
    let world = World::start().await;
    let db = world.db().await;
    let entry = |key: &'static str| Cell::entry(oid(50), key);
    db.run(async |tx| ["b", "d", "f"].iter().try_for_each(|key| tx.put(entry(key), &number(1)))).await.expect("puts");
    for (inserted, limit, reverse, refused) in [
        ("c", 0, false, true),
        ("g", 0, false, true),
        ("g", 1, false, false),
        ("a", 1, false, true),
        ("e", 1, true, false),
        ("h", 1, true, true),
    ] {
        let reader = db.transaction().serializable().begin().await.expect("begins");
        let range = if reverse { Range::all().reversed() } else { Range::all() };
        let range = if limit > 0 { range.limited(limit) } else { range };
        assert!(!reader.entries(oid(50), range).await.expect("scans").is_empty());
        reader.put(object(51), &number(1)).expect("puts");
        db.run(async |tx| tx.put(entry(inserted), &number(2))).await.expect("inserts");
        let result = reader.commit().await;
        let kind = result.as_ref().err().and_then(Error::kind);
        assert_eq!(kind, refused.then_some(FaultKind::ReadConflict), "{inserted} {limit} {reverse} {result:?}");
        db.run(async |tx| tx.delete(entry(inserted))).await.expect("cleans up");
    }
}

/// Both sides' digits, sorted: a class that the server knows nothing of.
struct Digits;

impl Resolver for Digits {
    fn description(&self) -> &str {
        "all digits"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let digits = |side: Option<&Record>| side.map_or_else(Vec::new, |record| record.data.to_vec());
        let (base, theirs, mut ours) = (digits(base), digits(theirs), digits(ours));
        if ours == b"refuse" {
            return Err(Unresolved::because("told to"));
        }
        ours.extend(theirs.into_iter().filter(|digit| !base.contains(digit)));
        ours.sort_unstable();
        Ok(Some(Record::new("Digits", 1, ours)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_of_a_class_that_only_the_client_knows_is_resolved_there() {
    let world = World::start().await;
    let mut resolvers = Resolvers::built_in();
    resolvers.register("Digits", Arc::new(Digits));
    let (plain, knows) = (world.db().await, world.db_with(Options::new().resolvers(resolvers)).await);
    let digits = |digits: &'static str| Record::new("Digits", 1, Bytes::from_static(digits.as_bytes()));
    let first = plain.run(async |tx| tx.put(object(9), &digits("1"))).await;
    first.expect("commits");
    for (theirs, ours, expected) in [("12", "13", Some("123")), ("1234", "refuse", None)] {
        let tx = knows.transaction().fresh().begin().await.expect("begins");
        tx.put(object(9), &digits(ours)).expect("puts");
        plain.transaction().fresh().run(async |tx| tx.put(object(9), &digits(theirs))).await.expect("commits");
        let result = tx.commit().await;
        assert_eq!(result.is_ok(), expected.is_some(), "{result:?}");
        let now = plain.transaction().fresh().begin().await.expect("begins");
        let stored = now.get(&object(9)).await.expect("reads").expect("there").data;
        assert_eq!(stored, expected.unwrap_or(theirs));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_phases_hold_the_cells_and_end_in_one_of_two_ways() {
    let world = World::start().await;
    let db = world.db().await;
    for finish in [true, false] {
        let tx = db.begin().await.expect("begins");
        add_one(&tx, 3).await.expect("adds");
        let before = db.transaction().fresh().begin().await.expect("begins").snapshot();
        let prepared = tx.prepare(crate::support::GUARD / 4).await.expect("prepares");
        let key = prepared.commit_key();
        assert_eq!(db.newest().await.expect("answers"), before, "nothing is visible yet");
        if finish {
            let receipt = prepared.finish().await.expect("finishes");
            assert_eq!(
                db.outcome(key, db.position()).await.expect("answers"),
                zeolite_client::Outcome::Committed(receipt)
            );
        } else {
            prepared.abort().await.expect("aborts");
            assert_eq!(db.outcome(key, db.position()).await.expect("answers"), zeolite_client::Outcome::Unknown);
        }
    }
    let now = db.transaction().fresh().begin().await.expect("begins");
    assert_eq!(read(&now, 3).await.expect("reads"), 1);
    assert!(db.at(Tid(u64::MAX / 2)).get(&object(3)).await.expect_err("ahead").to_string().contains("newer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_run_lends_is_committed_by_run_alone() {
    let world = World::start().await;
    let db = world.db().await;
    let early = db.run(async |tx| {
        tx.put(object(7), &number(1))?;
        tx.commit().await.map(|_| ())
    });
    let refused = early.await.expect_err("the receipt would be nobody's");
    assert_eq!(refused.kind(), Some(FaultKind::Invalid), "{refused}");
    let prepared = db.run(async |tx| tx.prepare(crate::support::GUARD).await.map(|_| ())).await;
    assert_eq!(prepared.expect_err("nor prepared").kind(), Some(FaultKind::Invalid));
    assert_eq!(db.now().get(&object(7)).await.expect("reads"), None);
    let work = db.transaction().run_for_receipt(async |tx| tx.put(object(7), &number(2)));
    let ((), receipt) = work.await.expect("commits");
    assert_eq!(db.at(receipt.tid).get(&object(7)).await.expect("reads").as_ref().map(value), Some(2));
}
