//! Owns the gates: the oldest schema version of a class that may still be written.
//!
//! A gate may close only when no object of the class is below its version, counted exactly, with no writer slipping
//! between the count and the closing, and without making anybody wait:
//!
//! ```text
//!   close ──> trying: from here on old shapes are sent away as busy (they come back by themselves)
//!         ──> everything sealed before is visible: a merger counts it, with what prepared drafts still hold
//!         ──> 0: the gate's own cell is sealed; closed                      more: trying ends, the count is told
//! ```
//! While it tries, the count can only fall; so a count of 0 is still 0 when the gate's commit gets its tid.
//! Restored transactions are a copy of what was allowed where it was written: a closed gate lets them pass, and one that is
//! trying sends them away for the moment. A prepared draft is no copy, it is a promise: behind a closed gate none is brought,
//! none closes over one, and one that is there all the same (of an older program) cannot be finished.

use crate::engine::Engine;
use crate::engine::answers::{Closing, Done};
use crate::engine::faults::fault_of;
use crate::engine::keep::{gate_cell, system};
use crate::engine::pipeline::ask::Ask;
use crate::engine::sealed_write::SealedWrite;
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Fault, FaultKind, Gate, Receipt, Tid};

/// When to come back to a gate that is trying to close, in milliseconds: it takes about one fsync.
const TRYING_MS: u64 = 10;

/// The gates by class; none most of the time, one for each evolve that closed one.
#[derive(Default)]
pub(crate) struct Gates {
    gates: RwLock<BTreeMap<String, State>>,
    count: AtomicUsize,
}

struct State {
    gate: Gate,
    trying: bool,
    /// A lower gate of the same class that stays if this attempt fails.
    before: Option<Gate>,
}

impl Gates {
    pub(crate) fn new(closed: Vec<Gate>) -> Gates {
        let count = AtomicUsize::new(closed.len());
        let gates = closed.into_iter().map(|gate| (gate.class.clone(), State::closed(gate))).collect();
        Gates { gates: RwLock::new(gates), count }
    }

    /// Whether objects of this kind are above all gates.
    pub(crate) fn lets_pass(&self, class: &str, version: u32) -> bool {
        self.count.load(Ordering::Acquire) == 0
            || self.gates.read().get(class).is_none_or(|state| version >= state.gate.min_version)
    }

    /// Refuses what is below a gate. Only objects have a shape that is counted: entries pass.
    pub(crate) fn check(&self, writes: &[SealedWrite]) -> Result<(), Fault> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let gates = self.gates.read();
        let refusing = |write: &SealedWrite| below(&gates, &write.cell, write.record.as_ref());
        match writes.iter().find_map(|write| refusing(write).map(|state| (state, write))) {
            None => Ok(()),
            Some((State { gate, trying: true, .. }, _)) => Err(is_trying(gate)),
            Some((State { gate, .. }, write)) => Err(refused(gate, write)),
        }
    }

    fn list(&self) -> Vec<Gate> {
        self.gates.read().values().filter_map(State::standing).cloned().collect()
    }

    /// False: another attempt for this class is under way.
    fn try_closing(&self, gate: Gate) -> bool {
        let mut gates = self.gates.write();
        if gates.get(&gate.class).is_some_and(|state| state.trying) {
            return false;
        }
        let before = gates.remove(&gate.class).map(|state| state.gate);
        gates.insert(gate.class.clone(), State { gate, trying: true, before });
        self.count.store(gates.len(), Ordering::Release);
        true
    }

    /// An attempt has failed: what was closed before it stays closed.
    fn give_up(&self, class: &str) {
        let mut gates = self.gates.write();
        if gates.get(class).is_some_and(|state| state.trying) {
            let before = gates.remove(class).and_then(|state| state.before);
            gates.extend(before.map(|gate| (class.to_owned(), State::closed(gate))));
        }
        self.count.store(gates.len(), Ordering::Release);
    }

    /// The gate of a class was written. An attempt to close another one goes on; this one stands if it fails.
    pub(crate) fn stored(&self, class: &str, closed: Option<Gate>) {
        let mut gates = self.gates.write();
        match gates.get_mut(class) {
            Some(state) if state.trying && !closed.as_ref().is_some_and(|closed| is_same(closed, &state.gate)) => {
                state.before = closed;
            }
            _ => {
                gates.remove(class);
                gates.extend(closed.map(|gate| (class.to_owned(), State::closed(gate))));
            }
        }
        self.count.store(gates.len(), Ordering::Release);
    }

    /// Sends restored writes away that a gate which tries to close would count; a closed one lets them pass.
    pub(crate) fn check_restored<'a>(
        &self,
        mut writes: impl Iterator<Item = (&'a Cell, Option<&'a Bytes>)>,
    ) -> Result<(), Fault> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let gates = self.gates.read();
        let counted = writes.find_map(|(cell, record)| below(&gates, cell, record).filter(|state| state.trying));
        counted.map_or(Ok(()), |state| Err(is_trying(&state.gate)))
    }
}

