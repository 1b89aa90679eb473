//! Owns the writer: the one who writes to the file, in turns. A thread of its own runs it; tests turn it by hand.
//!
//! ```text
//!   chunk     | turn 71 | entry | entry | entry | next ...       | turn 8 | entry | dead | entry |
//!   a turn    empty? ─ mark what is dead ─ append, then tell places ─ (now and then) position
//!   a chunk   all places in it forgotten ─ what waits is marked ─ another turn ─ entries
//! ```
//!
//! A revision is asked for twice whether it is open still. *Before* it is written: the position in the file is not newer than what the
//! client has been told by now, so should the process be killed behind the write, what ends the revision is told after the restart. And
//! *after* that, under the lock of its shard, together with its place becoming known: whatever ends it from then on finds it there. One that ended in
//! between is marked at once.

use super::CacheFile;
use super::layout::{self, DEAD, Header, Turn, chunk_header, encode_entry, entry_bytes, place, place_at};
use super::queue::{Batch, Of, Pending};
use crate::cache::shard::Shards;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use zeolite_proto::Tid;

/// The position is written this often: so much, at most, a client that was killed has to be told again.
const POSITION_EVERY: Duration = Duration::from_secs(30);
/// The first one is written sooner: until then nothing of the file can be used.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// As much is written at once.
const BUFFER_BYTES: usize = 32 << 10;

/// What the client has been told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// Of the store that is counted so.
    pub(crate) generation: u64,
    pub(crate) tid: Tid,
    /// 0: as it was at the hello.
    pub(crate) timeline: u64,
}

/// Tells it; all that ended up to there has been taken from the shards.
pub(crate) type AskSeen = Box<dyn Fn() -> Seen + Send>;

pub(crate) struct Writer {
    file: Arc<CacheFile>,
    shards: Arc<Shards>,
    seen: AskSeen,
    header: Header,
    /// The chunk that is being filled, its turn, and where the next entry goes.
    chunk: usize,
    turn: Turn,
    at: u64,
    /// Entries that are not written yet, and of each: hash, snapshot, generation, place.
    buffer: Vec<u8>,
    unwritten: Vec<(u64, Tid, u64, u32)>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("file", &self.file).field("header", &self.header).finish_non_exhaustive()
    }
}

impl Writer {
    /// Goes on behind the chunk that was filled last.
    pub(crate) fn new(file: Arc<CacheFile>, shards: Arc<Shards>, scanned: &super::Scanned, seen: AskSeen) -> Writer {
        let mut writer = Writer {
            shards,
            seen,
            header: scanned.header,
            chunk: scanned.chunk,
            // Nothing is written in the turns of others.
            turn: Turn { sequence: scanned.sequence, salt: 0 },
            at: 0,
            buffer: Vec::new(),
            unwritten: Vec::new(),
            file,
        };
        writer.at = writer.end();
        writer
    }

    /// Until the client is closed, or the file of no use.
    pub(crate) fn run(mut self) {
        let (mut last, mut done) = (Instant::now(), 0);
        loop {
            let due = last + if self.header.position == Tid::NONE { FIRST_WITHIN } else { POSITION_EVERY };
            let batch = self.file.queue.next(due);
            if batch.over {
                break;
            }
            let (closes, asked) = (batch.closing, batch.asked);
            let with_position = closes || asked > done || Instant::now() >= due;
            if let Err(error) = self.turn(batch, with_position) {
                self.file.fail(&error);
                break;
            }
            if closes {
                break;
            }
            if with_position {
                last = Instant::now();
            }
            if asked > done {
                done = asked;
                self.file.queue.is_done(done);
            }
        }
        if self.file.is_off.swap(true, Ordering::AcqRel) {
            // What a disk has not taken may look as if it had, until it is read from there: nobody is to go on with it.
            let _ = self.file.file.set_len(0);
        }
        // Whoever waits for this may take the file: its lock goes first. It goes for children too that were forked off meanwhile.
        let _ = self.file.file.unlock();
        self.file.queue.end();
    }

    pub(super) fn turn(&mut self, batch: Batch, with_position: bool) -> io::Result<()> {
        if batch.empty {
            self.empty()?;
        }
        self.bury(batch.dead)?;
        for pending in batch.pending {
            self.keep(pending)?;
        }
        self.write_out()?;
        match batch.of {
            Some(of) if with_position => self.write_position(of),
            _ => Ok(()),
        }
    }

