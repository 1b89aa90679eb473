//! Open pages: what they are told, how many there may be, and one that does not read.

use super::scene::{GUARD, Scene};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeolite_proto::Schedule;

#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_is_told_the_past_then_each_second_and_how_things_are() {
    let scene = Scene::open().await;
    let mut first = scene.events("").await;
    first.until("event: sample").await;
    let text = first.until("event: state").await;
    assert!(
        text.contains("event: about") && text.contains(r#""may":{"evolves":true,"mode":true,"sessions":true}"#),
        "{text}"
    );
    // The past is there at once for whoever comes later.
    let mut second = scene.events("").await;
    let about = second.until("\n\n").await.to_owned();
    assert!(about.contains(r#""samples":[{"at":"#), "{about}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_page_too_many_is_told_to_come_back_and_a_place_is_free_again() {
    let scene = Scene::start(|settings, _| settings.metrics.viewers_max = 1).await;
    let mut first = scene.events("").await;
    first.until("event: about").await;
    let full = scene.get("/api/events", "").await;
    assert!(full.status == 503 && full.head.contains("retry-after") && full.body.contains("viewers_max"), "{full:?}");
    assert_eq!(scene.get("/metrics", "").await.status, 200, "others are not the worse for it");
    drop(first);
    becomes_free(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_does_not_read_is_cut() {
    let scene = Scene::start(|settings, _| {
        settings.metrics.viewers_max = 1;
        settings.metrics.request_timeout_ms = 1000;
    })
    .await;
    // More than the system takes for a reader that stands still.
    let error = "x".repeat(16 << 20);
    scene.server.board().tell("main", Schedule { work: "backup".into(), every_ms: 1, error, ..Schedule::default() });
    let mut unread = scene.events("").await;
    unread.until("event: about").await;
    assert_eq!(scene.get("/api/events?database=main", "").await.status, 503, "it has the place");
    becomes_free(&scene).await;
    let taken = unread.until("").await.len();
    assert!(unread.text.contains("event: state"), "it is under way");
    assert!(taken < 1 << 20, "what was on its way: {taken} bytes of the 16 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_said_half_makes_room_and_who_has_asked_does_not() {
    let scene = Scene::start(|settings, _| settings.metrics.connections_max = 3).await;
    let mut page = scene.events("").await;
    page.until("event: about").await;
    let half = [
        "GET /hea",
        "POST /api/login HTTP/1.1\r\nHost: localhost\r\nx-zeolite: page\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
    ];
    let mut kept = Vec::new();
    for words in half.into_iter().cycle().take(6) {
        let mut stream = TcpStream::connect(scene.address()).await.expect("it listens");
        stream.write_all(words.as_bytes()).await.expect("sent");
        kept.push(stream);
    }
    assert_eq!(scene.get("/healthz", "").await.status, 200);
    let mut rest = Vec::new();
    // The first is closed; cut off or in order, as the system says it.
    drop(tokio::time::timeout(GUARD, kept[0].read_to_end(&mut rest)).await.expect("it is closed"));
    assert!(rest.is_empty(), "{rest:?}");
    page.until("event: state").await;
    let one = Scene::start(|settings, _| settings.metrics.connections_max = 1).await;
    let mut page = one.events("").await;
    page.until("event: about").await;
    assert_eq!(one.get("/healthz", "").await.status, 0, "who has asked keeps the place");
    page.until("event: state").await;
}

async fn becomes_free(scene: &Scene) {
    let again = async { while !scene.events("").await.until("\r\n").await.contains(" 200 ") {} };
    tokio::time::timeout(GUARD, again).await.expect("a place becomes free");
}
