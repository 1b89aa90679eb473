//! The server for tests, from tests as users have them.

use zeolite_client::collections::{Counter, Map};
use zeolite_client::{Error, Resolvers, blocking};
use zeolite_testing::{Server, Settings, StartError, server};

#[test]
fn a_plain_test_has_a_server_of_its_own() {
    let (one, two) = (server(), server());
    let db = blocking::Db::connect(one.address()).expect("connects");
    db.run(|tx| tx.root_or_create::<Counter>("hits")?.add(tx, 1)).expect("commits");
    let other = blocking::Db::connect(two.address()).expect("connects");
    assert!(other.run(|tx| tx.root::<Counter>("hits")).expect("reads").is_none());
    let directory = one.directory().to_owned();
    assert!(directory.exists());
    drop(db);
    one.stop().expect("stops in order");
    assert!(!directory.exists(), "nothing is left");
}

#[tokio::test]
async fn an_asynchronous_test_too_and_clients_outlive_a_restart() {
    let mut server = server();
    let db = server.db().await.expect("connects");
    let words: Map<u32, String> = db.run(async |tx| tx.root_or_create("words").await).await.expect("creates");
    for n in 0..3 {
        db.run(async |tx| words.insert(&tx, &n, &"kept".to_owned())).await.expect("commits");
        let address = server.address();
        // Waits for the server's threads: not on this runtime's one.
        server = tokio::task::spawn_blocking(move || server.restart().map(|()| server))
            .await
            .expect("ends")
            .expect("restarts");
        assert_eq!(server.address(), address);
    }
    assert_eq!(words.count(&db.now()).await.expect("reads"), 3);
}

/// docs/testing.md, "In Rust".
async fn visited() -> Result<i64, Error> {
    let server = zeolite_testing::server();
    let db = server.db().await?; // in a plain #[test]: blocking::Db::connect(server.address())?
    db.run(async |tx| tx.root_or_create::<Counter>("visits").await?.add(&tx, 1)).await?;
    let visits: Option<Counter> = db.now().root("visits").await?;
    visits.expect("was made").get(&db.now()).await
}

#[tokio::test]
async fn the_code_of_the_page_runs() {
    assert_eq!(visited().await.expect("runs"), 1);
}

#[test]
fn one_that_does_not_start_says_why() {
    let mut wrong = Settings::default();
    wrong.limits.record_bytes_max = 0;
    let error = Server::start(wrong, Resolvers::built_in()).expect_err("is refused");
    assert!(matches!(&error, StartError::Server(_)) && error.to_string().contains("record_bytes_max"), "{error}");
    let gone = blocking::Db::connect("127.0.0.1:1").expect_err("nobody is there");
    assert!(matches!(gone, Error::Disconnected { .. }), "{gone}");
}
