//! Packets that vanish, in the middle of each call: no connection ends, and neither side is told. What clients see within their time limits, that
//! the server lets go of who has vanished, and that each commit is done once when the wire is there again.

#![expect(clippy::print_stdout, reason = "what was measured is said")]

use super::far::{Far, GUARD, MANY, again, thing, under_key};
use super::scene::put;
use super::wire::{Cut, Wire, alone};
use crate::program::text;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use zeolite_client::{BlobId, Cell, Change, Db, Error, Oid, Range, Remedy};

fn pieces() -> impl Iterator<Item = std::io::Result<bytes::Bytes>> {
    (0..MANY).map(|n| Ok(bytes::Bytes::from(vec![n; 1 << 20])))
}

#[test]
fn a_call_whose_packets_vanish_ends_within_its_time_limit_and_is_done_once() {
    alone("faults::vanished::a_call_whose_packets_vanish_ends_within_its_time_limit_and_is_done_once", calls);
}

async fn calls(wire: Wire) {
    let far = Far::start(wire, &[]);
    let (cells, film) = large_things(&far.connect().await).await;
    let db = far.connect_impatient().await;
    for how in [Cut::Silence, Cut::Cable] {
        for what in ["load", "scan", "blob up", "blob down", "log"] {
            // Those two have no time limit, and wait for signs of life: once is enough.
            if how == Cut::Cable && (what == "blob down" || what == "log") {
                continue;
            }
            let begun = OnceLock::new();
            let cut = || {
                far.wire.cut(how);
                begun.set(Instant::now()).expect("once");
            };
            let failed = match what {
                "load" => {
                    let view = db.now();
                    tokio::join!(view.get_many(&cells), async { cut() }).0.err()
                }
                "scan" => {
                    let view = db.now();
                    tokio::join!(view.entries(Oid::ROOT, Range::all()), async { cut() }).0.err()
                }
                "blob down" => {
                    let mut pieces = Box::pin(db.blob(film).read(0..u64::from(MANY) << 20));
                    pieces.next().await.expect("a piece").expect("comes");
                    cut();
                    let rest: Vec<_> = pieces.collect().await;
                    rest.into_iter().find_map(Result::err)
                }
                "blob up" => {
                    let cut_in_the_middle = pieces().enumerate().inspect(|(n, _)| (*n == 10).then(cut).unwrap_or(()));
                    let stream = stream::iter(cut_in_the_middle.map(|(_, piece)| piece));
                    db.put_blob_of(db.new_blob_id(), stream).await.err()
                }
                _ => {
                    let mut pages = db.admin().log(None, None, None, true).await.expect("begins");
                    pages.next().await.expect("comes").expect("a page");
                    cut();
                    pages.collect().await.err()
                }
            };
            let took = begun.get().expect("it was cut").elapsed();
            let failed = failed.unwrap_or_else(|| panic!("{how:?}, {what}: not all of it can have come"));
            println!("{how:?}, {what}: after {} ms: {failed}", took.as_millis());
            assert!(matches!(failed.remedy(), Remedy::Wait | Remedy::Retry), "{how:?}, {what}: {failed}");
            // What has no time limit has signs of life, every ten seconds, each awaited for ten.
            assert!(took < Duration::from_secs(30), "{how:?}, {what}: {took:?}");
            far.until("without sessions", |status| status["sessions"] == 0);
            far.wire.mend();
            again(async || db.newest().await).await;
        }
    }
    far.verify();
}

/// All of them are larger than what may be on its way at once.
async fn large_things(db: &Db) -> (Vec<Cell>, BlobId) {
    let mut cells = Vec::new();
    for n in 0..MANY {
        let tx = db.begin().await.expect("begins");
        let cell = Cell::object(db.new_oid().await.expect("an oid"));
        tx.put(cell.clone(), &thing(vec![n; 1 << 20])).expect("encodes");
        tx.put(Cell::entry(Oid::ROOT, vec![n]), &thing(vec![n; 1 << 20])).expect("encodes");
        tx.commit().await.expect("commits");
        cells.push(cell);
    }
    let film = db.new_blob_id();
    db.put_blob_of(film, stream::iter(pieces())).await.expect("goes up");
    (cells, film)
}

#[test]
fn commits_whose_packets_vanish_are_unknown_and_are_done_once_under_their_keys() {
    alone("faults::vanished::commits_whose_packets_vanish_are_unknown_and_are_done_once_under_their_keys", commits);
}

