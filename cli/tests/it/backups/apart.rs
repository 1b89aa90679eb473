//! What must not be mixed: backups and the data that they are of, two backups at once, one drill and what a killed one has left.

use super::scene::{Scene, files};
use crate::program::{program, signal, text};
use std::fs::File;
use std::path::Path;
use std::process::{Output, Stdio};

fn refused(output: &Output, code: i32, words: &str) {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.code() == Some(code) && said.contains(words), "{:?}: {said}", output.status.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_the_data_directory_is_refused_wherever_it_is_named() {
    let scene = Scene::start().await;
    let (data, inside) = (scene.path("data"), scene.path("data/backup"));
    for place in [&data, &inside] {
        refused(&scene.served.run(&["backup", place]), 2, "data directory");
    }
    assert!(!Path::new(&inside).exists());
    for command in [&["config", "check"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let set = format!("backup.to={inside}");
        let output = scene.alone(&[command, &["--data", &scene.path("data/../data"), "--set", &set]].concat());
        refused(&output, if command[0] == "config" { 1 } else { 2 }, "lies in the data directory");
    }
    scene.root().await;
    scene.backup(&[]);
    let from = scene.path("backup");
    for into in ["backup/data", "backup", "."] {
        let output = scene.alone(&["restore", &from, "--into", &scene.path(into), "--resume"]);
        refused(&output, 2, "lie in one another");
    }
    let missing = format!("backup.to={}", scene.path("not/mounted"));
    refused(&scene.alone(&["config", "check", "--data", &data, "--set", &missing]), 1, "no such directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_at_once_are_one_and_a_killed_one_is_got_over() {
    let scene = Scene::start().await;
    scene.root().await;
    for name in 0..8 {
        scene.object(&format!("thing {name}"), 12, 3000).await;
    }
    let taking = scene.dir.path().join("backup/main/taking");
    let mut first = scene.begin_backup(&["--object-bytes", "4096"]);
    while !taking.exists() && first.try_wait().expect("can be asked").is_none() {
        std::thread::yield_now();
    }
    signal(&first, "STOP");
    assert!(taking.exists(), "it was over before it could be stopped");
    let second = scene.served.run(&["backup", &scene.path("backup")]);
    refused(&second, 4, &format!("by process {}", first.id()));
    signal(&first, "KILL");
    first.wait().expect("ends");
    assert!(taking.exists(), "nobody has taken it back");
    let taken = scene.backup(&[]);
    assert_eq!(taken["full"], true);
    let chains = std::fs::read_dir(scene.dir.path().join("backup/main")).expect("lists").count();
    assert_eq!(chains, 1, "{:?}", files(&scene.dir.path().join("backup")));
    assert_eq!(scene.backup(&[])["full"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_without_a_backup_has_found_a_problem_and_what_a_killed_one_leaves_goes_with_the_next() {
    let scene = Scene::start().await;
    let (from, scratch) = (scene.path("backup"), scene.path("scratch"));
    for dir in [&from, &scratch] {
        std::fs::create_dir(dir).expect("makes");
    }
    for command in ["drill", "verify"] {
        refused(&scene.alone(&["backup", command, &from]), 1, "no whole backup of main");
    }
    scene.root().await;
    for name in 0..8 {
        scene.object(&format!("thing {name}"), 12, 3000).await;
    }
    scene.backup(&[]);
    let drill = || {
        let mut command = program();
        command.args(["backup", "drill", &from, "--scratch", &scratch]).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let mut killed = drill().spawn().expect("starts");
    while files(Path::new(&scratch)).is_empty() && killed.try_wait().expect("can be asked").is_none() {
        std::thread::yield_now();
    }
    signal(&killed, "KILL");
    killed.wait().expect("ends");
    assert!(!files(Path::new(&scratch)).is_empty(), "it was over before it could be killed");
    let next = drill().output().expect("runs");
    refused(&next, 0, "was left by a drill that was killed");
    assert_eq!(std::fs::read_dir(&scratch).expect("lists").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_holds_the_lock_file_is_named_and_who_looks_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("makes");
    let lock = File::create(data.join("lock")).expect("makes");
    lock.lock_shared().expect("locks");
    let serve = || {
        let mut command = program();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        command
    };
    let held = serve().output().expect("runs");
    refused(&held, 5, &format!("pid {}, which is no server", std::process::id()));
    lock.unlock().expect("unlocks");
    // Somebody asks again and again who has the directory, as `restart`, `doctor` and monitoring do.
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                lock.lock_shared().and_then(|()| lock.unlock()).expect("as long as a look takes");
                std::thread::yield_now();
            }
        });
        for _ in 0..5 {
            let served = crate::served::Served::start(&data);
            // A lock that is waited for is had when that server has gone.
            assert_eq!(served.stop(), Some(0));
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_place_that_cannot_be_meant_is_refused_and_says_what_can() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(dir.path().join("file"), "x").expect("writes");
    std::fs::create_dir(dir.path().join("empty")).expect("makes");
    for command in ["backup", "backup list", "backup verify", "backup drill"] {
        let said = |code: i32, at: &str, what: &str| {
            let mut asked = program();
            asked.args(["--server", "127.0.0.1:1"]).args(command.split(' ')).arg(at).current_dir(dir.path());
            refused(&asked.output().expect("runs"), code, what);
        };
        said(2, &path("file"), "is no directory; name a directory, or s3://BUCKET/PREFIX");
        said(2, "s3:/bucket/site", "name a directory, or s3://BUCKET/PREFIX");
        said(2, "s3://", "write s3://BUCKET/PREFIX");
        said(2, "", "name a directory");
        if command != "backup" {
            said(5, "nowhere", "name the one that backups were put into, or mount its disk");
        }
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("reads").flatten().map(|left| left.file_name()).collect();
    assert_eq!(left.len(), 2, "nothing was made: {left:?}");
    let none = program().args(["backup", "list", &path("empty")]).output().expect("runs");
    assert_eq!(none.status.code(), Some(0));
    assert!(text(&none.stderr).contains("there is no backup in"), "{}", text(&none.stderr));
    let none = program().args(["restore", &path("empty"), "--into", &path("new")]).output().expect("runs");
    refused(&none, 4, "`zeolite backup list` shows what there is");
}
