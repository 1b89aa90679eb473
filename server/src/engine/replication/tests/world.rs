//! Owns the world of these tests: two nodes, the line between them, the drafts of clients and what they were told.

use super::super::*;
use crate::clock::HandClock;
use crate::engine::answers::Outcome;
use crate::engine::{Engine, EngineSettings, Loops, Restoring};
use crate::storage::disk::SimDisk;
use crate::storage::{Opening, StoreSettings};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use zeolite_proto::resolvers::{class, counter};
use zeolite_proto::{Cell, Change, CommitKey, Draft, Limits, Note, Priority, Registry, Write};

pub(super) const START_NS: i128 = 1_700_000_000_000_000_000;
pub(super) const ID: [u8; 16] = [1; 16];
pub(super) const WAIT_MS: u64 = 1000;

pub(super) struct Node {
    pub(super) disk: SimDisk,
    pub(super) engine: Arc<Engine>,
    pub(super) loops: Loops,
}

impl Node {
    pub(super) fn open(disk: SimDisk, clock: &Arc<HandClock>, follows: bool, seed: u64, store_id: Option<u64>) -> Node {
        let replication = ReplicationSettings { sync: 1, wait_ms: WAIT_MS, follows, ..ReplicationSettings::default() };
        Node::open_as(replication, disk, clock, seed, store_id)
    }

    pub(super) fn open_as(
        replication: ReplicationSettings,
        disk: SimDisk,
        clock: &Arc<HandClock>,
        seed: u64,
        store_id: Option<u64>,
    ) -> Node {
        let store = StoreSettings { segment_bytes_max: 4096, ahead_bytes_min: 1, ..StoreSettings::default() };
        let settings = EngineSettings { replication, read_only_below_free_bytes: 0, ..EngineSettings::default() };
        let opening = Opening { store_id, ..Opening::from(seed) };
        let (door, limits, registry) = (Arc::new(disk.clone()), Limits::default(), Registry::built_in());
        let (engine, loops) =
            Engine::open(door, clock.clone(), store, settings, limits, registry, opening, &mut |_| {}).expect("opens");
        if engine.is_returning() {
            engine.resume_seat();
        }
        Node { disk, engine, loops }
    }
}

pub(super) type Told = Arc<Mutex<Option<Result<Receipt, Fault>>>>;

