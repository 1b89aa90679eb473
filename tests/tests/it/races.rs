//! The races that made ZEO's readers see stale objects, on real threads with seeded jitter.
//!
//! ```text
//!   ZEO 155, 166, 209, ZODB 290      a client loads an object; while the answer is on its way another client's commit is
//!                                    told to it; the old answer arrives last and is cached as the newest: stale for good
//! ```
//! Here each session is a line of frames, as the server's outgoing queue is: the feed is pushed into it by the writer, answers
//! are pushed by whoever made them. A small client reads its line, keeps a cache by two rules (an invalidation ends a revision;
//! an answer enters only if nothing newer than its snapshot was told about the cell) and writes down what it believes after
//! each frame. When all is over, every belief is compared with the log.
//!
//! A scheduler that explores every order (shuttle) needs its own locks in the code under test; the engine's are parking_lot and
//! crossbeam. So the orders come from jitter at every disk call and push, and the narrow gaps inside of the store are stepped into by
//! the store's own tests.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use zeolite_proto::resolvers::{class, counter};
use zeolite_proto::{Cell, Draft, Fault, Oid, Receipt, Record, Tid};
use zeolite_server::engine::clock::SystemClock;
use zeolite_server::engine::feed::FeedSink;
use zeolite_server::engine::{Engine, FeedBatch, Loaded};
use zeolite_server::store::disk::{SimDisk, WatchedDisk};
use zeolite_tests::support::jitter::Jitter;
use zeolite_tests::support::work::key;
use zeolite_tests::support::{HouseSettings, Told, Work};

const WRITERS: u64 = 2;
const COMMITS: u64 = 80;
const SESSIONS: usize = 2;
const CELLS: u64 = 4;

/// What goes down a session's line.
enum Frame {
    Feed(FeedBatch),
    Loaded(Cell, Loaded),
}

/// A session: the line, and whether it is built as it must not be.
struct Session {
    line: Mutex<VecDeque<Frame>>,
    late: Mutex<Vec<Frame>>,
    feed_is_late: bool,
    jitter: Jitter,
}

impl FeedSink for Session {
    fn push(&self, batch: &FeedBatch) -> bool {
        self.jitter.pause();
        let frame = Frame::Feed(batch.clone());
        match self.feed_is_late {
            true => self.late.lock().push(frame),
            false => self.line.lock().push_back(frame),
        }
        self.jitter.pause();
        true
    }
}

/// A client that reads a line.
struct Client {
    /// Everything up to here was told.
    told: Tid,
    ended: HashMap<Cell, Tid>,
    cache: HashMap<Cell, Tid>,
    beliefs: Vec<(Cell, Tid, Tid)>,
}

impl Client {
    fn read(&mut self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Feed(batch) => {
                for item in &batch.items {
                    if item.tid <= self.told {
                        return Err(format!("the feed tells {} after {}", item.tid, self.told));
                    }
                    self.told = item.tid;
                    for cell in item.cells.iter() {
                        self.ended.insert(cell.clone(), item.tid);
                        self.cache.remove(cell);
                    }
                }
            }
            Frame::Loaded(cell, loaded) => {
                if loaded.snapshot > self.told {
                    return Err(format!("an answer shows {} and only {} was told", loaded.snapshot, self.told));
                }
                let tid = loaded.revisions.first().and_then(|r| r.as_ref()).map_or(Tid::NONE, |revision| revision.tid);
                if self.ended.get(&cell).is_none_or(|ended| *ended <= loaded.snapshot) {
                    self.cache.insert(cell, tid);
                }
            }
        }
        let told = self.told;
        self.beliefs.extend(self.cache.iter().map(|(cell, tid)| (cell.clone(), *tid, told)));
        Ok(())
    }
}

/// Counts a writer out, however it ends.
struct Ended<'a>(&'a AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A running engine.
struct Stage {
    engine: Arc<Engine>,
    first: Oid,
    jitter: Jitter,
    writing: AtomicUsize,
}

