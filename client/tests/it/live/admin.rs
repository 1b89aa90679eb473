//! Pins, time travel, history, undo, the log, and the operator's calls.

use crate::support::{World, add_one, number, object, oid, read, value, within};
use futures_util::stream;
use std::time::SystemTime;
use zeolite_client::PackOptions;
use zeolite_client::revision::Listing;
use zeolite_client::{FaultKind, Note, Oid, Tid};

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_keeps_its_snapshot_readable() {
    let world = World::start().await;
    let db = world.db().await;
    for _ in 0..3 {
        db.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    }
    let pin = db.pin().await.expect("pins");
    let time = db.now().snapshot();
    for _ in 0..3 {
        db.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    }
    assert_eq!(db.admin().status().await.expect("answers").pins, 1);
    let view = pin.view();
    let tx = pin.transaction().begin().await.expect("begins");
    drop(pin);
    assert_eq!(read(&view, 1).await.expect("reads"), 3, "a view keeps its pin");
    tx.put(object(2), &number(1)).expect("puts");
    tx.commit().await.expect("a write of what nobody else wrote");
    let tx = view.db().pin_at(view.snapshot()).await.expect("pins").transaction().begin().await.expect("begins");
    add_one(&tx, 1).await.expect("adds");
    assert!(tx.commit().await.expect_err("written since").is_conflict());
    drop(view);
    within(async { while db.admin().status().await.expect("answers").pins > 0 {} }).await;
    let past = db.at_time(at(time)).await.expect("answers");
    assert_eq!(read(&past, 1).await.expect("reads"), 3);
    let now = db.at_time(at(Tid(time.0 << 1))).await.expect("a time to come is now");
    assert_eq!(read(&now, 1).await.expect("reads"), 6);
}

/// The server keeps pins in memory: the first that a new session does is to take them again.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_there_before_a_pack_that_follows_a_restart() {
    let mut world = World::start().await;
    let db = world.db().await;
    db.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    let pin = db.pin().await.expect("pins");
    for _ in 0..3 {
        db.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    }
    world.restart().await;
    within(db.newest()).await.expect("is there again");
    let mut pack = db.admin().pack(PackOptions::new().keep_garbage(true)).await.expect("answers");
    let mut packed_to = None;
    while let Some(progress) = pack.next().await.expect("packs") {
        packed_to = progress.done.then_some(progress.packed_to);
    }
    assert!(packed_to.expect("is done") <= pin.snapshot(), "{packed_to:?} {}", pin.snapshot());
    assert_eq!(db.admin().status().await.expect("answers").oldest_pin, Some(pin.snapshot()));
    assert_eq!(read(&pin.view(), 1).await.expect("reads"), 1);
}

/// Somebody else's pack is quicker than the client that comes back to its pin.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_outlives_a_restart_and_a_pack_that_was_there_first() {
    let mut world = World::start_with(|settings| {
        (settings.engine.history_min_s, settings.engine.pin_grace_s) = (0, 3600);
    })
    .await;
    let line = world.line().await;
    let db = zeolite_client::Db::connect(line.url()).await.expect("connects");
    db.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    let pin = db.pin().await.expect("pins");
    for _ in 0..3 {
        db.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    }
    line.deafen();
    world.restart().await;
    let other = world.db().await;
    let pack = async || {
        let options = PackOptions::new().keep_garbage(true);
        let mut pack = other.admin().pack(options).await.expect("answers");
        loop {
            let message = pack.next().await.expect("packs").expect("a last message");
            if message.done {
                return message;
            }
        }
    };
    assert_eq!(other.admin().status().await.expect("answers").pins, 0, "the client is away");
    let first = pack().await;
    assert!(first.packed_to <= pin.snapshot(), "{first:?}");
    assert!(first.held_back.as_ref().is_some_and(|why| why.contains("engine.pin_grace_s")), "{first:?}");
    line.cut();
    assert_eq!(read(&pin.view(), 1).await.expect("reads"), 1);
    within(async { while other.admin().status().await.expect("answers").oldest_pin != Some(pin.snapshot()) {} }).await;
    pack().await;
    assert_eq!(read(&other.at(pin.snapshot()), 1).await.expect("is there"), 1);
    assert!(!pin.is_lost());
}

