//! Owns the trial: one seeded run of a house beside the model.
//!
//! Each step is one thing that may happen to a server: a draft comes, a loop turns, the clock moves, a disk call fails, the
//! power goes. After each step every answer is judged, after each crash the whole log is compared, and reads are compared all
//! the time. Everything follows from the seed.

mod amending;
mod checks;
mod copying;
mod keeping;
mod mishaps;
mod packing;
mod restoring;
mod steps;

use super::beside::Beside;
use super::dice::{Dice, OIDS};
use super::{Model, Remembered};
use crate::support::house::{House, HouseSettings};
use crate::support::told::Told;
use crate::support::work::{Work, key};
use std::collections::BTreeMap;
use std::time::Duration;
use zeolite_proto::evolve::{JobRecord, Stored, is_owed};
use zeolite_proto::{Cell, CommitKey, Draft, Fault, FaultKind, Receipt, Record, Tid};
use zeolite_server::engine::PreparedReceipt;

/// What may go wrong in a trial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wear {
    /// Nothing: every draft is answered.
    None,
    /// Power cuts, kills, restarts.
    Crashes,
    /// These, and a disk that fails, runs full, or stops.
    Faults,
}

/// A draft that is not answered yet.
struct Open {
    draft: Draft,
    told: Told<Receipt>,
}

/// A draft to be prepared, or prepared.
struct Holding {
    draft: Draft,
    told: Told<PreparedReceipt>,
    given: Option<PreparedReceipt>,
    until: Duration,
    /// It outlives the server.
    durable: bool,
    /// What its resolvers made was told; in another life it is not told again.
    heard: bool,
}

/// What was done to the disk in this life.
#[derive(Clone, Copy, Default)]
struct Harm {
    full: bool,
    log: bool,
    index: bool,
}

/// One run.
pub struct Trial {
    beside: Beside,
    dice: Dice,
    wear: Wear,
    snapshots: Vec<Tid>,
    open: Vec<Open>,
    holding: Vec<Holding>,
    /// Durable drafts of which this life has not told whether they are prepared, or are still.
    doubtful: Vec<Holding>,
    /// Every key under which a durable draft was sent.
    durable_keys: Vec<CommitKey>,
    /// Their outcome is unknown: a restart will tell.
    uncertain: Vec<Draft>,
    harm: Harm,
    /// Ids and snapshots.
    pins: Vec<(u64, Tid)>,
    /// A gate was closed or opened on a disk that fails: who knows.
    gate_in_doubt: bool,
    steady: Duration,
    keys: u64,
    /// What was sent under each key, if it was a client's own draft.
    sent: BTreeMap<[u8; 16], Draft>,
    happened: BTreeMap<String, u64>,
    steps: u64,
}

impl Trial {
    /// A new house and an empty model.
    pub fn new(seed: u64, wear: Wear) -> Trial {
        let mut settings = HouseSettings::default();
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
        // Whatever is old may go.
        (settings.engine.history_min_s, settings.engine.pin_grace_s) = (0, 0);
        // Small bounds, so that their far sides are visited.
        settings.engine.recent_cells_max = [4, 20, 100_000][rng.usize(0..3)];
        // With these also small drafts are made ready before their turn.
        settings.engine.ready_writes_min = [1, 3, 16_384][rng.usize(0..3)];
        settings.store.ahead_bytes_min = [1, 4 << 20][rng.usize(0..2)];
        settings.engine.recent_bytes_max = [10, 32 << 20][rng.usize(0..2)];
        settings.engine.batch_txns_max = [1, 3, 100][rng.usize(0..3)];
        settings.engine.hop_max = [1, 4, 100][rng.usize(0..3)];
        settings.engine.settle_txns_max = [1, 5, 1000][rng.usize(0..3)];
        settings.engine.live_per_batch = rng.u32(1..5);
        settings.limits.reply_bytes_aim = [200, 1 << 20][rng.usize(0..2)];
        settings.store.segment_bytes_max = [4096, 20_000, 1 << 20][rng.usize(0..3)];
        settings.store.checkpoint_log_bytes = [1, 10_000, 1 << 20][rng.usize(0..3)];
        settings.store.cache_bytes = [2000, 1 << 20][rng.usize(0..2)];
        let mut house = House::new(settings);
        let first = house.oids(OIDS as u32).expect("a new house hands out oids");
        let (dice, mut model) = (Dice::new(seed, first), Model::default());
        let job =
            Work::new(key(u64::MAX)).put(Cell::object(dice.job()), Tid::NONE, &Record::new(JobRecord::CLASS, 1, ""));
        let receipt = house.commit(job.clone().draft()).expect("a new house takes an object");
        model.commit(&job.draft(), &receipt).expect("nothing is there before");
        Trial {
            beside: Beside { house, model },
            dice,
            wear,
            snapshots: vec![Tid::NONE; 4],
            open: Vec::new(),
            holding: Vec::new(),
            doubtful: Vec::new(),
            durable_keys: Vec::new(),
            uncertain: Vec::new(),
            harm: Harm::default(),
            pins: Vec::new(),
            gate_in_doubt: false,
            steady: Duration::ZERO,
            keys: 0,
            sent: BTreeMap::new(),
            happened: BTreeMap::new(),
            steps: 0,
        }
    }

