//! "Rolling a release back".

use super::process::{Acknowledged, Release, work};
use super::shop::{CLASS, CUSTOMERS, Old, Scene};

/// The evolve is done, with its gate, and the new release is everywhere. In this order: on a busy machine live code might have left
/// nothing for the evolve to do, and nothing for its undo.
fn released(scene: &Scene) -> Release {
    scene.plan("customers-2", &["--class", CLASS, "--below", "2", "--gate"]);
    assert_eq!(work(&scene.served, "new", "customers-2"), "done");
    scene.command(0, &["evolve", "ensure", "customers-2"]);
    let mut new = Release::start(&scene.served, "new");
    new.serves(60);
    new
}

/// Bridges instead of new code, while everything goes on.
fn bridged(scene: &Scene, mut new: Release, done: &mut Acknowledged) -> Release {
    scene.command(0, &["gate", "open", CLASS]);
    let mut bridge = Release::start(&scene.served, "bridge");
    bridge.serves(20);
    new.serves(20);
    *done += new.stop();
    bridge.serves(20);
    bridge
}

async fn the_old_release_runs(scene: &Scene, bridge: Release, mut done: Acknowledged) {
    let mut old = Release::start(&scene.served, "old");
    old.serves(50);
    done += bridge.stop();
    old.serves(50);
    done += old.stop();
    assert_eq!(scene.of_version(2).await, 0);
    scene.is_exact::<Old>(done.edits, CUSTOMERS as u64 + done.made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_back_by_an_evolve_with_the_bridge() {
    let scene = Scene::open().await;
    let mut done = Acknowledged::default();
    let new = released(&scene);
    assert_eq!(scene.of_version(1).await, 0);
    let mut bridge = bridged(&scene, new, &mut done);
    scene.plan("back", &["--class", CLASS]);
    assert_eq!(work(&scene.served, "bridge", "back"), "done");
    bridge.serves(20);
    scene.command(0, &["evolve", "ensure", "back", "--none-above", "1"]);
    scene.command(1, &["evolve", "ensure", "back", "--none-above", "0"]);
    assert_eq!(scene.of_version(2).await, 0, "nothing is left of the new shape");
    the_old_release_runs(&scene, bridge, done).await;
}

/// What new code has written stays in the new shape, and is told; the evolve does the rest.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_takes_back_what_the_job_did_and_tells_what_it_left() {
    let scene = Scene::open().await;
    let mut done = Acknowledged::default();
    let new = released(&scene);
    let mut bridge = bridged(&scene, new, &mut done);
    // It exits with 1 where something of the job stays in the new shape; on a busy machine bridges may have written all of that anew.
    scene.says(&["evolve", "undo", "customers-2"]);
    assert!(scene.command(0, &["evolve", "show", "customers-2"]).contains("undone"));
    assert!(scene.of_version(2).await > 0, "new code has made customers");
    bridge.serves(20);
    scene.plan("back", &["--class", CLASS]);
    assert_eq!(work(&scene.served, "bridge", "back"), "done");
    the_old_release_runs(&scene, bridge, done).await;
}

/// The new release was nowhere but in the workers.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_is_enough_where_new_code_has_written_nothing() {
    let scene = Scene::open().await;
    let mut done = Acknowledged::default();
    let mut bridge = Release::start(&scene.served, "bridge");
    bridge.serves(30);
    done += bridge.stop();
    scene.plan("customers-2", &["--class", CLASS, "--below", "2", "--gate"]);
    assert_eq!(work(&scene.served, "new", "customers-2"), "done");
    assert_eq!(scene.of_version(1).await, 0);
    scene.command(0, &["gate", "open", CLASS]);
    // Two that write while the undo looks: what they bring back to the old shape meanwhile is no reason to leave it.
    let mut bridge = Release::start(&scene.served, "bridge");
    let mut other = Release::start(&scene.served, "bridge");
    bridge.serves(30);
    other.serves(30);
    let output = scene.served.run(&["evolve", "undo", "customers-2"]);
    let shown = scene.served.json(&["evolve", "show", "customers-2", "--quarantine", "0"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown[0]["not_undone"]);
    bridge.serves(20);
    done += other.stop();
    assert_eq!(scene.of_version(2).await, 0);
    the_old_release_runs(&scene, bridge, done).await;
}
