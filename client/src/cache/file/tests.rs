//! Owns the trial of the file: what others commit, what the session tells, late replies, turns of the writer, kills in the middle of them and
//! losses of power, and what comes up again, from seeds, against a model that knows the truth.
//!
//! ```text
//!   server   commit                    as another store, or one that cannot tell what was missed
//!   session  feed, in order; replies, late; reset
//!   writer   turns; before each of its writes the session may go on, or the process end
//!   disk     killed: all that was written; power lost: of each sector as it was synced, or as it was written since
//! ```
//! What must hold: whatever the cache answers for a snapshot is what the model has for it.

mod scenes;

use super::layout::Shape;
use super::open::claim;
use super::{CacheFile, Of, Seen, Writer};
use crate::cache::{Cache, Opened};
use crate::revision::Revision;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeolite_proto::{Cell, Oid, Tid};

const CELLS: u64 = 40;
const SECTOR: usize = 512;

type BeforeWrite = Box<dyn FnMut() -> io::Result<()> + Send>;

/// What a test does to a file: something before each write, and a look at it when it is synced.
#[derive(Default)]
pub(super) struct Trial {
    before_write: Mutex<Option<BeforeWrite>>,
    synced: Mutex<Vec<u8>>,
    /// That of all turns; none: as always.
    pub(super) salt: Mutex<Option<u64>>,
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trial")
    }
}

impl Trial {
    pub(super) fn before_write(&self) -> io::Result<()> {
        self.before_write.lock().as_mut().map_or(Ok(()), |before| before())
    }

    pub(super) fn is_synced(&self, path: &Path) {
        *self.synced.lock() = std::fs::read(path).expect("it is there");
    }
}

/// Its timeline, and where it began.
type Life = (u64, Tid);

type Commit = (Tid, u64, Option<Bytes>);

/// The server, and what of it is on its way.
struct Server {
    dice: fastrand::Rng,
    store_id: u64,
    /// The lives of the store, each with where it began.
    lives: Vec<Life>,
    /// Each commit writes one cell; none: it is deleted.
    commits: Vec<Commit>,
    /// Another store, which may take the address over.
    other: Option<(u64, Vec<Life>, Vec<Commit>)>,
    generation: u64,
    /// So many commits the client has been told.
    told: usize,
    replies: Vec<(u64, Revision, Tid, u64)>,
}

fn cell(number: u64) -> Cell {
    if number.is_multiple_of(2) { Cell::object(Oid(number)) } else { Cell::entry(Oid(number), format!("key {number}")) }
}

impl Server {
    fn with(dice: fastrand::Rng, commits: usize) -> Arc<Mutex<Server>> {
        let mut server = Server {
            dice,
            store_id: 1,
            lives: vec![(1, Tid::NONE)],
            commits: Vec::new(),
            other: None,
            generation: 1,
            told: 0,
            replies: Vec::new(),
        };
        (0..commits).for_each(|_| server.commit());
        Arc::new(Mutex::new(server))
    }

    fn position(&self) -> Tid {
        self.told.checked_sub(1).map_or(Tid::NONE, |last| self.commits[last].0)
    }

    fn truth(&self, number: u64, at: Tid) -> Option<(Tid, Option<Bytes>)> {
        let last = self.commits.iter().rfind(|commit| commit.0 <= at && commit.1 == number)?;
        Some((last.0, last.2.clone()))
    }

    fn commit(&mut self) {
        let tid = Tid(self.commits.last().map_or(10, |last| last.0.0) + self.dice.u64(1..4));
        let number = self.dice.u64(0..CELLS);
        // What it is of is in its bytes; some are long, and few do not fit into a chunk.
        let times = [5, 40, 40, 90, 90, 300][self.dice.usize(0..6)];
        let record = format!("{} {} {number} {};", self.store_id, self.life(), tid.0).repeat(times);
        let deleted = self.dice.u8(0..10) == 0;
        self.commits.push((tid, number, (!deleted).then(|| record.into())));
    }

    /// Another store answers: a new one, with lower tids and the same cells, or the one before.
    fn switch(&mut self) {
        let other = self.other.take().filter(|_| self.dice.u8(0..4) > 0);
        // No two stores have one id.
        let (store_id, lives, commits) =
            other.unwrap_or_else(|| (self.dice.u64(1000..1 << 40), vec![(1, Tid::NONE)], Vec::new()));
        let lives = std::mem::replace(&mut self.lives, lives);
        let commits = std::mem::replace(&mut self.commits, commits);
        let before = (std::mem::replace(&mut self.store_id, store_id), lives, commits);
        self.other = Some(before);
        (0..30).for_each(|_| self.commit());
        self.generation += 1;
    }

