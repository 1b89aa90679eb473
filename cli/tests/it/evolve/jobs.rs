//! Jobs from plan to undo.

use super::scene::{ADD_ONE, CLASS, Scene};
use crate::served::{fill, text};
use zeolite_client::{Cell, Record};

fn all(count: usize, version: u32, number: &str) -> Vec<(u32, String)> {
    vec![(version, number.to_owned()); count]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_steps_every_object_and_the_job_can_be_undone() {
    let scene = Scene::with(250).await;
    let script = scene.script("add_one.sh", ADD_ONE).display().to_string();

    let tried =
        scene.evolve(&["plan", "numbers", "--class", CLASS, "--below", "2", "--dry-run", "--exec", "sh", &script]);
    assert_eq!(
        (&tried["total"], &tried["changed"], &tried["failed"]),
        (&250.into(), &250.into(), &0.into()),
        "{tried}"
    );
    assert_eq!(
        (&tried["samples"][0]["old"]["version"], &tried["samples"][0]["new"]["version"]),
        (&1.into(), &2.into())
    );
    assert_eq!(scene.numbers().await, all(250, 1, "0"), "a dry run changes nothing");
    scene.refused(4, &["show", "numbers"]);

    let planned = scene.evolve(&["plan", "numbers", "--class", CLASS, "--below", "2", "--gate", "--set", "workers=2"]);
    assert_eq!((&planned["state"], &planned["total"]), (&"planned".into(), &250.into()), "{planned}");
    assert!(scene.refused(1, &["ensure", "numbers"]).contains("planned"));

    let ran = scene.evolve(&["run", "numbers", "--tasks", "2", "--exec", "sh", &script]);
    assert_eq!((&ran["job"]["state"], &ran["worker"]["changed"]), (&"done".into(), &250.into()), "{ran}");
    assert_eq!(scene.numbers().await, all(250, 2, "1"));
    let certificate = scene.evolve(&["ensure", "numbers"]);
    assert_eq!((&certificate["objects"], &certificate["changed"]), (&250.into(), &250.into()), "{certificate}");
    assert!(certificate["gate_tid"].is_string(), "{certificate}");
    assert_eq!(scene.evolve(&["verify", "numbers"])["problems_total"], 0);
    let listed = scene.served.run(&["evolve", "list"]);
    assert!(text(&listed.stdout).contains("250 of 250"), "{}", text(&listed.stdout));

    let old_shape = scene.db.run(async |tx| tx.put(Cell::object(scene.oids[0]), &Record::new(CLASS, 1, "0"))).await;
    let refused = old_shape.expect_err("the gate is closed").to_string();
    assert!(refused.contains(CLASS) && refused.contains("numbers"), "{refused}");

    let undone = scene.evolve(&["undo", "numbers"]);
    assert_eq!(undone["job"]["state"], "undone", "{undone}");
    assert_eq!(scene.numbers().await, all(250, 1, "0"));
    scene.refused(1, &["ensure", "numbers"]);
    let said = scene.refused(1, &["run", "numbers", "--bump", "2"]);
    assert!(said.contains("was taken back"), "{said}");
    scene.evolve(&["forget", "numbers"]);
    scene.refused(4, &["show", "numbers"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_goes_to_the_quarantine_and_is_tried_again() {
    let scene = Scene::with(50).await;
    let odd = Cell::object(scene.oids[7]);
    scene.db.run(async |tx| tx.put(odd.clone(), &Record::new(CLASS, 1, "seven"))).await.expect("commits");
    let script = scene.script("add_one.sh", ADD_ONE).display().to_string();

    let tried =
        scene.served.run(&["--json", "evolve", "plan", "n", "--class", CLASS, "--dry-run", "--exec", "sh", &script]);
    assert_eq!(tried.status.code(), Some(1), "{}", text(&tried.stderr));
    let found: serde_json::Value = serde_json::from_slice(&tried.stdout).expect("json");
    assert_eq!((&found["failed"], &found["errors"][0]["first"]), (&1.into(), &odd.to_string().into()), "{found}");

    scene.evolve(&["plan", "n", "--class", CLASS, "--below", "2"]);
    let said = scene.refused(1, &["run", "n", "--exec", "sh", &script]);
    assert!(said.contains("failed") && said.contains("resume"), "{said}");
    let shown = scene.evolve(&["show", "n"]);
    assert_eq!((&shown["state"], &shown["counts"]["changed"]), (&"failed".into(), &49.into()), "{shown}");
    assert_eq!(shown["quarantine"][0]["cell"], odd.to_string());
    assert_eq!(shown["quarantine"][0]["error"], "no number that this step knows");

    scene.db.run(async |tx| tx.put(odd.clone(), &Record::new(CLASS, 1, "0"))).await.expect("commits");
    scene.evolve(&["resume", "n"]);
    let ran = scene.evolve(&["run", "n", "--exec", "sh", &script]);
    assert_eq!((&ran["job"]["state"], &ran["worker"]["changed"]), (&"done".into(), &1.into()), "{ran}");
    assert_eq!(scene.numbers().await, all(50, 2, "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_made_steps_and_every_kind_of_plan() {
    let scene = Scene::with(30).await;
    let (map, _) = fill(&scene.served.address).await;
    scene.evolve(&["plan", "shape", "--class", CLASS, "--below", "3"]);
    scene.evolve(&["run", "shape", "--bump", "3"]);
    assert_eq!(scene.numbers().await, all(30, 3, "0"));

    let list: String = scene.oids[..5].iter().map(|oid| format!("{oid}\n")).collect();
    let list = scene.script("oids", &list).display().to_string();
    scene.evolve(&["plan", "five", "--oids", &list]);
    let ran = scene.evolve(&["run", "five", "--delete"]);
    assert_eq!((&ran["job"]["total"], &ran["worker"]["changed"]), (&5.into(), &5.into()), "{ran}");
    assert_eq!(scene.served.code(&["get", &scene.oids[0].to_string()]), Some(4));
    scene.evolve(&["undo", "five"]);
    assert_eq!(scene.numbers().await, all(30, 3, "0"));

    let map = map.to_string();
    scene.evolve(&["plan", "entries", "--collection", &map, "--from", "b"]);
    let ran = scene.evolve(&["run", "entries", "--delete"]);
    assert_eq!(ran["worker"]["changed"], 2, "{ran}");
    let keys: Vec<_> = scene.served.json(&["scan", &map]).iter().map(|entry| entry["key"].clone()).collect();
    assert_eq!(keys, ["a"]);
    let reached = scene.evolve(&["plan", "all", "--reachable", "0"]);
    // What has a name in the root: the map and the counter. Jobs, their ledgers and the root itself are nobody's to step.
    assert_eq!(reached["total"], 2, "{reached}");
    scene.evolve(&["run", "all", "--delete"]);
    assert_eq!(scene.served.json(&["evolve", "list"]).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_held_changed_and_cancelled_while_a_worker_runs() {
    let scene = Scene::with(60).await;
    let script = scene.script("add_one.sh", ADD_ONE);
    scene.evolve(&["plan", "held", "--class", CLASS, "--set", "chunk_objects_max=5", "--set", "rate_max=20"]);
    let paused = scene.evolve(&["pause", "held", "-m", "lunch", "--for", "2h"]);
    assert_eq!((&paused["state"], &paused["reason"]), (&"paused".into(), &"lunch".into()), "{paused}");
    assert!(paused["until_unix_ms"].is_u64(), "{paused}");

    let mut watching = scene.watch("held");
    let mut worker = scene.worker("held", &script);
    watching.until(|state| state["state"] == "paused");
    scene.evolve(&["resume", "held"]);
    let running =
        watching.until(|state| state["done"].as_u64() >= Some(5) && state["workers"][0]["worker"].is_string());
    assert_eq!(running["phase"], "running", "{running}");
    scene.evolve(&["set", "held", "rate_max=30", "chunk_objects_max=7"]);
    assert_eq!(scene.evolve(&["show", "held"])["settings"]["rate_max"], "30");
    scene.evolve(&["cancel", "held", "-m", "enough"]);
    assert_eq!(worker.wait().expect("ends").code(), Some(1), "a cancelled job is not done");
    assert_eq!(watching.ends(), Some(1));
    let shown = scene.evolve(&["show", "held"]);
    assert_eq!((&shown["state"], &shown["reason"]), (&"cancelled".into(), &"enough".into()), "{shown}");
    let changed = shown["counts"]["changed"].as_u64().expect("a number");
    let numbers = scene.numbers().await;
    assert_eq!(numbers.iter().filter(|(_, number)| number == "1").count() as u64, changed);
    scene.evolve(&["undo", "held"]);
    assert_eq!(scene.numbers().await, all(60, 1, "0"));
}

/// The release that drops the old shape rests on it: so it is what is so now, not what was so when the job ended.
#[tokio::test(flavor = "multi_thread")]
async fn ensure_tells_what_is_so_now() {
    let scene = Scene::with(10).await;
    let write = async |version| {
        let cell = Cell::object(scene.oids[0]);
        scene.db.run(async |tx| tx.put(cell.clone(), &Record::new(CLASS, version, "0"))).await.expect("commits");
    };
    scene.evolve(&["plan", "n", "--class", CLASS, "--below", "2"]);
    scene.evolve(&["run", "n", "--bump", "2"]);
    let ensured = scene.evolve(&["ensure", "n"]);
    assert_eq!((&ensured["counted"], &ensured["looked_at"]), (&10.into(), &serde_json::Value::Null), "{ensured}");
    assert_eq!(ensured["now"]["old"], 0, "{ensured}");
    write(1).await;
    let said = scene.refused(1, &["ensure", "n"]);
    assert!(said.contains("was done, and is not now: 1 object is below version 2 now"), "{said}");
    assert_eq!(scene.evolve(&["show", "n"])["now"]["old"], 1);
    write(2).await;
    scene.evolve(&["ensure", "n"]);

    scene.evolve(&["plan", "gated", "--class", CLASS, "--below", "3", "--gate"]);
    scene.evolve(&["run", "gated", "--bump", "3"]);
    assert_eq!(scene.evolve(&["ensure", "gated"])["now"]["gate_min_version"], 3);
    scene.db.admin().open_gate(CLASS).await.expect("opens");
    let said = scene.refused(1, &["ensure", "gated"]);
    assert!(said.contains("the gate of class") && said.contains("is open"), "{said}");
    let shown = text(&scene.served.run(&["evolve", "show", "gated"]).stdout);
    assert!(shown.contains("the gate is open") && shown.contains("10 counted"), "{shown}");
}