fn at(tid: Tid) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(u64::try_from(tid.unix_nanos()).unwrap_or(u64::MAX >> 2))
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_told_and_a_transaction_can_be_undone() {
    let world = World::start().await;
    let db = world.db().await;
    let mut tids = Vec::new();
    for n in 1..=5 {
        let settings = db.transaction().note("amy", format!("step {n}"));
        let work = settings.run_for_receipt(async |tx| tx.put(object(1), &number(n)));
        tids.push(work.await.expect("commits").1.tid);
    }
    let Listing { items: past, more, .. } = db.history(&object(1), None, 3, true).await.expect("answers");
    assert!(more);
    assert_eq!(past.iter().map(|past| past.revision.tid).collect::<Vec<_>>(), [tids[4], tids[3], tids[2]]);
    assert_eq!(past[0].note.description, "step 5");
    let Listing { items: older, more, .. } = db.history(&object(1), Some(tids[2]), 3, false).await.expect("answers");
    assert!(!more && older.len() == 2, "{older:?}");
    assert_eq!(older[0].revision.record.as_deref(), Some(&b""[..]), "there, but not asked for");
    let blocked = db.undo(tids[1], Note::default()).await.expect_err("written since");
    assert_eq!(blocked.kind(), Some(FaultKind::UndoBlocked), "{blocked}");
    let mut attempts = 0;
    let again = |_: zeolite_client::Tx| {
        attempts += 1;
        let (db, tid) = (db.clone(), tids[1]);
        async move { db.undo(tid, Note::default()).await }
    };
    assert!(db.run(again).await.is_err() && attempts == 1, "what is undone first stands in the way each time");
    let undone = db.undo(tids[4], Note { user: "bob".into(), ..Note::default() }).await.expect("undoes");
    assert!(db.wait_for(undone.tid, crate::support::GUARD).await);
    assert_eq!(read(&db.now(), 1).await.expect("reads"), 4);

    let log = db.admin().log(Some(tids[1]), None, None, true).await.expect("answers").collect().await.expect("reads");
    assert_eq!(log.len(), 5);
    assert_eq!(log[0].note.description, "step 2");
    assert_eq!(log[4].note.user, "bob");
    let record = log[0].writes[0].record.as_ref().expect("with records");
    assert_eq!(value(&zeolite_client::Record::decode(record).expect("a record")), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_are_counted_and_listed() {
    let world = World::start().await;
    let db = world.db().await;
    db.run(async |tx| (1..=30).try_for_each(|oid| tx.put(object(oid), &number(oid)))).await.expect("puts");
    let kinds = db.admin().kinds().await.expect("answers");
    assert!(
        kinds.kinds.iter().any(|kind| (kind.class.as_str(), kind.version, kind.objects) == ("Number", 1, 30)),
        "{kinds:?}"
    );
    let (mut all, mut after) = (Vec::new(), Oid::ROOT);
    loop {
        let Listing { items: oids, more, .. } =
            db.admin().objects(None, "Number", Some(2), after, 7).await.expect("answers");
        all.extend(oids);
        after = *all.last().expect("some");
        if !more {
            break;
        }
    }
    assert_eq!(all, (1..=30).map(oid).collect::<Vec<_>>());
    let status = db.admin().status().await.expect("answers");
    assert!(status.commits >= 1 && status.poisoned.is_none() && status.visible >= db.position(), "{status:?}");
    let resolvers = db.admin().resolvers().await.expect("answers");
    assert!(resolvers.iter().any(|resolver| resolver.class == "zeolite.Counter" && resolver.applies), "{resolvers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_copied_by_its_log() {
    let (from, to) = (World::start().await, World::start_bare(|_| {}).await);
    let (source, copy) = (from.db().await, to.db().await);
    let large = zeolite_client::Record::new("Blob", 1, vec![5; 6 << 20]);
    source.run(async |tx| tx.put(object(500), &large)).await.expect("puts");
    for n in 0..40 {
        source.run(async |tx| tx.put(object(1 + n % 7), &number(n))).await.expect("puts");
    }
    source.run(async |tx| tx.delete(object(1))).await.expect("deletes");
    let all =
        || async { source.admin().log(None, None, None, true).await.expect("answers").collect().await.expect("reads") };
    let log = all().await;
    let expected = log.len() as u64;
    let last = log.last().expect("some").tid;
    let restored = copy.admin().restore(stream::iter(log.clone())).await.expect("restores");
    assert_eq!((restored.transactions, restored.last), (expected, last));
    let copied = copy.admin().log(None, None, None, true).await.expect("answers").collect().await.expect("reads");
    assert_eq!(copied.len(), log.len());
    for (copied, original) in copied.iter().zip(&log) {
        assert_eq!((copied.tid, &copied.writes), (original.tid, &original.writes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pack_and_verify_tell_their_progress() {
    let world = World::start().await;
    let db = world.db().await;
    for n in 0..50 {
        db.run(async |tx| tx.put(object(1), &number(n))).await.expect("puts");
    }
    let mut pack = db.admin().pack(PackOptions::new().keep_garbage(true)).await.expect("answers");
    let mut last = None;
    while let Some(progress) = pack.next().await.expect("packs") {
        last = Some(progress);
    }
    assert!(last.expect("some progress").done);
    assert_eq!(read(&db.now(), 1).await.expect("reads"), 49);
    let mut verify = db.admin().verify().await.expect("answers");
    let mut last = None;
    while let Some(progress) = verify.next().await.expect("verifies") {
        last = Some(progress);
    }
    let last = last.expect("some progress");
    assert!(last.done && last.problems.is_empty() && last.dangling_total == 0, "{last:?}");
}
