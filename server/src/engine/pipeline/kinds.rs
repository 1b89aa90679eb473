//! Owns the refusal of one kind too many: a class at a schema version is remembered for good, so a version that holds a timestamp
//! would fill the memory, each status and each scrape.
//!
//! It is asked before anything is sealed or promised, of restored transactions too: a batch fails for the disk alone. A place is taken
//! by what is sealed. What is promised takes none until it is finished, and then in any case, so there may be a few more than the
//! bound. The server's own cells are never refused: they have few kinds.

use crate::engine::faults::fault_of;
use crate::engine::keep::system::SYSTEM_OID;
use crate::storage::Read;
use bytes::Bytes;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Fault};

/// Refuses writes of kinds that have no place; with `keep` they have it from now on.
pub(crate) fn check<'a>(
    reader: &dyn Read,
    writes: impl Iterator<Item = (&'a Cell, Option<&'a Bytes>)>,
    keep: bool,
) -> Result<(), Fault> {
    let records = writes.filter(|(cell, _)| cell.oid != SYSTEM_OID).filter_map(|(_, record)| record);
    let mut last = None;
    let mut kinds = records
        .filter_map(|record| Header::parse(record).ok())
        .map(|header| (header.class, header.version))
        .filter(|kind| last.replace(*kind) != Some(*kind));
    reader.number_kinds(&mut kinds, keep).map_err(fault_of)
}
