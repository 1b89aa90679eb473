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

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_work_stops_the_worker_and_harms_nothing() {
    let scene = Scene::with(20).await;
    scene.evolve(&["plan", "x", "--class", CLASS]);
    let script = scene.script("dies.sh", "echo 'no module named lxml' >&2\nexit 3\n").display().to_string();
    let said = scene.refused(1, &["run", "x", "--exec", "sh", &script]);
    assert!(said.contains("does not work") && said.contains("no module named lxml"), "{said}");
    let shown = scene.evolve(&["show", "x"]);
    assert_eq!((&shown["phase"], &shown["done"]), (&"running".into(), &0.into()), "{shown}");
    assert_eq!(shown["quarantine"].as_array().map(Vec::len), Some(0), "{shown}");
}

/// The first object is answered well; what happens with the second is the case; the others are answered well again.
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_answer_is_that_objects_error_alone() {
    for (case, second, error) in [
        ("dies", "exit 3", "ended without an answer"),
        ("silent", "exec sleep 1000", "no answer within"),
        ("chatty", "printf '{\"oid\":\"%s\",\"keep\":true}\\nand more\\n' $oid", "more than one line"),
        ("babble", "echo 'step 2 done'", "makes no sense"),
        ("wrong object", "echo '{\"oid\":\"1\",\"keep\":true}'", "another object"),
        ("nobody's", "echo '{\"keep\":true}'", "must repeat the oid"),
        ("nothing", "echo '{\"oid\":\"'$oid'\"}'", "one of keep, delete"),
        ("too old", "echo '{\"oid\":\"'$oid'\",\"version\":1}'", "version"),
    ] {
        let scene = Scene::with(6).await;
        let second_oid = scene.oids[1];
        let text = format!(
            "while IFS= read -r line; do\n oid=${{line#*'\"oid\":\"'}}\n oid=${{oid%%'\"'*}}\n \
             case \"$line\" in\n *'\"oid\":\"{second_oid}\"'*) {second} ;;\n \
             *) echo '{{\"oid\":\"'$oid'\",\"version\":2}}' ;;\n esac\ndone\n"
        );
        let script = scene.script("step.sh", &text).display().to_string();
        scene.evolve(&["plan", "x", "--class", CLASS, "--below", "2"]);
        scene.refused(1, &["run", "x", "--answer-within", "1s", "--exec", "sh", &script]);
        let shown = scene.evolve(&["show", "x"]);
        let bad = shown["quarantine"].as_array().expect("a list");
        assert_eq!((bad.len(), &bad[0]["cell"]), (1, &second_oid.to_string().into()), "{case}: {shown}");
        assert!(bad[0]["error"].as_str().is_some_and(|told| told.contains(error)), "{case}: {shown}");
        assert_eq!(shown["counts"]["changed"], 5, "{case}: {shown}");
    }
}

/// A program that says each answer twice, the second time when nobody waits for it any more: no object gets what is another's.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_line_is_nobodys_answer() {
    let scene = Scene::with(40).await;
    let twice = "import base64, json, sys, time\n\
        for line in sys.stdin:\n    \
            asked = json.loads(line)\n    \
            data = base64.b64encode(asked['oid'].encode()).decode()\n    \
            answer = json.dumps({'oid': asked['oid'], 'version': 2, 'data': data})\n    \
            print(answer, flush=True)\n    \
            time.sleep(0.003)\n    \
            print(answer, flush=True)\n";
    let script = scene.script("twice.py", twice).display().to_string();
    scene.evolve(&["plan", "x", "--class", CLASS, "--below", "2"]);
    // Whether an extra line is there when its answer is read, or later, is a matter of moments.
    scene.served.run(&["evolve", "run", "x", "--exec", "python3", &script]);
    let numbers = scene.numbers().await;
    let (new, old): (Vec<_>, Vec<_>) = scene.oids.iter().zip(&numbers).partition(|(_, (version, _))| *version == 2);
    assert!(new.iter().all(|(oid, (_, data))| *data == oid.to_string()), "{new:?}");
    assert!(old.iter().all(|(_, (_, data))| data == "0"), "{old:?}");
    assert!(!new.is_empty());
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