    /// Nothing counts that is there.
    fn empty(&mut self) -> io::Result<()> {
        self.header =
            Header { first: self.turn.sequence + 1, store_id: 0, timeline: 0, position: Tid::NONE, ..self.header };
        // In both places: the older one would count where the newer one is damaged.
        self.write_header()?;
        self.write_header()?;
        // Before anything of another store comes: with the old header it would be taken for this one's.
        self.file.sync()?;
        self.file.used.iter().for_each(|used| used.store(0, Ordering::Relaxed));
        self.at = self.end();
        Ok(())
    }

    /// Marks what has ended.
    fn bury(&self, mut dead: Vec<u32>) -> io::Result<()> {
        dead.sort_unstable();
        dead.into_iter().try_for_each(|place| self.file.write(&DEAD, place_at(place)))
    }

    /// Keeps a revision, if it is open still.
    fn keep(&mut self, pending: Pending) -> io::Result<()> {
        let Pending { cell, hash, tid, record, at, generation } = pending;
        let bytes = entry_bytes(&cell, &record);
        if !self.file.shape.takes(bytes) || !self.shards.of(hash).lock().is_open(hash, at, generation) {
            return Ok(());
        }
        if self.at + self.buffer.len() as u64 + bytes > self.end() {
            self.write_out()?;
            self.next_chunk()?;
        }
        let place = place(self.at + self.buffer.len() as u64);
        encode_entry(&mut self.buffer, self.turn.salt, place, &cell, tid, &record);
        self.unwritten.push((hash, at, generation, place));
        if self.buffer.len() >= BUFFER_BYTES { self.write_out() } else { Ok(()) }
    }

    /// Writes the entries, and tells their places.
    fn write_out(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.file.used[self.chunk].store(self.at - self.file.shape.chunk_at(self.chunk), Ordering::Relaxed);
        self.buffer.clear();
        let mut dead = Vec::new();
        for (hash, at, generation, place) in self.unwritten.drain(..) {
            match self.shards.of(hash).lock().set_place(hash, at, generation, place) {
                Ok(before) => dead.extend(before),
                Err(()) => dead.push(place),
            }
        }
        self.bury(dead)
    }

    /// Begins the next chunk, over what is there.
    fn next_chunk(&mut self) -> io::Result<()> {
        let shape = self.file.shape;
        self.chunk = (self.chunk + 1) % shape.chunks();
        let places = shape.places(self.chunk);
        self.shards.all().for_each(|shard| shard.lock().vacate(&places));
        // What was taken out before is marked before something else is there.
        self.bury(self.file.queue.take_dead().unwrap_or_default())?;
        self.turn = Turn { sequence: self.turn.sequence + 1, salt: self.file.new_salt()? };
        self.file.salts[self.chunk].store(self.turn.salt, Ordering::Release);
        self.file.used[self.chunk].store(0, Ordering::Relaxed);
        self.file.write(&chunk_header(self.chunk, self.turn), shape.chunk_at(self.chunk))?;
        self.at = shape.chunk_at(self.chunk) + layout::FIRST_ENTRY;
        Ok(())
    }

    /// Says up to where all is in the file that the client has been told.
    fn write_position(&mut self, of: Of) -> io::Result<()> {
        // First: what ended up to there is among what waits now.
        let seen = (self.seen)();
        // That the file is to be emptied is said before the position moves beyond what was told.
        let Some(dead) = self.file.queue.take_dead() else { return Ok(()) };
        self.bury(dead)?;
        let timeline = if seen.timeline == 0 { of.timeline } else { seen.timeline };
        if seen.generation != of.generation || seen.tid == Tid::NONE {
            return Ok(());
        }
        self.file.sync()?;
        self.header = Header { store_id: of.store_id, timeline, position: seen.tid, ..self.header };
        self.write_header()
    }

    fn write_header(&mut self) -> io::Result<()> {
        self.header.turn += 1;
        self.file.write(&self.header.encode(), self.header.at())
    }

    /// Where the chunk ends.
    fn end(&self) -> u64 {
        self.file.shape.chunk_at(self.chunk + 1)
    }
}
