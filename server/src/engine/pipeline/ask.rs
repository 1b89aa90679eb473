//! Owns what travels between the callers, the sequencer, the mergers and the writer.
//!
//! ```text
//!   Ask ──> sequencer ──> Sealed ──> writer
//!    ▲          └── Errand ──> mergers ────┐
//!    └───────────────────────────────────────────┘
//! ```
//! Stages are types, so that the illegal order does not compile: only a sealed draft can be written.

use crate::engine::answers::{Closing, Done, PreparedReceipt, Preparing};
use crate::engine::caller::{Client, Mark, Owner, Whose};
use crate::engine::pipeline::admission::Admitted;
use crate::engine::pipeline::ahead::Part;
use crate::engine::pipeline::course::Course;
use crate::engine::pipeline::way::Came;
use crate::engine::pipeline::way::OnItsWay;
use crate::storage::{BlobHold, StoreError, Txn};
use bytes::Bytes;
use roaring::RoaringTreemap;
use std::sync::Arc;
use zeolite_proto::{Cell, CommitKey, Fault, Gate, Oid, PreparedDraft, Priority, Receipt, Tid};

/// How often a draft goes out for an expensive resolver before it runs in the sequencer.
pub(crate) const ROUNDS_MAX: u8 = 3;
/// How often it goes out for what only the disk knows.
pub(crate) const LOOKS_MAX: u8 = 8;

/// What is asked of the sequencer.
pub(crate) enum Ask {
    Commit(Admitted),
    Prepare(PrepareAsk),
    /// The same draft again: its answer was lost.
    PrepareAgain {
        owner: Owner,
        key: CommitKey,
        how: Preparing,
        done: Done<PreparedReceipt>,
    },
    Amend(AmendAsk),
    Finish {
        whose: Whose,
        /// 0, or of an earlier life of the server: the key alone says which.
        prepared: u64,
        key: CommitKey,
        since: Option<Tid>,
        done: Done<Receipt>,
    },
    Abort {
        whose: Whose,
        prepared: u64,
        key: Option<CommitKey>,
        since: Option<Tid>,
        done: Done<Tid>,
    },
    /// What is prepared?
    ListPrepared(Done<Vec<PreparedDraft>>),
    /// Nothing may name these objects any more (`None`: all may be named again). Answered, when everything sealed before
    /// is visible, with what prepared drafts name.
    Condemn {
        oids: Option<Arc<RoaringTreemap>>,
        done: Box<dyn FnOnce(Vec<Oid>) + Send>,
    },
    /// A new segment begins behind what is sealed.
    Roll(Box<dyn FnOnce(Result<(), StoreError>) + Send>),
    /// A gate wants to close: count, when everything sealed before is visible.
    TryGate {
        gate: Gate,
        done: Done<Closing>,
    },
    /// That is visible now.
    CountGate {
        gate: Gate,
        done: Done<Closing>,
    },
    /// Nothing is below it.
    CloseGate {
        gate: Gate,
        done: Done<Closing>,
    },
    /// A transaction with a tid of its own.
    Restore(RestoreAsk),
    /// A new term begins with this number, and with it a new life of the store.
    Promote {
        term: u64,
        done: Done<Receipt>,
    },
}

/// A new life of the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) timeline: u64,
    /// History up to here was packed where what follows comes from, and is so here as far as that has come.
    pub(crate) packed_to: Tid,
}

/// A draft to be prepared.
pub(crate) struct PrepareAsk {
    pub(crate) admitted: Admitted,
    pub(crate) how: Preparing,
    pub(crate) done: Done<PreparedReceipt>,
}

/// Parts of a prepared draft, made anew.
pub(crate) struct AmendAsk {
    pub(crate) prepared: u64,
    pub(crate) admitted: Admitted,
    pub(crate) withdrawn: Vec<Cell>,
    pub(crate) done: Done<PreparedReceipt>,
}

/// A transaction to be restored.
pub(crate) struct RestoreAsk {
    pub(crate) txn: Txn,
    /// History up to here was packed where it comes from.
    pub(crate) packed_to: Tid,
    /// It is followed, in this life of the primary's; none: it is restored, and a new life begins.
    pub(crate) life: Option<u64>,
    /// The restore that it belongs to.
    pub(crate) course: Arc<Course>,
    pub(crate) done: Done<Tid>,
}

/// What goes from the sequencer to the writer, in order.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are sealed drafts: a box would cost each commit an allocation"
)]
pub(crate) enum Hop {
    /// To be written.
    Sealed(Sealed),
    /// To be told once everything sealed before it is durable: nobody may learn of a revision that is not.
    After {
        epoch: u64,
        /// The newest tid that the news depends on.
        rests_on: Tid,
        /// Called with the reason when that is refused instead.
        tell: Box<dyn FnOnce(Option<Fault>) + Send>,
    },
    /// A new segment is to be begun.
    Roll { epoch: u64, done: Box<dyn FnOnce(Result<(), StoreError>) + Send> },
}

