//! Workers that are stopped in the middle, by Ctrl-C or for good: the job goes on, and no object is stepped twice.

use super::scene::{ADD_ONE, CLASS, Scene};
use crate::served::signal;

const OBJECTS: usize = 400;

/// A job whose worker takes some seconds, in small chunks; of all objects of the class, whatever their version: so nothing
/// but the ledger keeps an object from being stepped twice.
fn planned(scene: &Scene) {
    let settings = ["--set", "chunk_objects_max=10", "--set", "rate_max=100", "--set", "lease_ms=500"];
    scene.evolve(&[&["plan", "once", "--class", CLASS], &settings[..]].concat());
}

async fn finish(scene: &Scene, script: &str, before: u64) {
    scene.evolve(&["set", "once", "rate_max=0"]);
    let ran = scene.evolve(&["run", "once", "--tasks", "2", "--step-changed", "--exec", "sh", script]);
    assert_eq!((&ran["job"]["state"], &ran["job"]["counts"]["changed"]), (&"done".into(), &OBJECTS.into()), "{ran}");
    let changed = ran["worker"]["changed"].as_u64().expect("a number");
    assert!(changed > 0 && changed + before <= OBJECTS as u64, "{before} before, {ran}");
    assert_eq!(scene.numbers().await, vec![(2, "1".to_owned()); OBJECTS], "each was stepped exactly once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_followed_by_another() {
    let scene = Scene::with(OBJECTS).await;
    let script = scene.script("add_one.sh", ADD_ONE);
    planned(&scene);
    let mut before = 0;
    for least in [20, 60, 100] {
        let mut watching = scene.watch("once");
        let mut worker = scene.worker("once", &script);
        let state = watching.until(|state| state["done"].as_u64() >= Some(least));
        worker.kill().expect("kills");
        worker.wait().expect("ends");
        before = state["done"].as_u64().expect("a number");
    }
    finish(&scene, &script.display().to_string(), before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_finishes_the_chunk_and_gives_the_range_back() {
    let scene = Scene::with(OBJECTS).await;
    let script = scene.script("add_one.sh", ADD_ONE);
    planned(&scene);
    let mut watching = scene.watch("once");
    let mut worker = scene.worker("once", &script);
    watching.until(|state| state["done"].as_u64() >= Some(20));
    signal(&worker, "INT");
    assert_eq!(worker.wait().expect("ends").code(), Some(130));
    let shown = scene.evolve(&["show", "once"]);
    assert_eq!(shown["workers"].as_array().map(Vec::len), Some(0), "nobody holds a range: {shown}");
    assert_eq!(shown["phase"], "running", "{shown}");
    finish(&scene, &script.display().to_string(), shown["done"].as_u64().expect("a number")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_ends_at_once() {
    let scene = Scene::with(OBJECTS).await;
    // It never answers: the chunk cannot be finished.
    let script = scene.script("never.sh", "while IFS= read -r line; do echo asked >&2; done\n");
    planned(&scene);
    let mut watching = scene.watch("once");
    let mut worker = scene.worker("once", &script);
    watching.until(|state| state["workers"][0]["worker"].is_string());
    signal(&worker, "INT");
    signal(&worker, "INT");
    // Two signals may arrive as one: then the next one is the second.
    while worker.try_wait().expect("asks").is_none() {
        signal(&worker, "INT");
    }
    assert_eq!(worker.wait().expect("ends").code(), Some(130));
    let add_one = scene.script("add_one.sh", ADD_ONE).display().to_string();
    finish(&scene, &add_one, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_in_the_middle_is_waited_for() {
    let scene = Scene::with(OBJECTS).await;
    let script = scene.script("add_one.sh", ADD_ONE);
    planned(&scene);
    let mut watching = scene.watch("once");
    let mut worker = scene.worker("once", &script);
    watching.until(|state| state["done"].as_u64() >= Some(50));
    let scene = scene.restart(true);
    watching.until(|state| state["done"].as_u64() >= Some(150));
    let scene = scene.restart(false);
    scene.evolve(&["set", "once", "rate_max=0"]);
    assert_eq!(worker.wait().expect("ends").code(), Some(0));
    assert_eq!(watching.ends(), Some(0));
    assert_eq!(scene.numbers().await, vec![(2, "1".to_owned()); OBJECTS], "each was stepped exactly once");
}
