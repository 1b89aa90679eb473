//! Backups of which some are damaged: nothing older is given for the newest, and the next backup is good again.

use super::scene::{Scene, files, log};
use crate::served::text;
use std::path::{Path, PathBuf};
use zeolite_client::Db;

/// The manifests of this name, the oldest chain first.
fn manifests(scene: &Scene, name: &str) -> Vec<PathBuf> {
    let all = files(&scene.dir.path().join("backup"));
    all.into_iter().filter(|file| file.ends_with(name)).collect()
}

/// One bit of its flags, which says that it is encrypted.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("reads");
    bytes[6] ^= 2;
    std::fs::write(file, bytes).expect("writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_newest_backup_is_told_and_nothing_older_is_given_for_it() {
    let scene = Scene::start().await;
    scene.root().await;
    scene.object("thing", 3, 100).await;
    scene.backup(&[]);
    let before = log(&scene.db, None).await;
    scene.object("other", 3, 100).await;
    scene.backup(&[]);
    damage(&manifests(&scene, "0002.manifest")[0]);
    let from = scene.path("backup");
    let drill = scene.alone(&["backup", "drill", &from]);
    assert_eq!(drill.status.code(), Some(1), "{}{}", text(&drill.stdout), text(&drill.stderr));
    assert!(text(&drill.stdout).contains("0002.manifest"), "{}", text(&drill.stdout));
    let refused = scene.alone(&["restore", &from, "--into", &scene.path("newest")]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));
    for word in ["0002.manifest", "--to", "--despite-damage"] {
        assert!(text(&refused.stderr).contains(word), "{}", text(&refused.stderr));
    }
    let older = scene.restored("older", &["--despite-damage"]);
    let older = Db::connect(&older.address).await.expect("connects");
    assert_eq!(log(&older, None).await, before);
    assert_eq!(scene.alone(&["backup", "list", &from]).status.code(), Some(0), "what is whole is listed");

    let next = scene.backup(&["--keep", "1"]);
    assert!(next["full"] == true && next["why"].as_str().is_some_and(|why| why.contains("0002.manifest")), "{next}");
    assert_eq!(next["removed_backups"], 0, "what is damaged stays: {next}");
    assert_eq!(scene.alone(&["backup", "drill", &from]).status.code(), Some(0));
    let newest = scene.restored("newest", &[]);
    let newest = Db::connect(&newest.address).await.expect("connects");
    assert_eq!(log(&newest, None).await, log(&scene.db, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backup_that_is_cut_behind_damage_is_gone_on_with() {
    let scene = Scene::start().await;
    scene.root().await;
    for name in 0..8 {
        scene.object(&format!("thing {name}"), 12, 3000).await;
    }
    scene.backup(&[]);
    scene.object("other", 3, 100).await;
    scene.backup(&[]);
    damage(&manifests(&scene, "0002.manifest")[0]);
    let logs = || files(&scene.dir.path().join("backup")).iter().filter(|file| file.ends_with("000002.log")).count();
    let mut child = scene.begin_backup(&["--object-bytes", "4096"]);
    while logs() == 0 && child.try_wait().expect("can be asked").is_none() {
        std::thread::yield_now();
    }
    // One that has ended cannot be killed.
    let _ = child.kill();
    child.wait().expect("ends");
    assert_eq!(manifests(&scene, "0001.manifest").len(), 1, "it was not whole");
    let next = scene.backup(&[]);
    assert!(next["full"] == true, "{next}");
    let behind = scene.backup(&[]);
    assert!(behind["full"] == false, "the chain is good, and is gone on with: {behind}");
    let newest = scene.restored("newest", &[]);
    let newest = Db::connect(&newest.address).await.expect("connects");
    assert_eq!(log(&newest, None).await, log(&scene.db, None).await);
}
