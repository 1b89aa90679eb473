//! Owns the steps of a trial that are nobody's fault: drafts, turns, the clock, prepared drafts, undo, resends.

use super::{Holding, Open, Trial, Wear};
use crate::model::Remembered;
use crate::support::told::Told;
use crate::support::work::key;
use bytes::Bytes;
use std::time::Duration;
use zeolite_proto::{Cell, Change, CommitKey, Draft, Fault, FaultKind, Note, Priority, Role, Tid, Write};
use zeolite_server::engine::{Closing, Outcome, Owner, Preparing, Turn};

impl Trial {
    pub(super) fn step(&mut self) -> Result<(), String> {
        match self.dice.rng.u32(0..100) {
            0..30 => self.submit(),
            30..48 => return self.turn_sequencer().map(drop),
            48..58 => {
                self.beside.house.loops().turn_merger();
            }
            58..70 => {
                self.beside.house.loops().turn_writer();
            }
            70..76 => {
                self.beside.house.loops().turn_settle();
            }
            76..79 => return self.run_dry(),
            79..81 => self.move_clock(),
            81..82 => return self.close_a_gate(),
            82..90 => return self.compare_some(),
            90..93 => self.prepare(),
            93..95 => return self.end_a_hold(),
            95..96 => return self.undo(),
            96..98 => return self.ask_for_a_key(),
            98..99 if self.dice.chance(60) => self.restore(),
            98..99 if self.dice.chance(50) => return self.change_a_pin(),
            98..99 if self.dice.chance(70) => return self.pack(),
            98..99 => return self.copy(),
            _ if self.wear == Wear::None => {}
            _ => return self.mishap(),
        }
        Ok(())
    }

    /// Everybody waits for the sequencer: it never reads the disk.
    fn turn_sequencer(&mut self) -> Result<Turn, String> {
        let before = self.beside.house.disk().reads();
        let turn = self.beside.house.loops().turn_sequencer();
        match self.beside.house.disk().reads() - before {
            0 => Ok(turn),
            reads => Err(format!("the sequencer has read the disk {reads} times in one turn")),
        }
    }

    /// As the house does, with an eye on the sequencer.
    pub(super) fn run_dry(&mut self) -> Result<(), String> {
        loop {
            let sequencer = self.turn_sequencer()?;
            let loops = self.beside.house.loops();
            if ![sequencer, loops.turn_merger(), loops.turn_writer()].contains(&Turn::Worked) {
                return Ok(());
            }
        }
    }

    /// A gate of a class is closed, and opened again: so that what comes later is judged as before.
    fn close_a_gate(&mut self) -> Result<(), String> {
        self.run_dry()?;
        self.collect()?;
        let min_version = self.dice.rng.u32(1..=2);
        let older = self
            .beside
            .model
            .kinds()
            .into_iter()
            .filter(|((class, version), _)| class == "Page" && *version < min_version);
        let older: u64 = older.map(|(_, oids)| oids.len() as u64).sum();
        let (done, told) = Told::pair();
        self.beside.house.engine().close_gate("Page".into(), min_version, "model".into(), done);
        self.run_dry()?;
        let harmed = self.harm.full || self.harm.log || self.harm.index;
        match told.take() {
            Some(Ok(Closing::Closed(_))) if older == 0 => self.count("closed a gate"),
            // What is prepared counts as well.
            Some(Ok(Closing::Old(found))) if found >= older && (older > 0 || !self.holding.is_empty()) => {
                self.count("was told what is below a gate");
                return Ok(());
            }
            Some(Err(_)) if harmed => {
                self.gate_in_doubt = true;
                return Ok(());
            }
            other => return Err(format!("{older} objects are below the gate, it was told {other:?}")),
        }
        self.open_the_gate(harmed)
    }

