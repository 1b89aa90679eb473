//! Owns the server's own cells: what the server itself must remember lies in the system object, as entries, and goes
//! through the ordinary pipeline, so that it is as durable, as ordered and as recoverable as everything else.
//!
//! | key | what |
//! |---|---|
//! | `oids` | oids handed out up to here (`oids`) |
//! | `mode` | the operator's mode (`mode`) |
//! | `gate/` + class | the oldest schema version that may be written (`gates`) |
//! | `term` | the newest promotion that it knows (`term_cell`) |
//! | `prepared/` + commit key | a prepared draft that outlives the server (`prepared_cell`) |

use crate::storage::{Range, Read, StoreError, Txn};
use bytes::Bytes;
use zeolite_proto::{Cell, Oid, Record, Tid};

/// Holds the server's own cells; never handed out.
pub const SYSTEM_OID: Oid = Oid::SYSTEM;
/// More gates are never written.
pub(crate) const SYSTEM_CELLS_MAX: usize = 1024;

/// So many transactions are looked at when the server starts.
const OWN_TXNS_MAX: usize = 10_000;

/// The system object's entry of a name.
pub(crate) fn cell(name: impl Into<Bytes>) -> Cell {
    Cell::entry(SYSTEM_OID, name)
}

/// Says whether a record of the server's own is what its key promises.
pub(crate) fn check_class(record: &Record, class: &str) -> Result<(), String> {
    let right = record.class == class;
    right.then_some(()).ok_or_else(|| format!("its record has the class {:?} instead of {class:?}", record.class))
}

/// Whether a transaction is the server's own bookkeeping and nothing else.
pub(crate) fn is_own(txn: &Txn) -> bool {
    !txn.writes.is_empty() && txn.writes.iter().all(|write| write.cell.oid == SYSTEM_OID)
}

/// The newest tid that a transaction of somebody else may have, going back over the server's own ones.
pub(crate) fn last_of_others(reader: &dyn Read, last: Tid) -> Result<Tid, StoreError> {
    let mut at = last;
    for _ in 0..OWN_TXNS_MAX {
        match reader.txn(at)? {
            Some(txn) if is_own(&txn) => at = at.prev(),
            _ => break,
        }
    }
    Ok(at)
}

/// One of the server's own records, as stored.
pub(crate) fn stored(reader: &dyn Read, cell: &Cell, at: Tid) -> Result<Option<Record>, StoreError> {
    let bytes = reader.get(cell, at)?.and_then(|revision| revision.record);
    bytes.map(|bytes| decode(&bytes)).transpose()
}

/// One of them with its place.
pub(crate) struct Stored {
    pub(crate) cell: Cell,
    pub(crate) tid: Tid,
    pub(crate) record: Record,
}

/// All of the server's own records whose key begins so.
pub(crate) fn stored_all(reader: &dyn Read, prefix: &str, at: Tid) -> Result<Vec<Stored>, StoreError> {
    let mut to = prefix.as_bytes().to_vec();
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    let mut from = Bytes::copy_from_slice(prefix.as_bytes());
    let (to, mut all) = (Bytes::from(to), Vec::new());
    loop {
        let range = Range { oid: SYSTEM_OID, from, to: to.clone(), reverse: false, keys_only: false };
        let (entries, next) = reader.scan(&range, at, SYSTEM_CELLS_MAX, usize::MAX)?;
        for entry in entries {
            all.push(Stored { cell: cell(entry.key), tid: entry.tid, record: decode(&entry.record)? });
        }
        let Some(next) = next else { return Ok(all) };
        from = next;
    }
}

fn decode(bytes: &Bytes) -> Result<Record, StoreError> {
    Record::decode(bytes)
        .map_err(|error| StoreError::Index(format!("a record of the server's own is unreadable: {error}")))
}
