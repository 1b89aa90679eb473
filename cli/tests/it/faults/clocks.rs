//! A wall clock that is set, a day ahead and a day back, under a server that has prepared transactions, pins, tokens and schedules.

use super::scene::{Scene, put};
use std::time::Duration;
use zeolite_client::{Record, Tid};

const DAY_S: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn commits_keep_their_order_whatever_is_done_to_the_clock_and_that_they_have_no_true_time_is_told() {
    let mut scene = Scene::start(&[]).await;
    let cell = scene.cell().await;
    let mut tids = Vec::new();
    for (round, ahead_s) in [0, DAY_S, 2 * DAY_S, -DAY_S, 0, -10 * DAY_S, DAY_S, 0].into_iter().enumerate() {
        scene.faults.set_clock(ahead_s);
        tids.push(scene.put(&cell, &[round as u8]).await.expect("commits"));
        if round == 4 {
            scene.kill_and_start().await;
        }
    }
    assert!(tids.is_sorted_by(|a, b| a < b), "{tids:?}");
    let (code, told) = scene.check();
    assert!(code == Some(1) && told.contains("ahead_s is 172"), "{told}");
    assert!(told.contains("set it right"), "{told}");
    assert!(scene.number("zeolite_newest_ahead_seconds") > 1.9 * DAY_S as f64);
    // What was written when can be read by its number, whatever its time is.
    for (round, tid) in tids.iter().enumerate() {
        let view = scene.db.at(*tid);
        assert_eq!(view.get(&cell).await.expect("reads").expect("there").data.as_ref(), [round as u8]);
    }
    scene.faults.set_clock(3 * DAY_S);
    put(&scene.db, &cell, b"later").await.expect("commits");
    let (code, told) = scene.check();
    assert_eq!(code, Some(0), "{told}");
    scene.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_time_are_of_time_that_passes_and_not_of_the_clock() {
    let scene = Scene::start(&["engine.pin_grace_s=0", "engine.history_min_s=3600"]).await;
    let cell = scene.cell().await;
    let first = scene.put(&cell, b"first").await.expect("commits");
    let pin = scene.db.pin().await.expect("pins");
    let tx = scene.db.begin().await.expect("begins");
    tx.put(scene.cell().await, &Record::new("Thing", 1, "prepared")).expect("encodes");
    let prepared = tx.prepare(Duration::from_secs(60)).await.expect("prepares");
    for ahead_s in [2 * DAY_S, -2 * DAY_S, 400 * DAY_S] {
        scene.faults.set_clock(ahead_s);
        scene.put(&cell, b"next").await.expect("commits");
        // A look of the server at its clock.
        scene.number("zeolite_uptime_seconds");
        let status = scene.status();
        assert!(status["pins"] == 1 && status["prepared"] == 1, "{status}");
    }
    // History of the last hour stays, although its times are of years.
    let packed = scene.served().json(&["pack"]);
    assert_eq!(packed.last().expect("told")["revisions_removed"], 0, "{packed:?}");
    assert_eq!(scene.db.at(first).get(&cell).await.expect("reads").expect("there").data.as_ref(), b"first");
    prepared.finish().await.expect("it has its minute");
    pin.release().await.expect("it was kept");
    assert!(scene.put(&cell, b"last").await.expect("commits") > Tid::NONE);
}
