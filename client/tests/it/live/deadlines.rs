//! Transactions with a time limit and a key: what is told when the time is over, or the future is dropped, in the middle of a commit; and
//! the spans of a transaction.

use crate::support::{World, within};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use zeolite_client::collections::{Counter, Map};
use zeolite_client::{Change, Db, Error, FaultKind, Outcome, Remedy, Result};

/// Longer than what has to happen in it takes, and short enough to wait for.
const SOON: Duration = Duration::from_millis(300);

async fn hits(db: &Db) -> Counter {
    db.run(async |tx| tx.root_or_create("hits").await).await.expect("creates")
}

async fn count(db: &Db, hits: Counter) -> i64 {
    db.newest().await.expect("answers");
    hits.get(&db.now()).await.expect("reads")
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_takes_too_long_has_committed_nothing() {
    let world = World::start().await;
    let db = world.db().await;
    let hits = hits(&db).await;
    let slow = db.transaction().timeout(SOON).run(async |tx| {
        hits.add(&tx, 1)?;
        std::future::pending::<Result<()>>().await
    });
    let error = within(slow).await.expect_err("takes too long");
    assert!(matches!(error, Error::TimeLimit { within } if within == SOON), "{error}");
    assert_eq!(error.remedy(), Remedy::Wait);
    assert_eq!(count(&db, hits).await, 0);
    db.transaction().timeout(Duration::from_secs(100)).run(async |tx| hits.add(&tx, 1)).await.expect("in time");
    assert_eq!(count(&db, hits).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_time_limit_cuts_off_is_told_by_its_key() {
    let world = World::start().await;
    let db = world.db().await;
    let hits = hits(&db).await;
    let (key, since) = (db.new_commit_key(), db.position());
    world.network.deafen();
    let order = db.transaction().timeout(SOON).key(key, since);
    match within(order.run(async |tx| hits.add(&tx, 1))).await {
        Err(Error::OutcomeUnknown { key: told, .. }) => assert_eq!(told, key),
        other => panic!("{other:?}"),
    }
    world.network.cut();
    let outcome = within(db.outcome(key, since)).await.expect("answers");
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert_eq!(count(&db, hits).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_is_dropped_in_its_commit_is_told_by_its_key() {
    let world = World::start().await;
    let (db, other) = (world.db().await, Db::connect(world.server.as_ref().expect("runs").address().to_string()).await);
    let other = other.expect("connects");
    let hits = hits(&db).await;
    let (key, since) = (db.new_commit_key(), db.position());
    // A watch that begins tells what was committed before it and not heard of: there is to be nothing.
    other.newest().await.expect("answers");
    let mut told = other.watch([zeolite_client::Handle::oid(&hits)]);
    assert!(within(told.begun()).await);
    world.network.deafen();
    let sending = db.clone();
    let handler =
        tokio::spawn(async move { sending.transaction().key(key, since).run(async |tx| hits.add(&tx, 1)).await });
    // Somebody else hears of it; its own client does not.
    assert!(matches!(within(told.next()).await, Some(Change::Written { .. })));
    handler.abort();
    assert!(within(handler).await.expect_err("was dropped").is_cancelled());
    world.network.cut();
    let outcome = within(db.outcome(key, since)).await.expect("answers");
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert_eq!(count(&db, hits).await, 1);
}

/// Adds a row; in the first attempt somebody else is faster.
async fn add_row(db: &Db, rows: Map<u8, u32>, value: u32) -> (Result<()>, u32) {
    let attempts = AtomicU32::new(0);
    let (key, since) = (db.new_commit_key(), db.position());
    let added = db.transaction().key(key, since).note("amy", "adds a row").run(async |tx| {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed);
        let _ = rows.get(&tx, &1).await?;
        if attempt == 0 {
            db.run(async |tx| rows.insert(&tx, &1, &(value + 100))).await?;
        }
        rows.insert(&tx, &1, &value)
    });
    let added = within(added).await;
    let outcome = db.outcome(key, since).await.expect("answers");
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    let again = db.transaction().key(key, since).run(async |tx| rows.insert(&tx, &2, &value)).await;
    assert_eq!(again.expect_err("is another commit's key").kind(), Some(FaultKind::Invalid));
    (added, attempts.into_inner())
}

#[derive(Clone, Default)]
struct Written(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_key_is_kept_over_the_attempts_which_are_spans_of_one_transaction() {
    let world = World::start().await;
    let db = world.db().await;
    let rows: Map<u8, u32> = db.run(async |tx| tx.root_or_create("rows").await).await.expect("creates");
    let written = Written::default();
    let to = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || to.clone())
        .finish();
    // While there is only one, a place in the code that another test's thread comes to first is asked about there, and is off for good.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    // Of this thread, on which all of this test runs.
    let _guard = tracing::subscriber::set_default(subscriber);
    let (added, attempts) = add_row(&db, rows, 7).await;
    added.expect("commits");
    assert_eq!(attempts, 2);
    let log = String::from_utf8(written.0.lock().clone()).expect("text");
    let line = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    let own = "transaction{user=amy description=adds a row";
    assert!(line(&[own, "attempt{attempt=1 snapshot=", "close"]), "{log}");
    assert!(line(&[own, "the transaction is run again", "attempt=1"]), "{log}");
    assert!(line(&[own, "attempt{attempt=2 snapshot=", "close"]), "{log}");
    assert!(line(&[own, "attempts=2 tid=", "close"]), "{log}");
}
