//! The client without `async`, against a real server that runs elsewhere.

use crate::support::World;
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use tokio::sync::oneshot;
use zeolite_client::blocking::Wheel;
use zeolite_client::collections::{Counter, Map};
use zeolite_client::{Error, Result, Tid, blocking};

/// A server on a runtime of its own, whose context this thread is not in.
fn with_server(test: impl FnOnce(&str)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let world = runtime.block_on(World::start());
    test(&world.network.url());
    runtime.block_on(async move { drop(world) });
}

#[test]
fn a_plain_program_reads_and_writes() {
    with_server(|url| {
        let db = blocking::Db::connect(url).expect("connects");
        let words = db
            .run(|tx| {
                let words: Map<u32, String> = tx.root_or_create("words")?;
                (0..100).try_for_each(|n| words.insert(tx, &n, &n.to_string()))?;
                assert_eq!(tx.wait(words.get(tx, &7))?.as_deref(), Some("7"));
                assert_eq!(tx.each(words.range(tx, 10..).limit(3)).collect::<Result<Vec<_>>>()?.len(), 3);
                Ok(words)
            })
            .expect("commits");
        let view = db.now();
        let back: Result<Vec<u32>> = db.each(words.iter(&view).reverse().limit(2)).map(|entry| Ok(entry?.0)).collect();
        assert_eq!(back.expect("reads"), [99, 98]);
        assert_eq!(db.wait(words.count(&view)).expect("reads"), 100);
        let refused = db.run(|tx| words.remove(tx, &1).and_then(|()| Err::<(), _>(Error::app("no"))));
        assert!(matches!(refused, Err(Error::Application(_))));
        assert_eq!(db.wait(words.count(&db.now())).expect("reads"), 100);
    });
}

