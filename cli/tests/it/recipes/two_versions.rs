//! "Changing a class's shape with two code versions live".

use super::process::{Acknowledged, Release, work};
use super::shop::{CUSTOMERS, Last, New, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn old_and_new_code_serve_beside_each_other_while_the_shape_changes() {
    let scene = Scene::open().await;
    let served = &scene.served;
    let mut done = Acknowledged::default();
    let [mut one, mut two] = [(); 2].map(|()| Release::start(served, "old"));
    one.serves(20);
    two.serves(20);

    // 1. A bridge everywhere.
    let mut bridges = [(); 2].map(|()| Release::start(served, "bridge"));
    bridges.iter_mut().for_each(|bridge| bridge.serves(5));
    done += one.stop();
    done += two.stop();
    bridges.iter_mut().for_each(|bridge| bridge.serves(20));

    // 2. New code, beside bridges that go on.
    let mut new = Release::start(served, "new");
    new.serves(50);
    bridges.iter_mut().for_each(|bridge| bridge.serves(50));
    new.serves(50);
    for bridge in bridges {
        done += bridge.stop();
    }
    let mut other = Release::start(served, "new");
    other.serves(5);
    assert!(scene.of_version(1).await > 0, "there is something to do");

    // 3. No bridge is left.
    scene.plan("customers-2", &["--class", "shop.Customer", "--below", "2", "--gate"]);
    assert_eq!(work(served, "new", "customers-2"), "done");
    new.serves(20);
    other.serves(20);

    // 4. The release that drops the old shape's code.
    scene.command(0, &["evolve", "ensure", "customers-2"]);
    let mut last = Release::start(served, "last");
    last.serves(50);
    done += new.stop();
    done += other.stop();
    done += last.stop();
    assert_eq!(scene.of_version(1).await, 0);
    scene.is_exact::<Last>(done.edits, CUSTOMERS as u64 + done.made).await;

    // A bridge that was forgotten harms nothing.
    let (late, why) = Release::start(served, "bridge").fails();
    assert!(why.contains("shop.Customer") && why.contains("customers-2"), "{why}");
    done += late;
    scene.is_exact::<New>(done.edits, CUSTOMERS as u64 + done.made).await;
}
