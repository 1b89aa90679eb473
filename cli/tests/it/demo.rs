//! The demo on a part of WordNet: it ends well, it can be killed at any moment, and it goes on where it was stopped.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const SYNSETS: &str = "1500";

fn demo(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeolite"));
    command.args(["demo", "--clients", "4", "--seconds", "1", "--synsets", SYNSETS, "--data"]).arg(dir);
    command
}

fn finished(dir: &Path) -> Value {
    let output = demo(dir).arg("--json").output().expect("the binary starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("one json value")
}

fn good(told: &Value) {
    let invariants = told["invariants"].as_array().expect("invariants");
    assert!(invariants.len() >= 20, "{told}");
    assert!(invariants.iter().all(|invariant| invariant["holds"] == true), "{told}");
}

#[test]
fn it_migrates_beside_live_clients_without_a_conflict() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = finished(dir.path());
    good(&told);
    for window in [&told["before"], &told["migration"]["live"]] {
        assert!(window["commits"].as_u64().expect("a number") > 0, "{told}");
        assert_eq!(window["conflicts"], 0, "{told}");
    }
    let again = finished(dir.path());
    good(&again);
    assert_eq!(again["migration"], Value::Null, "there is nothing left to migrate");
}

/// Kills the demo when it has said that it is at a stage, and lets the next run finish.
#[test]
fn killed_at_any_stage_it_goes_on() {
    for stage in ["load", "relate", "before", "migrate", "check"] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child =
            demo(dir.path()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("has a stderr")).lines();
        let reached = lines.any(|line| line.expect("reads").starts_with(&format!("{stage}:")));
        assert!(reached, "the demo never came to {stage:?}");
        child.kill().expect("kills");
        child.wait().expect("ends");
        good(&finished(dir.path()));
    }
}

#[test]
fn ctrl_c_is_130_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = demo(dir.path()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("has a stderr")).lines();
    assert!(lines.any(|line| line.expect("reads").starts_with("before:")));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    good(&finished(dir.path()));
}

#[test]
fn fresh_deletes_only_what_looks_like_a_demo() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("precious"), "x").expect("writes");
    let output = demo(dir.path()).arg("--fresh").output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(dir.path().join("precious").exists());
}
