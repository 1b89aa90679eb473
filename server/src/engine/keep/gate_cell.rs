//! Owns the cell in which the gate of a class is kept: its key, its record, and reading it back.

use crate::engine::keep::system;
use crate::storage::{Read, StoreError};
use bytes::Bytes;
use prost::Message;
use zeolite_proto::{Cell, Fault, FaultKind, Gate, Record, Tid};

/// The class of its record.
const CLASS: &str = "zeolite.Gate";
/// With it the keys of all gates begin.
const NAME: &str = "gate/";

#[derive(Clone, PartialEq, Message)]
struct StoredGate {
    #[prost(string, tag = "1")]
    class: String,
    #[prost(uint32, tag = "2")]
    min_version: u32,
    #[prost(string, tag = "3")]
    job: String,
}

pub(crate) fn check_names(class: &str, job: &str) -> Result<(), Fault> {
    match class.is_empty() || class.len() > 255 || job.len() > 255 {
        true => Err(Fault::invalid("a gate needs a class, and names of at most 255 bytes")),
        false => Ok(()),
    }
}

pub(crate) fn cell_of(class: &str) -> Cell {
    system::cell(format!("{NAME}{class}").into_bytes())
}

/// The record of a gate: data = the message above.
pub(crate) fn record_of(gate: &Gate) -> Result<Bytes, Fault> {
    let Gate { class, min_version, job, .. } = gate.clone();
    let record = Record::new(CLASS, 1, StoredGate { class, min_version, job }.encode_to_vec());
    record.encode().map_err(|error| Fault::new(FaultKind::Internal, error.to_string()))
}

/// The class whose gate this cell holds.
pub(crate) fn class_of(cell: &Cell) -> Option<String> {
    let class = cell.key.strip_prefix(NAME.as_bytes()).filter(|class| !class.is_empty() && class.len() <= 255)?;
    std::str::from_utf8(class).ok().map(str::to_owned)
}

/// Reads a gate back.
pub(crate) fn read(record: &Record, tid: Tid) -> Result<Gate, String> {
    system::check_class(record, CLASS)?;
    let stored = StoredGate::decode(record.data.clone()).map_err(|error| format!("the gate is unreadable: {error}"))?;
    let StoredGate { class, min_version, job } = stored;
    Ok(Gate { class, min_version, job, tid })
}

/// The gates as stored.
pub(crate) fn stored(reader: &dyn Read, at: Tid) -> Result<Vec<Gate>, StoreError> {
    let gate = |stored: system::Stored| read(&stored.record, stored.tid).map_err(StoreError::Index);
    system::stored_all(reader, NAME, at)?.into_iter().map(gate).collect()
}
