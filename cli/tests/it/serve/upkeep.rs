//! The commands that change or check a running database: undo, pack, verify.

use crate::served::{Served, fill, program, text};
use zeolite_client::{Cell, Db, Record};

#[tokio::test(flavor = "multi_thread")]
async fn undo_pack_and_verify_leave_a_good_database() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let (_, object) = fill(&served.address).await;
    let object = object.to_string();

    let newest = served.json(&["history", &object])[0]["tid"].as_str().expect("a tid").to_owned();
    served.json(&["undo", &newest, "-m", "no"]);
    assert_eq!(served.json(&["get", &object])[0]["record"]["version"], 1);
    assert_eq!(served.code(&["undo", "0000000000000001"]), Some(4));

    let verified = &served.json(&["verify"])[0];
    assert_eq!(verified["good"], true);
    assert!(verified["transactions"].as_u64().is_some_and(|transactions| transactions >= 3), "{verified}");
    let planned = &served.json(&["pack", "--dry-run"])[0];
    assert_eq!(served.json(&["history", &object]).len(), 3, "a dry run removes nothing");
    whole("pack", &text(&served.run(&["pack", "--dry-run"]).stderr));
    let packed = &served.json(&["pack"])[0];
    assert_eq!(packed["revisions_removed"], planned["revisions_removed"]);
    assert_eq!(packed["revisions_removed"], 2);
    assert_eq!(served.json(&["history", &object]).len(), 1);
    assert_eq!(served.json(&["verify"])[0]["good"], true);

    whole("verify", &text(&served.run(&["verify"]).stderr));
    let busy = program().args(["verify", "--data"]).arg(dir.path()).output().expect("runs");
    assert_eq!(busy.status.code(), Some(5), "a directory in use is not touched: {}", text(&busy.stderr));
    assert_eq!(served.stop(), Some(0));

    for command in ["verify", "reindex", "verify"] {
        let output = program().args([command, "--data"]).arg(dir.path()).output().expect("runs");
        assert_eq!(output.status.code(), Some(0), "{command}: {}", text(&output.stderr));
        whole(command, &text(&output.stderr));
    }
    let served = Served::start(dir.path());
    assert_eq!(served.json(&["get", &object])[0]["record"]["version"], 1);
}

/// The last that is told of a work which is done is that it is.
fn whole(command: &str, told: &str) {
    let begins = format!("{command}: ");
    let last = told.lines().filter_map(|line| line.strip_prefix(&begins)).next_back();
    // Of a pack that finds nothing, and of a log that was read at once, nothing is told.
    let Some(last) = last else { return assert_ne!(command, "verify", "{told}") };
    let (numbers, rest) = last.split_once(" of ").map_or(("", last), |(done, rest)| (done, rest));
    let all = rest.split_whitespace().next().unwrap_or_default();
    assert!(last.ends_with("done") && (numbers.is_empty() || numbers == all), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn references_to_nothing_are_a_note_unless_it_is_strict_and_hide_no_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let (map, object) = fill(&served.address).await;
    let db = Db::connect(&served.address).await.expect("connects");
    db.run(async |tx| tx.delete(Cell::object(object))).await.expect("deletes what the root refers to");
    db.run(async |tx| tx.put(Cell::object(map), &Record::new("Marked", 1, "marked"))).await.expect("commits");
    let verified = &served.json(&["verify"])[0];
    assert_eq!(
        (&verified["good"], &verified["problems_total"], &verified["dangling_total"]),
        (&true.into(), &0.into(), &1.into())
    );
    assert_eq!(verified["dangling"], serde_json::json!([{ "from": "0", "to": object.to_string() }]));
    let shown = served.run(&["verify"]);
    assert_eq!(shown.status.code(), Some(0));
    let note = format!("note: object 0 refers to object {object}, which does not exist");
    assert!(text(&shown.stdout).contains(&note), "{}", text(&shown.stdout));
    assert_eq!(served.code(&["verify", "--strict"]), Some(1));
    assert_eq!(served.stop(), Some(0));

    let offline = |strict: &[&str]| {
        let output =
            program().args(["--json", "verify"]).args(strict).arg("--data").arg(dir.path()).output().expect("runs");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one json value");
        (output.status.code(), told["dangling_total"].clone(), told["problems_total"].clone())
    };
    assert_eq!(offline(&[]), (Some(0), 1.into(), 0.into()));
    assert_eq!(offline(&["--strict"]), (Some(1), 1.into(), 0.into()));
    let log =
        std::fs::read_dir(dir.path().join("log")).expect("lists").next().expect("a segment").expect("lists").path();
    let mut bytes = std::fs::read(&log).expect("reads");
    let at = bytes.windows(6).position(|window| window == b"marked").expect("the record is there");
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).expect("writes");
    assert_eq!(offline(&[]).0, Some(1), "damage is damage");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_would_take_back_later_work_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let (_, object) = fill(&served.address).await;
    let object = object.to_string();
    let history = served.json(&["history", &object]);
    let older = history[1]["tid"].as_str().expect("a tid");
    let refused = served.run(&["undo", older]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains(&object), "it names the cell: {}", text(&refused.stderr));
    assert_eq!(served.json(&["history", &object]).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pack_takes_garbage_unless_told_to_keep_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    fill(&served.address).await;
    let db = Db::connect(&served.address).await.expect("connects");
    let lost = db.new_oid().await.expect("an oid");
    let put = async |tx: zeolite_client::Tx| tx.put(Cell::object(lost), &Record::new("Lost", 1, "x"));
    db.run(put).await.expect("commits");
    let lost = lost.to_string();
    assert_eq!(served.json(&["pack", "--keep-garbage"])[0]["objects_removed"], 0);
    assert_eq!(served.code(&["get", &lost]), Some(0));
    assert_eq!(served.json(&["pack"])[0]["objects_removed"], 1);
    assert_eq!(served.code(&["get", &lost]), Some(4));
    assert_eq!(served.code(&["get", "0"]), Some(0));
}
