//! What a measurement leaves behind that is ended in the middle: nothing, and an exit code that says why.

use crate::program::{program, signal};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Whether a measurement has made its directory there, and a server has begun in it.
fn has_begun(dir: &Path) -> bool {
    let mut made = std::fs::read_dir(dir).expect("there").flatten();
    // The measurement of an engine has a directory for each of its engines.
    made.any(|made| std::fs::read_dir(made.path()).is_ok_and(|within| within.flatten().count() > 0))
}

/// All that is in a directory.
fn all(dir: &Path) -> Vec<PathBuf> {
    let there = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    there.flat_map(|path| [vec![path.clone()], all(&path)].concat()).collect()
}

fn leaves_nothing(part: &str, name: &str, code: i32) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().to_str().expect("UTF-8");
    let mut measured = program();
    measured.args(["bench", part, "--seconds", "600", "--clients", "4", "--data", data]);
    let mut child = measured.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    while !has_begun(dir.path()) {
        assert_eq!(child.try_wait().expect("can be asked"), None, "it goes on");
        std::thread::yield_now();
    }
    signal(&child, name);
    assert_eq!(child.wait().expect("ends").code(), Some(code));
    let left = all(dir.path());
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_measurement_that_is_terminated_leaves_nothing() {
    leaves_nothing("commits", "TERM", 143);
}

#[test]
fn a_measurement_that_is_interrupted_leaves_nothing() {
    leaves_nothing("commits", "INT", 130);
}

#[test]
fn a_measurement_that_hears_of_nothing_is_ended_all_the_same() {
    leaves_nothing("engine", "TERM", 143);
    leaves_nothing("engine", "INT", 130);
}
