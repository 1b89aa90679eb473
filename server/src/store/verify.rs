//! Owns verify: the whole log is read and compared with the index, beside the traffic, up to a fixed tid.
//!
//! ```text
//!   log    every batch and record: checksum, header, order of tids ──> the index has it: same place or bytes, same kind
//!   index  every revision is one of the log's; objects and their counts follow from the revisions; keys, places
//!   refs   from the root on, what the newest revisions refer to exists
//!   blobs  what any revision names is there, whole, with its checksum
//! ```
//! Both directions without holding either in memory: each side adds up what it has in some thousand buckets by tid, and
//! only where two buckets differ rows are looked for one by one.
//!
//! A problem does not end it: they are counted, and the first ones told. Apart from problems, a reference to an object that does
//! not exist is *dangling*: clients may write one, and may delete what others refer to, so it is the application's to judge
//! and must not hide damage. Not looked at: what the data of records means;
//! references of objects that cannot be reached, which an interrupted pack may leave dangling until the next one.

mod index_side;
mod log_side;
mod tally;

use super::StoreError;
use super::blobs::{self, Named};
use super::pack::{
    self,
    sieve::{Dangling, Sieve},
    survey::Survey,
};
use super::reader::Reader;
use super::settle::Settler;
use super::state::State;
use parking_lot::Mutex;
use zeolite_proto::{Oid, Tid};

// Told one by one; the rest is counted.
const PROBLEMS_TOLD_MAX: usize = 100;
// Transactions settled at once before the comparison.
const SETTLE_TXNS: usize = 4096;

/// What verify is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyStage {
    /// Waiting for the index to have what is published; units: transactions.
    Settle,
    /// Reading the log; units: bytes.
    Log,
    /// Going over the index; units: revisions.
    Index,
    /// Following references; units: objects.
    References,
    /// Reading the blobs; units: blobs.
    Blobs,
}

impl VerifyStage {
    /// The stage in words.
    pub fn text(self) -> &'static str {
        match self {
            VerifyStage::Settle => "waiting for the index",
            VerifyStage::Log => "reading the log",
            VerifyStage::Index => "going over the index",
            VerifyStage::References => "following references",
            VerifyStage::Blobs => "reading the blobs",
        }
    }
}

/// Is told how far a stage has come: done, of how many; an error ends the work.
pub type VerifyStepper<'a> = dyn FnMut(VerifyStage, u64, u64) -> Result<(), StoreError> + 'a;

/// What was looked at, and what is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// Up to which tid.
    pub upto: Tid,
    /// Transactions read.
    pub transactions: u64,
    /// Revisions compared.
    pub revisions: u64,
    /// Live objects now.
    pub objects: u64,
    /// Blobs read.
    pub blobs: u64,
    /// The first problems, in words.
    pub problems: Vec<String>,
    /// How many there are.
    pub problems_total: u64,
    /// The first references to objects that do not exist: from, to.
    pub dangling: Vec<(Oid, Oid)>,
    /// How many there are.
    pub dangling_total: u64,
}

impl Verified {
    fn problem(&mut self, what: impl FnOnce() -> String) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_TOLD_MAX {
            self.problems.push(what());
        }
    }
}

/// Verifies the store. `roots` are where reachability begins; without any of them every object counts as reached. No pack
/// may run meanwhile.
pub fn verify(
    reader: &Reader,
    settler: &Mutex<Settler>,
    roots: &[Oid],
    step: &mut VerifyStepper<'_>,
) -> Result<Verified, StoreError> {
    let state = reader.state.as_ref();
    let published = state.published();
    while state.overlay.settled() < published {
        let left = settler.lock().settle(SETTLE_TXNS)?;
        step(VerifyStage::Settle, 0, left.txns as u64)?;
    }
    pack::finish_begun(state, settler, &mut |_, done, all| step(VerifyStage::Log, done, all))?;
    let mut found = Verified { upto: published, ..Verified::default() };
    let log = log_side::compare(state, published, &mut found, step)?;
    index_side::compare(reader, &log, &mut found, step)?;
    references(state, roots, &mut found, step)?;
    blobs(state, &mut found, step)?;
    Ok(found)
}

// Each blob that a revision names is there, and as it was written.
fn blobs(state: &State, found: &mut Verified, step: &mut VerifyStepper<'_>) -> Result<(), StoreError> {
    let marks = match blobs::named(state, &mut |done, all| step(VerifyStage::References, done, all)) {
        // Named already by the comparison.
        Err(StoreError::Damaged { .. } | StoreError::Index(_)) if found.problems_total > 0 => return Ok(()),
        other => other?,
    };
    let all = marks.len() as u64;
    for (Named { id, by }, done) in marks.into_iter().zip(1..) {
        let read = state.blobs.open_file(id).and_then(|file| match file {
            Some(file) => file.verify(&mut |_| step(VerifyStage::Blobs, done - 1, all)),
            None => {
                Err(StoreError::NoBlob { what: "its file is missing; restore it from a backup or a copy".to_owned() })
            }
        });
        match read {
            Err(StoreError::Stopped) => return Err(StoreError::Stopped),
            Err(error) => found.problem(|| format!("blob {id}, which a revision of object {by} names: {error}")),
            Ok(()) => found.blobs += 1,
        }
        step(VerifyStage::Blobs, done, all)?;
    }
    Ok(())
}

// From the roots on, whatever is referred to exists.
fn references(
    state: &State,
    roots: &[Oid],
    found: &mut Verified,
    step: &mut VerifyStepper<'_>,
) -> Result<(), StoreError> {
    let mut within = |_, done, all| step(VerifyStage::References, done, all);
    let survey = Survey::new(state, found.upto, &mut within)?;
    let objects = survey.objects();
    let mut sieve = Sieve::noting_dangling(objects.clone(), found.upto);
    if roots.iter().any(|root| objects.contains(root.0)) {
        roots.iter().for_each(|root| sieve.touch(*root));
    } else {
        objects.iter().for_each(|oid| sieve.touch(Oid(oid)));
    }
    match sieve.drain(state, &mut within) {
        // Named already by the comparison.
        Err(StoreError::Damaged { .. } | StoreError::Index(_)) if found.problems_total > 0 => return Ok(()),
        other => other?,
    }
    let Dangling { first, count } = sieve.dangling();
    (found.dangling, found.dangling_total) = (first.clone(), *count);
    Ok(())
}

#[cfg(test)]
mod tests;
