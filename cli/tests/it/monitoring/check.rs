//! `zeolite check` as a monitoring system reads it: one line, exit codes 0 to 3, performance data by the guidelines.

use super::served::{Served, program, text};
use std::net::TcpListener;
use std::process::Output;

/// State and text of the one line; its performance data as (label, value, unit, thresholds and bounds).
struct Line {
    code: i32,
    state: String,
    text: String,
    data: Vec<(String, f64, String, Vec<String>)>,
}

/// Reads the line by the rules, and panics where it breaks one.
fn line(output: &Output) -> Line {
    let code = output.status.code().expect("an exit code");
    let told = text(&output.stdout);
    assert!(told.ends_with('\n') && told.matches('\n').count() == 1, "one line: {told:?} {}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let (line, data) = told.trim_end().split_once(" | ").unwrap_or((told.trim_end(), ""));
    assert!(!line.contains('|'), "{line}");
    let (state, text) = line.strip_prefix("ZEOLITE ").and_then(|rest| rest.split_once(": ")).expect("a state");
    let states = ["OK", "WARNING", "CRITICAL", "UNKNOWN"];
    assert_eq!(states.iter().position(|known| *known == state), Some(code as usize), "{line}");
    Line { code, state: state.into(), text: text.into(), data: data.split_whitespace().map(datum).collect() }
}

fn datum(text: &str) -> (String, f64, String, Vec<String>) {
    let (label, rest) = text.split_once('=').unwrap_or_else(|| panic!("label=value: {text}"));
    assert!(label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{text}");
    let mut fields = rest.split(';').map(str::to_owned);
    let value = fields.next().unwrap_or_default();
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit()).to_owned();
    let unit = value[digits.len()..].to_owned();
    assert!(["", "ms", "s", "%", "B", "c"].contains(&unit.as_str()), "{text}");
    assert!(digits.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-'), "{text}");
    let fields: Vec<String> = fields.collect();
    assert!(fields.len() <= 4, "{text}");
    (label.into(), digits.parse().expect("a number"), unit, fields)
}

#[test]
fn a_good_server_is_ok_and_every_number_is_performance_data() {
    let served = Served::start(&[]);
    // The machine that runs this may have a full or a slow disk.
    let line = line(&served.run(&["check", "-w", "free_percent=", "-c", "free_percent=", "-w", "answer_ms=9999999"]));
    assert_eq!((line.code, line.state.as_str()), (0, "OK"), "{}", line.text);
    assert!(line.text.contains("mode normal") && line.text.contains("up "), "{}", line.text);
    let labels: Vec<&str> = line.data.iter().map(|datum| datum.0.as_str()).collect();
    for label in ["live_p99_ms", "fsync_p99_ms", "queue_live", "free_percent", "pinned_bytes", "commits"] {
        assert!(labels.contains(&label), "{label}: {labels:?}");
    }
    let answer = line.data.iter().find(|datum| datum.0 == "answer_ms").expect("a time");
    assert!(answer.1 > 0.0 && answer.2 == "ms" && answer.3 == ["9999999", "5000", "0"], "{answer:?}");
    served.stop();
}

#[test]
fn thresholds_decide_the_exit_code() {
    let served = Served::start(&[]);
    let base = ["check", "-w", "free_percent=", "-c", "free_percent=", "-c", "answer_ms=", "-w", "answer_ms="];
    let check = |more: &[&str]| line(&served.run(&[&base[..], more].concat()));
    assert_eq!(check(&[]).code, 0);
    // A server that runs has been up for a while: each range alerts for any time or for none.
    assert_eq!(check(&["--warn", "uptime_s=@0:"]).code, 1);
    assert_eq!(check(&["--warning", "uptime_s=~:-1"]).code, 1);
    assert_eq!(check(&["--warning", "uptime_s=0:"]).code, 0);
    let critical = check(&["--warn", "uptime_s=@0:", "--crit", "uptime_s=-2:-1", "-w", "sessions=@0"]);
    assert_eq!(critical.code, 2);
    assert!(critical.text.starts_with("uptime_s is "), "the worst first: {}", critical.text);
    assert!(critical.text.contains("(critical -2:-1); sessions is 0 (warning @0)"), "{}", critical.text);
    served.stop();
}

#[test]
fn a_mode_that_an_operator_has_set_is_a_warning_with_its_banner() {
    let served = Served::start(&[]);
    assert!(served.run(&["mode", "read-only", "--banner", "back | at five"]).status.success());
    let line = line(&served.run(&["check", "-w", "free_percent=", "-c", "free_percent="]));
    assert_eq!(line.code, 1, "{}", line.text);
    assert!(line.text.starts_with("mode read-only, \"back / at five\""), "{}", line.text);
    served.stop();
}

#[test]
fn nobody_there_is_critical() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("has an address").to_string();
    let check = || line(&program().args(["check", "--timeout", "1", "--server", &address]).output().expect("runs"));
    let silent = check();
    // Whichever of the two limits, of the check and of the request, comes first.
    let told = ["no answer", "did not answer"].iter().any(|words| silent.text.contains(words));
    assert!(silent.code == 2 && told, "{}", silent.text);
    drop(listener);
    let refused = check();
    assert!(refused.code == 2 && refused.text.contains("cannot reach a server"), "{}", refused.text);
}

#[test]
fn what_makes_no_sense_is_unknown() {
    let bad = [
        &["check", "--no-such-option"][..],
        &["check", "-w", "no_such_measure=1"],
        &["check", "-w", "queue_live=many"],
        &["check", "-c", "queue_live"],
        &["check", "--timeout", "soon"],
    ];
    for args in bad {
        let line = line(&program().args(args).output().expect("runs"));
        assert_eq!(line.code, 3, "{args:?}: {}", line.text);
    }
    let help = program().args(["check", "--help"]).output().expect("runs");
    assert!(help.status.success() && text(&help.stdout).contains("free_percent"));
}

#[test]
fn programs_get_json() {
    let served = Served::start(&[]);
    let output = served.run(&["--json", "check", "-c", "uptime_s=~:-1"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!((told["state"].as_str(), told["exit_code"].as_i64()), (Some("CRITICAL"), Some(2)), "{told}");
    assert_eq!(output.status.code(), Some(2));
    served.stop();
}
