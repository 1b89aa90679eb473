//! Owns the cache's race test: every order in which commits, feed, replies, late insertions and reconnects can meet, from
//! seeds, against a model that knows the truth.
//!
//! ```text
//!   server   commit ─ read for a load ─ (later) send its reply      one wire, in order
//!   client   take the next frame ─ (later) insert a reply ─ look up at any snapshot up to the position
//!   both     the connection is lost: resumed by replay, or not; another store comes up
//! ```
//!
//! What must hold after every step: whatever the cache answers for a snapshot is what the model has for it.

use super::shard::{Shard, hash};
use crate::revision::Revision;
use bytes::Bytes;
use std::collections::VecDeque;
use zeolite_proto::{Cell, Oid, Tid};

const CELLS: u64 = 24;

enum Frame {
    Feed(Tid, u64),
    Reply(Reply),
}

struct Reply {
    cell: u64,
    at: Tid,
    revision: Revision,
    generation: u64,
}

struct World {
    dice: fastrand::Rng,
    /// Per cell, in tid order; none: deleted.
    history: Vec<Vec<(Tid, Option<u64>)>>,
    commits: Vec<(Tid, u64)>,
    next_value: u64,
    /// Read on the server, not sent yet.
    read: Vec<Reply>,
    wire: VecDeque<Frame>,
    /// Received, not inserted yet.
    received: Vec<Reply>,
    shard: Shard,
    position: Tid,
    generation: u64,
    answers: u64,
}

fn cell(number: u64) -> Cell {
    if number.is_multiple_of(2) { Cell::object(Oid(number)) } else { Cell::entry(Oid(number), "key") }
}

impl World {
    fn new(seed: u64) -> World {
        let mut shard = Shard::new(1 << 20);
        shard.reset(0, Tid::NONE);
        World {
            dice: fastrand::Rng::with_seed(seed),
            history: vec![Vec::new(); CELLS as usize],
            commits: Vec::new(),
            next_value: 0,
            read: Vec::new(),
            wire: VecDeque::new(),
            received: Vec::new(),
            shard,
            position: Tid::NONE,
            generation: 0,
            answers: 0,
        }
    }

    fn newest(&self) -> Tid {
        self.commits.last().map_or(Tid(10), |commit| commit.0)
    }

    fn commit(&mut self) {
        let tid = Tid(self.newest().0 + self.dice.u64(1..4));
        let number = self.dice.u64(0..CELLS);
        self.next_value += 1;
        let value = (self.dice.u8(0..8) > 0).then_some(self.next_value);
        self.history[number as usize].push((tid, value));
        self.commits.push((tid, number));
        self.wire.push_back(Frame::Feed(tid, number));
    }

    fn truth(&self, number: u64, at: Tid) -> Option<(Tid, Option<u64>)> {
        self.history[number as usize].iter().rfind(|revision| revision.0 <= at).copied()
    }

    /// The server reads for a load at some snapshot that the client may use; the reply is sent later.
    fn load(&mut self) {
        if self.position == Tid::NONE {
            return;
        }
        let number = self.dice.u64(0..CELLS);
        let at = Tid(self.position.0 - self.dice.u64(0..self.position.0.min(12)));
        let end = self.history[number as usize].iter().map(|revision| revision.0).find(|tid| *tid > at);
        // A server may leave the end out as long as the revision was the newest at the snapshot.
        let end = end.filter(|_| self.dice.bool());
        let (tid, value) = self.truth(number, at).unwrap_or((Tid::NONE, None));
        let record = value.map(|value| Bytes::copy_from_slice(&value.to_le_bytes()));
        self.read.push(Reply {
            cell: number,
            at,
            revision: Revision { tid, end, record },
            generation: self.generation,
        });
    }

    fn send_reply(&mut self) {
        if !self.read.is_empty() {
            let reply = self.read.swap_remove(self.dice.usize(0..self.read.len()));
            self.wire.push_back(Frame::Reply(reply));
        }
    }

    fn take_frame(&mut self) {
        match self.wire.pop_front() {
            Some(Frame::Feed(tid, number)) => {
                self.shard.invalidate(&cell(number), hash(&cell(number)), tid);
                self.position = tid;
            }
            Some(Frame::Reply(reply)) => self.received.push(reply),
            None => {}
        }
    }

    fn insert(&mut self) {
        if !self.received.is_empty() {
            let reply = self.received.swap_remove(self.dice.usize(0..self.received.len()));
            let cell = cell(reply.cell);
            self.shard.insert(&cell, hash(&cell), &reply.revision, reply.at, reply.generation);
        }
    }

    /// What is on the wire is lost; replies that were received may still be inserted later.
    fn reconnect(&mut self) {
        self.wire.clear();
        self.read.clear();
        match self.dice.u8(0..4) {
            0 => {
                self.shard.reset(self.generation, self.newest());
                self.position = self.newest();
            }
            1 => self.another_store(),
            _ => {
                let missed = self.commits.iter().filter(|commit| commit.0 > self.position);
                self.wire.extend(missed.map(|(tid, number)| Frame::Feed(*tid, *number)));
            }
        }
    }

    fn another_store(&mut self) {
        self.history.iter_mut().for_each(Vec::clear);
        self.commits.clear();
        self.generation += 1;
        (0..self.dice.u8(1..20)).for_each(|_| self.commit());
        self.wire.clear();
        self.shard.reset(self.generation, self.newest());
        self.position = self.newest();
    }

    fn check(&mut self, seed: u64, step: u32) {
        for number in 0..CELLS {
            let back = self.dice.u64(0..=self.position.0.min(15));
            let at = Tid(self.position.0 - back);
            if let Some(known) = self.shard.find(&cell(number), at, self.generation) {
                self.answers += 1;
                let (tid, value) = self.truth(number, at).unwrap_or((Tid::NONE, None));
                let record = value.map(|value| Bytes::copy_from_slice(&value.to_le_bytes()));
                assert_eq!((known.tid, known.record), (tid, record), "seed {seed} step {step} cell {number} at {at:?}");
            }
        }
    }
}

#[test]
fn no_order_of_events_makes_the_cache_answer_wrongly() {
    let mut answers = 0;
    for seed in 0..300 {
        let mut world = World::new(seed);
        for step in 0..600 {
            match world.dice.u8(0..100) {
                0..20 => world.commit(),
                20..45 => world.load(),
                45..65 => world.send_reply(),
                65..85 => world.take_frame(),
                85..99 => world.insert(),
                _ => world.reconnect(),
            }
            world.check(seed, step);
        }
        answers += world.answers;
    }
    assert!(answers > 100_000, "the cache answered {answers} times only: nothing was tested");
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