    pub(super) fn open_the_gate(&mut self, harmed: bool) -> Result<(), String> {
        let (done, told) = Told::pair();
        self.beside.house.engine().open_gate("Page".into(), done);
        self.run_dry()?;
        self.gate_in_doubt = match told.take() {
            Some(Ok(_)) => false,
            Some(Err(_)) if harmed => true,
            other => return Err(format!("a gate was not opened: {other:?}")),
        };
        Ok(())
    }

    pub(super) fn new_key(&mut self) -> CommitKey {
        self.keys += 1;
        key(self.keys)
    }

    /// One of a few clients begins anew or goes on with its old snapshot, and commits something.
    fn submit(&mut self) {
        let client = self.dice.rng.usize(0..self.snapshots.len());
        if self.dice.chance(60) {
            self.snapshots[client] = self.beside.house.engine().visible();
        }
        let snapshot = self.snapshots[client];
        let key = self.new_key();
        let draft = self.dice.draft(key, &self.beside.model, snapshot);
        self.send(draft);
    }

    pub(super) fn send(&mut self, draft: Draft) {
        let told = self.beside.house.submit(draft.clone());
        self.sent.insert(draft.key.0, draft.clone());
        self.open.push(Open { draft, told });
    }

    fn move_clock(&mut self) {
        let by = Duration::from_millis(self.dice.rng.u64(0..2000));
        self.beside.house.clock().advance(by);
        self.steady += by;
        if self.dice.chance(10) {
            let back = i128::from(self.dice.rng.i64(0..3_600_000_000_000));
            let now = zeolite_server::engine::clock::Clock::unix_nanos(self.beside.house.clock());
            self.beside.house.clock().set_wall(now - back);
        }
    }

    fn prepare(&mut self) {
        let snapshot = self.beside.house.engine().visible();
        let key = self.new_key();
        let draft = self.dice.draft(key, &self.beside.model, snapshot);
        let limit_ms = self.dice.rng.u64(1000..10_000);
        let durable = self.dice.chance(40);
        let preparing = match durable {
            true => Preparing { durable, ..Preparing::default() },
            false => Preparing { time_limit_ms: limit_ms, durable, hold: self.dice.chance(50) },
        };
        self.durable_keys.extend(durable.then_some(key));
        let (done, told) = Told::pair();
        self.beside.house.engine().prepare(Role::Write, draft.clone(), preparing, done);
        let until = if durable { Duration::MAX } else { self.steady + Duration::from_millis(limit_ms) };
        self.holding.push(Holding { draft, told, given: None, until, durable, heard: false });
    }

    fn end_a_hold(&mut self) -> Result<(), String> {
        if self.holding.is_empty() {
            return Ok(());
        }
        let finish = self.dice.chance(60);
        let at = self.dice.rng.usize(0..self.holding.len());
        self.end_hold(at, finish)
    }

    /// Everything that is held is let go, so that everybody can be answered.
    pub(super) fn release_all(&mut self) -> Result<(), String> {
        loop {
            self.run_dry()?;
            self.collect()?;
            let Some(at) = self.holding.iter().position(|holding| holding.given.is_some()) else { return Ok(()) };
            let before = self.holding.len();
            self.end_hold(at, false)?;
            if self.holding.len() == before {
                // There is no room even for its end.
                return Ok(());
            }
        }
    }

