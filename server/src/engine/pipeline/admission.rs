//! Owns admission: what must hold of a draft, or of a transaction to be restored, before it may queue.
//!
//! Limits and sense are checked here, in the caller's own task, in parallel with everything else; what is decided here
//! need not be asked again in the sequencer, which everybody waits for.

mod restored;

use crate::engine::caller::Caller;
use crate::engine::keep::oids::Oids;
use crate::engine::keep::system::SYSTEM_OID;
use crate::engine::pipeline::ahead::LookedAhead;
use crate::engine::pipeline::ranges;
use crate::engine::pipeline::ready::Ready;
use crate::engine::pipeline::replayed::Replays;
use crate::engine::pipeline::way::Came;
use crate::engine::pipeline::wide::WideReads;
use crate::storage::BlobHold;
use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::evolve::ChunkNote;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Change, Draft, Fault, Limits, Priority, Tid, hash};

pub(crate) use restored::{RestoreEnd, admit_restored, own_restored};

/// What a stamp adds to a key: a tid and a position.
const STAMP_LEN: usize = 12;

/// What is decided in some tens of microseconds has at most so many bytes, writes and reads.
const SHORT_BYTES: usize = 64 << 10;
const SHORT_PARTS: usize = 64;

/// A draft that kept the limits, on its way to the sequencer.
pub(crate) struct Admitted {
    pub(crate) draft: Draft,
    /// Its writes, if it was made ready: the draft has none then.
    pub(crate) ready: Option<Ready>,
    /// Its reads, if they are very many.
    pub(crate) wide: Option<Arc<WideReads>>,
    pub(crate) looked_ahead: LookedAhead,
    /// What was said of read checks that would fail, by position.
    pub(crate) judged: hash::Map<usize, JudgedRead>,
    /// What was made anew of it.
    pub(crate) replays: Replays,
    /// Results of expensive resolvers, by position of the write.
    pub(crate) candidates: Vec<Candidate>,
    /// How often it went back for an expensive resolver.
    pub(crate) rounds: u8,
    /// How often it went back for what only the disk knew.
    pub(crate) looks: u8,
    /// Its size, for the queue's bound.
    pub(crate) bytes: usize,
    /// None for the server's own bookkeeping.
    pub(crate) came: Option<Came>,
    /// Whose it is.
    pub(crate) caller: Caller,
    /// Keeps the blobs that it names.
    pub(crate) blobs: Option<Arc<BlobHold>>,
}

impl Admitted {
    /// Nothing is looked up for it yet, and nobody's it is.
    pub(crate) fn new(draft: Draft, bytes: usize) -> Admitted {
        Admitted {
            draft,
            ready: None,
            wide: None,
            looked_ahead: LookedAhead::default(),
            judged: hash::Map::default(),
            replays: Replays::default(),
            candidates: Vec::new(),
            rounds: 0,
            looks: 0,
            bytes,
            came: None,
            caller: Caller::default(),
            blobs: None,
        }
    }

    /// Whether it is decided so quickly that it pays to wake nobody for it.
    pub(crate) fn is_short(&self) -> bool {
        let reads = self.draft.read_cells.len() + self.draft.read_ranges.len();
        self.wide.is_none() && is_short(self.bytes, self.draft.writes.len() + reads)
    }

    /// Whether it may pass over what yields: a live draft of a client's.
    pub(crate) fn may_pass(&self) -> bool {
        self.draft.priority == Priority::Live && self.came.is_some()
    }
}

/// The same of what has so many bytes and parts.
pub(crate) fn is_short(bytes: usize, parts: usize) -> bool {
    bytes <= SHORT_BYTES && parts <= SHORT_PARTS
}

/// What an expensive resolver made of a write on top of one revision.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) position: usize,
    /// Good only while this is the cell's newest revision.
    pub(crate) theirs: Tid,
    pub(crate) record: Option<Bytes>,
}

/// What a judge said of one read check.
#[derive(Clone, Debug)]
pub(crate) struct JudgedRead {
    pub(crate) holds: bool,
    /// It was so as of this tid,
    pub(crate) at: Tid,
    /// of these cells.
    pub(crate) saw: Vec<Cell>,
}

