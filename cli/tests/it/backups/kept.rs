//! Which backups are kept, and what a full one is begun for.

use super::scene::{Scene, files, log};
use zeolite_client::Db;

#[tokio::test(flavor = "multi_thread")]
async fn old_chains_go_and_the_newest_stays_whole() {
    let scene = Scene::start().await;
    scene.root().await;
    for name in 0..4 {
        scene.object(&format!("thing {name}"), 2, 500).await;
        scene.backup(&["--full", "--keep", "3"]);
        scene.object(&format!("more {name}"), 2, 500).await;
        scene.backup(&["--keep", "3"]);
    }
    let listed = scene.alone(&["backup", "list", &scene.path("backup")]);
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout).lines().count(),
        4,
        "three are kept, and what one of them needs"
    );
    assert_eq!(scene.alone(&["backup", "verify", &scene.path("backup")]).status.code(), Some(0));
    let told = scene.backup(&["--keep", "1"]);
    assert_eq!(told["removed_backups"], 2, "{told}");
    let chains = std::fs::read_dir(scene.dir.path().join("backup/main")).expect("lists").count();
    assert_eq!(chains, 1, "nothing is left of what went: {:?}", files(&scene.dir.path().join("backup")));
    let restored = scene.restored("whole", &[]);
    let copy = Db::connect(&restored.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, log(&scene.db, None).await);
}
