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

use super::layout::{DEAD, Shape};
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

type Commit = (Tid, u64, Option<Bytes>);

/// The server, and what of it is on its way.
struct Server {
    dice: fastrand::Rng,
    store_id: u64,
    /// The lives of the store, each with where it began.
    lives: Vec<(u64, Tid)>,
    /// Each commit writes one cell; none: it is deleted.
    commits: Vec<Commit>,
    /// Another store, which may take the address over.
    other: Option<(u64, Vec<(u64, Tid)>, Vec<Commit>)>,
    generation: u64,
    /// So many commits the client has been told.
    told: usize,
    replies: Vec<(u64, Revision, Tid, u64)>,
}

fn cell(number: u64) -> Cell {
    if number.is_multiple_of(2) { Cell::object(Oid(number)) } else { Cell::entry(Oid(number), format!("key {number}")) }
}

impl Server {
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
        let mut server = Server {
            dice: dice.fork(),
            store_id: 1,
            lives: vec![(1, Tid::NONE)],
            commits: Vec::new(),
            other: None,
            generation: 1,
            told: 0,
            replies: Vec::new(),
        };
        (0..30).for_each(|_| server.commit());
        let server = Arc::new(Mutex::new(server));
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

/// What is in the file as it was when a process ended in order.
fn filled(path: &Path, shape: Shape) -> Arc<Mutex<Server>> {
    let dice = fastrand::Rng::with_seed(3);
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
    (0..200).for_each(|_| server.commit());
    let server = Arc::new(Mutex::new(server));
    let (cache, file, mut writer) = begun(opened(path, shape), &server);
    server.lock().adopt(&cache, false);
    for number in 0..CELLS {
        let at = server.lock().position();
        let truth = server.lock().truth(number, at);
        if let Some((tid, record)) = truth {
            cache.insert(&cell(number), &Revision { tid, end: None, record }, at, 1);
        }
        // More than a few do not wait.
        writer.turn(file.queue.now(), false).expect("writes");
    }
    writer.turn(file.queue.now(), true).expect("writes");
    server
}

fn found(opened: &Opened, server: &Server) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let cells: Vec<Cell> = (0..CELLS).map(cell).collect();
    let cells: Vec<&Cell> = cells.iter().collect();
    let found = runtime.block_on(opened.cache.find_in_file(&cells, server.position(), 0));
    for (number, known) in found.iter().enumerate() {
        if let Some(known) = known {
            assert_eq!(Some((known.tid, known.record.clone())), server.truth(number as u64, server.position()));
        }
    }
    found.iter().flatten().count()
}

#[test]
fn a_file_that_was_damaged_has_less_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let whole = std::fs::read(&path).expect("reads");
    let all = found(&opened(&path, shape), &server.lock());
    assert!(all >= 20, "{all}");
    let mut dice = fastrand::Rng::with_seed(5);
    let mut fewer = 0;
    for _ in 0..400 {
        let mut damaged = whole.clone();
        match dice.u8(0..3) {
            0 => damaged.truncate(dice.usize(0..whole.len())),
            1 => damaged[dice.usize(0..60_000)] ^= 1 << dice.u8(0..8),
            _ => damaged[dice.usize(8192..60_000)..].iter_mut().take(3000).for_each(|byte| *byte = dice.u8(..)),
        }
        std::fs::write(&path, &damaged).expect("writes");
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("opens");
        // A flipped bit may make it one that is refused.
        if claim(&file, shape).is_ok() {
            fewer += usize::from(found(&opened(&path, shape), &server.lock()) < all);
            assert_eq!(std::fs::metadata(&path).expect("is there").len(), shape.bytes);
        }
    }
    assert!(fewer > 200, "{fewer}");
}

#[test]
fn what_ended_stays_ended_where_a_mark_was_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let before = found(&opened(&path, shape), &server.lock());
    let (cache, file, mut writer) = begun(opened(&path, shape), &server);
    server.lock().generation = 0;
    cache.is_of(Of { generation: 0, store_id: 1, timeline: 1 });
    let tid = server.lock().position().next();
    (0..CELLS).for_each(|number| server.lock().commits.push((tid, number, None)));
    server.lock().told += CELLS as usize;
    cache.invalidate(tid, &(0..CELLS).map(cell).collect::<Vec<_>>());
    writer.turn(file.queue.now(), true).expect("writes");
    let mut image = std::fs::read(&path).expect("reads");
    let marks: Vec<usize> = (0..image.len() - 4).filter(|at| image[*at..at + 4] == DEAD).collect();
    assert_eq!(marks.len(), before, "each of them is marked");
    for bit in 0..32 {
        marks.iter().for_each(|at| image[at + bit / 8] ^= 1 << (bit % 8));
        std::fs::write(&path, &image).expect("writes");
        assert_eq!(found(&opened(&path, shape), &server.lock()), 0, "bit {bit}");
        marks.iter().for_each(|at| image[at + bit / 8] ^= 1 << (bit % 8));
    }
}