impl Gates {
    /// Refuses what a prepared draft is to write if that is below a gate that is closed. One that tries counts it.
    pub(crate) fn check_promised(&self, writes: &[SealedWrite]) -> Result<(), Fault> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let gates = self.gates.read();
        let below = |write: &SealedWrite| {
            let header = object_header(&write.cell, write.record.as_ref())?;
            gates.get(header.class)?.standing().filter(|gate| header.version < gate.min_version)
        };
        match writes.iter().find_map(|write| below(write).map(|gate| refused(gate, write))) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }
}

impl State {
    fn closed(gate: Gate) -> State {
        State { gate, trying: false, before: None }
    }

    /// The gate that is closed now.
    fn standing(&self) -> Option<&Gate> {
        if self.trying { self.before.as_ref() } else { Some(&self.gate) }
    }
}

impl Engine {
    /// The closed gates.
    pub fn gates(&self) -> Vec<Gate> {
        self.keep.gates.list()
    }

    /// Closes a gate if nothing is below it; see the header.
    pub fn close_gate(self: &Arc<Self>, class: String, min_version: u32, job: String, done: Done<Closing>) {
        if let Err(fault) = gate_cell::check_names(&class, &job) {
            return done(Err(fault));
        }
        let gate = Gate { class, min_version, job, tid: Tid::NONE };
        let closed = self.gates();
        if closed.iter().any(|known| known.class == gate.class && known.min_version > min_version) {
            let message = format!("the gate of class {:?} is closed for a newer version; open it first", gate.class);
            return done(Err(Fault::invalid(message)));
        }
        if closed.len() >= system::SYSTEM_CELLS_MAX {
            return done(Err(Fault::too_large(
                "number of gates",
                system::SYSTEM_CELLS_MAX,
                system::SYSTEM_CELLS_MAX - 1,
            )));
        }
        if !self.keep.gates.try_closing(gate.clone()) {
            let message = format!("the gate of class {:?} is being closed already; come back", gate.class);
            return done(Err(Fault::new(FaultKind::Busy, message).after_ms(TRYING_MS)));
        }
        self.push_control(Ask::TryGate { gate, done });
    }

    /// Takes a gate away; no error if there is none.
    pub fn open_gate(self: &Arc<Self>, class: String, done: Done<Tid>) {
        if let Err(fault) = gate_cell::check_names(&class, "") {
            return done(Err(fault));
        }
        let written = Box::new(move |result: Result<Receipt, Fault>| done(result.map(|receipt| receipt.tid)));
        self.write_system(gate_cell::cell_of(&class), None, "a gate was opened", written);
    }

    /// Everything sealed before the attempt is visible, or was refused.
    pub(crate) fn count_old(&self, gate: &Gate) -> Result<u64, Fault> {
        let kinds = self.reader().kinds().map_err(fault_of)?;
        let old = kinds.iter().filter(|kind| kind.class == gate.class && kind.version < gate.min_version);
        Ok(old.map(|kind| kind.objects).sum())
    }

    /// An attempt to close a gate has failed.
    pub(crate) fn give_up_gate(&self, class: &str) {
        self.keep.gates.give_up(class);
    }
}

/// Whether a write leaves an object of the gate's class below its version.
pub(crate) fn is_below(gate: &Gate, write: &SealedWrite) -> bool {
    let header = object_header(&write.cell, write.record.as_ref());
    header.is_some_and(|header| header.class == gate.class && header.version < gate.min_version)
}

/// The gate that a write is below.
fn below<'a>(gates: &'a BTreeMap<String, State>, cell: &Cell, record: Option<&Bytes>) -> Option<&'a State> {
    let header = object_header(cell, record)?;
    gates.get(header.class).filter(|state| header.version < state.gate.min_version)
}

// Only objects have a shape that is counted.
fn object_header<'a>(cell: &Cell, record: Option<&'a Bytes>) -> Option<Header<'a>> {
    record.filter(|_| cell.key.is_empty()).and_then(|record| Header::parse(record).ok())
}

fn is_same(one: &Gate, other: &Gate) -> bool {
    (&one.class, one.min_version, &one.job) == (&other.class, other.min_version, &other.job)
}

fn is_trying(gate: &Gate) -> Fault {
    let message = format!("class {:?} is being checked for old objects; come back", gate.class);
    Fault::new(FaultKind::Busy, message).after_ms(TRYING_MS)
}

/// The write that closes it.
pub(crate) fn write_of(gate: &Gate) -> Result<SealedWrite, Fault> {
    let record = gate_cell::record_of(gate)?;
    Ok(SealedWrite { cell: gate_cell::cell_of(&gate.class), stamped: false, record: Some(record), merged: false })
}

fn refused(gate: &Gate, write: &SealedWrite) -> Fault {
    let header = write.record.as_deref().map(Header::parse);
    let version = header.and_then(Result::ok).map_or(0, |header| header.version);
    let Gate { class, min_version, job, .. } = gate;
    let since = if job.is_empty() { "its gate was closed".to_owned() } else { format!("the evolve {job:?} is done") };
    Fault::new(
        FaultKind::Gated,
        format!(
            "object {} of class {class:?} has schema version {version}, and since {since} only {min_version} \
             and later are taken; this program is too old for the database: deploy the new one",
            write.cell.oid
        ),
    )
}
