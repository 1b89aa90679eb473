//! Owns the migration's worker: one client that brings every synset to version 2 and builds the gloss-word index.
//!
//! ```text
//!   plan    from a pinned snapshot: the oids of class Synset below version 2, in order
//!   chunk   read its objects ─> step each ─> one commit: objects, index entries, the ledger; batch priority
//!   refused a live edit came between read and commit: read again (the cache knows what changed), step what changed, commit
//! ```
//!
//! The worker's transaction checks its reads, so that it never commits what it computed from a gloss that is gone: the live
//! writer always wins. The ledger is in the chunk's own commit, so every chunk happens exactly once, and a worker that was
//! killed is followed by one that goes on behind the last chunk.

use super::chunk;
use super::dictionary::{Dictionary, Ledger};
use super::synset::{self, Synset, VERSION_NEW, WordEntry};
use super::words::words;
use crate::progress::Bar;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use std::collections::HashMap;
use std::time::Instant;
use zeolite_client::registry::encode_record;
use zeolite_client::{Db, Persistent, Ref, Tx};
use zeolite_proto::{Cell, Oid, Remedy, Tid};

/// Oids of the plan that are asked for at once.
const PLAN_PAGE: u32 = 10_000;

/// What the worker has done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Worked {
    pub(crate) objects: u64,
    pub(crate) chunks: u64,
    /// Commits that were refused because a live client was faster.
    pub(crate) refused: u64,
    /// Objects that were stepped again on a newer revision.
    pub(crate) stepped_again: u64,
    /// Objects of the plan that a live client had brought to version 2 already.
    pub(crate) found_new: u64,
    pub(crate) last_size: usize,
}

/// Goes over all synsets that are still of the old version, from where the ledger says.
pub(crate) async fn run(db: &Db, dictionary: &Dictionary, ledger: &mut Ledger, bar: &Bar) -> Result<Worked> {
    let pin = db.pin().await?;
    let mut worker = Worker { db, dictionary, ledger, worked: Worked::default(), size: chunk::OBJECTS_START };
    let total = worker.ledger.total();
    let synsets = worker.ledger.synsets();
    let mut after = Oid(worker.ledger.migrated_to);
    loop {
        let (plan, more) = db.admin().objects(pin.snapshot(), Synset::CLASS, VERSION_NEW, after, PLAN_PAGE).await?;
        let mut rest = &plan[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(worker.size.min(rest.len()));
            worker.chunk(now, later.is_empty() && !more).await?;
            rest = later;
            let done = synsets.partition_point(|synset| synset.oid().0 <= worker.ledger.migrated_to);
            bar.remark(format!("{} at once, {} stepped again", worker.size, worker.worked.stepped_again));
            bar.set(done as u64, total);
        }
        match plan.last() {
            Some(last) if more => after = *last,
            _ => break,
        }
    }
    if !worker.ledger.migrated {
        // Nothing was left to do: only the ledger does not say so yet.
        worker.chunk(&[], true).await?;
    }
    bar.set(total, total);
    bar.finish();
    Ok(worker.worked)
}

struct Worker<'a> {
    db: &'a Db,
    dictionary: &'a Dictionary,
    ledger: &'a mut Ledger,
    worked: Worked,
    size: usize,
}

impl Worker<'_> {
    /// Commits one chunk, however often live clients come between.
    async fn chunk(&mut self, oids: &[Oid], last: bool) -> Result<()> {
        let begun = Instant::now();
        let cells: Vec<Cell> = oids.iter().map(|oid| Cell::object(*oid)).collect();
        let mut steps: HashMap<Oid, Step> = HashMap::new();
        loop {
            let transaction = self.db.transaction().serializable().batch().note("worker", "synsets to version 2");
            // What came between is only seen by who has heard of it: after a refusal the server is asked.
            let transaction = if steps.is_empty() { transaction } else { transaction.fresh() };
            let tx = transaction.begin().await?;
            let found_new = self.step(&tx, &cells, &mut steps).await?;
            let mut next = self.ledger.clone();
            next.migrated_to = oids.last().map_or(next.migrated_to, |oid| oid.0);
            next.chunks += 1;
            next.migrated = last;
            // Read, so that it is checked: two workers by mistake must not both go on.
            let stored = tx.load(self.dictionary.ledger).await?;
            ensure!(stored == *self.ledger, "another worker is at the same migration; let it finish");
            tx.set(self.dictionary.ledger, &next)?;
            match tx.commit().await {
                Ok(_) => {
                    *self.ledger = next;
                    self.worked.objects += oids.len() as u64;
                    self.worked.chunks += 1;
                    self.worked.found_new += found_new;
                    self.worked.last_size = oids.len();
                    self.size = chunk::next(self.size, begun.elapsed());
                    return Ok(());
                }
                Err(error) if error.remedy() == Remedy::Retry => self.worked.refused += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Steps the objects of a chunk as they are now, and writes what came out; tells how many needed nothing any more.
    /// A step that was made on the revision that is still the newest holds.
    async fn step(&mut self, tx: &Tx, cells: &[Cell], steps: &mut HashMap<Oid, Step>) -> Result<u64> {
        tx.prefetch(cells).await?;
        let mut found_new = 0;
        for cell in cells {
            let revision = tx.revision(cell).await?;
            let synset: Ref<Synset> = Ref::new(cell.oid);
            let made = steps.remove(&cell.oid);
            let step = match made {
                Some(step) if step.on == revision.tid => step,
                older => {
                    self.worked.stepped_again += u64::from(older.is_some());
                    let record = revision.record.with_context(|| format!("synset {cell} is missing"))?;
                    Step::make(synset, revision.tid, &record)?
                }
            };
            match &step.made {
                Some((record, words)) => {
                    tx.put_encoded(cell.clone(), record.clone())?;
                    for word in words {
                        WordEntry::make(tx, self.dictionary.words, word, synset)?;
                    }
                }
                None => found_new += 1,
            }
            steps.insert(cell.oid, step);
        }
        Ok(found_new)
    }
}

/// What the migration makes of one revision of a synset.
struct Step {
    on: Tid,
    /// The new record, and the words of its gloss; nothing if the revision is of the new version already.
    made: Option<(Bytes, Vec<String>)>,
}

impl Step {
    /// Reading upgrades: the new field is counted from the gloss.
    fn make(synset: Ref<Synset>, on: Tid, record: &Bytes) -> Result<Step> {
        let (version, value) = synset::read(synset, record)?;
        let made = match version {
            VERSION_NEW.. => None,
            _ => Some((encode_record(&value)?, words(&value.gloss))),
        };
        Ok(Step { on, made })
    }
}
