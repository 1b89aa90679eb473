//! Backups that are cut: killed at any object, beside a server that is killed, without room.

use super::scene::{Scene, files, log};
use crate::served::{Served, program, text};
use std::path::Path;
use std::process::Stdio;
use zeolite_client::Db;

fn stored(scene: &Scene, ending: &str) -> usize {
    let all = files(&scene.dir.path().join("backup"));
    all.iter().filter(|file| file.extension().is_some_and(|extension| extension == ending)).count()
}

/// Kills a backup when so many objects are stored; false: it was whole before.
fn killed_at(scene: &Scene, objects: usize) -> bool {
    let manifests = stored(scene, "manifest");
    let before = stored(scene, "log");
    let mut child = scene.begin_backup(&["--object-bytes", "4096"]);
    while stored(scene, "log") < before + objects && child.try_wait().expect("can be asked").is_none() {
        std::thread::yield_now();
    }
    // One that has ended cannot be killed.
    let _ = child.kill();
    child.wait().expect("ends");
    stored(scene, "manifest") == manifests
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_anywhere_is_gone_on_with_and_never_taken_for_a_whole_one() {
    let scene = Scene::start().await;
    scene.root().await;
    for name in 0..6 {
        scene.object(&format!("thing {name}"), 10, 3000).await;
        scene.file(&format!("film {name}"), 10_000).await;
    }
    let from = scene.path("backup");
    let mut cut = 0;
    for round in 0..6 {
        for objects in [1, 1, 4, 9] {
            if killed_at(&scene, objects) {
                cut += 1;
                let verified = scene.alone(&["backup", "verify", &from]);
                let expected = if round == 0 { Some(1) } else { Some(0) };
                assert_eq!(verified.status.code(), expected, "{}{}", text(&verified.stdout), text(&verified.stderr));
            }
        }
        let taken = scene.backup(&["--object-bytes", "4096"]);
        assert_eq!(scene.alone(&["backup", "verify", &from]).status.code(), Some(0), "{taken}");
        scene.object(&format!("late {round}"), 12, 3000).await;
    }
    assert!(cut >= 6, "it was cut {cut} times");
    scene.backup(&[]);
    let restored = scene.restored("whole", &[]);
    let copy = Db::connect(&restored.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, log(&scene.db, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_backup_has_is_not_stored_again() {
    let scene = Scene::start().await;
    scene.root().await;
    for name in 0..8 {
        scene.object(&format!("thing {name}"), 12, 3000).await;
    }
    let mut child = scene.begin_backup(&["--object-bytes", "4096"]);
    while stored(&scene, "progress") == 0 && child.try_wait().expect("can be asked").is_none() {
        std::thread::yield_now();
    }
    let _ = child.kill();
    child.wait().expect("ends");
    assert_eq!(stored(&scene, "manifest"), 0, "it was not whole");
    let taken = scene.backup(&["--object-bytes", "4096"]);
    assert!(taken["resumed"].is_string(), "{taken}");
    let restored = scene.restored("whole", &[]);
    let copy = Db::connect(&restored.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, log(&scene.db, None).await);
    assert_eq!(stored(&scene, "progress"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_before_the_newest_backup_is_not_gone_on_with() {
    let scene = Scene::start().await;
    scene.root().await;
    for name in 0..8 {
        scene.object(&format!("thing {name}"), 12, 3000).await;
    }
    let mut child = scene.begin_backup(&["--object-bytes", "4096"]);
    while stored(&scene, "progress") == 0 && child.try_wait().expect("can be asked").is_none() {
        std::thread::yield_now();
    }
    let _ = child.kill();
    child.wait().expect("ends");
    assert_eq!(stored(&scene, "manifest"), 0, "it was not whole");
    let other = Scene::start().await;
    other.root().await;
    let name = |taken: &serde_json::Value| taken["backup"].as_str().expect("a name")[..6].to_owned();
    let between = other.served.json(&["backup", &scene.path("backup")]).remove(0);
    let taken = scene.backup(&[]);
    assert_eq!((name(&between), name(&taken)), ("000002".to_owned(), "000003".to_owned()), "{taken}");
    let restored = scene.restored("whole", &[]);
    let copy = Db::connect(&restored.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, log(&scene.db, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_without_room_or_rights_says_so_and_the_last_backup_stays_good() {
    let scene = Scene::start().await;
    scene.root().await;
    scene.object("thing", 4, 1000).await;
    scene.backup(&[]);
    scene.object("large", 6, 400_000).await;
    // A limit of the process stands for a full disk: no file may be longer.
    let limited = format!(
        "ulimit -f 200; trap '' XFSZ; exec {} --server {} backup {}",
        env!("CARGO_BIN_EXE_zeolite"),
        scene.served.address,
        scene.path("backup")
    );
    let output = std::process::Command::new("sh").args(["-c", &limited]).output().expect("starts");
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("writing"), "{}", text(&output.stderr));
    assert_eq!(scene.alone(&["backup", "verify", &scene.path("backup")]).status.code(), Some(0));
    let taken = scene.backup(&[]);
    assert_eq!(taken["full"], false, "{taken}");
    let data = scene.served.run(&["backup", &scene.path("data")]);
    assert!(data.status.code() == Some(2) && text(&data.stderr).contains("data directory"), "{}", text(&data.stderr));
    assert!(Path::new(&scene.path("data")).join("log").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_beside_a_backup_costs_nothing_but_time() {
    let scene = Scene::start().await;
    scene.root().await;
    for name in 0..8 {
        scene.object(&format!("thing {name}"), 12, 3000).await;
    }
    let Scene { dir, served, db } = scene;
    let (data, to, address) = (dir.path().join("data"), dir.path().join("backup"), served.address.clone());
    let before = log(&db, None).await;
    drop(db);
    let to = to.to_str().expect("plain");
    let mut child = program()
        .args(["--server", &address, "backup", to, "--object-bytes", "4096"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let begun = || files(Path::new(to)).iter().any(|file| file.extension().is_some_and(|extension| extension == "log"));
    while !begun() && child.try_wait().expect("can be asked").is_none() {
        std::thread::yield_now();
    }
    // Dropped, it is killed.
    drop(served);
    let served = Served::start_at(&data, &address);
    let ended = child.wait().expect("ends");
    assert!(ended.success(), "it goes on in another connection: {ended}");
    let into = dir.path().join("restored");
    let restored = served.run(&["restore", to, "--into", into.to_str().expect("plain")]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let copy = Served::start(&into);
    let copy = Db::connect(&copy.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, before);
}
