//! Users: tokens that end while they are in use, roles by database, and a flood of wrong tokens beside a good client.

use super::scene::{Scene, set, until_refused};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use zeolite_client::{Cell, Db, FaultKind, Oid, Record, Token};
use zeolite_proto::Role;
use zeolite_server::auth::token::Token as Made;
use zeolite_server::auth::users::Limits;
use zeolite_server::clock::{Clock, SystemClock};

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_a_lesser_role_and_an_expired_token_end_open_sessions() {
    let scene = Scene::start(|_, _| {}).await;
    let (lost, other) = (scene.user("lost", Role::Write, &[], None), scene.user("other", Role::Write, &[], None));
    let (db, stays) = (scene.comes(scene.options(Some(&lost))).await, scene.comes(scene.options(Some(&other))).await);
    set(&db, 1).await.expect("commits");
    scene.change(|users| users.revoke(lost.id()));
    let told = until_refused(&db, FaultKind::Unauthenticated).await.to_string();
    assert!(told.contains("zeolite user token") && !told.contains(lost.secret()), "{told}");
    set(&stays, 2).await.expect("another user is not the worse for it");

    scene.change(|users| users.grant("other", Role::Read, &[]));
    let refused = async {
        loop {
            if let Err(error) = set(&stays, 3).await {
                break error;
            }
        }
    };
    let refused = tokio::time::timeout(crate::support::GUARD, refused).await.expect("it has less now");
    assert_eq!(refused.kind(), Some(FaultKind::Denied), "{refused}");
    stays.newest().await.expect("and may read");

    let now = (SystemClock::new().unix_nanos() / 1_000_000_000) as u64;
    let short = scene.user("short", Role::Write, &[], Some(now + 3));
    let db = scene.comes(scene.options(Some(&short))).await;
    until_refused(&db, FaultKind::Unauthenticated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_file_is_read_with_each_connection() {
    let scene = Scene::start(|_, _| {}).await;
    let first = scene.user("shop", Role::Write, &[], None);
    let file = scene.write("token", first.secret());
    let options = scene.options(None).token(Some(Token::file(&file)));
    let db = scene.comes(options).await;
    let second = scene.user("shop-2", Role::Write, &[], None);
    scene.write("token", &format!("{}\n", second.secret()));
    scene.change(|users| users.remove("shop"));
    let goes_on = async { while set(&db, 1).await.is_err() {} };
    tokio::time::timeout(crate::support::GUARD, goes_on).await.expect("with the other token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_counts_on_its_database() {
    let scene = Scene::start(|_, _| {}).await;
    let token = scene.user("shop", Role::Write, &["main"], None);
    scene.comes(scene.options(Some(&token))).await;
    let on = |database: &str| scene.options(Some(&token)).database(database);
    for database in ["other", "no-such"] {
        let refused = scene.refused(on(database)).await;
        assert_eq!(refused.kind(), Some(FaultKind::Denied), "whether there is one is not told: {refused}");
        assert!(refused.to_string().contains("zeolite user grant shop"), "{refused}");
    }
    let refused = scene.refused(scene.options(None)).await;
    assert_eq!(refused.kind(), Some(FaultKind::Unauthenticated), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_his_limits_over_all_connections_and_the_operator_lifts_them() {
    let scene = Scene::start(|_, _| {}).await;
    let (token, other) = (Made::new().expect("randomness"), scene.user("other", Role::Write, &[], None));
    // A commit of 10,000 bytes is paid off in hours.
    let limits = Limits { sessions: Some(3), pins: Some(1), written_bytes_per_s: Some(1), ..Limits::default() };
    scene.change(|users| {
        users.add("shop", Role::Write, &[])?;
        users.keep("shop", &token, 0, None)?;
        users.limit("shop", |kept| *kept = limits)
    });
    let hasty = scene.options(Some(&token)).request_timeout(Duration::from_secs(1));
    let comes = || scene.comes(hasty.clone());
    let (first, second, third) = (comes().await, comes().await, comes().await);
    let refused = scene.refused(hasty.clone()).await;
    assert!(refused.to_string().contains("the user shop has 3 open sessions"), "{refused}");
    let pinned = first.pin().await.expect("one");
    let refused = second.pin().await.map(drop).expect_err("one over both");
    assert!(refused.to_string().contains("the user shop has 1 pinned snapshots"), "{refused}");
    drop(pinned);
    let pins = async { while second.pin().await.is_err() {} };
    tokio::time::timeout(crate::support::GUARD, pins).await.expect("it is free again");

    let large = async |db: &Db| {
        let record = Record::new("Thing", 1, vec![7; 10_000]);
        db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &record)).await
    };
    large(&first).await.expect("one thing of any size goes");
    for refused in [large(&second).await, set(&third, 1).await] {
        let refused = refused.expect_err("whichever the connection");
        assert!(refused.kind() == Some(FaultKind::Busy) && refused.to_string().contains("writes faster"), "{refused}");
    }
    second.newest().await.expect("reads are not bounded");
    set(&scene.comes(scene.options(Some(&other))).await, 2).await.expect("and others are not the worse for it");
    scene.change(|users| users.limit("shop", |kept| *kept = Limits::default()));
    let lifted = async { while large(&second).await.is_err() {} };
    tokio::time::timeout(crate::support::GUARD, lifted).await.expect("as soon as the server has looked");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_refused_alike_while_a_good_client_works() {
    let scene = Arc::new(Scene::start(|_, _| {}).await);
    let token = scene.user("shop", Role::Write, &[], None);
    let good = scene.comes(scene.options(Some(&token))).await;
    let (over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let wrong = ["zlt_00000000_00", "", token.id(), &format!("{}x", token.secret())].map(str::to_owned);
    let floods: Vec<_> = (0..16)
        .map(|number: usize| {
            let (scene, over, refused) = (scene.clone(), over.clone(), refused.clone());
            let options = scene.options(None).token(Some(Token::new(&wrong[number % wrong.len()])));
            tokio::spawn(async move {
                let mut told = std::collections::BTreeSet::new();
                while !over.load(Ordering::Relaxed) {
                    let error = scene.refused(options.clone()).await;
                    assert_eq!(error.kind(), Some(FaultKind::Unauthenticated), "{error}");
                    told.insert(error.to_string());
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                told
            })
        })
        .collect();
    let mut commits = 0;
    while commits < 50 || refused.load(Ordering::Relaxed) < 100 {
        set(&good, commits).await.expect("a good client goes on");
        commits += 1;
    }
    over.store(true, Ordering::Relaxed);
    let mut told = std::collections::BTreeSet::new();
    for flood in floods {
        told.extend(flood.await.expect("ends"));
    }
    assert_eq!(told.len(), 1, "one answer for every reason: {told:?}");
}
