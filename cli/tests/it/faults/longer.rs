//! Packets that vanish under what takes longer than a call: a hand-over, a backup, a follower.

#![expect(clippy::print_stdout, reason = "what was measured is said")]

use super::far::{self, Far, GUARD, MANY, SIGNS_OF_LIFE, thing, under_key};
use super::scene::put;
use super::wire::{Cut, HERE, THERE, Wire, alone};
use crate::program::{program, text};
use crate::served::Served;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use zeolite_client::{Cell, Db, Error, Tx};

#[test]
fn a_server_is_handed_over_while_nothing_comes_through_and_its_clients_go_on() {
    alone("faults::longer::a_server_is_handed_over_while_nothing_comes_through_and_its_clients_go_on", handed_over);
}

async fn handed_over(wire: Wire) {
    let far = Far::start(wire, &[]);
    let _last = Last(far.dir.path().join("data/lock"));
    let db = far.connect().await;
    let (stop, mut before) = (Arc::new(AtomicBool::new(false)), 0);
    let mut adding = Vec::new();
    for _ in 0..4 {
        adding.push(tokio::spawn(until_told_to_stop(db.clone(), stop.clone())));
    }
    for how in [Cut::Silence, Cut::Cable] {
        far.until("at work", |status| status["commits"].as_u64() > Some(before + 100));
        far.wire.cut(how);
        let mut restart = far.wire.there(&program());
        let restarted = restart.args(["restart", "--data"]).arg(far.dir.path().join("data")).output().expect("runs");
        assert!(restarted.status.success(), "{}", text(&restarted.stderr));
        // Of the new process.
        before = far.commits();
        far.wire.mend();
    }
    far.until("at work again", |status| status["commits"].as_u64() > Some(before + 100));
    stop.store(true, Ordering::Relaxed);
    for adding in adding {
        let (cell, added) = adding.await.expect("ends");
        assert_eq!(far.history(&cell) as u64, added);
    }
    far.verify();
}

/// Counts in a cell of its own, and how far.
async fn until_told_to_stop(db: Db, stop: Arc<AtomicBool>) -> (Cell, u64) {
    let (cell, mut added) = (Cell::object(db.new_oid().await.expect("an oid")), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        let add = async |tx: Tx| {
            let before = tx.get(&cell).await?.map_or(0, |record| record.data.len() as u64);
            assert_eq!(before, added, "each is there once");
            tx.put(cell.clone(), &thing(vec![0; added as usize + 1]))
        };
        db.run(add).await.expect("waits, and goes on");
        added += 1;
    }
    (cell, added)
}

/// The process that there is in the end, which is nobody's child here: a lock names it.
struct Last(PathBuf);

impl Drop for Last {
    fn drop(&mut self) {
        let lock = std::fs::read_to_string(&self.0).unwrap_or_default();
        if let Some(pid) = lock.split_whitespace().find_map(|word| word.parse::<u32>().ok()) {
            // One that has ended already cannot be killed, which is as good.
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

#[test]
fn a_backup_whose_packets_vanish_goes_on_or_says_so_and_is_whole() {
    alone("faults::longer::a_backup_whose_packets_vanish_goes_on_or_says_so_and_is_whole", backup);
}

async fn backup(wire: Wire) {
    let far = Far::start(wire, &[]);
    let db = far.connect().await;
    for n in 0..MANY {
        put(&db, &Cell::object(db.new_oid().await.expect("an oid")), &vec![n; 1 << 20]).await.expect("commits");
    }
    let to = far.dir.path().join("backup").display().to_string();
    let take = || {
        let mut command = program();
        command.args(["--timeout", "5", "--server", &far.served.address, "backup", &to]);
        command.args(["--full", "--object-bytes", "65536"]).stderr(Stdio::piped()).spawn().expect("runs")
    };
    let in_the_middle = |how: Cut| {
        let (before, mut taking) = (objects(&to), take());
        while objects(&to) < before + 5 {
            if taking.try_wait().expect("told").is_some() {
                panic!("it has ended: {}", text(&taking.wait_with_output().expect("ended").stderr));
            }
        }
        far.wire.cut(how);
        taking
    };
    for how in [Cut::Silence, Cut::Cable] {
        let taking = in_the_middle(how);
        far.until("without its session", |status| status["sessions"] == 0);
        far.wire.mend();
        let taken = taking.wait_with_output().expect("ends");
        assert_eq!(taken.status.code(), Some(0), "{how:?}: {}", text(&taken.stderr));
    }
    // For good: signs of life, and then some new connections.
    let (taking, begun) = (in_the_middle(Cut::Silence), Instant::now());
    let taken = taking.wait_with_output().expect("ends");
    println!("given up after {} ms: {}", begun.elapsed().as_millis(), text(&taken.stderr));
    assert!(taken.status.code() == Some(3) && begun.elapsed() < GUARD, "{:?}", taken.status.code());
    far.wire.mend();
    let taken = take().wait_with_output().expect("ends");
    assert_eq!(taken.status.code(), Some(0), "{}", text(&taken.stderr));
    for command in ["verify", "drill"] {
        let good = program().args(["backup", command, &to]).output().expect("runs");
        assert_eq!(good.status.code(), Some(0), "{}{}", text(&good.stdout), text(&good.stderr));
    }
}

fn objects(to: &str) -> usize {
    let mut count = 0;
    let mut left = vec![std::path::PathBuf::from(to)];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => left.push(entry.path()),
                false => count += 1,
            }
        }
    }
    count
}

