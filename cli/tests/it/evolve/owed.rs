//! What a job owes, and what it has yielded to live writers, as `show`, `list`, `watch` and `ensure` tell it.

use super::scene::{CLASS, Scene};
use crate::served::text;
use zeolite_client::collections::Counter;
use zeolite_client::{Cell, Handle, Record};

/// Raises the version, and counts the object.
const COUNTED: &str = r#"
while IFS= read -r line; do
  oid=${line#*'"oid":"'}
  oid=${oid%%'"'*}
  echo '{"oid":"'$oid'","version":2,"writes":[{"add":"'$1'","by":1}]}'
done
"#;

/// Three live transactions begin before the job and end behind it: two in the old shape, one in the new.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_owes_is_told_until_it_is_paid() {
    let scene = Scene::with(10).await;
    let counter = scene.db.run(async |tx| tx.root_or_create::<Counter>("stepped").await).await.expect("creates");
    let script = scene.script("counted.sh", COUNTED).display().to_string();
    let run = ["run", "n", "--exec", "sh", &script, &counter.oid().to_string()];
    scene.evolve(&["plan", "n", "--class", CLASS, "--below", "2"]);
    let mut live = Vec::new();
    for (oid, version) in scene.oids.iter().zip([1, 1, 2]) {
        let tx = scene.db.transaction().fresh().begin().await.expect("begins");
        tx.get(&Cell::object(*oid)).await.expect("reads").expect("is there");
        tx.put(Cell::object(*oid), &Record::new(CLASS, version, "edited")).expect("encodes");
        live.push(tx);
    }
    let ran = scene.evolve(&run);
    assert_eq!((&ran["job"]["state"], &ran["job"]["owed"]), (&"done".into(), &0.into()), "{ran}");
    let said = |args: &[&str]| text(&scene.served.run(&[&["evolve"], args].concat()).stdout);
    for tells in [said(&["show", "n"]), said(&["list"]), said(&["watch", "n"])] {
        assert!(!tells.contains("owe") && !tells.contains("yielded"), "there is nothing to tell: {tells}");
    }

    for tx in live {
        tx.commit().await.expect("a live writer never loses to an evolve");
    }
    let shown = scene.evolve(&["show", "n"]);
    assert_eq!((&shown["state"], &shown["owed"], &shown["taken_back"]), (&"done".into(), &3.into(), &0.into()));
    let told = said(&["show", "n"]);
    assert!(told.contains("10 of 10 (100 %), 3 owed"), "{told}");
    assert!(told.contains("3 steps, over which live transactions were committed: run its workers again"), "{told}");
    assert_eq!(scene.evolve(&["list"])["owed"], 3);
    assert!(said(&["list"]).contains("10 of 10 (100 %), 3 owed"));
    assert_eq!(scene.evolve(&["watch", "n"])["owed"], 3);
    assert!(said(&["watch", "n"]).contains("run its workers again"));
    let said_no = scene.refused(1, &["ensure", "n"]);
    assert!(said_no.contains("live transactions went over 3 writes of it: run its workers again"), "{said_no}");

    scene.evolve(&run);
    let shown = scene.evolve(&["show", "n"]);
    assert_eq!((&shown["state"], &shown["owed"], &shown["taken_back"]), (&"done".into(), &0.into(), &1.into()));
    let told = said(&["show", "n"]);
    assert!(told.contains("1 of the changed, which live writers have brought to the new shape themselves"), "{told}");
    assert!(!told.contains("owe"), "{told}");
    scene.evolve(&["ensure", "n"]);
    let edited = |at| (2, if at < 3 { "edited" } else { "0" }.to_owned());
    assert_eq!(scene.numbers().await, (0..10).map(edited).collect::<Vec<_>>());
    scene.db.newest().await.expect("answers");
    assert_eq!(counter.get(&scene.db.now()).await.expect("reads"), 9, "new code has not counted its own");
}