    /// A follower that had not heard of the last commits is the primary from here on.
    fn promote(&mut self) {
        let lost = self.dice.usize(0..self.commits.len().min(20));
        self.commits.truncate(self.commits.len() - lost);
        let at = self.commits.last().map_or(Tid::NONE, |last| last.0);
        self.lives.push((self.life() + 1, at));
        (0..10).for_each(|_| self.commit());
    }

    fn life(&self) -> u64 {
        self.lives.last().map_or(0, |life| life.0)
    }

    /// Whether what is kept is of this store, and all up to there of the life that it has now.
    fn shares(&self, kept: &super::Kept) -> bool {
        let of = self.lives.iter().position(|life| life.0 == kept.timeline);
        let later = |of: usize| self.lives[of + 1..].iter().all(|life| kept.position <= life.1);
        kept.store_id == self.store_id && of.is_some_and(later)
    }

    fn snapshot(&mut self) -> Tid {
        let back = self.dice.u64(0..4);
        Tid(self.position().0.saturating_sub(if back == 3 { 5 } else { 0 }))
    }

    /// A load, read now at the newest or some older snapshot; its reply comes at some time.
    fn ask(&mut self) {
        let (number, at) = (self.dice.u64(0..CELLS), self.snapshot());
        let Some((tid, record)) = self.truth(number, at) else { return };
        let end = self.commits.iter().find(|commit| commit.0 > at && commit.1 == number).map(|commit| commit.0);
        self.replies.push((number, Revision { tid, end, record }, at, self.generation));
    }

    /// The session goes on by a step.
    fn step(&mut self, cache: &Cache) {
        match self.dice.u8(0..6) {
            0 => self.commit(),
            1 if self.told < self.commits.len() => {
                let (tid, number, _) = &self.commits[self.told];
                cache.invalidate(*tid, &[cell(*number)]);
                self.told += 1;
            }
            2 | 3 => self.ask(),
            _ if !self.replies.is_empty() => {
                let reply = self.dice.usize(0..self.replies.len());
                let (number, revision, at, generation) = self.replies.swap_remove(reply);
                cache.insert(&cell(number), &revision, at, generation);
            }
            _ => {}
        }
    }

    /// A session begins: with all that was missed, or without.
    fn adopt(&mut self, cache: &Cache, resumes: bool) {
        if !resumes {
            self.told = self.commits.len();
            cache.reset(self.generation, self.position());
        }
        while self.told < self.commits.len() {
            let (tid, number, _) = &self.commits[self.told];
            cache.invalidate(*tid, &[cell(*number)]);
            self.told += 1;
        }
        cache.is_of(Of { generation: self.generation, store_id: self.store_id, timeline: self.life() });
    }
}

struct World {
    dice: fastrand::Rng,
    path: PathBuf,
    shape: Shape,
    server: Arc<Mutex<Server>>,
    cache: Arc<Cache>,
    file: Arc<CacheFile>,
    writer: Writer,
    runtime: tokio::runtime::Runtime,
    warm: u64,
    killed: u64,
}

/// A client's cache over the file at a path.
fn opened(path: &Path, shape: Shape) -> Opened {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("opens");
    let header = claim(&file, shape).expect("is a cache");
    // Memory forgets all the time, so that the file is read.
    Cache::over_file(6000, CacheFile::new(file, path.to_owned(), shape), header).expect("is read")
}

fn begun(opened: Opened, server: &Arc<Mutex<Server>>) -> (Arc<Cache>, Arc<CacheFile>, Writer) {
    let (file, scanned) = opened.writer.expect("there is a file");
    let asked = server.clone();
    let seen = move || {
        let server = asked.lock();
        Seen { generation: server.generation, tid: server.position(), timeline: 0 }
    };
    let writer = Writer::new(file.clone(), opened.cache.shards.clone(), &scanned, Box::new(seen));
    (Arc::new(opened.cache), file, writer)
}

impl World {
    fn new(seed: u64, dir: &Path) -> World {
        let mut dice = fastrand::Rng::with_seed(seed);
        let chunk_bytes = 4096;
        let shape = Shape { bytes: 8192 + chunk_bytes * dice.u64(3..12), chunk_bytes };
        let path = dir.join(format!("{seed}"));
        let server = Server::with(dice.fork(), 30);
        let (cache, file, writer) = begun(opened(&path, shape), &server);
        server.lock().adopt(&cache, false);
        *file.trial.synced.lock() = std::fs::read(&path).expect("it is there");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut world = World { dice, path, shape, server, cache, file, writer, runtime, warm: 0, killed: 0 };
        world.meddle();
        world
    }

