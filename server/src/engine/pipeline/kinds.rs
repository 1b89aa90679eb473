//! Owns the refusal of one kind too many: a class at a schema version is remembered for good, so a version that holds a timestamp
//! would fill the memory, each status and each scrape.
//!
//! It is asked before anything is sealed or promised, of restored transactions too: a batch fails for the disk alone. What was promised
//! and then aborted keeps its place until the next start. The server's own cells are never refused: they have few kinds.

use crate::engine::faults::fault_of;
use crate::engine::keep::system::SYSTEM_OID;
use crate::storage::Read;
use bytes::Bytes;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Fault};

/// Gives the kinds of these writes their places, or refuses all of them.
pub(crate) fn check<'a>(
    reader: &dyn Read,
    writes: impl Iterator<Item = (&'a Cell, Option<&'a Bytes>)>,
) -> Result<(), Fault> {
    let records = writes.filter(|(cell, _)| cell.oid != SYSTEM_OID).filter_map(|(_, record)| record);
    let mut last = None;
    let mut kinds = records
        .filter_map(|record| Header::parse(record).ok())
        .map(|header| (header.class, header.version))
        .filter(|kind| last.replace(*kind) != Some(*kind));
    reader.number_kinds(&mut kinds).map_err(fault_of)
}
