//! Going back within a transaction: to a savepoint, and to the beginning.

use crate::support::{World, number, object, read};
use zeolite_client::collections::{Counter, Map};
use zeolite_client::{Error, Range};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_since_a_savepoint_is_neither_seen_nor_committed() {
    let world = World::start().await;
    let db = world.db().await;
    let setup = db.run(async |tx| Ok((tx.root_or_create("words").await?, tx.root_or_create("count").await?)));
    let (words, count): (Map<String, u32>, Counter) = setup.await.expect("commits");
    let tx = db.begin().await.expect("begins");
    words.insert(&tx, "one", &1).expect("writes");
    count.add(&tx, 1).expect("adds");
    tx.put(object(5), &number(1)).expect("puts");
    let one = tx.savepoint();
    words.insert(&tx, "one", &100).expect("writes");
    words.insert(&tx, "two", &2).expect("writes");
    count.add(&tx, 10).expect("adds");
    tx.delete(object(5)).expect("deletes");
    let two = tx.savepoint();
    tx.back_to(&one).expect("goes back");
    assert_eq!(
        (words.get(&tx, "one").await.expect("reads"), words.get(&tx, "two").await.expect("reads")),
        (Some(1), None)
    );
    assert_eq!((read(&tx, 5).await.expect("reads"), count.get(&tx).await.expect("reads")), (1, 1));
    assert_eq!(words.walk(&tx, Range::all()).collect().await.expect("reads"), [("one".to_owned(), 1)]);
    tx.back_to(&two).expect("and forth");
    assert_eq!(words.get(&tx, "two").await.expect("reads"), Some(2));
    tx.back_to(&one).expect("and back again");
    tx.commit().await.expect("commits");
    let now = db.now();
    assert_eq!(words.iter(&now).collect().await.expect("reads"), [("one".to_owned(), 1)]);
    assert_eq!((count.get(&now).await.expect("reads"), read(&now, 5).await.expect("reads")), (1, 1));

    let other = db.begin().await.expect("begins");
    assert!(matches!(other.back_to(&one), Err(Error::Fault(_))), "a savepoint of another transaction is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_rolled_back_gives_its_answer_and_commits_nothing() {
    let world = World::start().await;
    let db = world.db().await;
    let before = db.run(async |tx| tx.put(object(7), &number(3))).await.map(|()| db.position()).expect("commits");
    let told = db.transaction().run_for_receipt(async |tx| {
        tx.put(object(7), &number(9))?;
        tx.put_stamped(object(8).oid, "t".into(), number(1).encode().expect("encodes"))?;
        tx.rollback()?;
        assert!(tx.is_empty());
        Ok("full")
    });
    let (told, receipt) = told.await.expect("is no error");
    assert_eq!((told, receipt.tid), ("full", before), "no commit was made");
    assert_eq!(read(&db.now(), 7).await.expect("reads"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_lent_a_transaction_writes_in_it_and_commits_nothing() {
    let world = World::start().await;
    let db = world.db().await;
    let tx = db.begin().await.expect("begins");
    let (lent, late) = (tx.lend(), tx.lend());
    lent.put(object(9), &number(4)).expect("writes");
    assert_eq!(read(&tx, 9).await.expect("reads"), 4);
    let refused = lent.commit().await.expect_err("is refused").to_string();
    assert!(refused.contains("whoever lent this transaction commits it"), "{refused}");
    tx.commit().await.expect("commits");
    assert!(late.put(object(9), &number(5)).expect_err("is refused").to_string().contains("is over"));
    assert_eq!(read(&db.now(), 9).await.expect("reads"), 4);
}
