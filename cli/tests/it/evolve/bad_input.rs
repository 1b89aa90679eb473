//! What does not make sense is refused with its exit code, and changes nothing.

use super::scene::{CLASS, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_2() {
    let scene = Scene::with(1).await;
    for args in [
        &["plan", "x"][..],
        &["plan", "x", "--class", "A", "--collection", "1"],
        &["plan", "x", "--below", "2"],
        &["plan", "x", "--class", "A", "--gate"],
        &["plan", "x", "--class", "A", "--below", "0"],
        &["plan", "x", "--class", "A", "--set", "speed=1"],
        &["plan", "x", "--class", "A", "--set", "rate_max=fast"],
        &["plan", "x", "--class", "A", "--bump", "2"],
        &["plan", "x", "--class", "A", "--dry-run"],
        &["plan", "x", "--oids", "/nowhere/at/all"],
        &["plan", "x", "--collection", "zz"],
        &["pause", "x", "--until", "soon"],
        &["undo"],
    ] {
        scene.refused(2, args);
    }
    let list = scene.script("oids", "1\nnot an oid\n").display().to_string();
    assert!(scene.refused(2, &["plan", "x", "--oids", &list]).contains("line 2"));
    assert_eq!(scene.served.json(&["evolve", "list"]).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_not_there_or_are_already_are_4() {
    let scene = Scene::with(1).await;
    for command in ["show", "resume", "cancel", "verify", "undo", "watch", "ensure", "forget", "pause", "set"] {
        assert!(scene.refused(4, &[command, "nobody"]).contains("nobody"), "{command}");
    }
    scene.refused(4, &["run", "nobody", "--bump", "2"]);
    scene.evolve(&["plan", "x", "--class", CLASS]);
    assert!(scene.refused(4, &["plan", "x", "--class", CLASS]).contains("already"));
    assert!(scene.refused(2, &["run", "x"]).contains("--exec"));
    assert!(scene.refused(2, &["run", "x", "--exec", "/nowhere/at/all"]).contains("cannot be started"));
    scene.refused(2, &["run", "x", "--bump", "2", "--delete"]);
    scene.refused(2, &["set", "x", "rate_max"]);
    assert_eq!(scene.evolve(&["show", "x"])["state"], "planned", "nothing of that has touched it");
}

/// A name that is mistyped is no job of 0 objects that is done at once, with the gate of nobody closed behind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_is_not_planned() {
    let scene = Scene::with(3).await;
    let oid = scene.oids[0].to_string();
    let list = scene.script("none", "\n").display().to_string();
    let long = "x".repeat(256);
    for (plan, said) in [
        (&["--class", "test.Nubmer", "--below", "2", "--gate"][..], "known: test.Number"),
        (&["--class", "test.Nubmer", "--below", "2", "--dry-run", "--bump", "2"], "known: test.Number"),
        (&["--class", &long], "has 1 to 255 bytes"),
        (&["--collection", "777"], "nothing is stored at 777"),
        (&["--collection", &oid], "is no collection and has no entries"),
        (&["--reachable", "777"], "nothing is stored at 777"),
        (&["--oids", &list], "names no object"),
    ] {
        let refused = scene.refused(4, &[&["plan", "typo"], plan].concat());
        assert!(refused.contains(said), "{plan:?}: {refused}");
    }
    scene.refused(4, &["show", "typo"]);
    let empty = scene.evolve(&["plan", "later", "--class", "test.Later", "--below", "2", "--allow-empty"]);
    assert_eq!(empty["total"], 0);
    let known = scene.evolve(&["plan", "known", "--class", CLASS, "--below", "1"]);
    assert_eq!(known["total"], 0, "nothing of a class that is there is below the version");

    for past in ["2020-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
        let refused = scene.refused(4, &["pause", "known", "--until", past]);
        assert!(refused.contains("in the past"), "{refused}");
    }
    assert_eq!(scene.evolve(&["show", "known"])["state"], "planned");
}