impl Stage {
    fn cell(&self, n: u64) -> Cell {
        Cell::object(Oid(self.first.0 + n))
    }

    fn commit(&self, draft: Draft) -> Result<Receipt, Fault> {
        let (tell, told) = mpsc::channel();
        self.engine.commit(draft, Box::new(move |answer| drop(tell.send(answer))));
        told.recv().expect("every commit is answered")
    }

    /// Writes pairs of equal pages, adds to a counter, and looks whether it can read what it wrote.
    fn write(&self, writer: u64) -> Result<u64, String> {
        let _ended = Ended(&self.writing);
        let mut committed = 0;
        for n in 0..COMMITS {
            let base = self.engine.visible();
            let page = Record::new("Page", 1, format!("{writer}.{n}").into_bytes());
            let work = Work::new(key(writer * 1000 + n)).put(self.cell(0), base, &page).put(self.cell(1), base, &page);
            match self.commit(work.apply(self.cell(2), class::COUNTER, counter::add(1)).draft()) {
                Ok(receipt) => {
                    committed += 1;
                    let seen = self.engine.load(Tid::NONE, &[self.cell(0)]).map_err(|fault| fault.to_string())?;
                    if seen.snapshot < receipt.tid {
                        return Err(format!("committed {}, and then only {} is visible", receipt.tid, seen.snapshot));
                    }
                }
                Err(fault) if fault.conflict.is_some() => {}
                Err(fault) => return Err(format!("a commit was refused: {fault}")),
            }
        }
        Ok(committed)
    }

    /// Reads the pair and the counter at the newest snapshot, again and again: equal, and never back in time.
    fn watch(&self) -> Result<(), String> {
        let mut last = Tid::NONE;
        while self.writing.load(Ordering::SeqCst) > 0 {
            let loaded =
                self.engine.load(Tid::NONE, &[self.cell(0), self.cell(1)]).map_err(|fault| fault.to_string())?;
            if loaded.snapshot < last {
                return Err(format!("{} was visible, now it is {}", last, loaded.snapshot));
            }
            last = loaded.snapshot;
            let records: Vec<_> = loaded.revisions.iter().map(|r| r.as_ref().and_then(|r| r.record.clone())).collect();
            if records[0] != records[1] {
                return Err(format!("half of a commit at {last}: {records:?}"));
            }
            if loaded.revisions.iter().flatten().any(|revision| revision.tid > last) {
                return Err(format!("a revision newer than the snapshot {last}"));
            }
            self.jitter.pause();
        }
        Ok(())
    }

    /// A session: loads cells, reads its line, writes down what it believes.
    fn serve(&self, feed_is_late: bool) -> Result<Vec<(Cell, Tid, Tid)>, String> {
        let (line, late) = (Mutex::default(), Mutex::default());
        let session = Arc::new(Session { line, late, feed_is_late, jitter: self.jitter.clone() });
        let told = self.engine.subscribe(session.clone());
        let mut client = Client { told, ended: HashMap::new(), cache: HashMap::new(), beliefs: Vec::new() };
        let mut n = 0;
        loop {
            let last_round = self.writing.load(Ordering::SeqCst) == 0;
            let late = std::mem::take(&mut *session.late.lock());
            n += 1;
            let cell = self.cell(n % CELLS);
            let loaded = self.engine.load(Tid::NONE, std::slice::from_ref(&cell)).map_err(|fault| fault.to_string())?;
            self.jitter.pause();
            session.line.lock().push_back(Frame::Loaded(cell, loaded));
            self.jitter.pause();
            loop {
                let next = session.line.lock().pop_front();
                let Some(frame) = next else { break };
                client.read(frame)?;
            }
            session.line.lock().extend(late);
            if last_round {
                return Ok(client.beliefs);
            }
        }
    }

