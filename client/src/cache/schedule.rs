//! Owns the cache's race test: every order in which commits, feed, requests, replies, late insertions and reconnects can meet, from
//! seeds, against a model that knows the truth.
//!
//! ```text
//!   server   commit: looked up whether the session may hold the cell ─ visible
//!            request: cell noted ─ read ─ (later) its reply sent                    one wire, in order
//!   client   ask ─ take the next frame ─ (later) insert a reply ─ look up at any snapshot up to the position
//!            copies of objects, at a snapshot that moves: what was written meanwhile is dropped (`Changes`)
//!   both     the connection is lost: resumed by replay, or not; another store comes up; somebody watches
//! ```
//!
//! What must hold after every step: whatever the cache answers for a snapshot, and every copy at its snapshot, is what the model has
//! for it; and who watches is told everything. With any of the orders broken ([`Flaw`]) it does not hold, which is tested as well.

use super::shard::{Shard, hash};
use crate::connect::Changes;
use crate::revision::Revision;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use zeolite_proto::interest::{self, Held};
use zeolite_proto::{Cell, Oid, Tid};

const CELLS: u64 = 24;

/// What is done wrongly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    None,
    /// The server reads before it notes the cell.
    ReadsFirst,
    /// Cells are noted while a commit is on its way from being looked up to being visible.
    Unlocked,
    /// A hello does not say what the client holds.
    HeldUnsaid,
    /// It says only what was loaded since the last one.
    HeldForgotten,
    /// The server does not tell that a cell has come to be since the snapshot at which it was not there.
    AbsentStaysAbsent,
    /// Whoever has copies does not learn from replies what was written before the cell was noted.
    EndsUnheard,
}

const FLAWS: [Flaw; 6] = [
    Flaw::ReadsFirst,
    Flaw::Unlocked,
    Flaw::HeldUnsaid,
    Flaw::HeldForgotten,
    Flaw::AbsentStaysAbsent,
    Flaw::EndsUnheard,
];

enum Frame {
    /// A commit; none: of nothing that the client may hold.
    Feed(Tid, Option<u64>),
    Reply(Reply),
}

#[derive(Clone, Copy)]
struct Asked {
    cell: u64,
    at: Tid,
    generation: u64,
}

struct Reply {
    asked: Asked,
    revision: Revision,
}

struct World {
    dice: fastrand::Rng,
    flaw: Flaw,
    /// Per cell, in tid order; none: deleted.
    history: Vec<Vec<(Tid, Option<u64>)>>,
    commits: Vec<(Tid, u64)>,
    /// One that was looked up, and whether the session is told; not visible yet.
    publishing: Option<(Tid, u64, bool)>,
    next_value: u64,
    /// On the way to the server; there, and noted; read there, not sent yet.
    asked: Vec<Asked>,
    noted: Vec<Asked>,
    read: Vec<Reply>,
    /// What the server tells the session of; everything: behind this commit.
    column: Held,
    whole: Option<Tid>,
    wire: VecDeque<Frame>,
    /// Received, not inserted yet.
    received: Vec<Reply>,
    shard: Shard,
    changes: Changes,
    held: Held,
    position: Tid,
    generation: u64,
    /// The snapshot of the copies, of which store, and the commits that wrote them.
    copies_at: (Tid, u64),
    copies: BTreeMap<u64, Tid>,
    answers: u64,
}

fn cell(number: u64) -> Cell {
    if number.is_multiple_of(2) { Cell::object(Oid(number)) } else { Cell::entry(Oid(number), "key") }
}

impl World {
    fn new(seed: u64, flaw: Flaw) -> World {
        let mut dice = fastrand::Rng::with_seed(seed);
        // Some forget all the time.
        let mut shard = Shard::new(if dice.bool() { 1 << 20 } else { 2000 });
        shard.reset(0, Tid::NONE);
        let changes = Changes::new(if dice.bool() { 1000 } else { 20 });
        changes.restart(0, Tid::NONE);
        World {
            dice,
            flaw,
            history: vec![Vec::new(); CELLS as usize],
            commits: Vec::new(),
            publishing: None,
            next_value: 0,
            asked: Vec::new(),
            noted: Vec::new(),
            read: Vec::new(),
            column: Held::default(),
            whole: None,
            wire: VecDeque::new(),
            received: Vec::new(),
            shard,
            changes,
            held: Held::default(),
            position: Tid::NONE,
            generation: 0,
            copies_at: (Tid::NONE, 0),
            copies: BTreeMap::new(),
            answers: 0,
        }
    }

    fn newest(&self) -> Tid {
        self.commits.last().map_or(Tid(10), |commit| commit.0)
    }

    fn commit(&mut self) {
        self.publish();
        let tid = Tid(self.newest().0 + self.dice.u64(1..4));
        let number = self.dice.u64(0..CELLS);
        let told = self.whole.is_some() || self.column.has(interest::hash(&cell(number)));
        self.publishing = Some((tid, number, told));
        if self.flaw != Flaw::Unlocked {
            self.publish();
        }
    }

