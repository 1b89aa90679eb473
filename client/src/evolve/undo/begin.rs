//! Owns the word that a job is to be taken back.

use crate::errors::{Error, Result};
use crate::evolve::job::{Job, Phase};
use crate::evolve::ledger::{self, Part, RangeRecord, UNDO_RANGE, encoded, kept, range_cell};
use crate::evolve::own_gate::is_free_to_go_back;

impl Job {
    /// Asks for the whole job to be taken back: [`crate::evolve::Worker::undo`] does it. From then on it is not done, and then its gate
    /// opens: the old shape returns. Refused behind a gate that another one has closed.
    pub async fn begin_undo(&self) -> Result<()> {
        is_free_to_go_back(&self.db, &self.record().await?).await?;
        let transaction = self.db.transaction().fresh().note("evolve", format!("undo {}", self.name()));
        let work = transaction.run(async |tx| {
            let mut record = tx.load(self.reference).await?;
            match record.phase {
                Phase::Undoing | Phase::Undone => return Ok(()),
                Phase::Planned | Phase::Done | Phase::Failed | Phase::Cancelled => {}
                phase => {
                    let phase = phase.text();
                    return Err(Error::invalid(format!("evolve {:?} is {phase}; cancel it first", self.name())));
                }
            }
            (record.phase, record.pause, record.certificate) = (Phase::Undoing, None, None);
            record.reason.clear();
            tx.set(self.reference, &record)?;
            // One that was cancelled goes on where it was: what it took back must not be taken back again.
            let cell = range_cell(self.oid(), UNDO_RANGE);
            if kept::<RangeRecord>(&tx, &cell).await?.is_some() {
                return Ok(());
            }
            let ranges = ledger::ranges(&tx, self.oid(), record.ranges + 1).await?;
            let commits = ledger::counts(&ranges).chunks;
            tx.put_unchecked(cell, encoded(&RangeRecord::new(Part::Undo, commits))?)
        });
        work.await?;
        self.open_gate().await.map(|_| ())
    }
}