pub(super) struct World {
    pub(super) dice: fastrand::Rng,
    pub(super) clock: Arc<HandClock>,
    pub(super) lives: u64,
    pub(super) primary: Node,
    pub(super) follower: Node,
    /// The number of the connection, and what was sent over it.
    pub(super) line: Option<(u64, Tid)>,
    pub(super) taking: Option<(u64, Restoring)>,
    pub(super) drafts: Vec<Draft>,
    /// And of which primary: one that is lost answers no more.
    pub(super) asked: Vec<(CommitKey, Told, u64)>,
    pub(super) primaries: u64,
    pub(super) acknowledged: BTreeMap<CommitKey, Tid>,
    /// What it had when it was promoted a primary tells without waiting.
    pub(super) promoted_at: Tid,
    pub(super) fail_overs: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let clock = Arc::new(HandClock::at(START_NS));
        let primary = Node::open(SimDisk::new(), &clock, false, seed + 1, None);
        let store_id = Some(primary.engine.store_id());
        let follower = Node::open(SimDisk::new(), &clock, true, seed + 2, store_id);
        World {
            dice: fastrand::Rng::with_seed(seed),
            clock,
            lives: seed << 20,
            primary,
            follower,
            line: None,
            taking: None,
            drafts: Vec::new(),
            asked: Vec::new(),
            primaries: 0,
            acknowledged: BTreeMap::new(),
            promoted_at: Tid::NONE,
            fail_overs: 0,
        }
    }

    pub(super) fn life(&mut self) -> u64 {
        self.lives += 10;
        self.lives
    }

    pub(super) fn submit(&mut self) {
        let again = self.dice.u8(..4) == 0 && !self.drafts.is_empty();
        let draft = if again {
            self.drafts[self.dice.usize(..self.drafts.len())].clone()
        } else if self.dice.u8(..4) == 0 {
            self.large()
        } else {
            self.draft()
        };
        if self.primary.engine.check_confirmed().is_err() {
            return;
        }
        let told = Told::default();
        let tell = told.clone();
        self.asked.push((draft.key, told, self.primaries));
        self.primary.engine.commit(draft, Box::new(move |result| *tell.lock() = Some(result)));
    }

    pub(super) fn draft(&mut self) -> Draft {
        let cell = Cell::entry(zeolite_proto::Oid::ROOT, format!("counter {}", self.dice.u8(..3)));
        let change = Change::Apply { class: class::COUNTER.into(), operation: counter::add(1) };
        let visible = self.primary.engine.visible();
        let key = CommitKey((self.drafts.len() as u128 + 1).to_le_bytes());
        let draft = Draft {
            key,
            key_since: visible,
            priority: Priority::Live,
            read_cells: Vec::new(),
            read_ranges: Vec::new(),
            writes: vec![Write { cell, base: visible, change, stamped: false }],
            note: Note::default(),
        };
        self.drafts.push(draft.clone());
        draft
    }

    /// One that is made ready before its turn, and becomes a segment.
    fn large(&mut self) -> Draft {
        let put = |n: u8| Write {
            cell: Cell::entry(zeolite_proto::Oid::ROOT, format!("{} {n}", self.drafts.len())),
            base: Tid::NONE,
            change: Change::Put(zeolite_proto::record::encode("Page", 1, &[], &[n; 20]).expect("encodes")),
            stamped: false,
        };
        let writes = (0..3).map(put).collect();
        let draft = Draft { writes, ..self.draft() };
        if let Some(last) = self.drafts.last_mut() {
            last.clone_from(&draft);
        }
        draft
    }

    pub(super) fn connect(&mut self) {
        let (engine, have) = (&self.primary.engine, self.follower.engine.written());
        if engine.shared_to(self.follower.engine.timeline(), have).min(engine.written()) < have {
            // What it has and nobody acknowledged: it begins anew.
            let (seed, store_id) = (self.life(), Some(self.primary.engine.store_id()));
            self.follower = Node::open(SimDisk::new(), &self.clock, true, seed, store_id);
        }
        let have = self.follower.engine.written();
        self.follower.engine.meet_term(self.primary.engine.term()).expect("is kept");
        // What it held back when it was the primary itself.
        self.follower.engine.is_shared(have);
        self.follower.loops.run_dry();
        let number = self.primary.engine.follower_joins((ID, 0), ("f", have), Arc::new(|| ()));
        let number = number.expect("joins").expect("one server");
        (self.line, self.taking) = (Some((number, have)), None);
    }

    pub(super) fn cut(&mut self) {
        if let Some((number, _)) = self.line.take() {
            self.primary.engine.follower_left(ID, number);
        }
        self.taking = None;
        // What was on its way is taken or refused before the next connection.
        self.follower.loops.run_dry();
    }

    pub(super) fn deliver(&mut self) {
        let Some((number, sent)) = self.line else { return };
        let engine = &self.primary.engine;
        let txns = match engine.after(sent, 300) {
            After::Nothing => return,
            After::Batches { next, .. } => next.iter().flat_map(|batch| batch.txns.to_vec()).collect(),
            After::OnDisk(to) => engine.log_page(sent.next(), to, 3).expect("reads"),
        };
        for txn in txns {
            let life = engine.timeline_of(txn.tid);
            self.line = Some((number, txn.tid));
            if self.taking.as_ref().is_none_or(|(of, _)| *of != life) {
                self.taking = Some((life, self.follower.engine.following(life)));
            }
            let (_, taking) = self.taking.as_ref().expect("it was begun");
            taking.add(txn, Tid::NONE, Box::new(|taken| assert!(taken.is_ok(), "a copy takes what comes: {taken:?}")));
        }
    }

    pub(super) fn acknowledge(&mut self) {
        if let Some((number, _)) = self.line {
            self.primary.engine.follower_has(ID, number, self.follower.engine.written());
        }
    }

    pub(super) fn crash_follower(&mut self) {
        self.line.take().inspect(|(number, _)| self.primary.engine.follower_left(ID, *number));
        self.taking = None;
        let (disk, seed) = (self.follower.disk.crash(self.dice.u64(..)), self.life());
        self.follower = Node::open(disk, &self.clock, true, seed, None);
    }

    pub(super) fn crash_primary(&mut self) {
        (self.line, self.taking) = (None, None);
        self.follower.loops.run_dry();
        let (disk, seed) = (self.primary.disk.crash(self.dice.u64(..)), self.life());
        self.primary = Node::open(disk, &self.clock, false, seed, None);
        self.primaries += 1;
    }

    pub(super) fn fail_over(&mut self) {
        // A primary that has just been promoted is alone with what it had: two losses in a row are one too many for one follower.
        let there = self.follower.engine.written();
        let shared = self.primary.engine.shared_to(self.follower.engine.timeline(), there);
        if there == Tid::NONE || there < self.promoted_at || (self.fail_overs > 0 && shared < there) {
            return;
        }
        (self.line, self.taking) = (None, None);
        self.follower.loops.run_dry();
        self.follower.engine.is_shared(there);
        let term = self.follower.engine.next_term();
        let told = Told::default();
        let tell = told.clone();
        self.follower.engine.promote(term, Box::new(move |result| *tell.lock() = Some(result)));
        self.follower.loops.run_dry();
        assert!(matches!(*told.lock(), Some(Ok(_))), "nobody is waited for");
        assert_eq!((self.follower.engine.seat(), self.follower.engine.term()), (Seat::Primary, term));
        self.promoted_at = self.follower.engine.written();
        std::mem::swap(&mut self.primary, &mut self.follower);
        self.primaries += 1;
        // One that never was a follower is started anew to be one.
        if self.fail_overs == 0 || self.dice.bool() {
            let (disk, seed) = (self.follower.disk.crash(self.dice.u64(..)), self.life());
            self.follower = Node::open(disk, &self.clock, true, seed, None);
        }
        // It is told, or asks: a copy that was promoted once takes itself for the primary until then. One that has not crashed has
        // drafts on their way.
        self.follower.engine.fence(term, "the new one").expect("is kept");
        assert_ne!(self.follower.engine.seat(), Seat::Primary);
        self.fail_overs += 1;
        self.nothing_is_lost();
    }

    pub(super) fn nothing_is_lost(&self) {
        for (key, tid) in &self.acknowledged {
            match self.primary.engine.outcome(*key, None) {
                Ok(Outcome::Committed(receipt)) => assert_eq!(receipt.tid, *tid, "{key} is committed once"),
                other => panic!("{key} was acknowledged as {tid}, and is {other:?}"),
            }
        }
    }

    pub(super) fn step(&mut self) {
        match self.dice.u8(..100) {
            0..25 => self.submit(),
            25..40 => drop(self.primary.loops.turn_sequencer()),
            40..55 => drop(self.primary.loops.turn_writer()),
            55..60 => drop(self.primary.loops.turn_merger()),
            60..68 => drop(self.follower.loops.turn_sequencer()),
            68..76 => drop(self.follower.loops.turn_writer()),
            76..84 => self.deliver(),
            84..90 => self.acknowledge(),
            90..93 if self.line.is_none() => self.connect(),
            93..94 => self.cut(),
            94..95 => self.crash_follower(),
            95..96 => self.crash_primary(),
            96..97 => self.fail_over(),
            97..98 => self.clock.advance(Duration::from_millis(WAIT_MS)),
            _ => self.clock.advance(Duration::from_millis(1)),
        }
        self.judge();
    }

    pub(super) fn judge(&mut self) {
        let there = self.follower.engine.written();
        for (key, told, of) in std::mem::take(&mut self.asked) {
            let answer = told.lock().take();
            match answer {
                None => self.asked.push((key, told, of)),
                Some(Ok(receipt)) => {
                    assert!(
                        receipt.tid <= there.max(self.promoted_at),
                        "{} is told, and the follower has all up to {there}",
                        receipt.tid
                    );
                    let before = self.acknowledged.insert(key, receipt.tid);
                    assert!(before.is_none_or(|before| before == receipt.tid), "{key} is committed twice");
                }
                Some(Err(fault)) => assert_ne!(fault.kind, FaultKind::Invalid, "{fault}"),
            }
        }
        // What a primary of an earlier life had shown is not asked for: it is told nothing before its followers have it.
        if self.primary.engine.check_confirmed().is_ok() {
            let visible = self.primary.engine.visible();
            assert!(
                visible <= there.max(self.promoted_at),
                "{visible} is visible, and the follower has all up to {there}"
            );
        }
    }

    /// Lets everything come to its end, and counts.
    pub(super) fn end(&mut self) {
        if self.line.is_none() {
            self.connect();
        }
        for _ in 0..10_000 {
            let before = (self.primary.engine.visible(), self.follower.engine.written());
            self.primary.loops.run_dry();
            self.deliver();
            self.follower.loops.run_dry();
            self.acknowledge();
            self.primary.loops.run_dry();
            let after = (self.primary.engine.visible(), self.follower.engine.written());
            if before == after && after.0 == after.1 && after.0 == self.primary.engine.written() {
                break;
            }
        }
        self.judge();
        self.nothing_is_lost();
        let left = self.asked.iter().filter(|(.., of)| *of == self.primaries).count();
        assert_eq!(left, 0, "not answered");
        let keys = self.drafts.iter().filter(|draft| draft.writes.len() == 1).map(|draft| draft.key);
        let is_committed =
            |key: &CommitKey| matches!(self.primary.engine.outcome(*key, None), Ok(Outcome::Committed(_)));
        let committed = keys.filter(is_committed).count() as i64;
        for node in [&self.primary, &self.follower] {
            let cells: Vec<Cell> =
                (0..3).map(|n| Cell::entry(zeolite_proto::Oid::ROOT, format!("counter {n}"))).collect();
            let loaded = node.engine.load(Tid::NONE, &cells).expect("reads");
            let value = |record: &bytes::Bytes| {
                counter::value(&zeolite_proto::Record::decode(record).expect("a record")).expect("a counter")
            };
            let sum: i64 = loaded.revisions.iter().flatten().filter_map(|it| it.record.as_ref().map(value)).sum();
            assert_eq!(sum, committed, "each key once");
        }
    }
}