    /// So many steps, then an end in order with a last look at everything.
    pub fn run(&mut self, steps: u64) -> Result<(), String> {
        for step in 0..steps {
            self.steps = step;
            self.step()?;
            self.collect()?;
        }
        self.steps = steps;
        self.release_all()?;
        self.run_dry()?;
        self.collect()?;
        if self.wear == Wear::None && !self.open.is_empty() {
            return Err(format!("{} drafts were never answered", self.open.len()));
        }
        self.compare_everything()?;
        self.end_of_life("crash")
    }

    /// How far it came.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What happened how often: a trial in which nothing happens proves nothing.
    pub fn happened(&self) -> &BTreeMap<String, u64> {
        &self.happened
    }

    fn count(&mut self, what: &str) {
        *self.happened.entry(what.to_owned()).or_default() += 1;
    }

    /// Looks at every answer that has come: commits in the order of their tids, then refusals.
    fn collect(&mut self) -> Result<(), String> {
        let mut receipts = Vec::new();
        let mut refused = Vec::new();
        let mut waiting = Vec::new();
        for open in std::mem::take(&mut self.open) {
            match open.told.take() {
                None => waiting.push(open),
                Some(Ok(receipt)) => receipts.push((receipt, open.draft)),
                Some(Err(fault)) => refused.push((fault, open)),
            }
        }
        self.open = waiting;
        receipts.sort_by_key(|(receipt, _)| receipt.tid);
        for (receipt, draft) in receipts {
            if receipt.tid > self.beside.house.engine().visible() {
                return Err(format!("the receipt of {} came before it is visible", receipt.tid));
            }
            self.beside.model.commit(&draft, &receipt)?;
            self.count(if restoring::is_restored(&draft) { "restored" } else { "committed" });
            let owes = |txn: &Remembered| txn.writes.iter().any(|write| is_owed(&write.0));
            if self.beside.model.txn(receipt.tid).is_some_and(owes) {
                self.count("went over a chunk");
            }
            if !receipt.merged.is_empty() {
                self.count("committed with a merge");
            }
        }
        for (fault, open) in refused {
            self.refused(&open.draft, &fault)?;
            if fault.kind == FaultKind::OutcomeUnknown {
                self.uncertain.push(open.draft);
            }
        }
        self.collect_holding()
    }

    fn collect_holding(&mut self) -> Result<(), String> {
        let mut kept = Vec::new();
        for mut holding in std::mem::take(&mut self.holding) {
            match holding.told.take() {
                None => kept.push(holding),
                Some(Ok(receipt)) => {
                    self.count(if holding.durable { "prepared durably" } else { "prepared" });
                    (holding.given, holding.heard) = (Some(receipt), true);
                    kept.push(holding);
                }
                Some(Err(fault)) => {
                    self.refused(&holding.draft, &fault)?;
                    self.doubt(holding, fault.kind);
                }
            }
        }
        self.holding = kept;
        Ok(())
    }

    fn refused(&mut self, draft: &Draft, fault: &Fault) -> Result<(), String> {
        self.count(fault.kind.text());
        let restored = restoring::is_restored(draft) && self.may_refuse_restored(fault);
        let allowed = match fault.kind {
            _ if restored => true,
            FaultKind::Conflict | FaultKind::ReadConflict | FaultKind::UndoBlocked | FaultKind::Refused => {
                for other in &fault.others {
                    if other.newest > self.beside.house.engine().visible() {
                        return Err(format!("a refusal shows {}, which is not visible yet", other.newest));
                    }
                }
                let detail = fault.conflict.as_ref().ok_or("a conflict without its report")?;
                if detail.newest > self.beside.house.engine().visible() {
                    return Err(format!("a refusal shows {}, which is not visible yet", detail.newest));
                }
                return self.beside.model.judge_conflict(draft, fault.kind, detail);
            }
            FaultKind::DiskFull => self.harm.full,
            FaultKind::Poisoned | FaultKind::OutcomeUnknown => self.harm.log,
            // A segment that could not be made is made by the next batch.
            FaultKind::Busy => {
                self.harm.index
                    || self.harm.log
                    || self.is_held(fault)
                    || self.holds_a_ledger(fault)
                    || is_outrun(fault)
            }
            FaultKind::Internal => self.harm.index,
            FaultKind::SnapshotPacked => self.is_made_on_what_went(draft),
            FaultKind::Gated => self.gate_in_doubt,
            _ => false,
        };
        if allowed { Ok(()) } else { Err(format!("refused without a reason that the model knows: {fault}")) }
    }
}

/// With a memory of a few cells, a draft may be looked up again and again while others write.
fn is_outrun(fault: &Fault) -> bool {
    fault.message.contains("change faster than they can be looked up")
}
