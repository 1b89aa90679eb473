//! Gates by hand: what is closed, and the way out of what stands in the way.

use super::scene::{CLASS, Scene};
use crate::served::text;
use zeolite_client::{Cell, FaultKind, Record};

#[tokio::test(flavor = "multi_thread")]
async fn gates_are_listed_opened_and_closed_by_hand() {
    let scene = Scene::with(3).await;
    let gate = |args: &[&str]| scene.served.json(&[&["gate"], args].concat());
    let refused = |code, args: &[&str]| {
        let output = scene.served.run(&[&["gate"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let write = async |version| {
        let cell = Cell::object(scene.oids[0]);
        let written = scene.db.run(async |tx| tx.put(cell.clone(), &Record::new(CLASS, version, "0"))).await;
        written.map_err(|error| (error.kind(), error.to_string()))
    };
    assert!(gate(&["list"]).is_empty());
    assert!(refused(4, &["close", "test.Nubmer"]).contains("known: test.Number"));
    let said = refused(1, &["close", CLASS, "--version", "2"]);
    assert!(said.contains("stays open: 3 objects are below version 2"), "{said}");
    assert_eq!(gate(&["open", CLASS])[0]["opened"], serde_json::Value::Null);

    scene.evolve(&["plan", "n", "--class", CLASS, "--below", "2", "--gate"]);
    scene.evolve(&["run", "n", "--bump", "2"]);
    let listed = gate(&["list"]);
    let told = (&listed[0]["class"], &listed[0]["min_version"], &listed[0]["job"]);
    assert_eq!(told, (&CLASS.into(), &2.into(), &"n".into()), "{listed:?}");
    let (kind, _) = write(1).await.expect_err("it is closed");
    assert_eq!(kind, Some(FaultKind::Gated));
    let opened = text(&scene.served.run(&["gate", "open", CLASS]).stdout);
    assert!(opened.contains("is open: it was closed below version 2 by evolve \"n\""), "{opened}");
    write(1).await.expect("it is open");
    assert!(gate(&["list"]).is_empty());

    let said = refused(1, &["close", CLASS]);
    assert!(said.contains("1 object is below version 2"), "the newest version there is: {said}");
    write(2).await.expect("commits");
    assert_eq!(gate(&["close", CLASS])[0]["version"], 2);
    let again = text(&scene.served.run(&["gate", "close", CLASS]).stdout);
    assert!(again.contains("closed below version 2 by hand") && again.contains("already"), "{again}");
    let (_, said) = write(1).await.expect_err("it is closed");
    assert!(said.contains("since its gate was closed only 2 and later"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_out_of_a_gate_is_told() {
    let scene = Scene::with(3).await;
    scene.evolve(&["plan", "n", "--class", CLASS, "--below", "2", "--gate"]);
    scene.evolve(&["run", "n", "--bump", "2"]);
    let forgotten = text(&scene.served.run(&["evolve", "forget", "n"]).stdout);
    assert!(
        forgotten.contains("stays closed below version 2; `zeolite gate open test.Number` opens it"),
        "{forgotten}"
    );
    scene.evolve(&["plan", "m", "--class", CLASS, "--below", "2"]);
    scene.evolve(&["run", "m", "--bump", "2"]);
    let said = scene.refused(4, &["undo", "m"]);
    assert!(said.contains("closed below version 2 (by \"n\")") && said.contains("zeolite gate open"), "{said}");
    assert_eq!(scene.evolve(&["show", "m"])["state"], "done");

    // A worker that died behind its gate, before the certificate: closed in the job's name.
    scene.served.run(&["gate", "open", CLASS]);
    scene.evolve(&["plan", "o", "--class", CLASS, "--below", "2", "--gate"]);
    scene.db.admin().close_gate(CLASS, 2, "o").await.expect("closes");
    let output = scene.served.run(&["evolve", "cancel", "o"]);
    assert!(text(&output.stderr).contains("is open again"), "{}", text(&output.stderr));
    assert!(scene.served.json(&["gate", "list"]).is_empty());
}
