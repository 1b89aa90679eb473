//! The commands that work on a data directory without a server: `verify --data` and `reindex`.

use crate::served::{Served, fill, program, text};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use zeolite_client::Oid;

const DAMAGE_IS: Option<i32> = Some(1);
const CANNOT_OPEN_IS: Option<i32> = Some(5);

fn offline(command: &str, dir: &Path) -> Output {
    program().args(["--json", command, "--data"]).arg(dir).output().expect("the binary starts")
}

/// The one JSON line of a command that must succeed.
fn told(command: &str, dir: &Path) -> Value {
    let output = offline(command, dir);
    assert_eq!(output.status.code(), Some(0), "{command}: {}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one json value")
}

/// So the log ends with its last batch.
const NO_ROOM: [&str; 1] = ["store.log_room_bytes=0"];

/// A database that a server has left in order.
async fn stopped(dir: &Path) -> Oid {
    let served = Served::start_with(dir, &NO_ROOM);
    let (_, object) = fill(&served.address).await;
    assert_eq!(served.stop(), Some(0));
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_for_temporary_files_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    stopped(dir.path()).await;
    let nowhere = dir.path().join("nowhere");
    let output = program().args(["verify", "--data"]).arg(dir.path()).env("TMPDIR", &nowhere).output().expect("starts");
    let told = text(&output.stderr);
    assert!(told.contains("nowhere is no directory; set TMPDIR") && !told.contains("index.redb"), "{told}");
    assert_eq!(output.status.code(), Some(2));
}

fn segment(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("log")).expect("a log").map(|file| file.expect("reads").path());
    let mut segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.next().expect("a segment")
}

/// Changes the bytes of the only segment.
fn edit(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(segment(dir)).expect("reads");
    change(&mut bytes);
    std::fs::write(segment(dir), bytes).expect("writes");
}

/// Lets the log end with fifty bytes of a batch, the last of which is no zero: zeros would be room.
fn tear(dir: &Path) {
    edit(dir, |bytes| {
        bytes.extend_from_within(64..64 + 49);
        bytes.push(1);
    });
}