/// What a damage hides is not live when the damage is gone: nobody could mark it meanwhile.
#[test]
fn what_was_not_read_once_is_never_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let mut image = std::fs::read(&path).expect("reads");
    image[8192 + 24 + 40] ^= 1;
    std::fs::write(&path, &image).expect("writes");
    let fewer = found(&opened(&path, shape), &server.lock());
    let mut healed = std::fs::read(&path).expect("reads");
    healed[8192 + 24 + 40] ^= 1;
    std::fs::write(&path, &healed).expect("writes");
    assert_eq!(found(&opened(&path, shape), &server.lock()), fewer);
}

/// A reader finds that the disk fails, and what was to be marked is lost: then no position is written.
#[test]
fn a_file_that_a_reader_gave_up_is_not_said_to_be_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let (cache, file, mut writer) = begun(opened(&path, shape), &server);
    server.lock().generation = 0;
    cache.is_of(Of { generation: 0, store_id: 1, timeline: 1 });
    let batch = file.queue.now();
    let before = server.lock().position();
    let tid = before.next();
    server.lock().commits.push((tid, 0, None));
    server.lock().told += 1;
    cache.invalidate(tid, &[cell(0)]);
    file.fail(&io::Error::other("a reader's"));
    writer.turn(batch, true).expect("writes");
    let kept = opened(&path, shape).kept.expect("is as it was");
    assert_eq!(kept.position, before);
}

/// A loss of power leaves a late entry of a turn on the disk, and neither the chunk's header nor what is before it; then the same is loaded
/// again, in the same order, and the late one is committed anew.
#[test]
fn what_a_loss_of_power_has_left_behind_the_end_is_no_entry() {
    for salt in [Some(9), None] {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
        let server = filled(&path, shape);
        let synced = std::fs::read(&path).expect("reads");
        let load = |numbers: std::ops::Range<u64>| {
            let (cache, file, writer) = begun(opened(&path, shape), &server);
            *file.trial.salt.lock() = salt;
            server.lock().generation = 0;
            cache.is_of(Of { generation: 0, store_id: 1, timeline: 1 });
            for number in numbers {
                let record = Some(vec![number as u8; 500].into());
                let at = server.lock().position();
                cache.insert(&cell(1000 + 2 * number), &Revision { tid: at, end: None, record }, at, 0);
            }
            (cache, file, writer)
        };
        let (_, file, mut writer) = load(0..5);
        writer.turn(file.queue.now(), false).expect("writes");
        let mut image = std::fs::read(&path).expect("reads");
        let begins = (0..shape.chunks()).map(|chunk| shape.chunk_at(chunk) as usize);
        let begun_at = begins.into_iter().find(|at| image[*at..at + 512] != synced[*at..at + 512]).expect("a chunk");
        image[begun_at..begun_at + 2048].copy_from_slice(&synced[begun_at..begun_at + 2048]);
        std::fs::write(&path, &image).expect("writes");
        let (_, file, mut writer) = load(0..4);
        let tid = server.lock().position().next();
        server.lock().commits.push((tid, 1008, None));
        server.lock().told += 1;
        writer.turn(file.queue.now(), true).expect("writes");
        let again = opened(&path, shape).cache;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let found = runtime.block_on(again.find_in_file(&[&cell(1006), &cell(1008)], tid, 0));
        assert!(found[0].is_some());
        // With one salt for all turns it is found, although it has ended.
        assert_eq!(found[1].is_some(), salt.is_some(), "{salt:?}");
    }
}

/// A long list is read while its chunk comes to its next turn, and the cell is at the same place in it.
#[test]
fn what_was_read_in_an_earlier_turn_of_its_chunk_is_not_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 3 * 16384, chunk_bytes: 16384 });
    let server = filled(&path, shape);
    let (cache, file, mut writer) = begun(opened(&path, shape), &server);
    let (at, late) = (server.lock().position(), Cell::object(Oid(5000)));
    let mut keep = |cell: &Cell, tid: Tid, fill: u8| {
        let record = Some(vec![fill; 3300].into());
        cache.insert(cell, &Revision { tid, end: None, record }, tid, 0);
        writer.turn(file.queue.now(), false).expect("writes");
    };
    let hash = crate::cache::shard::hash(&late);
    keep(&late, at, 1);
    let place = cache.shards.of(hash).lock().place(hash, 0).expect("is there");
    let read = file.look(place, &late, true);
    let mut tid = at;
    // Three chunks of four.
    for turn in 1..=12 {
        tid = tid.next();
        cache.invalidate(tid, std::slice::from_ref(&late));
        let other = Cell::object(Oid(6000 + turn));
        keep(if turn == 12 { &late } else { &other }, tid, 2);
    }
    assert_eq!(cache.shards.of(hash).lock().place(hash, 0), Some(place), "it is where it was");
    assert_eq!(cache.take(&file, &late, (hash, place), read, 0), None);
}