    /// Every belief is true: the revision was the newest up to the tid that had been told.
    fn judge(&self, beliefs: &[(Cell, Tid, Tid)]) -> Result<(), String> {
        let mut written: BTreeMap<(Cell, Tid), ()> = BTreeMap::new();
        let mut from = Tid(1);
        loop {
            let page = self.engine.log_page(from, Tid::NONE, 0).map_err(|fault| fault.to_string())?;
            let Some(last) = page.last() else { break };
            from = last.tid.next();
            for txn in &page {
                written.extend(txn.writes.iter().map(|write| ((write.cell.clone(), txn.tid), ())));
            }
        }
        for (cell, tid, told) in beliefs {
            let newest = written.range((cell.clone(), Tid::NONE)..=(cell.clone(), *told)).next_back();
            let newest = newest.map_or(Tid::NONE, |((_, tid), ())| *tid);
            if newest != *tid {
                return Err(format!("told {told}, a client believed {cell} to be of {tid}; it was of {newest}"));
            }
        }
        Ok(())
    }
}

/// One seed: writers, watchers and sessions together.
fn play(seed: u64, feed_is_late: bool) -> Result<usize, String> {
    let mut settings = HouseSettings::default();
    settings.engine.settle_txns_max = 3;
    settings.engine.batch_txns_max = 4;
    settings.engine.recent_cells_max = 8;
    settings.store.segment_bytes_max = 8192;
    settings.store.checkpoint_log_bytes = 20_000;
    settings.store.overlay_bytes_max = 4000;
    let jitter = Jitter::new(seed);
    let disk = Arc::new(WatchedDisk::new(Arc::new(SimDisk::new()), jitter.clone()));
    let HouseSettings { store, engine, limits, registry } = settings;
    let opened = Engine::open(disk, Arc::new(SystemClock::new()), store, engine, limits, registry, seed, &mut |_| {});
    let (engine, mut loops) = opened.map_err(|error| error.to_string())?;
    let (done, oids) = Told::pair();
    engine.new_oids(CELLS as u32, done);
    loops.run_dry();
    let first = oids.expect().map_err(|fault| fault.to_string())?;
    let running = loops.spawn(|_| {});
    let stage = Stage { engine, first, jitter, writing: AtomicUsize::new(WRITERS as usize) };
    let beliefs = thread::scope(|scope| {
        let stage = &stage;
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || stage.write(writer))).collect();
        let watcher = scope.spawn(|| stage.watch());
        let sessions: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(|| stage.serve(feed_is_late))).collect();
        let mut committed = 0;
        for writer in writers {
            committed += writer.join().map_err(|_| "a writer panicked".to_owned())??;
        }
        watcher.join().map_err(|_| "a watcher panicked".to_owned())??;
        let sum = stage.engine.load(Tid::NONE, &[stage.cell(2)]).map_err(|fault| fault.to_string())?;
        let record = sum.revisions.first().and_then(|r| r.as_ref()?.record.clone()).ok_or("there is no counter")?;
        let sum = Record::decode(&record).and_then(|record| counter::value(&record)).map_err(|bad| bad.to_string())?;
        if sum != committed as i64 {
            return Err(format!("{committed} commits, the counter says {sum}"));
        }
        let mut beliefs = Vec::new();
        for session in sessions {
            beliefs.extend(session.join().map_err(|_| "a session panicked".to_owned())??);
        }
        Ok(beliefs)
    });
    let judged = beliefs.and_then(|beliefs| stage.judge(&beliefs).map(|()| beliefs.len()));
    stage.engine.shut_down();
    running.join(zeolite_server::engine::Leaving::Settled).map_err(|error| error.to_string())?;
    judged
}

#[test]
fn no_answer_overtakes_its_invalidations() {
    let mut beliefs = 0;
    for seed in 1..=8 {
        match play(seed, false) {
            Ok(found) => beliefs += found,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    println!("seeds 1..=8: {beliefs} beliefs, all true");
    assert!(beliefs > 1000, "the clients believe something");
}

#[test]
fn a_feed_that_comes_late_is_caught() {
    let caught = (1..=8).filter(|seed| play(*seed, true).is_err()).count();
    assert!(caught > 0, "a session that pushes its feed after the tids are visible must be found out");
}