    fn end_hold(&mut self, at: usize, finish: bool) -> Result<(), String> {
        if self.holding[at].given.is_none() {
            return Ok(());
        }
        let mut holding = self.holding.remove(at);
        let Some(mut given) = holding.given.take() else { return Ok(()) };
        if !finish || !self.amend(&mut holding, &mut given)? {
            let (done, told) = Told::pair();
            self.beside.house.engine().abort(
                &Owner::anonymous(),
                given.prepared,
                (Some(holding.draft.key), Some(Tid::MAX)),
                done,
            );
            self.run_dry()?;
            holding.given = Some(given);
            return told.expect().map(drop).or_else(|fault| self.not_aborted(holding, &fault));
        }
        let (done, told) = Told::pair();
        self.beside.house.engine().finish(&Owner::anonymous(), given.prepared, holding.draft.key, Some(Tid::MAX), done);
        self.run_dry()?;
        let in_time = self.steady < holding.until;
        match told.take() {
            Some(Ok(receipt)) => {
                self.count("finished");
                let stamped = |cells: &[zeolite_proto::Merged]| cells.len();
                if holding.heard && stamped(&receipt.merged) != stamped(&given.merged) {
                    return Err(format!("finish merged {:?}, prepare said {:?}", receipt.merged, given.merged));
                }
                self.finish_again(given.prepared, &holding.draft, receipt.tid)?;
                // Others were answered on the way: bring them in first, in the order of the tids.
                self.open.push(Open { draft: holding.draft, told: Told::with(Ok(receipt)) });
                Ok(())
            }
            Some(Err(fault)) if in_time && !self.excuses_a_finish(fault.kind) => {
                Err(format!("a finish in time was refused: {fault}"))
            }
            Some(Err(fault)) => {
                match fault.kind {
                    FaultKind::OutcomeUnknown => {
                        self.uncertain.push(holding.draft.clone());
                        self.doubt(holding, fault.kind);
                    }
                    // It is prepared again.
                    FaultKind::DiskFull | FaultKind::Internal | FaultKind::Busy => {
                        self.count("prepared again");
                        holding.given = Some(given);
                        self.holding.push(holding);
                    }
                    _ if holding.durable => self.doubtful.push(holding),
                    _ => {}
                }
                Ok(())
            }
            None => Err("a finish was not answered".into()),
        }
    }

