//! Owns the way from the overlay into the index: `Settler`, which one background thread has.
//!
//! ```text
//!   oldest batches of the overlay ──> one index commit (not durable) ──> cache and recent told ──> overlay emptied of them
//!                                     every 32 MiB of log or 50,000 revisions: one durable commit, the checkpoint
//! ```
//! The order of these steps is what keeps readers right: see `overlay` and `cache`. Everything here can fail and be tried
//! again; until it succeeds the overlay keeps what it has. Larger settles cost less for each revision (neighbours share
//! pages), so a caller waits until some hundreds of transactions have gathered, or a moment has passed.

mod remake;

use self::remake::Remake;
use super::StoreError;
use super::cache::Newest;
use super::index::Table;
use super::index::surveyed::{SURVEYED, Surveyed};
use super::index::writer::IndexWriter;
use super::overlay::Unsettled;
use super::state::State;
use super::steps::Step;
use std::convert::Infallible;
use std::sync::Arc;
use zeolite_proto::{Cell, hash};

/// Moves what is published into the index.
pub struct Settler {
    pub(super) state: Arc<State>,
    pub(super) writer: IndexWriter,
    // Another index took the place of the one before so many times.
    life: u64,
    remake: Option<Remake>,
    // What is there of the index is of no use.
    anew: bool,
    // Why it is being made ready, when the log was told that: it is tried again ten times a second.
    told: String,
}

/// What still waits after a settle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// Transactions.
    pub txns: usize,
    /// Memory.
    pub bytes: u64,
    /// What of it counts against the limit: one batch for a part of that at most.
    pub weight: u64,
    /// Why there is no index at the moment: it is on its way, and nothing is settled meanwhile.
    pub index_down: Option<String>,
}

impl Settler {
    /// Recovery hands over the writer that knows the index.
    pub(crate) fn new(state: Arc<State>, writer: IndexWriter) -> Settler {
        let mut writer = writer;
        writer.forget_keys(state.keys_unknown_to());
        Settler { state, writer, life: 0, remake: None, anew: false, told: String::new() }
    }

    /// Says for how long servers have run on the store, in milliseconds: what the age of commit keys is counted in.
    pub fn set_lived(&mut self, lived_ms: u64) {
        self.writer.set_lived(lived_ms);
    }

    /// What waits.
    pub fn left(&self) -> Left {
        let overlay = &self.state.overlay;
        Left { txns: overlay.txns(), bytes: overlay.bytes(), weight: overlay.weight(), index_down: None }
    }

    /// Moves the oldest batches, up to a number of transactions (and of cells, by the settings) and at least one batch, and makes a checkpoint when it is
    /// due. An index that has failed is made ready again first, in portions. On an error nothing is lost, and the call may be
    /// repeated.
    pub fn settle(&mut self, txns_max: usize) -> Result<Left, StoreError> {
        self.state.ahead.remove_gone(self.state.disk.as_ref());
        if self.is_index_down()
            && let Some(left) = self.make_ready()?
        {
            return Ok(left);
        }
        let batches = self.state.overlay.oldest(txns_max, self.state.settings.settle_cells_max);
        if !batches.is_empty() {
            self.commit(&batches)?;
        }
        if self.writer.is_checkpoint_due(0, 0) {
            self.checkpoint()?;
        }
        Ok(self.left())
    }

    /// Another number since another index took the place of the one before.
    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    /// Makes the index durable as far as it has come.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.writer.checkpoint(&self.state.index)
    }

    /// Settles everything that is published and makes a checkpoint: the next start has nothing to replay, if nothing is
    /// appended any more.
    pub fn close(&mut self) -> Result<(), StoreError> {
        if self.is_index_down() {
            tracing::warn!("the index is not ready; the next start goes on with it");
            return Ok(());
        }
        while self.settle(usize::MAX)?.txns > 0 {}
        self.checkpoint()?;
        self.state.index.close()
    }

    /// Says what the next pack need not look at again. A crash may lose it.
    pub(crate) fn say_surveyed(&mut self, surveyed: &Surveyed) -> Result<(), StoreError> {
        self.state.index.commit(&[(Table::Meta, SURVEYED.to_vec(), Some(surveyed.encode()))], false)
    }

    fn commit(&mut self, batches: &[Arc<Unsettled>]) -> Result<(), StoreError> {
        let state = &self.state;
        let mut newest: hash::Map<&Cell, Option<Newest>> = hash::Map::default();
        let mut draft = self.writer.draft();
        let view = state.index.view()?;
        for batch in batches {
            self.writer.add_waiting(&mut draft, view.as_ref(), batch)?;
            for txn in &batch.txns {
                let Ok(()) = txn.each(|cell, slot| {
                    let known = slot.place.is_none() || slot.record.is_some();
                    newest.insert(cell, known.then(|| Newest { tid: txn.tid, record: slot.record.clone() }));
                    Ok::<_, Infallible>(())
                });
            }
        }
        drop(view);
        self.writer.forget_keys(state.keys_unknown_to());
        self.writer.commit(&state.index, &state.kinds, draft, false)?;
        state.overlay.steps.at(Step::Committed);
        state.raise_index_oid_max(self.writer.covered().oid_max);
        for (cell, newest) in newest {
            state.cache.settled(cell, newest);
        }
        let txns = batches.iter().flat_map(|batch| &batch.txns);
        let writes = txns.flat_map(|txn| txn.cells().map(|cell| (cell, txn.tid)));
        state.recent.settled(writes.filter(|(cell, _)| !cell.is_object()));
        state.overlay.steps.at(Step::CacheTold);
        state.overlay.remove(batches);
        Ok(())
    }
}
