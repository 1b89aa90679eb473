//! Evolves, as `check` counts them and `top` shows them.

use super::served::{Served, text};
use serde_json::Value;
use zeolite_client::{Cell, Db, Record};

/// The exit code and the line of a check that looks at nothing that depends on the machine.
fn check(served: &Served, more: &[&str]) -> (Option<i32>, String) {
    let quiet = ["free_percent=", "answer_ms=", "live_p99_ms=", "fsync_p99_ms="];
    let mut args = vec!["check"];
    quiet.iter().for_each(|none| args.extend(["-w", none, "-c", none]));
    let output = served.run(&[&args[..], more].concat());
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    (output.status.code(), text(&output.stdout))
}

fn top(served: &Served) -> Value {
    let output = served.run(&["--json", "top", "--once", "-i", "0.1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one json value")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evolve_that_waits_has_a_line_and_no_alert() {
    let served = Served::start(&[]);
    let (code, line) = check(&served, &["-c", "evolve_failed=0"]);
    assert!(
        code == Some(0) && line.contains(" evolve_failed=0;0;0;0 evolve_running=0;;;0 evolve_silent=0;0;;0 "),
        "{line}"
    );
    let before = top(&served);
    assert_eq!((&before["jobs"], &before["sessions"]), (&Value::Array(Vec::new()), &0.into()), "{before}");

    let db = Db::connect(&served.address).await.expect("connects");
    let oid = db.new_oid().await.expect("an oid");
    db.run(async |tx| tx.put(Cell::object(oid), &Record::new("Thing", 1, "x"))).await.expect("commits");
    let run = |args: &[&str]| {
        let output = served.run(&[&["evolve"], args].concat());
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(run(&["plan", "waits", "--class", "Thing"]).0, Some(0));
    assert_eq!(run(&["pause", "waits", "--message", "till monday"]).0, Some(0));

    let sample = top(&served);
    let jobs = sample["jobs"].as_array().expect("a list");
    assert_eq!((jobs.len(), &jobs[0]["job"], &jobs[0]["state"]), (1, &"waits".into(), &"paused".into()), "{sample}");
    assert_eq!((&jobs[0]["done"], &jobs[0]["total"], &jobs[0]["left_ms"]), (&0.into(), &1.into(), &Value::Null));
    let table = text(&served.run(&["top", "--once", "-i", "0.1"]).stdout);
    let line = table.lines().find(|line| line.starts_with("waits ")).unwrap_or_else(|| panic!("{table}"));
    assert!(line.contains(" 0.0% ") && line.contains(" 0.0/s ") && line.ends_with("paused: till monday"), "{line}");

    assert_eq!(check(&served, &[]).0, Some(0));
    served.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_evolve_warns_until_it_is_mended_or_cancelled() {
    let served = Served::start(&[]);
    let db = Db::connect(&served.address).await.expect("connects");
    let oid = db.new_oid().await.expect("an oid");
    db.run(async |tx| tx.put(Cell::object(oid), &Record::new("Thing", 1, "x"))).await.expect("commits");
    let run = |args: &[&str]| {
        let output = served.run(&[&["evolve"], args].concat());
        (output.status.code(), text(&output.stderr))
    };
    let any_disk = ["--set", "disk_pause_percent=0", "--set", "disk_stop_percent=0"];
    assert_eq!(run(&[&["plan", "things", "--class", "Thing", "--below", "2"], &any_disk[..]].concat()).0, Some(0));
    let refuses = format!("while read -r line; do echo '{{\"oid\":\"{oid}\",\"error\":\"no title\"}}'; done");
    let (code, said) = run(&["run", "things", "--exec", "sh", "-c", &refuses]);
    assert!(code == Some(1) && said.contains("failed"), "{said}");

    let (code, line) = check(&served, &[]);
    assert!(code == Some(1) && line.starts_with("ZEOLITE WARNING: evolve_failed is 1 (warning 0)"), "{line}");
    assert!(line.contains(" evolve_failed=1;0;;0 "), "{line}");
    assert_eq!(check(&served, &["-c", "evolve_failed=0"]).0, Some(2), "critical for whoever wants it so");
    assert_eq!(check(&served, &["-w", "evolve_failed="]).0, Some(0), "or nothing at all");

    assert_eq!(run(&["resume", "things"]).0, Some(0));
    assert_eq!(check(&served, &[]).0, Some(0));
    assert_eq!(run(&["run", "things", "--exec", "sh", "-c", &refuses]).0, Some(1));
    assert_eq!(check(&served, &[]).0, Some(1), "it has failed again");
    assert_eq!(run(&["cancel", "things", "--message", "enough"]).0, Some(0));
    assert_eq!(check(&served, &[]).0, Some(0));
    served.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_transaction_that_comes_behind_the_end_is_told_until_it_is_paid() {
    let served = Served::start(&[]);
    let db = Db::connect(&served.address).await.expect("connects");
    let oid = db.new_oid().await.expect("an oid");
    db.run(async |tx| tx.put(Cell::object(oid), &Record::new("Thing", 1, "x"))).await.expect("commits");
    let late = db.begin().await.expect("begins");
    let run = |args: &[&str]| served.run(&[&["evolve"], args].concat()).status.code();
    let any_disk = ["--set", "disk_pause_percent=0", "--set", "disk_stop_percent=0"];
    assert_eq!(run(&[&["plan", "ends", "--class", "Thing", "--below", "2"], &any_disk[..]].concat()), Some(0));
    assert_eq!((run(&["run", "ends", "--bump", "2"]), run(&["ensure", "ends"])), (Some(0), Some(0)));
    late.put(Cell::object(oid), &Record::new("Thing", 1, "late")).expect("open");
    late.commit().await.expect("it never loses");
    let (code, line) = check(&served, &[]);
    assert!(code == Some(1) && line.contains("evolve_owing is 1 (warning 0)"), "{line}");
    assert_eq!(run(&["ensure", "ends"]), Some(1));
    assert_eq!(run(&["run", "ends", "--bump", "3"]), Some(4), "another step than it was begun with");
    assert_eq!((run(&["run", "ends", "--bump", "2"]), run(&["ensure", "ends"])), (Some(0), Some(0)));
    let record = db.now().get(&Cell::object(oid)).await.expect("reads").expect("is there");
    assert_eq!((record.version, &record.data[..]), (2, &b"late"[..]));
    let (code, line) = check(&served, &["-w", "free_percent=0:", "-c", "free_percent=0:"]);
    assert!(code == Some(0) && line.contains(" evolve_owing=0;"), "{line}");
}