#[test]
fn what_ends_while_it_is_read_is_not_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let (cache, file, _) = begun(opened(&path, shape), &server);
    let mut read = 0;
    for cell in (0..CELLS).map(cell) {
        let hash = crate::cache::shard::hash(&cell);
        let Some(place) = cache.shards.of(hash).lock().place(hash, 0) else { continue };
        let looked = file.look(place, &cell, true);
        assert!(matches!(looked, super::Looked::Found(..)), "{cell}: {looked:?}");
        cache.invalidate(server.lock().position().next(), std::slice::from_ref(&cell));
        assert_eq!(cache.take(&file, &cell, (hash, place), looked, 0), None, "{cell}");
        assert_eq!(cache.peek(&cell, server.lock().position().next(), 0), None, "{cell}");
        read += 1;
    }
    assert!(read >= 20, "{read}");
}

/// Of two cells with one tag the later one is in the file, and never taken for the other.
#[test]
fn two_cells_with_one_tag_are_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let (cache, file, mut writer) = begun(opened(&path, shape), &server);
    let mut by_tag = BTreeMap::new();
    // In a file as small as this there is one segment in each shard.
    let tag = |hash: u64| ((hash >> 48) % 32, hash as u16);
    let pair = (1000..).find_map(|oid| {
        let cell = Cell::object(Oid(oid));
        by_tag.insert(tag(crate::cache::shard::hash(&cell)), cell.clone()).map(|other| [other, cell])
    });
    let [first, second] = pair.expect("they are not endless");
    let at = server.lock().position();
    for (cell, text) in [(&first, "first"), (&second, "second")] {
        cache.insert(cell, &Revision { tid: Tid(5), end: None, record: Some(text.into()) }, at, 0);
        writer.turn(file.queue.now(), true).expect("writes");
    }
    let again = opened(&path, shape).cache;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for cache in [&*cache, &again] {
        let found = runtime.block_on(cache.find_in_file(&[&first, &second], at, 0));
        assert_eq!(found[0], None);
        assert_eq!(found[1].as_ref().and_then(|known| known.record.as_deref()), Some(&b"second"[..]));
    }
}

/// Format 1: what is written today is the fixture, and the fixture is opened.
#[test]
fn the_fixture_of_format_1_is_what_is_written_and_is_read() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/client-cache-1.zeocache");
    let dir = tempfile::tempdir().expect("a directory");
    let cells = [(Cell::object(Oid(7)), Tid(100), "an object"), (Cell::entry(Oid(8), "a key"), Tid(101), "an entry")];
    let gone = (Cell::object(Oid(9)), Tid(102), "ended at 103");
    let (file, header) = super::open(dir.path(), "", 1 << 20).expect("opens").expect("is free");
    let path = file.path().to_owned();
    let opened = Cache::over_file(0, file, header).expect("is read");
    let (file, scanned) = opened.writer.expect("there is a file");
    *file.trial.salt.lock() = Some(0xfedc_ba98_7654_3211);
    let seen = || Seen { generation: 1, tid: Tid(110), timeline: 0 };
    let mut writer = Writer::new(file.clone(), opened.cache.shards.clone(), &scanned, Box::new(seen));
    opened.cache.reset(1, Tid(90));
    opened.cache.is_of(Of { generation: 1, store_id: 0x0123_4567_89ab_cdef, timeline: 77 });
    for (cell, tid, text) in cells.iter().chain([&gone]) {
        opened.cache.insert(cell, &Revision { tid: *tid, end: None, record: Some((*text).into()) }, Tid(102), 1);
    }
    writer.turn(file.queue.now(), false).expect("writes");
    opened.cache.invalidate(Tid(103), std::slice::from_ref(&gone.0));
    writer.turn(file.queue.now(), true).expect("writes");
    let written = std::fs::read(&path).expect("reads");
    if std::env::var_os("ZEOLITE_WRITE_FIXTURES").is_some() {
        let end = written.iter().rposition(|byte| *byte != 0).map_or(0, |last| (last + 1).next_multiple_of(8));
        std::fs::write(fixture, &written[..end]).expect("writes");
    }
    let fixed = std::fs::read(fixture).expect("is there");
    assert!(written[..fixed.len()] == fixed && written[fixed.len()..].iter().all(|byte| *byte == 0));

    let other = tempfile::tempdir().expect("a directory");
    std::fs::copy(fixture, other.path().join("main-1.zeocache")).expect("copies");
    let (file, header) = super::open(other.path(), "main", 1 << 20).expect("opens").expect("is free");
    let opened = Cache::over_file(0, file, header).expect("is read");
    let kept = opened.kept.expect("can be gone on with");
    assert_eq!((kept.store_id, kept.timeline, kept.position), (0x0123_4567_89ab_cdef, 77, Tid(110)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let all: Vec<&Cell> = cells.iter().map(|(cell, ..)| cell).chain([&gone.0]).collect();
    let found = runtime.block_on(opened.cache.find_in_file(&all, Tid(110), 0));
    for ((_, tid, text), known) in cells.iter().zip(&found) {
        let known = known.as_ref().expect("it is there");
        assert_eq!((known.tid, known.record.as_deref()), (*tid, Some(text.as_bytes())));
    }
    assert_eq!(found[2], None);
}
