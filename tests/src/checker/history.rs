//! Owns the history: what each named client did and saw, in the order in which it happened to the client.
//!
//! Times are positions in one sequence shared by all clients, not a clock: `ended < began` means that one transaction was
//! over before the other was begun, which is all that the checkers ask. For that to be true a test calls
//! [`ClientLog::begin`] *before* it asks the database for a snapshot, and reports the outcome *after* it has the answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zeolite_proto::Tid;

/// What a transaction did, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Read a whole list, own appends included.
    Read {
        /// Which list.
        list: u64,
        /// What it showed.
        seen: Vec<u64>,
    },
    /// Appended an item; no two appends of a history have the same item.
    Append {
        /// To which list.
        list: u64,
        /// The item.
        item: u64,
    },
    /// Read a counter, own adds included.
    Value {
        /// Which counter.
        counter: u64,
        /// What it showed.
        seen: i64,
    },
    /// Added to a counter.
    Add {
        /// To which counter.
        counter: u64,
        /// How much.
        difference: i64,
    },
    /// Read a whole set, own changes included.
    Members {
        /// Which set.
        set: u64,
        /// What it showed.
        seen: Vec<u64>,
    },
    /// Put an item into a set, or took it out, whatever others do with it.
    Member {
        /// Which set.
        set: u64,
        /// The item.
        item: u64,
        /// Whether it is in it afterwards.
        there: bool,
    },
}

/// How a transaction ended, as its client knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It wrote, and has a receipt with this tid.
    Committed(Tid),
    /// It wrote nothing (or nothing was sent).
    ReadOnly,
    /// It was refused or given up: nothing of it may ever be seen.
    Aborted,
    /// The answer was lost: all of it or nothing of it happened.
    Unknown,
}

/// One transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Txn {
    /// Whose.
    pub client: String,
    /// The tid that it read at.
    pub snapshot: Tid,
    /// What it did.
    pub ops: Vec<Op>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was begun.
    pub began: u64,
    /// When its outcome was known; none: never.
    pub ended: Option<u64>,
}

impl Txn {
    /// The tid of an acknowledged commit.
    pub fn tid(&self) -> Option<Tid> {
        match self.outcome {
            Outcome::Committed(tid) => Some(tid),
            _ => None,
        }
    }

    /// What it appended, in order.
    pub fn appends(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ops.iter().filter_map(|op| match op {
            Op::Append { list, item } => Some((*list, *item)),
            _ => None,
        })
    }

    /// What it added to counters, in order.
    pub fn adds(&self) -> impl Iterator<Item = (u64, i64)> + '_ {
        self.ops.iter().filter_map(|op| match op {
            Op::Add { counter, difference } => Some((*counter, *difference)),
            _ => None,
        })
    }
}

/// Everything that was recorded, in the order in which transactions were begun.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// The transactions.
    pub txns: Vec<Txn>,
}

impl History {
    /// A transaction in words, for findings.
    pub(crate) fn name(&self, txn: usize) -> String {
        let Txn { client, snapshot, outcome, .. } = &self.txns[txn];
        match outcome {
            Outcome::Committed(tid) => format!("#{txn} of {client} (snapshot {}, committed {})", snapshot.0, tid.0),
            Outcome::ReadOnly => format!("#{txn} of {client} (snapshot {}, read only)", snapshot.0),
            Outcome::Aborted => format!("#{txn} of {client} (snapshot {}, aborted)", snapshot.0),
            Outcome::Unknown => format!("#{txn} of {client} (snapshot {}, outcome unknown)", snapshot.0),
        }
    }
}

#[derive(Debug, Default)]
struct Recording {
    now: AtomicU64,
    items: AtomicU64,
    txns: Mutex<Vec<Txn>>,
}

impl Recording {
    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }
}

/// Takes down what clients do; share it between their threads or tasks by cloning.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    recording: Arc<Recording>,
}

impl Recorder {
    /// A recorder with nothing in it.
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// The log of a client with this name.
    pub fn client(&self, name: &str) -> ClientLog {
        ClientLog { name: name.to_owned(), recording: Arc::clone(&self.recording) }
    }

    /// An item that no other call has given.
    pub fn new_item(&self) -> u64 {
        self.recording.items.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What was recorded so far. Transactions that have not ended are not in it.
    pub fn history(&self) -> History {
        let mut txns = self.recording.txns.lock().unwrap_or_else(PoisonError::into_inner).clone();
        txns.sort_by_key(|txn| txn.began);
        History { txns }
    }
}

/// One client's part of the record.
#[derive(Clone, Debug)]
pub struct ClientLog {
    name: String,
    recording: Arc<Recording>,
}

impl ClientLog {
    /// A transaction begins: call this before the database is asked for its snapshot, and then [`OpenTxn::at`].
    pub fn begin(&self) -> OpenTxn {
        let txn = Txn {
            client: self.name.clone(),
            snapshot: Tid::NONE,
            ops: Vec::new(),
            outcome: Outcome::Unknown,
            began: self.recording.tick(),
            ended: None,
        };
        OpenTxn { txn: Some(txn), recording: Arc::clone(&self.recording) }
    }
}

/// A transaction that is going on. Dropped without an outcome (its task was killed) it is recorded as unknown.
#[derive(Debug)]
pub struct OpenTxn {
    txn: Option<Txn>,
    recording: Arc<Recording>,
}

impl OpenTxn {
    /// The snapshot that the database gave.
    pub fn at(&mut self, snapshot: Tid) {
        if let Some(txn) = &mut self.txn {
            txn.snapshot = snapshot;
        }
    }

    fn push(&mut self, op: Op) {
        if let Some(txn) = &mut self.txn {
            txn.ops.push(op);
        }
    }

    /// It read a list and saw these items, own appends included.
    pub fn read(&mut self, list: u64, seen: &[u64]) {
        self.push(Op::Read { list, seen: seen.to_vec() });
    }

    /// It appends an item to a list. The item must be new: see [`Recorder::new_item`].
    pub fn append(&mut self, list: u64, item: u64) {
        self.push(Op::Append { list, item });
    }

    /// It read a counter and saw this value, own adds included.
    pub fn value(&mut self, counter: u64, seen: i64) {
        self.push(Op::Value { counter, seen });
    }

    /// It adds to a counter.
    pub fn add(&mut self, counter: u64, difference: i64) {
        self.push(Op::Add { counter, difference });
    }

    /// It read a set and saw these items, own changes included.
    pub fn members(&mut self, set: u64, seen: &[u64]) {
        self.push(Op::Members { set, seen: seen.to_vec() });
    }

    /// It puts an item into a set, or takes it out.
    pub fn member(&mut self, set: u64, item: u64, there: bool) {
        self.push(Op::Member { set, item, there });
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(mut txn) = self.txn.take() {
            txn.outcome = outcome;
            txn.ended = (outcome != Outcome::Unknown).then(|| self.recording.tick());
            self.recording.txns.lock().unwrap_or_else(PoisonError::into_inner).push(txn);
        }
    }

    /// It wrote, and the receipt is there.
    pub fn committed(mut self, tid: Tid) {
        self.end(Outcome::Committed(tid));
    }

    /// It wrote nothing and is over.
    pub fn read_only(mut self) {
        self.end(Outcome::ReadOnly);
    }

    /// It was refused or given up.
    pub fn aborted(mut self) {
        self.end(Outcome::Aborted);
    }

    /// Its commit was sent, and the answer never came.
    pub fn unknown(mut self) {
        self.end(Outcome::Unknown);
    }
}

impl Drop for OpenTxn {
    fn drop(&mut self) {
        self.end(Outcome::Unknown);
    }
}
