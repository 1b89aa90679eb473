//! The binary as its users meet it: exit codes, streams, closed pipes.

use std::process::{Command, Output, Stdio};

fn zeolite(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zeolite"))
        .args(args)
        .env_remove("ZEOLITE_SERVER")
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An address where nobody listens: a port that was just free.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("has an address").to_string()
}

#[test]
fn wrong_usage_is_2_and_says_so_on_standard_error() {
    for args in
        [&["frobnicate"][..], &["get"], &["scan", r"titles/\q"], &["scan", "0", "--at", "someday"], &["undo", "xyz"]]
    {
        let output = zeolite(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn nobody_there_is_3_for_people_and_programs() {
    let address = nobody();
    let output = zeolite(&["status", "--server", &address]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("cannot reach a server"), "{}", text(&output.stderr));

    let output = zeolite(&["--json", "get", "0", "--server", &address]);
    assert_eq!(output.status.code(), Some(3));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("one json value");
    assert_eq!(error["exit_code"], 3);
    assert!(output.stdout.is_empty());
}

#[test]
fn help_tells_the_exit_codes() {
    let output = zeolite(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for line in ["0    done", "3    the server cannot be reached", "130  interrupted"] {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = zeolite(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("zeolite"), "{shell}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_zeolite"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn the_benchmark_of_zodb_says_which_interpreter_lacks_what() {
    let dir = tempfile::tempdir().expect("makes one");
    let bare = dir.path().join("python");
    std::fs::write(&bare, "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'ZODB'\" >&2\nexit 1\n")
        .expect("writes");
    std::fs::set_permissions(&bare, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("may");
    let told = |python: &str| {
        let output = zeolite(&["bench", "zodb", "--python", python, "speeds", "--rounds", "1"]);
        assert_eq!(output.status.code(), Some(5));
        text(&output.stderr)
    };
    let lacks = told(&bare.display().to_string());
    for part in ["No module named 'ZODB'", "pip install 'zeolite[bench]'", "--python"] {
        assert!(lacks.contains(part), "{lacks}");
    }
    assert!(told("/nowhere/python").contains("name an interpreter with --python"));
}

/// What a measurement does is done, on a real server, and each of its figures is told for each size.
#[test]
fn growth_is_measured_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("makes one");
    let data = dir.path().display().to_string();
    let output = zeolite(&["bench", "--growth", "200,400", "--bytes", "64", "--seconds", "1", "--data", &data]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    for what in
        ["fill", "commit p50", "load p50", "status", "plan", "pack", "open files", "resident memory", "open after"]
    {
        for size in ["at 200 objects", "at 400 objects"] {
            assert!(told.lines().any(|line| line.contains(what) && line.contains(size)), "{what} {size}: {told}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0, "its data is deleted");
}