async fn commits(wire: Wire) {
    let far = Far::start(wire, &[]);
    for how in [Cut::Silence, Cut::Cable] {
        let db = far.connect_impatient().await;
        let before = far.commits();
        let mut committing = Vec::new();
        for _ in 0..8 {
            committing.push(tokio::spawn(until_it_is_unknown(db.clone())));
        }
        // In the middle of whatever they are at.
        far.until("at work", |status| status["commits"].as_u64() > Some(before + 200));
        far.wire.cut(how);
        far.until("without sessions", |status| status["sessions"] == 0);
        let mut all = Vec::new();
        for committing in committing {
            all.push(committing.await.expect("ends"));
        }
        assert!(far.there(&["check", "--warn", "free_percent=", "--crit", "free_percent="]).status.code() < Some(2));
        far.wire.mend();
        for (cell, done, key, since, took) in all {
            println!("{how:?}: {done} commits, then after {} ms nobody knew", took.as_millis());
            assert!(took < Duration::from_secs(20), "{took:?}");
            under_key(&db, &cell, &done.to_le_bytes(), (key, since)).await;
            assert_eq!(far.history(&cell) as u64, done + 1, "{how:?} {cell}");
        }
    }
    far.verify();
}

type Unknown = (Cell, u64, zeolite_client::CommitKey, zeolite_client::Tid, Duration);

/// Commits to a cell of its own until nobody knows what became of one.
async fn until_it_is_unknown(db: Db) -> Unknown {
    let cell = Cell::object(db.new_oid().await.expect("an oid"));
    for done in 0_u64.. {
        let begun = Instant::now();
        let tx = loop {
            // Whatever is asked before the commit itself fails plainly, and is asked again.
            match db.begin().await {
                Ok(tx) => break tx,
                Err(error) => assert!(begun.elapsed() < GUARD, "{error}"),
            }
        };
        tx.put(cell.clone(), &thing(done.to_le_bytes().to_vec())).expect("encodes");
        let (key, since) = (db.new_commit_key(), db.position());
        match tx.commit_as(key, since).await {
            Ok(_) => {}
            Err(Error::OutcomeUnknown { .. }) => return (cell, done, key, since, begun.elapsed()),
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("one of them is cut")
}

#[test]
fn who_has_vanished_is_let_go_with_what_he_held_and_hears_of_what_he_missed() {
    alone("faults::vanished::who_has_vanished_is_let_go_with_what_he_held_and_hears_of_what_he_missed", listener);
}

async fn listener(wire: Wire) {
    let far = Far::start(wire, &[]);
    let db = far.connect().await;
    let cell = Cell::object(db.new_oid().await.expect("an oid"));
    put(&db, &cell, b"before").await.expect("commits");
    let mut news = db.watch_all();
    assert!(news.begun().await);
    let pin = db.pin().await.expect("pins");
    let tx = db.begin().await.expect("begins");
    tx.put(Cell::object(db.new_oid().await.expect("an oid")), &thing("held")).expect("encodes");
    let prepared = tx.prepare(Duration::from_secs(30)).await.expect("prepares");
    far.until("held", |status| status["sessions"] == 1 && status["pins"] == 1 && status["prepared"] == 1);
    far.wire.cut(Cut::Silence);
    let begun = Instant::now();
    far.until("without sessions", |status| status["sessions"] == 0);
    println!("the session is dropped after {} ms", begun.elapsed().as_millis());
    assert!(begun.elapsed() < Duration::from_secs(20));
    far.until("without what was prepared", |status| status["prepared"] == 0);
    // A pin is a lease that its client renews: for another session of the same client as well.
    far.until("without pins", |status| status["pins"] == 0);
    println!("pin and prepared transaction are free after {} ms", begun.elapsed().as_millis());
    assert!(begun.elapsed() < Duration::from_secs(90));
    // Somebody at the other end writes, and the listener says nothing and hears nothing.
    let undone = far.there(&["--json", "log", "-n", "1"]);
    let newest: Value = serde_json::from_slice(&undone.stdout).expect("json");
    let undone = far.there(&["undo", newest["tid"].as_str().expect("a tid")]);
    assert!(undone.status.success(), "{}", text(&undone.stderr));
    far.wire.mend();
    let begun = Instant::now();
    let heard = tokio::time::timeout(GUARD, async {
        loop {
            match news.next().await.expect("goes on") {
                Change::Missed { .. } => return,
                Change::Written { cells, .. } if cells.contains(&cell) => return,
                _ => {}
            }
        }
    });
    heard.await.expect("it hears of it");
    println!("it hears of what it missed {} ms after the wire is there again", begun.elapsed().as_millis());
    assert!(db.now().get(&cell).await.expect("reads").is_none(), "it was undone");
    drop((pin, prepared));
    far.verify();
}
