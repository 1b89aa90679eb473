//! What the server keeps of its own: the cells that say who may write what (mode, gates), which oids are handed out, which
//! prepared drafts outlive it, and the loop that looks after them.

pub(crate) mod gate_cell;
pub(crate) mod gates;
pub(crate) mod keeper;
pub(crate) mod mode;
pub(crate) mod oids;
pub(crate) mod own_cells;
pub(crate) mod prepared_cell;
pub(crate) mod system;
pub(crate) mod term_cell;

use super::Engine;
use crate::storage::{Read, StoreError, Txn};
use gates::Gates;
use mode::{Modes, Now};
use oids::Oids;
use own_cells::OwnCell;
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_proto::{Oid, Tid};

/// What the server's own cells say, as it is in force.
pub(super) struct Keep {
    modes: Modes,
    gates: Gates,
    oids: Oids,
    /// Commit keys made by this life of the server.
    own_keys: AtomicU64,
}

impl Keep {
    /// As stored at `last`; `oid_max` is the greatest oid of the log.
    pub(super) fn open(reader: &dyn Read, last: Tid, oid_max: Oid, now: Now) -> Result<Keep, StoreError> {
        Ok(Keep {
            modes: Modes::new(mode::stored(reader, last, now.unix_ms)?, now),
            gates: Gates::new(gate_cell::stored(reader, last)?),
            oids: Oids::new(oids::stored(reader, last)?, oid_max),
            own_keys: AtomicU64::new(last.0),
        })
    }

    /// The number of the next commit key of the server's own.
    pub(super) fn next_own_key(&self) -> u64 {
        self.own_keys.fetch_add(1, Ordering::Relaxed)
    }

    /// The oids that were handed out.
    pub(super) fn oids(&self) -> &Oids {
        &self.oids
    }

    /// Those that may still be written.
    pub(super) fn gates(&self) -> &Gates {
        &self.gates
    }
}

impl Engine {
    /// What the server's own cells say takes force: the writer calls this for each transaction that is durable and not
    /// visible yet, whoever wrote it. Those who asked for the write are answered later, and only answered.
    pub(super) fn take_force(&self, txn: &Txn) {
        for write in txn.writes.iter().filter(|write| write.cell.oid == system::SYSTEM_OID) {
            match OwnCell::read(&write.cell, write.record.as_ref(), txn.tid) {
                Ok(OwnCell::Ceiling(ceiling)) => self.keep.oids.stored_ceiling(ceiling),
                Ok(OwnCell::Mode(mode)) => self.keep.modes.stored(mode, self.now()),
                Ok(OwnCell::Gate(class, gate)) => self.keep.gates.stored(&class, gate),
                Ok(OwnCell::Term(term)) => self.copies().seats.took(term),
                Ok(OwnCell::Prepared) => {}
                Err(what) => {
                    tracing::error!(tid = %txn.tid, cell = %write.cell, what, "a cell of the server's own is unreadable")
                }
            }
        }
    }
}