fn problems(output: &Output) -> String {
    let told: Value = serde_json::from_slice(&output.stdout).expect("one json value");
    assert_eq!(told["good"], false);
    told["problems"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_index_a_database_is_whole_again_after_a_reindex() {
    let dir = tempfile::tempdir().expect("a directory");
    let object = stopped(dir.path()).await;
    let before = told("verify", dir.path());
    assert_eq!(before["good"], true);
    std::fs::remove_file(dir.path().join("index.redb")).expect("there is an index");
    let rebuilt = told("reindex", dir.path());
    assert!(rebuilt["log_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{rebuilt}");
    assert_eq!((&rebuilt["torn_bytes_cut"], &rebuilt["objects"]), (&Value::from(0), &before["objects"]));
    assert_eq!(told("verify", dir.path()), before);
    let served = Served::start(dir.path());
    assert_eq!(served.json(&["get", &object.to_string()])[0]["record"]["version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_young_database_verifies() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    fill(&served.address).await;
    drop(served);
    assert_eq!(told("verify", dir.path())["good"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_byte_is_named_with_segment_and_offset() {
    let dir = tempfile::tempdir().expect("a directory");
    stopped(dir.path()).await;
    edit(dir.path(), |bytes| {
        let at = bytes.windows(5).position(|window| window == b"first").expect("the record is there");
        bytes[at] ^= 1;
    });
    let output = offline("verify", dir.path());
    assert_eq!(output.status.code(), DAMAGE_IS, "{}", text(&output.stderr));
    assert!(problems(&output).contains("damage in segment 1 at offset"), "{}", problems(&output));
    // Nothing is cut, and no index is made of it.
    let bytes = std::fs::read(segment(dir.path())).expect("reads");
    let output = offline("reindex", dir.path());
    assert_eq!(output.status.code(), CANNOT_OPEN_IS);
    assert!(text(&output.stderr).contains("damage in segment 1 at offset"), "{}", text(&output.stderr));
    let output = offline("verify", dir.path());
    assert_eq!(output.status.code(), DAMAGE_IS, "also without an index");
    assert!(problems(&output).contains("damage in segment 1 at offset"), "{}", problems(&output));
    assert_eq!(std::fs::read(segment(dir.path())).expect("reads"), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_is_cut_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    stopped(dir.path()).await;
    let only = segment(dir.path());
    let whole = std::fs::read(&only).expect("reads");
    // The beginning of a batch, as a crash in the middle of a write leaves it.
    tear(dir.path());
    let torn = told("verify", dir.path());
    assert!(torn["good"] == true && torn["remarks"].to_string().contains("the last 50 bytes of the log"), "{torn}");
    assert_eq!(std::fs::read(&only).expect("reads").len(), whole.len() + 50, "who looks cuts nothing");
    assert_eq!(told("reindex", dir.path())["torn_bytes_cut"], 50);
    assert_eq!(std::fs::read(&only).expect("reads"), whole);
}

type Files = Vec<(PathBuf, Vec<u8>, std::time::SystemTime)>;

/// All files of a directory, with what is in them and when they were changed.
fn files(dir: &Path) -> Files {
    let mut all = Files::new();
    for entry in std::fs::read_dir(dir).expect("lists").map(|entry| entry.expect("lists")) {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let changed = entry.metadata().and_then(|data| data.modified()).expect("tells");
            all.push((path.clone(), std::fs::read(path).expect("reads"), changed));
        }
    }
    all.sort();
    all
}

fn copy_log(from: &Path, to: &Path) {
    std::fs::create_dir(to.join("log")).expect("makes");
    let only = segment(from);
    std::fs::copy(&only, to.join("log").join(only.file_name().expect("has a name"))).expect("copies");
}

fn may_write(path: &Path, may: bool) {
    use std::os::unix::fs::PermissionsExt;
    let mode = match (path.is_dir(), may) {
        (true, true) => 0o755,
        (true, false) => 0o555,
        (false, true) => 0o644,
        (false, false) => 0o444,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verify_changes_nothing_needs_no_permission_to_and_not_more_than_the_log() {
    let [dir, copy] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let served = Served::start_with(dir.path(), &NO_ROOM);
    fill(&served.address).await;
    let refused = offline("verify", dir.path());
    assert_eq!(refused.status.code(), CANNOT_OPEN_IS);
    assert!(text(&refused.stderr).contains("in use"), "{}", text(&refused.stderr));
    // Killed: the index is behind the log, and the end of the log is torn.
    drop(served);
    tear(dir.path());
    copy_log(dir.path(), copy.path());
    for dir in [dir.path(), copy.path()] {
        let before = files(dir);
        let log = dir.join("log");
        let paths = || before.iter().map(|(path, ..)| path.as_path()).chain([dir, log.as_path()]);
        paths().for_each(|path| may_write(path, false));
        let told = told("verify", dir);
        paths().for_each(|path| may_write(path, true));
        assert_eq!(told["good"], true, "{told}");
        assert!(told["remarks"].to_string().contains("the last 50 bytes"), "{told}");
        assert_eq!(told["remarks"].to_string().contains("no index to compare"), dir == copy.path(), "{told}");
        assert!(files(dir) == before, "the directory is as it was, to the byte and the time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_acknowledged_bytes_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    stopped(dir.path()).await;
    edit(dir.path(), |bytes| bytes.truncate(bytes.len() - 1));
    let output = offline("verify", dir.path());
    assert_eq!(output.status.code(), DAMAGE_IS, "{}", text(&output.stderr));
    assert!(problems(&output).contains("damage in segment 1"), "{}", problems(&output));
    let serve = program().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path()).output().expect("runs");
    assert_eq!(serve.status.code(), CANNOT_OPEN_IS, "it is not served either");
}

#[test]
fn a_directory_without_a_database_is_wrong_usage_and_stays_empty() {
    let dir = tempfile::tempdir().expect("a directory");
    for command in ["verify", "reindex"] {
        assert_eq!(offline(command, dir.path()).status.code(), Some(2), "{command}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0);
}
