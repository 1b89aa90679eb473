//! Owns what the server's own cells may hold: one reading of them, for opening, for what takes force, and for refusing what
//! could not take force.

use crate::engine::keep::{gate_cell, mode, oids, prepared_cell, system, term_cell};
use crate::storage::TxnWrite;
use bytes::Bytes;
use zeolite_proto::{Cell, Fault, Gate, Record, Tid};

/// What a write of one of the server's own cells says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum OwnCell {
    /// Oids were handed out up to here.
    Ceiling(u64),
    /// The operator's mode; `None`: the ordinary one.
    Mode(Option<mode::OperatorMode>),
    /// The gate of a class; `None`: it is open.
    Gate(String, Option<Gate>),
    /// A promotion.
    Term(term_cell::Term),
    /// A piece of a prepared draft. The sequencer holds what that one holds from the turn on in which it is sealed.
    Prepared,
}

impl OwnCell {
    /// Reads a write of the system object; the error says what is wrong with it.
    pub(crate) fn read(cell: &Cell, record: Option<&Bytes>, tid: Tid) -> Result<OwnCell, String> {
        let record = record.map(|bytes| Record::decode(bytes).map_err(|error| error.to_string())).transpose()?;
        if *cell == oids::ceiling_cell() {
            let record = record.ok_or("the number of oids handed out cannot be deleted")?;
            return oids::read_ceiling(&record).map(OwnCell::Ceiling);
        }
        if *cell == mode::cell() {
            return Ok(OwnCell::Mode(record.as_ref().map(mode::read).transpose()?));
        }
        if *cell == term_cell::cell() {
            let record = record.ok_or("the term cannot be deleted")?;
            return term_cell::read(&record).map(OwnCell::Term);
        }
        if prepared_cell::place_of(cell).is_some() {
            record.as_ref().map(prepared_cell::read).transpose()?;
            return Ok(OwnCell::Prepared);
        }
        let class = gate_cell::class_of(cell).ok_or("this server keeps nothing under that key")?;
        let gate = record.as_ref().map(|record| gate_cell::read(record, tid)).transpose()?;
        if gate.as_ref().is_some_and(|gate| gate.class != class) {
            return Err("the gate is of another class than its key says".to_owned());
        }
        Ok(OwnCell::Gate(class, gate))
    }

    /// The bounds that an operator's word is held to.
    fn check(&self) -> Result<(), String> {
        match self {
            OwnCell::Mode(Some(mode)) => mode::check_banner(&mode.mode.banner).map_err(|fault| fault.message),
            OwnCell::Gate(class, Some(gate)) => gate_cell::check_names(class, &gate.job).map_err(|fault| fault.message),
            OwnCell::Ceiling(_)
            | OwnCell::Mode(None)
            | OwnCell::Gate(_, None)
            | OwnCell::Term(_)
            | OwnCell::Prepared => Ok(()),
        }
    }
}

/// Refuses writes of the server's own cells that could not take force, or that this server would not write. Gives the prepared
/// drafts that they bring.
pub(crate) fn check(writes: &[TxnWrite], tid: Tid) -> Result<Vec<prepared_cell::InPieces>, Fault> {
    let refused = |what: String| {
        let message = format!("transaction {tid} writes the server's own cell {what}");
        Fault::invalid(message + "; leave it out, or copy it from a database of this version")
    };
    for write in writes.iter().filter(|write| write.cell.oid == system::SYSTEM_OID) {
        let read = OwnCell::read(&write.cell, write.record.as_ref(), tid);
        read.and_then(|it| it.check()).map_err(|what| refused(format!("{}: {what}", write.cell)))?;
    }
    prepared_cell::of_writes(writes).map(|(brought, _)| brought).map_err(|what| refused(format!("1/prepared: {what}")))
}

/// Lets a restored ceiling of oids never fall below what was handed out here.
pub(crate) fn keep_ceiling(writes: &mut [TxnWrite], at_least: u64) -> Result<(), Fault> {
    for write in writes.iter_mut().filter(|write| write.cell == oids::ceiling_cell()) {
        let stored = write.record.as_ref().and_then(|bytes| Record::decode(bytes).ok());
        let ceiling = stored.as_ref().map_or(Ok(0), oids::read_ceiling).unwrap_or(0).max(at_least);
        write.record = Some(oids::ceiling_record(ceiling).encode().map_err(|error| Fault::invalid(error.to_string()))?);
    }
    Ok(())
}