impl Hop {
    pub(crate) fn epoch(&self) -> u64 {
        match self {
            Hop::Sealed(sealed) => sealed.epoch,
            Hop::After { epoch, .. } | Hop::Roll { epoch, .. } => *epoch,
        }
    }

    /// Whether a new segment begins with it.
    pub(crate) fn begins_segment(&self) -> bool {
        matches!(self, Hop::Roll { .. } | Hop::Sealed(Sealed { life: Some(_), .. }))
    }
}

/// A draft whose order and tid are fixed, on its way to the disk.
pub(crate) struct Sealed {
    pub(crate) txn: Txn,
    pub(crate) epoch: u64,
    /// With it a new life of the store begins.
    pub(crate) life: Option<Life>,
    /// Only a primary may write it, and its followers have a say in when it is told.
    pub(crate) of_primary: bool,
    pub(crate) answer: Answer,
    pub(crate) sealed_ns: u64,
    /// Counts it while it is on its way.
    pub(crate) on_its_way: OnItsWay,
}

/// About what a transaction takes in the log.
pub(crate) fn size(txn: &Txn) -> usize {
    if let Some(run) = txn.writes.run() {
        return run.batch_len() as usize;
    }
    let writes =
        txn.writes.iter().map(|write| 32 + write.cell.key.len() + write.record.as_ref().map_or(0, |r| r.len()));
    40 + txn.note.len() + writes.sum::<usize>()
}

/// Who is told when it is durable.
pub(crate) enum Answer {
    /// Everybody who waits for the transaction's key.
    Key(Origin),
    /// The same for what was prepared: if there is no room it is prepared again, and the sequencer tells.
    Finish(Origin),
    Restored {
        /// The prepared draft that ends with it.
        ends: Option<CommitKey>,
        done: Done<Tid>,
    },
}

impl Answer {
    /// Whether nobody waits for it at a screen.
    pub(crate) fn is_batch(&self) -> bool {
        match self {
            Answer::Key(origin) | Answer::Finish(origin) => origin.priority == Priority::Batch,
            Answer::Restored { .. } => true,
        }
    }

    /// Whether it is the server's own bookkeeping.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Answer::Key(origin) if origin.is_own())
    }
}

/// Where a sealed draft comes from, for what is measured.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) priority: Priority,
    /// None for the server's own bookkeeping.
    pub(crate) came: Option<Came>,
    pub(crate) client: Client,
    pub(crate) mark: Mark,
    /// Keeps the blobs that it names until it is told.
    pub(crate) _blobs: Option<Arc<BlobHold>>,
}

impl Origin {
    /// The server's own bookkeeping.
    pub(crate) fn own() -> Origin {
        Origin { priority: Priority::Live, came: None, client: Client::Inside, mark: Mark::default(), _blobs: None }
    }

    pub(crate) fn is_own(&self) -> bool {
        self.came.is_none()
    }
}

/// What the sequencer sends the mergers for: all that takes long, or that only the disk knows.
pub(crate) enum Errand {
    /// The draft goes back with the answers.
    Draft { ask: Box<DraftAsk>, questions: Vec<Question> },
    /// The objects below a gate; so many more are held by what is prepared.
    CountGate { gate: Gate, held: u64, done: Done<Closing> },
    /// The answer by a commit key alone: what was prepared under it is gone.
    ByKey { key: CommitKey, since: Option<Tid>, done: Done<Receipt> },
}

/// What the sequencer cannot answer by itself.
pub(crate) enum Question {
    /// One write's merge.
    Merge { position: usize, base: Option<Bytes>, theirs_tid: Tid, theirs: Option<Bytes> },
    /// What only the disk knows.
    Look(Part),
    /// Whether the read check of this position holds all the same.
    Judge(usize),
    /// What the draft becomes on the newest records, with these conflicts.
    Replay(Vec<Cell>),
}

/// A draft on its way: to be committed, to be prepared, or to take the place of parts of a prepared one.
pub(crate) enum DraftAsk {
    Commit(Admitted),
    Prepare(PrepareAsk),
    Amend(AmendAsk),
}

impl DraftAsk {
    pub(crate) fn admitted(&self) -> &Admitted {
        match self {
            DraftAsk::Commit(admitted) => admitted,
            DraftAsk::Prepare(ask) => &ask.admitted,
            DraftAsk::Amend(ask) => &ask.admitted,
        }
    }

    pub(crate) fn admitted_mut(&mut self) -> &mut Admitted {
        match self {
            DraftAsk::Commit(admitted) => admitted,
            DraftAsk::Prepare(ask) => &mut ask.admitted,
            DraftAsk::Amend(ask) => &mut ask.admitted,
        }
    }

    pub(crate) fn into_ask(self) -> Ask {
        match self {
            DraftAsk::Commit(admitted) => Ask::Commit(admitted),
            DraftAsk::Prepare(ask) => Ask::Prepare(ask),
            DraftAsk::Amend(ask) => Ask::Amend(ask),
        }
    }
}
