//! A durable prepared transaction over kills of the server: committed exactly once, by its coordinator or by an operator.

use crate::served::Served;
use zeolite_client::{Cell, CommitKey, Db, Oid, Record, Tid};

async fn prepare(db: &Db, oid: Oid, text: &'static str) -> (CommitKey, Tid) {
    let (key, since) = (db.new_commit_key(), db.position());
    let tx = db.begin().await.expect("begins");
    tx.put(Cell::object(oid), &Record::new("Account", 1, text)).expect("encodes");
    drop(tx.prepare_durable(key, since, None).await.expect("prepares"));
    (key, since)
}

fn data(served: &Served, oid: Oid) -> Option<String> {
    let output = served.run(&["get", &oid.to_string(), "--raw"]);
    output.status.success().then(|| crate::served::text(&output.stdout))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_prepared_transaction_survives_kills_and_is_committed_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let db = Db::connect(&served.address).await.expect("connects");
    let (mine, theirs, nobodys) =
        (db.new_oid().await.expect("an oid"), db.new_oid().await.expect("an oid"), db.new_oid().await.expect("an oid"));
    let (key, since) = prepare(&db, mine, "mine").await;
    let (other, _) = prepare(&db, theirs, "theirs").await;
    let (last, _) = prepare(&db, nobodys, "nobody's").await;
    // Dropped, it is killed.
    drop((db, served));

    let served = Served::start(dir.path());
    assert_eq!(data(&served, mine), None);
    let listed: Vec<String> =
        served.json(&["prepared", "list"]).iter().map(|one| one["key"].as_str().expect("a key").to_owned()).collect();
    assert_eq!(listed.len(), 3);
    assert!([key, other, last].iter().all(|key| listed.contains(&key.to_string())), "{listed:?}");
    assert_eq!(served.code(&["check", "--warning", "prepared=0"]), Some(1));
    // Its coordinator comes back with the key, an operator ends the others.
    let db = Db::connect(&served.address).await.expect("connects");
    let fresh = db.new_oid().await.expect("an oid");
    assert!(![mine, theirs, nobodys].contains(&fresh), "its oids are not handed out again");
    let receipt = db.finish_prepared(key, since).await.expect("finishes");
    let told = &served.json(&["prepared", "finish", &other.to_string()])[0];
    served.json(&["prepared", "abort", &last.to_string()]);
    assert_ne!(
        served.code(&["prepared", "abort", &last.to_string()]),
        Some(0),
        "nothing is prepared under that key any more"
    );
    drop((db, served));

    let served = Served::start(dir.path());
    assert_eq!(served.json(&["prepared", "list"]).len(), 0);
    let db = Db::connect(&served.address).await.expect("connects");
    assert_eq!(db.finish_prepared(key, since).await.expect("the same receipt"), receipt);
    let again = &served.json(&["prepared", "finish", &other.to_string()])[0];
    assert_eq!(again["tid"], told["tid"]);
    assert!(
        db.abort_prepared(key, since).await.expect_err("it is committed").to_string().contains("committed already")
    );
    db.abort_prepared(last, since).await.expect("gone already is no error");
    assert_eq!(served.code(&["prepared", "finish", &last.to_string()]), Some(4));
    assert_eq!((data(&served, mine).as_deref(), data(&served, theirs).as_deref()), (Some("mine"), Some("theirs")));
    assert_eq!(data(&served, nobodys), None);
    for oid in [mine, theirs] {
        assert_eq!(served.json(&["history", &oid.to_string()]).len(), 1, "once");
    }
    assert_eq!(served.json(&["verify"])[0]["good"], true);
    assert_eq!(served.code(&["check", "--warning", "prepared=0", "--warning", "free_percent="]), Some(0));
}