    /// Before each write the session may go on, and the process end.
    fn meddle(&mut self) {
        let (server, cache, mut dice) = (self.server.clone(), Arc::downgrade(&self.cache), self.dice.fork());
        let before = move || {
            if dice.u8(0..30) == 0 {
                return Err(io::Error::other("killed"));
            }
            if let Some(cache) = cache.upgrade() {
                (0..dice.u8(0..12)).for_each(|_| server.lock().step(&cache));
                if dice.u8(0..60) == 0 {
                    server.lock().adopt(&cache, false);
                }
            }
            Ok(())
        };
        *self.file.trial.before_write.lock() = Some(Box::new(before));
    }

    fn turn(&mut self, with_position: bool) {
        if self.writer.turn(self.file.queue.now(), with_position).is_err() {
            self.killed += 1;
            self.restart();
        }
    }

    /// The process ends as it is, or the machine with it, and another begins.
    fn restart(&mut self) {
        let mut image = std::fs::read(&self.path).expect("it is there");
        let synced = self.file.trial.synced.lock().clone();
        if self.dice.bool() {
            let lost = self.dice.u8(1..10);
            for (now, then) in image.chunks_mut(SECTOR).zip(synced.chunks(SECTOR)) {
                if self.dice.u8(0..10) < lost {
                    now.copy_from_slice(then);
                }
            }
        }
        std::fs::write(&self.path, &image).expect("writes");
        if self.dice.u8(0..4) == 0 {
            self.server.lock().step(&self.cache);
        }
        let opened = opened(&self.path, self.shape);
        let kept = opened.kept;
        let mut server = self.server.lock();
        server.replies.clear();
        match self.dice.u8(0..6) {
            0 | 1 => server.switch(),
            2 | 3 => server.promote(),
            _ => {}
        }
        let resumes = kept.is_some_and(|kept| server.shares(&kept)) && self.dice.u8(0..6) > 0;
        server.generation = u64::from(!resumes);
        server.told = 0;
        if let Some(kept) = kept.filter(|_| resumes) {
            server.told = server.commits.iter().filter(|commit| commit.0 <= kept.position).count();
        }
        drop(server);
        (self.cache, self.file, self.writer) = begun(opened, &self.server);
        *self.file.trial.synced.lock() = image;
        self.server.lock().adopt(&self.cache, resumes);
        self.meddle();
    }

    fn check(&mut self) -> Result<(), String> {
        let (number, at, generation, truth) = {
            let mut server = self.server.lock();
            let (number, at) = (server.dice.u64(0..CELLS), server.snapshot());
            (number, at, server.generation, server.truth(number, at))
        };
        let cell = cell(number);
        let hash = crate::cache::shard::hash(&cell);
        let place = self.cache.shards.of(hash).lock().place(hash, generation);
        if let Some(place) = place
            && matches!(self.file.look(place, &cell, true), super::Looked::Bad)
        {
            return Err(format!("{cell} has a place, and there is nothing"));
        }
        let known = match self.cache.find(&cell, at, generation) {
            Some(known) => Some(known),
            None => {
                let found = self.runtime.block_on(self.cache.find_in_file(&[&cell], at, generation));
                let known = found.into_iter().flatten().next();
                self.warm += u64::from(known.is_some());
                known
            }
        };
        match known {
            Some(known) if Some((known.tid, known.record.clone())) != truth => {
                Err(format!("{cell} at {at}: the cache has {} {:?}, it is {truth:?}", known.tid, known.record))
            }
            _ => Ok(()),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        match self.dice.u8(0..20) {
            0 | 1 => self.turn(true),
            2..5 => self.turn(false),
            5 if self.dice.u8(0..6) == 0 => self.restart(),
            6 if self.dice.u8(0..20) == 0 => {
                // The connection was lost, and what was missed is not told, or another store is there.
                let mut server = self.server.lock();
                if self.dice.bool() {
                    server.switch();
                }
                server.adopt(&self.cache, false);
            }
            6..13 => self.server.lock().step(&self.cache),
            _ => return self.check(),
        }
        Ok(())
    }
}

#[test]
fn no_end_of_a_process_makes_its_file_answer_wrongly() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut warm, mut killed) = (0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed, dir.path());
        for step in 0..1500 {
            if let Err(wrong) = world.step() {
                panic!("seed {seed}, step {step}: {wrong}");
            }
        }
        (warm, killed) = (warm + world.warm, killed + world.killed);
        std::fs::remove_file(&world.path).expect("goes");
    }
    assert!(warm > 10_000 && killed > 500, "{warm} found in files, {killed} killed in a turn");
}