#[test]
fn the_work_is_run_again_in_the_callers_thread() {
    with_server(|url| {
        let (db, other) =
            (blocking::Db::connect(url).expect("connects"), blocking::Db::connect(url).expect("connects"));
        let rows: Map<u8, u8> = db.run(|tx| tx.root_or_create("rows")).expect("creates");
        // What the work holds cannot be sent to another thread.
        let attempts = std::rc::Rc::new(std::cell::Cell::new(0));
        let value = db.run(|tx| {
            attempts.set(attempts.get() + 1);
            let before = tx.wait(rows.get(tx, &1))?;
            if attempts.get() == 1 {
                other.run(|tx| rows.insert(tx, &1, &5))?;
            }
            rows.insert(tx, &1, &7)?;
            Ok(before)
        });
        assert_eq!((value.expect("commits"), attempts.get()), (Some(5), 2));
        let hits: Counter = db.run(|tx| tx.root_or_create("hits")).expect("creates");
        let tried = AtomicU32::new(0);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            db.run(|tx| {
                hits.add(tx, 1)?;
                tried.fetch_add(1, Ordering::Relaxed);
                if tried.load(Ordering::Relaxed) == 1 {
                    panic!("in the work")
                }
                Ok(())
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(db.run(|tx| tx.wait(hits.get(tx))).expect("reads"), 0, "nothing of it is committed");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_a_runtime_it_is_refused() {
    let world = World::start().await;
    let error = blocking::Db::connect(world.network.url()).expect_err("is refused");
    assert!(matches!(error, Error::InsideRuntime), "{error}");
    let url = world.network.url();
    let made = std::thread::spawn(move || blocking::Db::connect(url)).join().expect("no panic");
    let db = made.expect("connects on a thread of its own");
    assert!(matches!(db.run(|_| Ok(())), Err(Error::InsideRuntime)));
    assert!(matches!(db.wait(db.newest()), Err(Error::InsideRuntime)));
    drop(db);
    // Whoever is faster, the one who drops it or its own thread: the runtime is not dropped here.
    (0..2000).for_each(|_| drop(Wheel::start().expect("a thread")));
}

/// The commit of somebody else.
fn counted(db: &blocking::Db, hits: Counter) -> Tid {
    db.run(|tx| hits.add(tx, 1)).expect("commits");
    db.wait(db.newest()).expect("is there")
}

#[test]
fn what_others_commit_arrives_while_no_thread_waits() {
    with_server(|url| {
        let connect = || blocking::Db::connect(url).expect("connects");
        let (db, other) = (connect(), connect());
        let hits: Counter = db.run(|tx| tx.root_or_create("hits")).expect("creates");
        for _ in 0..3 {
            // It has just waited, so its own thread looks; the second time it turns already.
            db.wait(db.newest()).expect("is there");
            let newest = counted(&other, hits);
            while db.position() < newest {
                thread::yield_now();
            }
            let newest = counted(&other, hits);
            while db.position() < newest {
                thread::yield_now();
            }
        }
    });
}

#[test]
fn two_that_wait_for_long_do_not_hold_up_a_third() {
    with_server(|url| {
        let connect = || blocking::Db::connect(url).expect("connects");
        let (db, other) = (connect(), connect());
        let hits: Counter = db.run(|tx| tx.root_or_create("hits")).expect("creates");
        thread::scope(|threads| {
            let long = || {
                let (ends, end) = oneshot::channel::<()>();
                let (begins, begun) = mpsc::channel();
                let db = &db;
                let waiting = threads.spawn(move || {
                    db.wait(async {
                        begins.send(()).expect("is heard");
                        end.await.map_err(|_| Error::app("forgotten"))
                    })
                });
                begun.recv().expect("waits");
                (ends, waiting)
            };
            let (first, second) = (long(), long());
            for _ in 0..20 {
                let newest = counted(&other, hits);
                assert!(db.wait(db.newest()).expect("is answered") >= newest);
            }
            // Who turned the wheel goes: the other one turns it, and hears of what it waits for.
            first.0.send(()).expect("waits");
            first.1.join().expect("no panic").expect("ends");
            let newest = counted(&other, hits);
            while db.position() < newest {
                thread::yield_now();
            }
            second.0.send(()).expect("waits");
            second.1.join().expect("no panic").expect("ends");
        });
    });
}

#[test]
fn many_threads_wait_at_once() {
    with_server(|url| {
        let db = blocking::Db::connect(url).expect("connects");
        let hits: Counter = db.run(|tx| tx.root_or_create("hits")).expect("creates");
        thread::scope(|threads| {
            for _ in 0..48 {
                threads.spawn(|| (0..10).for_each(|_| db.run(|tx| hits.add(tx, 1)).expect("commits")));
            }
        });
        assert_eq!(db.wait(hits.get(&db.now())).expect("reads"), 480);
        // The crowd has gone: one turns again.
        (0..10).for_each(|_| db.run(|tx| hits.add(tx, 1)).expect("commits"));
    });
}

#[test]
fn the_wheel_turns_for_whoever_is_there() {
    let wheel = Wheel::start().expect("a thread");
    assert_eq!(wheel.wait(async { 7 }), 7);
    for _ in 0..50 {
        // Nobody waits for it in the wheel, whether its own thread turns or looks.
        let (says, said) = mpsc::channel();
        wheel.spawn(async move { says.send(5).expect("is heard") });
        assert_eq!(said.recv(), Ok(5));
        // Who goes in a panic leaves it to the others.
        let panicked = thread::scope(|threads| threads.spawn(|| wheel.wait(async { panic!("in a wait") })).join());
        assert!(panicked.is_err());
        let (says, said) = oneshot::channel();
        wheel.spawn(async move { says.send(6).expect("is heard") });
        assert_eq!(wheel.wait(said), Ok(6));
    }
    let (says, said) = mpsc::channel::<()>();
    wheel.spawn(async move {
        pending::<()>().await;
        drop(says);
    });
    drop(wheel);
    assert!(said.recv().is_err(), "its tasks end with it");
}

#[test]
fn what_has_come_is_taken_in_without_waiting() {
    let wheel = Wheel::start().expect("a thread");
    let (says, said) = mpsc::channel();
    for number in 0..50 {
        let says = says.clone();
        // In its context, and nobody is told.
        let entered = wheel.enter();
        tokio::spawn(async move { says.send(number).expect("is heard") });
        drop(entered);
        wheel.turn();
        assert_eq!(said.recv(), Ok(number));
    }
}
