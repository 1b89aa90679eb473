//! Logins: what the cookie is, that it ends with its time, its token and its logout, and what wrong tokens cost.

use super::scene::{GUARD, OWN, Scene, guarded};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeolite_proto::Role;
use zeolite_server::clock::HandClock;

#[tokio::test(flavor = "multi_thread")]
async fn a_login_shows_the_page_and_ends_when_somebody_logs_out() {
    let scene = Scene::guarded().await;
    let token = scene.user("amy", Role::Admin).await;
    let before = scene.get("/api/who", "").await;
    assert!(before.status == 200 && before.body.contains(r#""login":true"#), "{before:?}");
    let cookie = scene.log_in(&token).await;
    assert!(!cookie.contains(token.secret()), "the token stays where it was");
    let who = scene.get("/api/who", &cookie).await;
    assert!(who.body.contains(r#""user":"amy""#) && who.body.contains(r#""login":false"#), "{who:?}");
    let mut events = scene.events(&cookie).await;
    events.until("event: state").await;
    let out = scene.post("/api/logout", &format!("{OWN}{cookie}"), "{}").await;
    assert!(out.status == 200 && out.head.contains("max-age=0"), "{out:?}");
    assert!(events.until("").await.contains("event: over"), "an open page hears of it");
    assert_eq!(scene.get("/api/events", &cookie).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_with_its_time_and_with_its_token() {
    let clock = Arc::new(HandClock::at(1_800_000_000_000_000_000));
    let scene = Scene::timed(clock.clone(), |settings, dir| {
        guarded(settings, dir);
        settings.metrics.login_s = 100;
    })
    .await;
    let token = scene.user("amy", Role::Read).await;
    let cookie = scene.log_in(&token).await;
    clock.advance(Duration::from_secs(99));
    assert_eq!(scene.get("/metrics", &cookie).await.status, 200);
    clock.advance(Duration::from_secs(1));
    assert_eq!(scene.get("/metrics", &cookie).await.status, 401);
    let cookie = scene.log_in(&token).await;
    let mut events = scene.events(&cookie).await;
    events.until("event: about").await;
    scene.change(|users| users.revoke(token.id()));
    assert!(events.until("").await.contains("event: over"));
    assert_eq!(scene.get("/metrics", &cookie).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_wait_longer_each_time_and_a_good_one_does_not() {
    let scene = Arc::new(Scene::guarded().await);
    let token = scene.user("amy", Role::Read).await;
    let wrong = format!(r#"{{"token":"{}0"}}"#, token.secret());
    let begun = Instant::now();
    for _ in 0..5 {
        let refused = scene.post("/api/login", OWN, &wrong).await;
        assert!(refused.status == 401 && !refused.head.contains("set-cookie"), "{refused:?}");
        assert!(!refused.body.contains(token.secret()), "{refused:?}");
    }
    // 0 + 50 + 100 + 150 + 200 ms at least.
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    // More at once than may wait: some are told at once to come back, and a good one comes in meanwhile.
    let flood: Vec<_> = (0..20)
        .map(|_| {
            let (scene, wrong) = (scene.clone(), wrong.clone());
            tokio::spawn(async move { scene.post("/api/login", OWN, &wrong).await.status })
        })
        .collect();
    scene.log_in(&token).await;
    for one in flood {
        let status = tokio::time::timeout(GUARD, one).await.expect("it is answered").expect("it ends");
        assert!(matches!(status, 401 | 429), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_in_a_header_is_as_wrong() {
    let scene = Scene::guarded().await;
    for header in ["authorization: Bearer zlt_0\r\n", "authorization: Basic YTpi\r\n", "cookie: zeolite_page=zlt_0\r\n"]
    {
        assert_eq!(scene.get("/metrics", header).await.status, 401, "{header}");
    }
}