#[test]
fn a_follower_whose_packets_vanish_is_let_go_comes_back_and_confirms_what_waited() {
    alone("faults::longer::a_follower_whose_packets_vanish_is_let_go_comes_back_and_confirms_what_waited", followed);
}

async fn followed(wire: Wire) {
    // The primary is at this end, and so is its client: nothing vanishes between the two.
    let (here, there) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let primary =
        [&SIGNS_OF_LIFE[..], &["listen_publicly=true", "replication.sync=1", "replication.wait_ms=500"]].concat();
    let primary = Served::start_by(program(), &here.path().join("data"), &format!("{HERE}:0"), &primary);
    let follows = format!("follow.primary={}", primary.address);
    let follower = ["listen_publicly=true", &follows];
    let follower =
        Served::start_by(wire.there(&program()), &there.path().join("data"), &format!("{THERE}:0"), &follower);
    let of = |served: &Served| {
        let told =
            wire.there(&program()).args(["--json", "--server", &served.address, "status"]).output().expect("runs");
        serde_json::from_slice::<serde_json::Value>(&told.stdout).map(|status| status["replication"].clone())
    };
    let standing = || primary.json(&["status"]).remove(0)["replication"].clone();
    let db = Db::connect_with(&primary.address, far::options()).await.expect("connects");
    let cell = Cell::object(db.new_oid().await.expect("an oid"));
    // Nobody knows of it as long as the follower is not there.
    under_key(&db, &cell, b"with a follower", (db.new_commit_key(), db.position())).await;
    for how in [Cut::Silence, Cut::Cable] {
        wire.cut(how);
        let tx = db.transaction().fresh().begin().await.expect("begins");
        tx.put(cell.clone(), &thing(format!("{how:?}"))).expect("encodes");
        let (key, since, begun) = (db.new_commit_key(), db.position(), Instant::now());
        let unknown = tx.commit_as(key, since).await.expect_err("nobody else has it");
        println!("{how:?}: after {} ms: {unknown}", begun.elapsed().as_millis());
        assert!(matches!(unknown, Error::OutcomeUnknown { .. }), "{unknown}");
        let begun = Instant::now();
        while standing()["followers"][0]["connected"] != false {
            assert!(begun.elapsed() < GUARD, "{}", standing());
        }
        println!("{how:?}: the primary lets go of it {} ms later", begun.elapsed().as_millis());
        let check = primary.run(&["check", "--warn", "free_percent=", "--crit", "free_percent="]);
        assert!(check.status.code() == Some(2) && text(&check.stdout).contains("follower"), "{}", text(&check.stdout));
        wire.mend();
        let begun = Instant::now();
        while standing()["waiting"] != 0 {
            assert!(begun.elapsed() < GUARD, "{}", standing());
        }
        println!("{how:?}: confirmed {} ms after the wire is there again", begun.elapsed().as_millis());
        assert!(begun.elapsed() < Duration::from_secs(60));
        under_key(&db, &cell, format!("{how:?}").as_bytes(), (key, since)).await;
        let newest = standing()["newest"].clone();
        while of(&follower).is_ok_and(|of| of["newest"] != newest || of["connected"] != true) {
            assert!(begun.elapsed() < GUARD, "{:?}", of(&follower));
        }
    }
    assert_eq!(primary.json(&["history", &cell.oid.to_string(), "-n", "0"]).len(), 3);
    assert_eq!(primary.code(&["verify"]), Some(0));
    assert_eq!(follower.stop(), Some(0));
    assert_eq!(
        program().args(["verify", "--data"]).arg(there.path().join("data")).status().expect("runs").code(),
        Some(0)
    );
}
