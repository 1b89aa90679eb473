//! Packets that vanish under what depends on more than one server: a backup to an object store that is not reached any more, and a worker of an
//! evolve whose job goes on without it.

#![expect(clippy::print_stdout, reason = "what was measured is said")]

use super::far::{Far, GUARD};
use super::scene::put;
use super::wire::{Cut, HERE, Wire, alone};
use crate::backups::s3::{Bucket, CREDENTIALS};
use crate::backups::scene::{files, noise};
use crate::evolve::scene::{ADD_ONE, CLASS};
use crate::program::{program, text};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use zeolite_client::{Cell, Db, Record};

#[test]
fn a_backup_whose_object_store_vanishes_goes_on_and_none_is_taken_for_whole_before() {
    alone("faults::depends::a_backup_whose_object_store_vanishes_goes_on_and_none_is_taken_for_whole_before", stored);
}

/// The store is at this end; the server, and who takes the backup, at the other: only what is stored comes over the wire.
async fn stored(wire: Wire) {
    const TO: &str = "s3://bucket/site";
    let far = Far::start(wire, &[]);
    let db = far.connect().await;
    for n in 0..12 {
        put(&db, &Cell::object(db.new_oid().await.expect("an oid")), &noise(1 << 20, n)).await.expect("commits");
    }
    let root = far.dir.path().join("s3");
    let mut bucket = Bucket::start(&root, (HERE, 0)).await;
    let url = bucket.url.clone();
    let at_the_place = |args: &[&str]| {
        let mut command = far.wire.there(&program());
        command.envs(CREDENTIALS).args(["--server", &far.served.address]).args(args);
        command.args(["--endpoint", &url]).stderr(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let stored = |ending: &str| {
        files(&root).iter().filter(|file| file.extension().is_some_and(|extension| extension == ending)).count()
    };
    for (round, how) in [Cut::Silence, Cut::Cable].into_iter().enumerate() {
        let before = stored("log");
        let mut taking = at_the_place(&["backup", TO, "--full", "--object-bytes", "65536"]).spawn().expect("starts");
        while stored("log") < before + 5 {
            assert!(taking.try_wait().expect("told").is_none(), "it has ended");
        }
        far.wire.cut(how);
        let begun = Instant::now();
        // What is half there has nobody any more who waits for the rest.
        bucket = bucket.start_anew().await;
        assert!(taking.try_wait().expect("told").is_none(), "{how:?}: it waits");
        assert_eq!(stored("manifest"), round, "{how:?}: it is taken for whole");
        far.wire.mend();
        let taken = taking.wait_with_output().expect("ends");
        println!("{how:?}: whole {} ms after the cut", begun.elapsed().as_millis());
        assert_eq!(taken.status.code(), Some(0), "{how:?}: {}", text(&taken.stderr));
        assert!(begun.elapsed() < GUARD, "{how:?}");
        assert_eq!(stored("manifest"), round + 1);
    }
    for command in ["verify", "drill"] {
        let done = at_the_place(&["backup", command, TO]).output().expect("runs");
        assert_eq!(done.status.code(), Some(0), "{command}: {}{}", text(&done.stdout), text(&done.stderr));
    }
    drop(bucket);
}

/// In chunks of twenty: long enough to be cut in the middle.
const OBJECTS: usize = 1000;

#[test]
fn the_job_of_a_worker_that_vanishes_is_gone_on_with_by_itself_or_by_another() {
    alone("faults::depends::the_job_of_a_worker_that_vanishes_is_gone_on_with_by_itself_or_by_another", worked);
}

async fn worked(wire: Wire) {
    let far = Far::start(wire, &[]);
    let db = far.connect().await;
    let cells = numbers(&db).await;
    let step = far.dir.path().join("add_one.sh");
    std::fs::write(&step, ADD_ONE).expect("written");
    let step = step.display().to_string();
    let evolve = |args: &[&str]| -> Value {
        let done = far.there(&[&["--json", "evolve"], args].concat());
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
        serde_json::from_slice(&done.stdout).expect("json")
    };
    let run = |mut command: Command, name: &str| {
        command.args(["--server", &far.served.address, "--timeout", "5", "evolve", "run", name, "--exec", "sh", &step]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
    };
    let ended = |worker: Child, name: &str| {
        let begun = Instant::now();
        let done = worker.wait_with_output().expect("ends");
        assert!(begun.elapsed() < GUARD, "{name}");
        println!("{name}: ends with {:?} after {} ms", done.status.code(), begun.elapsed().as_millis());
        (done.status.code(), text(&done.stderr))
    };
    for (name, how, other) in [("alone", Cut::Silence, false), ("taken-over", Cut::Cable, true)] {
        let settings = ["disk_pause_percent=0", "disk_stop_percent=0", "lease_ms=1000", "chunk_objects_max=20"];
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        evolve(&[&["plan", name, "--class", CLASS, "--below", "2"], &settings[..]].concat());
        let worker = run(program(), name);
        let begun = Instant::now();
        while evolve(&["show", name])["counts"]["done"].as_u64() < Some(100) {
            assert!(begun.elapsed() < GUARD, "{name}: {}", evolve(&["show", name]));
        }
        far.wire.cut(how);
        if other {
            let (code, said) = ended(run(far.wire.there(&program()), name), "the other");
            assert_eq!(code, Some(0), "{name}: {said}");
        } else {
            far.until("without sessions but ours", |status| status["sessions"].as_u64() <= Some(1));
        }
        far.wire.mend();
        let (code, said) = ended(worker, name);
        assert_eq!(code, Some(0), "{name}: {said}");
        evolve(&["ensure", name]);
        for cell in &cells {
            let found = db.now().get(cell).await.expect("reads").expect("is there");
            assert!(found.version == 2 && found.data == "1", "{name}: {cell} was not stepped once: {found:?}");
        }
        assert_eq!(evolve(&["verify", name])["problems_total"], 0);
        evolve(&["undo", name]);
        evolve(&["forget", name]);
    }
}

async fn numbers(db: &Db) -> Vec<Cell> {
    let mut cells = Vec::new();
    for _ in 0..OBJECTS {
        cells.push(Cell::object(db.new_oid().await.expect("an oid")));
    }
    let tx = db.begin().await.expect("begins");
    for cell in &cells {
        tx.put(cell.clone(), &Record::new(CLASS, 1, "0")).expect("encodes");
    }
    tx.commit().await.expect("commits");
    cells
}
