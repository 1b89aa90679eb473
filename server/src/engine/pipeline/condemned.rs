//! Owns the objects that pack is about to collect: as long as it does, nothing that is committed may name one of them.
//!
//! The sequencer has this list, because all commits pass it in order: what it sealed before it got the list, pack reads
//! from the log and takes off the garbage; what comes after is refused here. So there is no moment in between (see the
//! store's `pack`). A draft that is refused had its oid from an older snapshot or from memory: at the newest one nothing
//! leads there.

use crate::engine::pipeline::holds::Prepared;
use bytes::Bytes;
use roaring::RoaringTreemap;
use std::sync::Arc;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Fault, FaultKind, Oid};

/// The list; empty when no pack collects anything.
#[derive(Default)]
pub(crate) struct Condemned {
    oids: Option<Arc<RoaringTreemap>>,
}

impl Condemned {
    /// Takes a new list; `None`: nothing is collected any more.
    pub(crate) fn set(&mut self, oids: Option<Arc<RoaringTreemap>>) {
        self.oids = oids.filter(|oids| !oids.is_empty());
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.oids.is_none()
    }

    /// Refuses writes that name an object of the list.
    pub(crate) fn check<'a>(
        &self,
        mut writes: impl Iterator<Item = (&'a Cell, Option<&'a Bytes>)>,
    ) -> Result<(), Fault> {
        let Some(oids) = &self.oids else { return Ok(()) };
        let listed = |oid: &Oid| oids.contains(oid.0);
        let found = writes.find_map(|(cell, record)| named(cell.oid, record).into_iter().find(listed));
        found.map_or(Ok(()), |oid| Err(refused(oid)))
    }
}

/// Everything that prepared drafts name: they were promised that they can be finished.
pub(crate) fn named_by<'a>(prepared: impl Iterator<Item = &'a Prepared>) -> Vec<Oid> {
    let writes = prepared.flat_map(|prepared| &prepared.writes);
    writes.flat_map(|write| named(write.cell.oid, write.record.as_ref())).collect()
}

// The object that is written, and those that its record refers to.
fn named(oid: Oid, record: Option<&Bytes>) -> Vec<Oid> {
    let mut oids = vec![oid];
    if let Some(Ok(header)) = record.map(|record| Header::parse(record)) {
        oids.extend(header.refs());
    }
    oids
}

fn refused(oid: Oid) -> Fault {
    let message =
        format!("object {oid} cannot be reached from the root any more, and pack is removing it; make a new one");
    Fault::new(FaultKind::NotFound, message)
}