    /// What was looked up is pushed and becomes visible.
    fn publish(&mut self) {
        let Some((tid, number, told)) = self.publishing.take() else { return };
        self.next_value += 1;
        let value = (self.dice.u8(0..8) > 0).then_some(self.next_value);
        self.history[number as usize].push((tid, value));
        self.commits.push((tid, number));
        self.wire.push_back(Frame::Feed(tid, told.then_some(number)));
    }

    fn truth(&self, number: u64, at: Tid) -> Option<(Tid, Option<u64>)> {
        self.history[number as usize].iter().rfind(|revision| revision.0 <= at).copied()
    }

    /// The client asks for a cell at some snapshot that it may use, often that of its copies.
    fn ask(&mut self) {
        let back = Tid(self.position.0 - self.dice.u64(0..self.position.0.clamp(1, 12)));
        let at = if self.dice.bool() && self.copies_at.1 == self.generation { self.copies_at.0 } else { back };
        if at == Tid::NONE {
            return;
        }
        let number = self.dice.u64(0..CELLS);
        self.held.note(&cell(number));
        self.asked.push(Asked { cell: number, at, generation: self.generation });
    }

    fn note(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let asked = self.asked.swap_remove(self.dice.usize(0..self.asked.len()));
        match self.flaw {
            Flaw::ReadsFirst => self.read_at(asked),
            _ => {
                self.column.note(&cell(asked.cell));
                self.noted.push(asked);
            }
        }
    }

    fn read(&mut self) {
        if !self.noted.is_empty() {
            let asked = self.noted.swap_remove(self.dice.usize(0..self.noted.len()));
            self.read_at(asked);
        }
    }

    fn read_at(&mut self, asked: Asked) {
        let Asked { cell: number, at, .. } = asked;
        let later = self.history[number as usize].iter().map(|revision| revision.0).find(|tid| *tid > at);
        let revision = match self.truth(number, at) {
            Some((tid, value)) => Revision { tid, end: later, record: value.map(bytes_of) },
            None => {
                let end = later.filter(|_| self.flaw != Flaw::AbsentStaysAbsent).map(|_| at.next());
                Revision { tid: Tid::NONE, end, record: None }
            }
        };
        self.read.push(Reply { asked, revision });
    }

    fn send_reply(&mut self) {
        if !self.read.is_empty() {
            let reply = self.read.swap_remove(self.dice.usize(0..self.read.len()));
            if self.flaw == Flaw::ReadsFirst {
                self.column.note(&cell(reply.asked.cell));
            }
            self.wire.push_back(Frame::Reply(reply));
        }
    }

    fn take_frame(&mut self) -> Result<(), String> {
        match self.wire.pop_front() {
            Some(Frame::Feed(tid, number)) => {
                if number.is_none() && self.whole.is_some_and(|behind| tid > behind) {
                    return Err(format!("{tid} was not told to who watches"));
                }
                if let Some(number) = number {
                    self.shard.invalidate(&cell(number), hash(&cell(number)), tid);
                    self.changes.changed(tid, &[cell(number)]);
                }
                self.position = tid;
            }
            Some(Frame::Reply(reply)) => self.received.push(reply),
            None => {}
        }
        Ok(())
    }

    fn insert(&mut self) {
        if self.received.is_empty() {
            return;
        }
        let Reply { asked, revision } = self.received.swap_remove(self.dice.usize(0..self.received.len()));
        let (Asked { at, generation, .. }, cell) = (asked, cell(asked.cell));
        if let Some(end) = revision.end.filter(|_| self.flaw != Flaw::EndsUnheard) {
            self.changes.ended(generation, end, cell.oid);
        }
        self.shard.insert(&cell, hash(&cell), &revision, at, generation);
        if (at, generation) == self.copies_at && generation == self.generation {
            self.copies.insert(asked.cell, revision.tid);
        }
    }

    /// Whoever has copies goes to the newest snapshot, or takes another copy.
    fn work(&mut self) {
        let (at, generation) = self.copies_at;
        if self.dice.bool() {
            let number = self.dice.u64(0..CELLS);
            if generation == self.generation
                && let Some(known) = self.shard.find(&cell(number), at, generation)
            {
                self.copies.insert(number, known.tid);
            }
            return;
        }
        self.copies_at = (self.position, self.generation);
        let same = generation == self.generation;
        match same.then(|| self.changes.between(generation, at, self.position)).flatten() {
            None => self.copies.clear(),
            Some(commits) => {
                let written: Vec<u64> = commits.iter().flat_map(|(_, oids)| oids.iter().map(|oid| oid.0)).collect();
                self.copies.retain(|number, _| !written.contains(number));
            }
        }
    }

