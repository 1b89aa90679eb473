//! Owns admission: what must hold of a draft before it may queue.
//!
//! Limits and sense are checked here, in the caller's own task, in parallel with everything else; what is decided here
//! need not be asked again in the sequencer, which everybody waits for.

use crate::engine::caller::Caller;
use crate::engine::keep::oids::Oids;
use rustc_hash::FxHashSet;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Change, Draft, Fault, Limits, Tid};

/// A draft that kept the limits, on its way to the sequencer.
pub(crate) struct Admitted {
    pub(crate) draft: Draft,
    pub(crate) looked_ahead: LookedAhead,
    /// Results of expensive resolvers, by position of the write.
    pub(crate) candidates: Vec<Candidate>,
    /// How often it went back for an expensive resolver.
    pub(crate) rounds: u8,
    /// Its size, for the queue's bound.
    pub(crate) bytes: usize,
    /// When it was queued, by the steady clock, in nanoseconds; none for the server's own bookkeeping.
    pub(crate) queued_ns: Option<u64>,
    /// Whose it is.
    pub(crate) caller: Caller,
}

/// What was learnt before the draft was queued: every base below `below` was looked up in the store and had nothing newer
/// as of `at`. Bases from `below` on were left to the sequencer's memory, and nothing is known about them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LookedAhead {
    pub(crate) below: Tid,
    pub(crate) at: Tid,
}

impl LookedAhead {
    /// The tid as of which a cell with this base is known to have nothing newer.
    pub(crate) fn known(self, base: Tid) -> Tid {
        if base < self.below { base.max(self.at) } else { base }
    }
}

/// What an expensive resolver made of a write on top of one revision.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) position: usize,
    /// Good only while this is the cell's newest revision.
    pub(crate) theirs: Tid,
    pub(crate) record: Option<bytes::Bytes>,
}

/// Checks a transaction to be restored: it was checked once, but perhaps by another program with other limits.
pub(crate) fn admit_restored(txn: &crate::store::Txn, limits: &Limits) -> Result<usize, Fault> {
    let mut bytes = 64 + txn.note.len();
    let mut seen = FxHashSet::default();
    for write in &txn.writes {
        if write.cell.key.len() > limits.key_bytes_max {
            return Err(Fault::too_large("key length", write.cell.key.len(), limits.key_bytes_max));
        }
        if !seen.insert(&write.cell) {
            return Err(Fault::invalid(format!("cell {} is written twice in transaction {}", write.cell, txn.tid)));
        }
        if let Some(record) = &write.record {
            bytes += check_change(&Change::Put(record.clone()), limits)?;
        }
        bytes += 64 + write.cell.key.len();
    }
    match bytes > limits.draft_bytes_max || txn.note.len() > 66_000 {
        true => Err(Fault::too_large("transaction size", bytes, limits.draft_bytes_max)),
        false => Ok(bytes),
    }
}

/// Checks limits and sense; `visible` bounds the bases.
pub(crate) fn admit(draft: Draft, limits: &Limits, oids: &Oids, visible: Tid) -> Result<Admitted, Fault> {
    let parts = draft.writes.len() + draft.read_cells.len() + draft.read_ranges.len();
    if parts > limits.draft_writes_max {
        return Err(Fault::too_large("number of writes and read checks", parts, limits.draft_writes_max));
    }
    if draft.note.user.len() + draft.note.description.len() + draft.note.extension.len() > 65_535 {
        return Err(Fault::invalid("a note is over 65535 bytes; shorten user, description or extension"));
    }
    let mut bytes = 64 * parts;
    for write in &draft.writes {
        bytes += check_cell(&write.cell, limits, oids)? + check_change(&write.change, limits)?;
        check_base(write.base, &write.cell, visible)?;
        if write.stamped && write.cell.key.len() + 12 > limits.key_bytes_max {
            return Err(Fault::too_large("stamped key length", write.cell.key.len() + 12, limits.key_bytes_max));
        }
    }
    for read in &draft.read_cells {
        bytes += check_cell(&read.cell, limits, oids)?;
        check_base(read.base, &read.cell, visible)?;
    }
    for range in &draft.read_ranges {
        check_base(range.base, &Cell::object(range.oid), visible)?;
        let longest = range.from.len().max(range.to.len());
        if longest > limits.key_bytes_max {
            return Err(Fault::too_large("key length", longest, limits.key_bytes_max));
        }
    }
    if bytes > limits.draft_bytes_max {
        return Err(Fault::too_large("draft size", bytes, limits.draft_bytes_max));
    }
    check_one_write_per_cell(&draft)?;
    Ok(Admitted {
        draft,
        looked_ahead: LookedAhead::default(),
        candidates: Vec::new(),
        rounds: 0,
        bytes,
        queued_ns: None,
        caller: Caller::default(),
    })
}

fn check_cell(cell: &Cell, limits: &Limits, oids: &Oids) -> Result<usize, Fault> {
    if !oids.is_given_out(cell.oid) {
        let message = format!("oid {} was never handed out; ask for new oids first", cell.oid);
        return Err(Fault::invalid(message));
    }
    if cell.key.len() > limits.key_bytes_max {
        return Err(Fault::too_large("key length", cell.key.len(), limits.key_bytes_max));
    }
    Ok(cell.key.len())
}

fn check_change(change: &Change, limits: &Limits) -> Result<usize, Fault> {
    let len = match change {
        Change::Put(record) => {
            Header::parse(record).map_err(|error| Fault::invalid(format!("{error}; see docs/format.md")))?;
            record.len()
        }
        Change::Apply { class, operation } => {
            if class.len() > 255 {
                return Err(Fault::too_large("class name length", class.len(), 255));
            }
            operation.len()
        }
        Change::Delete => 0,
    };
    if len > limits.record_bytes_max {
        Err(Fault::too_large("record size", len, limits.record_bytes_max))
    } else {
        Ok(len)
    }
}

fn check_base(base: Tid, cell: &Cell, visible: Tid) -> Result<(), Fault> {
    if base > visible {
        let message =
            format!("base {base} of cell {cell} is newer than anything here ({visible}); open a new snapshot");
        return Err(Fault::new(zeolite_proto::FaultKind::SnapshotAhead, message));
    }
    Ok(())
}

fn check_one_write_per_cell(draft: &Draft) -> Result<(), Fault> {
    if draft.writes.len() < 2 {
        return Ok(());
    }
    let mut seen = FxHashSet::with_capacity_and_hasher(draft.writes.len(), Default::default());
    // A stamped key becomes unique only when it gets its stamp.
    match draft.writes.iter().filter(|write| !write.stamped).find(|write| !seen.insert(&write.cell)) {
        Some(twice) => {
            Err(Fault::invalid(format!("cell {} is written twice in one draft; send its last state", twice.cell)))
        }
        None => Ok(()),
    }
}
