//! Owns the server's own cells: what the server itself must remember lies in the system object, as entries, and goes
//! through the ordinary pipeline, so that it is as durable, as ordered and as recoverable as everything else.
//!
//! | key | what |
//! |---|---|
//! | `oids` | oids handed out up to here (`oids`) |
//! | `mode` | the operator's mode (`mode`) |
//! | `gate/` + class | the oldest schema version that may be written (`gates`) |

use super::caller::Client;
use super::draft::{Admitted, LookedAhead};
use super::job::Job;
use super::keys::Entered;
use super::{Done, Engine, SYSTEM_OID};
use crate::store::{Range, Reader, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zeolite_proto::{Cell, Change, CommitKey, Draft, Fault, FaultKind, Note, Priority, Receipt, Record, Tid, Write};

/// More entries of one name are never written.
pub(crate) const SYSTEM_CELLS_MAX: usize = 1024;

/// The system object's entry of a name.
pub(crate) fn cell(name: impl Into<Bytes>) -> Cell {
    Cell::entry(SYSTEM_OID, name)
}

impl Engine {
    /// Writes one of the server's own cells; `None` deletes it. The write is blind: callers see to it that two writes of
    /// the same cell are not on their way at once, or that it does not matter which comes last.
    pub(super) fn write_system(self: &Arc<Self>, cell: Cell, record: Option<Record>, why: &str, done: Done<Receipt>) {
        let change = match record.map(|record| record.encode()).transpose() {
            Ok(record) => record.map_or(Change::Delete, Change::Put),
            Err(error) => return done(Err(Fault::new(FaultKind::Internal, error.to_string()))),
        };
        // Newest of all times: nothing can be newer, so nothing conflicts.
        let write = Write { cell, base: Tid::MAX, change, stamped: false };
        let key = self.own_key();
        let draft = Draft {
            key,
            priority: Priority::Live,
            read_cells: Vec::new(),
            read_ranges: Vec::new(),
            writes: vec![write],
            note: Note { description: why.into(), ..Note::default() },
        };
        if !matches!(self.keys.enter(key, done), Entered::New) {
            return;
        }
        let bytes = 128;
        let looked_ahead = LookedAhead::default();
        let admitted = Admitted {
            draft,
            looked_ahead,
            candidates: Vec::new(),
            rounds: 0,
            bytes,
            queued_ns: None,
            client: Client::Inside,
        };
        if let Err(not_taken) = self.intake.push(Job::Commit(admitted), Priority::Live, bytes) {
            self.keys.complete(key, Err(not_taken.fault));
        }
    }

    /// A commit key that no client makes and that no other life of this server made.
    pub(super) fn own_key(&self) -> CommitKey {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..].copy_from_slice(&self.own_keys.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        CommitKey(key)
    }
}

/// One of the server's own records, as stored.
pub(crate) fn stored(reader: &Reader, cell: &Cell, at: Tid) -> Result<Option<Record>, StoreError> {
    let bytes = reader.get(cell, at)?.and_then(|revision| revision.record);
    bytes.map(|bytes| decode(&bytes)).transpose()
}

/// All of the server's own records whose key begins so.
pub(crate) fn stored_all(reader: &Reader, prefix: &str, at: Tid) -> Result<Vec<(Tid, Record)>, StoreError> {
    let mut to = prefix.as_bytes().to_vec();
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    let range = Range {
        oid: SYSTEM_OID,
        from: Bytes::copy_from_slice(prefix.as_bytes()),
        to: to.into(),
        reverse: false,
        keys_only: false,
    };
    let (entries, _) = reader.scan(&range, at, SYSTEM_CELLS_MAX, usize::MAX)?;
    entries.into_iter().map(|entry| Ok((entry.tid, decode(&entry.record)?))).collect()
}

fn decode(bytes: &Bytes) -> Result<Record, StoreError> {
    Record::decode(bytes)
        .map_err(|error| StoreError::Index(format!("a record of the server's own is unreadable: {error}")))
}