    /// What is on the wire is lost; replies that were received may still be inserted later.
    fn reconnect(&mut self) {
        self.publish();
        self.wire.clear();
        self.asked.clear();
        self.noted.clear();
        self.read.clear();
        self.column = if self.flaw == Flaw::HeldUnsaid { Held::default() } else { self.held.clone() };
        if self.flaw == Flaw::HeldForgotten {
            self.held = Held::default();
        }
        self.whole = self.whole.filter(|_| self.dice.bool());
        match self.dice.u8(0..4) {
            0 => self.begin_anew(),
            1 => {
                self.history.iter_mut().for_each(Vec::clear);
                self.commits.clear();
                self.generation += 1;
                (0..self.dice.u8(1..20)).for_each(|_| self.commit());
                self.publish();
                self.wire.clear();
                self.begin_anew();
            }
            _ => {
                let missed = self.commits.iter().filter(|commit| commit.0 > self.position);
                self.wire.extend(missed.map(|(tid, number)| Frame::Feed(*tid, Some(*number))));
            }
        }
    }

    fn begin_anew(&mut self) {
        self.shard.reset(self.generation, self.newest());
        self.changes.restart(self.generation, self.newest());
        self.position = self.newest();
    }

    fn step(&mut self) -> Result<(), String> {
        match self.dice.u8(0..100) {
            0..18 => self.commit(),
            18..33 => self.ask(),
            33..45 => self.note(),
            45..55 => self.read(),
            55..65 => self.send_reply(),
            65..80 => self.take_frame()?,
            80..88 => self.insert(),
            88..96 => self.work(),
            96 if self.dice.u8(0..4) == 0 => self.whole = self.whole.or(Some(self.newest())),
            97 => self.reconnect(),
            _ => self.publish(),
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), String> {
        for number in 0..CELLS {
            let back = self.dice.u64(0..=self.position.0.min(15));
            let at = Tid(self.position.0 - back);
            if let Some(known) = self.shard.find(&cell(number), at, self.generation) {
                self.answers += 1;
                let (tid, value) = self.truth(number, at).unwrap_or((Tid::NONE, None));
                if (known.tid, &known.record) != (tid, &value.map(bytes_of)) {
                    return Err(format!("cell {number} at {at:?} is {:?} in the cache, not {tid:?}", known.tid));
                }
            }
        }
        let (at, generation) = self.copies_at;
        let truth = |number| self.truth(number, at).map_or(Tid::NONE, |revision| revision.0);
        let wrong = self.copies.iter().find(|(number, tid)| generation == self.generation && truth(**number) != **tid);
        wrong.map_or(Ok(()), |(number, tid)| Err(format!("the copy of {number} at {at:?} is of {tid:?}")))
    }
}

fn bytes_of(value: u64) -> Bytes {
    Bytes::copy_from_slice(&value.to_le_bytes())
}

/// How many answers the cache gave, or what was wrong first.
fn run(seed: u64, flaw: Flaw) -> Result<u64, String> {
    let mut world = World::new(seed, flaw);
    for step in 0..600 {
        world.step().map_err(|wrong| format!("seed {seed} step {step}: {wrong}"))?;
    }
    Ok(world.answers)
}

#[test]
fn no_order_of_events_makes_the_cache_answer_wrongly() {
    let mut answers = 0;
    for seed in 0..500 {
        answers += run(seed, Flaw::None).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    assert!(answers > 150_000, "the cache answered {answers} times only: nothing was tested");
}

#[test]
fn whatever_is_done_in_another_order_is_found() {
    for flaw in FLAWS {
        assert!((0..1000).any(|seed| run(seed, flaw).is_err()), "{flaw:?} was never seen");
    }
}

#[test]
fn without_a_feed_nothing_is_taken_for_newer_than_it_was_read() {
    let mut shard = Shard::new(1 << 20);
    shard.reset(1, Tid::MAX);
    let revision = Revision { tid: Tid(5), end: None, record: Some(Bytes::from_static(b"x")) };
    shard.insert(&cell(0), hash(&cell(0)), &revision, Tid(9), 1);
    assert_eq!(shard.find(&cell(0), Tid(9), 1).map(|known| known.to), Some(Tid(9)));
    assert_eq!(shard.find(&cell(0), Tid(10), 1), None);
    assert_eq!(shard.find(&cell(0), Tid(9), 2), None, "another store");
}

#[test]
fn the_budget_bounds_what_is_kept() {
    let mut shard = Shard::new(64 << 10);
    shard.reset(0, Tid::NONE);
    let record = Some(Bytes::from(vec![7; 1000]));
    for oid in 0..10_000 {
        let cell = Cell::object(Oid(oid));
        shard.insert(&cell, hash(&cell), &Revision { tid: Tid(1), end: None, record: record.clone() }, Tid(1), 0);
    }
    assert!(shard.bytes() <= 64 << 10, "{}", shard.bytes());
    assert!(shard.bytes() > 32 << 10, "{}", shard.bytes());
}
