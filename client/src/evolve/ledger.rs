//! Owns the ledger: the ranges of a job's plan, how far each is, who holds it, and the quarantine.
//!
//! Exactly once, and without clocks:
//! - A range's cell is put, with the tid of its last revision as the base, in *every* chunk's own commit. So either objects
//!   and cursor change together or neither does; and when two workers believe that they hold one range, the cell conflicts
//!   for the second, which drops its chunk.
//! - Whoever holds a range raises its beat: with each chunk, and while it waits. A worker that has seen no change of the cell
//!   for the lease's time, by its own steady clock, takes the range over.
//!
//! Not here: who does so (`lease`), what a chunk is (`chunk`), the records themselves (`zeolite_proto::evolve`).

use crate::connect::Db;
use crate::errors::Result;
use crate::revision::Range;
use crate::tx::{Place, View};
use crate::typed::{Persistent, decode_record, encode_record};
use bytes::Bytes;
use zeolite_proto::evolve::Stored;
pub use zeolite_proto::evolve::{Bad, Counts, Cursor, NotUndone, Part, RangeRecord};
pub(crate) use zeolite_proto::evolve::{
    Kept, KeysRecord, ListRecord, OWED, Owed, PAID, UNDO_RANGE, bad_cell, counts, list_cell, not_undone_cell,
    owed_cell, paid_cell, range_cell,
};
use zeolite_proto::{Cell, Draft, Note, Oid, Priority, Tid, Write};

macro_rules! persistent {
    ($($record:ty),*) => {
        $(impl Persistent for $record {
            const CLASS: &str = <$record as Stored>::CLASS;
        })*
    };
}

persistent!(RangeRecord, Bad, NotUndone, ListRecord, KeysRecord, Owed);

/// A record of the ledger; none where there is none.
pub(crate) async fn kept<T: Persistent>(view: &View, cell: &Cell) -> Result<Option<Kept<T>>> {
    let revision = view.revision(cell).await?;
    let decode = |record: &Bytes| Ok(Kept { tid: revision.tid, record: decode_record(cell, record)? });
    revision.record.as_ref().map(decode).transpose()
}

/// Up to so many ranges of a job are read at once.
pub(crate) async fn ranges(view: &View, job: Oid, count: u32) -> Result<Vec<RangeRecord>> {
    Ok(kept_ranges(view, job, count).await?.into_iter().map(|kept| kept.record).collect())
}

/// The same with the commits that wrote them last.
pub(crate) async fn kept_ranges(view: &View, job: Oid, count: u32) -> Result<Vec<Kept<RangeRecord>>> {
    let cells: Vec<Cell> = (0..count).map(|number| range_cell(job, number)).collect();
    let mut all = Vec::with_capacity(cells.len());
    for (cell, revision) in cells.iter().zip(view.revisions(&cells).await?) {
        if let Some(record) = revision.record {
            all.push(Kept { tid: revision.tid, record: decode_record(cell, &record)? });
        }
    }
    Ok(all)
}

/// The quarantine, up to a limit.
pub(crate) async fn quarantine(view: &View, job: Oid, limit: u64) -> Result<Vec<Bad>> {
    entries(view, job, "bad/", limit).await
}

/// What could not be taken back, up to a limit.
pub(crate) async fn not_undone(view: &View, job: Oid, limit: u64) -> Result<Vec<NotUndone>> {
    entries(view, job, "undo/", limit).await
}

/// The same of one commit.
pub(crate) async fn not_undone_of(view: &View, job: Oid, tid: Tid) -> Result<Vec<NotUndone>> {
    entries(view, job, format!("undo/{:016x}/", tid.0), u64::MAX).await
}

/// The records whose keys begin so, up to a limit.
pub(crate) async fn entries<T: Persistent>(
    view: &View,
    job: Oid,
    prefix: impl Into<Bytes>,
    limit: u64,
) -> Result<Vec<T>> {
    let mut scan = view.scan(job, Range::prefix(prefix).limited(limit));
    let mut all = Vec::new();
    while let Some(entry) = scan.next().await? {
        all.push(decode_record(&Cell::entry(job, entry.key.clone()), &entry.record)?);
    }
    Ok(all)
}

/// The encoded record.
pub(crate) fn encoded<T: Persistent>(record: &T) -> Result<Bytes> {
    encode_record(record)
}

/// One write of the ledger in a commit of its own, as batch work.
pub(crate) fn alone(db: &Db, at: Place, write: Write) -> Draft {
    Draft {
        key: db.new_commit_key(),
        key_since: at.snapshot,
        priority: Priority::Batch,
        read_cells: Vec::new(),
        read_ranges: Vec::new(),
        writes: vec![write],
        note: Note { user: "evolve".into(), ..Note::default() },
    }
}
