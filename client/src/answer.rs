//! Owns what the server answers that is neither data nor fault: what became of a commit, or of its first phase, and the grant
//! of a lease; and in which ways a draft is sent.

use zeolite_proto::{Merged, Receipt, StaleCell, Tid};

/// What became of a commit.
///
/// ```
/// use zeolite_client::{Cell, Outcome, Record};
///
/// # zeolite_testing::with_db(async |db| {
/// let (key, since) = (db.new_commit_key(), db.position());
/// let tx = db.begin().await?;
/// tx.put(Cell::object(db.new_oid().await?), &Record::new("Text", 1, "hello"))?;
/// let receipt = tx.commit_as(key, since).await?;
/// assert_eq!(db.outcome(key, since).await?, Outcome::Committed(receipt));
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It happened.
    Committed(Receipt),
    /// It is still under way: ask again.
    InFlight,
    /// It has not happened so far; a draft that is still on its way may come.
    Unknown,
    /// It may have happened: the server has forgotten keys as old as this one.
    Forgotten,
}

/// What a restore has brought.
///
/// ```
/// use futures_util::stream;
///
/// # zeolite_testing::with_db(async |db| {
/// let log = db.admin().log(None, None, None, true).await?.collect().await?;
/// let copy = zeolite_testing::server();
/// let restored = copy.db().await?.admin().restore(stream::iter(log.clone())).await?;
/// assert_eq!(restored.transactions, log.len() as u64);
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// How many transactions there were.
    pub transactions: u64,
    /// The last of them.
    pub last: Tid,
}

/// How a draft is prepared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// In the server's memory, with a time limit.
    Usual,
    /// The same, whatever of it is stale.
    Hold,
    /// On the disk.
    Durable,
}

/// What a draft says beside its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Terms {
    /// The life of the store that its bases are of.
    pub(crate) timeline: u64,
    /// Oids of its writes that nobody handed out are taken.
    pub(crate) take_oids: bool,
}

/// What the first of two phases has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FirstPhase {
    pub(crate) prepared: u64,
    pub(crate) merged: Vec<Merged>,
    /// What is to be amended before the second phase.
    pub(crate) stale: Vec<StaleCell>,
}

/// What the server has granted to a pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PinLease {
    pub(crate) pin: u64,
    pub(crate) snapshot: Tid,
    pub(crate) lease_ms: u64,
}
