//! Workers that are gone: what is told of a job on which nobody works any more.

use super::scene::{ADD_ONE, CLASS, Scene};
use crate::served::text;
use zeolite_client::{Cell, Record, evolve};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_not_told_as_one_that_works() {
    let scene = Scene::with(200).await;
    let script = scene.script("add_one.sh", ADD_ONE);
    let slow = ["--set", "chunk_objects_max=5", "--set", "rate_max=20", "--set", "lease_ms=500"];
    scene.evolve(&[&["plan", "n", "--class", CLASS, "--below", "2"], &slow[..]].concat());
    let mut watching = scene.watch("n");
    let mut worker = scene.worker("n", &script);
    let working = watching.until(|state| state["done"].as_u64() >= Some(10) && state["silent_ms"].is_null());
    assert_eq!(working["workers"].as_array().map(Vec::len), Some(1), "{working}");
    worker.kill().expect("kills");
    worker.wait().expect("ends");

    let silent = watching.until(|state| state["silent_ms"].is_u64());
    assert_eq!((&silent["state"], &silent["left_ms"]), (&"running".into(), &serde_json::Value::Null), "{silent}");
    assert_eq!((&silent["rate"], &silent["workers"][0]["rate"]), (&0.0.into(), &0.0.into()), "{silent}");
    for command in [&["evolve", "list"][..], &["evolve", "show", "n"]] {
        let told = text(&scene.served.run(command).stdout);
        assert!(told.contains("running: no sign of its workers for ") && !told.contains("left\n"), "{told}");
    }
    let quiet = ["free_percent=", "answer_ms=", "live_p99_ms=", "fsync_p99_ms="];
    let mut check = vec!["check"];
    quiet.iter().for_each(|none| check.extend(["-w", none, "-c", none]));
    let checked = scene.served.run(&check);
    let line = text(&checked.stdout);
    assert!(checked.status.code() == Some(1) && line.contains("evolve_silent is 1 (warning 0)"), "{line}");

    scene.evolve(&["set", "n", "rate_max=0"]);
    let ran = scene.evolve(&["run", "n", "--exec", "sh", &script.display().to_string()]);
    assert_eq!((&ran["job"]["state"], &ran["job"]["silent_ms"]), (&"done".into(), &serde_json::Value::Null), "{ran}");
}

/// More jobs than `check` tells in full, and nobody works on any of them: their only worker has given its range back.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_nobody_works_on_are_all_told() {
    let scene = Scene::with(20).await;
    for (number, oid) in scene.oids.iter().enumerate() {
        let list = scene.script("list", &format!("{oid}\n")).display().to_string();
        let name = format!("n{number:02}");
        scene.evolve(&["plan", &name, "--oids", &list, "--set", "lease_ms=50"]);
        scene.refused(1, &["run", &name, "--exec", "false"]);
    }
    let mut watching = scene.watch("n19");
    let alone = watching.until(|state| state["silent_ms"].is_u64());
    let reason = alone["reason"].as_str().expect("a text");
    assert!(reason.contains("does not work here") && reason.contains("; nobody works on it for "), "{reason}");
    assert_eq!(alone["workers"].as_array().map(Vec::len), Some(0), "{alone}");
    let told = text(&scene.served.run(&["evolve", "list"]).stdout);
    assert_eq!(told.matches("nobody works on it for ").count(), 20, "{told}");
    let line = text(&scene.served.run(&["check"]).stdout);
    assert!(line.contains(" evolve_running=20;") && line.contains(" evolve_silent=20;"), "{line}");
    // Somebody does again, and one is held by an operator.
    for name in ["n00", "n01"] {
        scene.evolve(&["pause", name]);
    }
    scene.evolve(&["run", "n02", "--step-changed", "--bump", "2"]);
    let line = text(&scene.served.run(&["check"]).stdout);
    assert!(line.contains(" evolve_running=19;") && line.contains(" evolve_silent=17;"), "{line}");
}

/// A job whose record is gone, or is of a program to come, does not keep the others from being told.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_read_is_told_as_such() {
    let scene = Scene::with(1).await;
    scene.evolve(&["plan", "good", "--class", CLASS]);
    scene.evolve(&["plan", "odd", "--class", CLASS]);
    let job = evolve::find(&scene.db, "odd").await.expect("is there");
    scene
        .db
        .run(async |tx| tx.put(Cell::object(job.oid()), &Record::new("zeolite.evolve.Job", 9, "x")))
        .await
        .expect("puts");
    let told = scene.served.json(&["evolve", "list"]);
    let states: Vec<_> = told.iter().map(|job| (job["job"].clone(), job["state"].clone())).collect();
    assert_eq!(states, [("good".into(), "planned".into()), ("odd".into(), "unreadable".into())]);
    scene.evolve(&["run", "good", "--bump", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_gives_up_leaves_the_reason() {
    let scene = Scene::with(5).await;
    scene.evolve(&["plan", "n", "--class", CLASS, "--below", "2"]);
    let said = scene.refused(1, &["run", "n", "--exec", "sh", "-c", "exit 3"]);
    assert!(said.contains("does not work here") && said.contains("exit status: 3"), "{said}");
    let shown = scene.evolve(&["show", "n"]);
    let reason = shown["reason"].as_str().expect("a text");
    assert_eq!((&shown["state"], &shown["counts"]["done"]), (&"running".into(), &0.into()), "{shown}");
    assert!(reason.contains("ended: the step does not work here") && reason.contains("at "), "{reason}");
    let script = scene.script("add_one.sh", ADD_ONE).display().to_string();
    // What it did not do is bound to it: another one has to be meant.
    let said = scene.refused(4, &["run", "n", "--exec", "sh", &script]);
    assert!(said.contains("was begun with the step") && said.contains("--step-changed"), "{said}");
    scene.evolve(&["run", "n", "--step-changed", "--exec", "sh", &script]);
    let shown = scene.evolve(&["show", "n"]);
    assert_eq!((&shown["state"], &shown["reason"]), (&"done".into(), &"".into()), "{shown}");
}