/// Checks limits and sense; `visible` bounds the bases.
pub(crate) fn admit(mut draft: Draft, limits: &Limits, oids: &Oids, visible: Tid) -> Result<Admitted, Fault> {
    let parts = draft.writes.len() + draft.read_cells.len() + draft.read_ranges.len();
    if parts > limits.draft_writes_max {
        return Err(Fault::too_large("number of writes and read checks", parts, limits.draft_writes_max));
    }
    draft.note.check()?;
    if draft.priority == Priority::Live && ChunkNote::says_yields(&draft.note.extension) {
        return Err(Fault::invalid(
            "a chunk of an evolve yields to live drafts, so it is none; send it with batch priority",
        ));
    }
    let mut bytes = 64 * parts + draft.note.bytes();
    for write in &draft.writes {
        bytes += check_cell(&write.cell, limits, oids)? + check_change(&write.change, limits)?;
        check_base(write.base, &write.cell, visible)?;
        if write.stamped && write.cell.key.len() + STAMP_LEN > limits.key_bytes_max {
            return Err(Fault::too_large("stamped key length", write.cell.key.len() + STAMP_LEN, limits.key_bytes_max));
        }
    }
    for read in &draft.read_cells {
        bytes += check_cell(&read.cell, limits, oids)?;
        check_base(read.base, &read.cell, visible)?;
    }
    for range in &draft.read_ranges {
        check_base(range.base, &Cell::object(range.oid), visible)?;
        if range.oid == SYSTEM_OID {
            return Err(Fault::invalid("a range of the server's own cells is no draft's to check"));
        }
        let longest = range.from.len().max(range.to.len());
        if longest > limits.key_bytes_max {
            return Err(Fault::too_large("key length", longest, limits.key_bytes_max));
        }
        if !range.to.is_empty() && range.from > range.to {
            return Err(Fault::invalid(format!("a range of collection {} ends before it begins", range.oid)));
        }
        bytes += range.from.len() + range.to.len();
    }
    if bytes > limits.draft_bytes_max {
        return Err(Fault::too_large("draft size", bytes, limits.draft_bytes_max));
    }
    check_one_write_per_cell(&draft)?;
    draft.read_ranges = ranges::disjoint(draft.read_ranges);
    for write in &mut draft.writes {
        own(&mut write.cell.key, bytes);
        if let Change::Put(record) | Change::Apply { operation: record, .. } = &mut write.change {
            own(record, bytes);
        }
    }
    let wide = WideReads::of(&draft.read_cells, &draft.read_ranges).map(Arc::new);
    Ok(Admitted { wide, ..Admitted::new(draft, bytes) })
}

/// What came is a piece of its message, and what is kept of it lives long (recent writes, overlay, cache): a small piece of a large
/// message gets memory of its own, so that it does not hold the whole of it.
fn own(piece: &mut Bytes, message_bytes: usize) {
    if piece.len() < message_bytes / 2 {
        *piece = Bytes::copy_from_slice(piece);
    }
}

fn check_cell(cell: &Cell, limits: &Limits, oids: &Oids) -> Result<usize, Fault> {
    if !oids.is_given_out(cell.oid) {
        let message = format!("oid {} was never handed out; ask for new oids first", cell.oid);
        return Err(Fault::invalid(message));
    }
    check_key(cell, limits)
}

fn check_key(cell: &Cell, limits: &Limits) -> Result<usize, Fault> {
    if cell.key.len() > limits.key_bytes_max {
        return Err(Fault::too_large("key length", cell.key.len(), limits.key_bytes_max));
    }
    Ok(cell.key.len())
}

fn check_record(record: &Bytes, limits: &Limits) -> Result<usize, Fault> {
    Header::parse(record).map_err(|error| Fault::invalid(format!("{error}; see docs/format.md")))?;
    check_record_size(record.len(), limits)
}

fn check_record_size(len: usize, limits: &Limits) -> Result<usize, Fault> {
    if len > limits.record_bytes_max {
        return Err(Fault::too_large("record size", len, limits.record_bytes_max));
    }
    Ok(len)
}

fn check_change(change: &Change, limits: &Limits) -> Result<usize, Fault> {
    match change {
        Change::Put(record) => check_record(record, limits),
        Change::Apply { class, .. } if class.len() > 255 => {
            Err(Fault::too_large("class name length", class.len(), 255))
        }
        Change::Apply { operation, .. } => check_record_size(operation.len(), limits),
        Change::Delete => Ok(0),
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
    let mut seen = hash::Set::with_capacity_and_hasher(draft.writes.len(), Default::default());
    // A stamped key becomes unique only when it gets its stamp.
    match draft.writes.iter().filter(|write| !write.stamped).find(|write| !seen.insert(&write.cell)) {
        Some(twice) => {
            Err(Fault::invalid(format!("cell {} is written twice in one draft; send its last state", twice.cell)))
        }
        None => Ok(()),
    }
}
