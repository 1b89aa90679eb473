//! Programs that step objects and go wrong: no object gets what is another's, or is to blame for what is not its fault.

use super::scene::{CLASS, Scene};

/// Shell that answers well, but for one object.
fn but_for(oid: &str, other: &str) -> String {
    format!(
        "while IFS= read -r line; do\n oid=${{line#*'\"oid\":\"'}}\n oid=${{oid%%'\"'*}}\n \
         case \"$line\" in\n *'\"oid\":\"{oid}\"'*) {other} ;;\n \
         *) echo '{{\"oid\":\"'$oid'\",\"version\":2}}' ;;\n esac\ndone\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_work_stops_the_worker_and_harms_nothing() {
    let scene = Scene::with(20).await;
    scene.evolve(&["plan", "x", "--class", CLASS]);
    let script = scene.script("dies.sh", "echo 'no module named lxml' >&2\nexit 3\n").display().to_string();
    for batch in [&[][..], &["--batch", "8"]] {
        let run = [&["run", "x"][..], batch, &["--exec", "sh", &script]].concat();
        let said = scene.refused(1, &run);
        assert!(said.contains("does not work here") && said.contains("no module named lxml"), "{said}");
        let shown = scene.evolve(&["show", "x"]);
        assert_eq!((&shown["phase"], &shown["done"]), (&"running".into(), &0.into()), "{shown}");
        assert_eq!(shown["quarantine"].as_array().map(Vec::len), Some(0), "{shown}");
        assert!(shown["reason"].as_str().is_some_and(|why| why.contains("no module named lxml")), "{shown}");
    }
    let tried = ["plan", "y", "--class", CLASS, "--dry-run", "--exec", "sh", &script];
    let said = scene.refused(1, &tried);
    assert!(said.contains("the dry run: the step does not work here") && !said.contains("busy"), "{said}");
}

/// What it makes of one object is wrong; the others are answered well. It dies with it, whoever is asked beside it.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_kills_the_program_goes_to_the_quarantine() {
    for (case, second, error) in [
        ("dies", "echo $oid >> COUNT; exit 3", "ended without an answer (exit status: 3), 3 times"),
        ("silent", "exec sleep 1000", "no answer within 300ms; the program was killed, 3 times"),
        ("too old", "echo '{\"oid\":\"'$oid'\",\"version\":1}'", "version"),
    ] {
        let scene = Scene::with(6).await;
        let second_oid = scene.oids[1].to_string();
        let counted = scene.script("count", "");
        let text = but_for(&second_oid, &second.replace("COUNT", &counted.display().to_string()));
        let script = scene.script("step.sh", &text).display().to_string();
        scene.evolve(&["plan", "x", "--class", CLASS, "--below", "2"]);
        scene.refused(1, &["run", "x", "--tasks", "2", "--answer-within", "300ms", "--exec", "sh", &script]);
        let shown = scene.evolve(&["show", "x"]);
        let bad = shown["quarantine"].as_array().expect("a list");
        assert_eq!((bad.len(), &bad[0]["cell"]), (1, &second_oid.clone().into()), "{case}: {shown}");
        assert!(bad[0]["error"].as_str().is_some_and(|told| told.contains(error)), "{case}: {shown}");
        assert_eq!(shown["counts"]["changed"], 5, "{case}: {shown}");
        if case == "dies" {
            assert_eq!(std::fs::read_to_string(counted).expect("reads").lines().count(), 3, "asked three times");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_ends_the_worker_and_is_no_objects_fault() {
    for (case, second, error) in [
        ("chatty", "printf '{\"oid\":\"%s\",\"keep\":true}\\nand more\\n' $oid", "says more than its answers"),
        ("babble", "echo 'step 2 done'", "makes no sense"),
        ("wrong object", "echo '{\"oid\":\"1\",\"keep\":true}'", "another object"),
        ("nobody's", "echo '{\"keep\":true}'", "must repeat the oid"),
        ("nothing", "echo '{\"oid\":\"'$oid'\"}'", "one of keep, delete"),
        ("no base64", "echo '{\"oid\":\"'$oid'\",\"data\":\"%\"}'", "no base64"),
        ("no write", "echo '{\"oid\":\"'$oid'\",\"keep\":true,\"writes\":[{}]}'", "must say one of create"),
        (
            "no index",
            "echo '{\"oid\":\"'$oid'\",\"keep\":true,\"writes\":[{\"index\":\"'$oid'\",\"insert\":\"a\"}]}'",
            "not zeolite.Index",
        ),
        (
            "own",
            "echo '{\"oid\":\"'$oid'\",\"keep\":true,\"writes\":[{\"delete\":\"0\",\"key\":\"zeolite.evolves\"}]}'",
            "Zeolite's own",
        ),
    ] {
        let scene = Scene::with(6).await;
        let text = but_for(&scene.oids[1].to_string(), second);
        let script = scene.script("step.sh", &text).display().to_string();
        scene.evolve(&["plan", "x", "--class", CLASS, "--below", "2"]);
        let said = scene.refused(1, &["run", "x", "--exec", "sh", &script]);
        assert!(said.contains(error), "{case}: {said}");
        let shown = scene.evolve(&["show", "x"]);
        assert!(shown["reason"].as_str().is_some_and(|told| told.contains(error)), "{case}: {shown}");
        assert_eq!(
            (&shown["phase"], &shown["counts"]["quarantined"]),
            (&"running".into(), &0.into()),
            "{case}: {shown}"
        );
        // One that is mended goes on.
        std::fs::write(&script, but_for("none", "")).expect("writes");
        scene.evolve(&["run", "x", "--exec", "sh", &script]);
        assert!(scene.numbers().await.iter().all(|(version, data)| *version == 2 && data == "0"), "{case}");
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
    scene.evolve(&["plan", "x", "--class", CLASS, "--below", "2", "--set", "chunk_objects_start=1"]);
    // Whether an extra line is there when its answer is read, or later, is a matter of moments.
    let said = scene.refused(1, &["run", "x", "--exec", "python3", &script]);
    assert!(said.contains("says more than its answers") || said.contains("another object"), "{said}");
    for (oid, (version, data)) in scene.oids.iter().zip(scene.numbers().await) {
        assert_eq!(data, if version == 2 { oid.to_string() } else { "0".to_owned() });
    }
    assert_eq!(scene.evolve(&["show", "x"])["counts"]["quarantined"], 0);
}

/// What cannot bring an object to where the job is planned to bring it is refused before anything is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_does_not_fit_the_plan_is_refused() {
    let scene = Scene::with(3).await;
    scene.evolve(&["plan", "x", "--class", CLASS, "--below", "3", "--gate"]);
    assert!(scene.refused(2, &["run", "x", "--delete"]).contains("--delete would leave none"));
    assert!(scene.refused(2, &["run", "x", "--bump", "2"]).contains("--bump 2 leaves them below it"));
    scene.refused(2, &["plan", "y", "--class", CLASS, "--below", "3", "--dry-run", "--delete"]);
    scene.refused(2, &["run", "x", "--batch", "10", "--bump", "3"]);
    assert_eq!(scene.evolve(&["show", "x"])["step"], serde_json::Value::Null, "it is bound to none of them");
    scene.evolve(&["run", "x", "--bump", "3"]);
    assert!(scene.numbers().await.iter().all(|(version, _)| *version == 3));
}
