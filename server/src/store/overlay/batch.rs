//! Owns a batch on its way through the overlay: what the index will say of each of its writes, made ready to be published, then waiting to be
//! settled.

use super::RevisionKey;
use super::run::Run;
use crate::store::frame::{RecordAt, txn_len};
use crate::store::kinds::{KindId, Kinds};
use crate::store::log::{Place, Position};
use crate::store::settings::StoreSettings;
use crate::store::{KnownKey, Txn, TxnWrite};
use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, CommitKey, Tid};

// What an entry costs beside its key and record: node, slot, the queue's part.
const ENTRY_BYTES: u64 = 320;

/// What the index will say about a revision, before it says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// `KindId::NONE` when deleted.
    pub(crate) kind: KindId,
    /// Whether the record refers to other objects.
    pub(crate) has_refs: bool,
    /// Whether it names blobs.
    pub(crate) has_blobs: bool,
    /// Where the record lies; `None`: deleted.
    pub(crate) place: Option<Place>,
    /// The record, when it is small enough to be kept.
    pub(crate) record: Option<Bytes>,
}

/// Makes slots.
pub(crate) struct Slots<'s> {
    pub(crate) kinds: &'s Kinds,
    pub(crate) settings: &'s StoreSettings,
}

impl Slots<'_> {
    /// What the index is to know of a write.
    pub(crate) fn slot(&self, write: &TxnWrite, place: Option<Place>) -> Slot {
        let Some(record) = &write.record else {
            return Slot { kind: KindId::NONE, has_refs: false, has_blobs: false, place: None, record: None };
        };
        // A record without a readable header is refused at append and named as damage by verify; here it has no class.
        let (class, version, refs, blobs) = match Header::parse(record) {
            Ok(header) => (header.class, header.version, header.refs().len(), header.blobs().len()),
            Err(_) => ("", 0, 0, 0),
        };
        let (has_refs, has_blobs) = (refs > 0, blobs > 0);
        let kept = (record.len() <= self.kept_bytes_max()).then(|| record.clone());
        Slot { kind: self.kinds.id(class, version), has_refs, has_blobs, place, record: kept }
    }

    pub(super) fn kept_bytes_max(&self) -> usize {
        self.settings.kept_bytes_max.max(self.settings.inline_bytes_max)
    }
}

/// A batch that waits for the index.
pub(crate) struct Unsettled {
    pub(crate) position: Position,
    pub(crate) len: u64,
    pub(crate) first: Tid,
    pub(crate) last: Tid,
    pub(crate) txns: Vec<UnsettledTxn>,
    pub(super) bytes: u64,
}

impl Unsettled {
    pub(super) fn cells(&self) -> usize {
        self.txns.iter().map(UnsettledTxn::len).sum()
    }
}

/// A transaction of it: what the map holds too, in the order in which it is settled.
pub(crate) struct UnsettledTxn {
    pub(crate) tid: Tid,
    pub(crate) key: CommitKey,
    pub(crate) digest: u64,
    pub(super) writes: Written,
}

/// What it wrote.
pub(super) enum Written {
    List(Vec<(Cell, Slot)>),
    Run(Arc<Run>),
}

impl UnsettledTxn {
    fn len(&self) -> usize {
        match &self.writes {
            Written::List(writes) => writes.len(),
            Written::Run(run) => run.len(),
        }
    }

    /// Its cells, as they were written.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell> {
        let (list, run) = match &self.writes {
            Written::List(writes) => (&writes[..], None),
            Written::Run(run) => (&[][..], Some(run)),
        };
        list.iter().map(|(cell, _)| cell).chain(run.into_iter().flat_map(|run| run.cells()))
    }

    /// Goes over its writes, as they were written, until an error.
    pub(crate) fn each<'t, E>(&'t self, mut visit: impl FnMut(&'t Cell, &Slot) -> Result<(), E>) -> Result<(), E> {
        match &self.writes {
            Written::List(writes) => writes.iter().try_for_each(|(cell, slot)| visit(cell, slot)),
            Written::Run(run) => run.all().try_for_each(|(cell, slot)| visit(cell, &slot)),
        }
    }
}

/// A batch made ready to be published: everything is computed, what is left is insertion.
pub(crate) struct Prepared {
    pub(super) entries: Vec<(RevisionKey, Slot)>,
    pub(super) runs: Vec<Arc<Run>>,
    oid_max: u64,
    pub(super) batch: Unsettled,
}

impl Prepared {
    /// Takes a batch as it lies in the log; `records`: where those of the transactions without a run lie.
    pub(crate) fn new(
        position: Position,
        len: u64,
        txns: &[Txn],
        records: &[Option<RecordAt>],
        slots: &Slots<'_>,
    ) -> Prepared {
        let mut entries = Vec::with_capacity(records.len());
        let (mut runs, mut records) = (Vec::new(), records.iter());
        let (mut bytes, mut oid_max, mut behind) = (0, 0, 0);
        let mut unsettled = Vec::with_capacity(txns.len());
        for txn in txns {
            let writes = if let Some(known) = txn.writes.run() {
                let run = Arc::new(Run::new((txn.tid, &txn.writes), (position, behind), slots));
                (bytes, oid_max) = (bytes + known.bytes(), oid_max.max(known.oid_max()));
                runs.push(run.clone());
                Written::Run(run)
            } else {
                let mut writes = Vec::with_capacity(txn.writes.len());
                for write in &txn.writes {
                    let place = records.next().copied().flatten().map(|record| Place::of(position, record));
                    let slot = slots.slot(write, place);
                    let kept = slot.record.as_ref().map_or(0, Bytes::len) + write.cell.key.len();
                    bytes += ENTRY_BYTES + kept as u64;
                    oid_max = oid_max.max(write.cell.oid.0);
                    entries.push((RevisionKey::new(write.cell.clone(), txn.tid), slot.clone()));
                    writes.push((write.cell.clone(), slot));
                }
                Written::List(writes)
            };
            behind += txn_len(txn) as u32;
            unsettled.push(UnsettledTxn { tid: txn.tid, key: txn.key, digest: txn.digest, writes });
        }
        bytes += txns.len() as u64 * ENTRY_BYTES;
        let ends = (txns.first().map_or(Tid::NONE, |txn| txn.tid), txns.last().map_or(Tid::NONE, |txn| txn.tid));
        Prepared {
            entries,
            runs,
            oid_max,
            batch: Unsettled { position, len, first: ends.0, last: ends.1, txns: unsettled, bytes },
        }
    }

    /// The memory it will hold.
    pub(crate) fn bytes(&self) -> u64 {
        self.batch.bytes
    }

    /// Its commit keys, as if they were entered at an age of the store.
    pub(crate) fn keys(&self, lived_ms: u64) -> impl Iterator<Item = KnownKey> {
        self.batch.txns.iter().map(move |txn| KnownKey { key: txn.key, digest: txn.digest, tid: txn.tid, lived_ms })
    }

    /// What the index is to take of it.
    pub(crate) fn unsettled(&self) -> &Unsettled {
        &self.batch
    }

    /// The greatest oid in it.
    pub(crate) fn oid_max(&self) -> u64 {
        self.oid_max
    }

    /// The newest tid in it.
    pub(crate) fn last(&self) -> Tid {
        self.batch.last
    }
}