    /// Whether a promised draft may be refused so: it may find no room for now, but never be lost.
    pub(super) fn excuses_a_finish(&self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::DiskFull => self.harm.full,
            FaultKind::Internal => self.harm.index,
            FaultKind::Busy => self.harm.index || self.harm.log,
            _ => self.harm.log,
        }
    }

    /// The answer of a finish was lost, and it is sent again: what was prepared is gone, and the log knows.
    fn finish_again(&mut self, prepared: u64, draft: &Draft, tid: Tid) -> Result<(), String> {
        let (done, told) = Told::pair();
        self.beside.house.engine().finish(&Owner::anonymous(), prepared, draft.key, Some(Tid::MAX), done);
        self.run_dry()?;
        match told.take() {
            Some(Ok(receipt)) if receipt.tid == tid => {
                self.count("finished again");
                Ok(())
            }
            Some(Err(_)) if self.harm.log || self.harm.index => Ok(()),
            other => Err(format!("finished at {tid}; the same finish again got {other:?}")),
        }
    }

    /// The model makes the draft that an undo should be; the engine makes its own.
    fn undo(&mut self) -> Result<(), String> {
        let job = zeolite_proto::Cell::object(self.dice.job());
        let makes_the_job = |txn: &&Remembered| txn.writes.iter().any(|write| write.0 == job);
        let known = self.beside.model.log().filter(|txn| !makes_the_job(txn));
        let known: Vec<Tid> = known.map(|txn| txn.tid).collect();
        if known.is_empty() {
            return Ok(());
        }
        let tid = known[self.dice.rng.usize(0..known.len())];
        let key = self.new_key();
        let Some(txn) = self.beside.model.txn(tid) else { return Ok(()) };
        let engine = self.beside.house.engine().clone();
        let back = |cell: &zeolite_proto::Cell, written: &Option<Bytes>| {
            let before = self.beside.model.load(cell, tid.prev()).and_then(|revision| revision.record);
            let now =
                engine.load(Tid::NONE, std::slice::from_ref(cell)).ok().and_then(|mut now| now.revisions.pop()?);
            let base = now.filter(|now| now.record == *written).map_or(tid, |now| now.tid);
            let change = before.clone().map_or(Change::Delete, Change::Put);
            (before != *written).then(|| Write { cell: cell.clone(), base, change, stamped: false })
        };
        let writes = txn.writes.iter().filter_map(|(cell, written, _)| back(cell, written)).collect();
        let note = Note::new("model", "undo");
        let (read_cells, read_ranges) = (Vec::new(), Vec::new());
        let (key_since, priority) = (Tid::MAX, Priority::Live);
        let draft = Draft { key, key_since, priority, read_cells, read_ranges, writes, note: note.clone() };
        let (done, told) = Told::pair();
        self.beside.house.engine().undo(Role::Write, tid, (key, key_since), note, done);
        if tid > self.beside.model.packed_to() {
            self.open.push(Open { draft, told });
            return Ok(());
        }
        match told.take() {
            Some(Err(fault)) if fault.kind == FaultKind::SnapshotPacked || self.no_index(&fault) => Ok(()),
            other => Err(format!("{tid} is packed away, its undo was answered with {other:?}")),
        }
    }

    /// A key that was used before: its outcome, and what happens when it comes again.
    fn ask_for_a_key(&mut self) -> Result<(), String> {
        if self.keys == 0 {
            return Ok(());
        }
        let asked = key(self.dice.rng.u64(1..=self.keys));
        let held = self.holding.iter().any(|holding| holding.draft.key == asked);
        let in_flight = self.open.iter().any(|open| open.draft.key == asked);
        let outcome = match self.beside.house.engine().outcome(asked, Some(Tid::MAX)) {
            Ok(outcome) => outcome,
            Err(fault) if fault.kind == FaultKind::Poisoned && self.harm.log => return Ok(()),
            Err(fault) if self.no_index(&fault) => return Ok(()),
            Err(fault) => return Err(format!("no outcome: {fault}")),
        };
        let remembered = self.beside.model.by_key(asked).cloned();
        match (outcome, remembered) {
            (Outcome::Committed(receipt), Some(txn)) => {
                let told = |cell: &Cell| receipt.merged.iter().any(|merged| merged.cell == *cell);
                // What a pack has taken away is not told again.
                let stays = |cell: &Cell| told(cell) || !self.beside.model.is_packed(cell, txn.tid);
                let merged = txn.writes.iter().filter(|(cell, _, merged)| *merged && stays(cell));
                let told = receipt.merged.iter().map(|m| (&m.cell, &m.record));
                if receipt.tid != txn.tid || !told.eq(merged.map(|(cell, record, _)| (cell, record))) {
                    return Err(format!("{asked:?} was {txn:?}, now it is {receipt:?}"));
                }
                self.resend(asked, txn.tid)
            }
            (Outcome::Unknown, None) => Ok(()),
            (Outcome::InFlight, None) if in_flight || held => Ok(()),
            (outcome, remembered) => Err(format!("{asked:?} is {outcome:?}, the model remembers {remembered:?}")),
        }
    }

    /// What is told of an index whose disk has failed.
    fn no_index(&self, fault: &Fault) -> bool {
        self.harm.index && matches!(fault.kind, FaultKind::Internal | FaultKind::Busy)
    }

    fn resend(&mut self, asked: CommitKey, tid: Tid) -> Result<(), String> {
        let another = self.dice.draft(asked, &self.beside.model, Tid::NONE);
        let Some(same) = self.sent.get(&asked.0).cloned() else { return Ok(()) };
        let (name, draft) = match self.dice.rng.bool() {
            true => ("the same key again", same.clone()),
            false => ("another draft under a known key", another),
        };
        let is_same = draft.digest() == same.digest();
        let told = self.beside.house.submit(draft);
        match told.take() {
            Some(Ok(receipt)) if is_same && receipt.tid == tid => self.count(name),
            Some(Err(fault)) if !is_same && fault.kind == FaultKind::Invalid => self.count(name),
            Some(Err(fault)) if self.no_index(&fault) => {}
            other => return Err(format!("{asked:?} was committed at {tid}; sent again ({name}) it got {other:?}")),
        }
        Ok(())
    }
}
