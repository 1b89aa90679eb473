//! Owns the look at what evolves owe: what was there before a step has to stay until that step was taken back, so pack leaves it.
//!
//! Jobs are objects that clients write: what cannot be read is left out.

use crate::engine::Engine;
use crate::storage::Range;
use bytes::Bytes;
use zeolite_proto::evolve::{Owed, ROOT_NAME, Stored, owed_keys};
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Fault, Oid, Tid};

/// Jobs that are looked at.
const JOBS_MAX: usize = 10_000;

impl Engine {
    /// The newest snapshot that shows what was there before everything that is owed; none: nothing is.
    pub(crate) fn owed_from(&self) -> Result<Option<Tid>, Fault> {
        let root = self.peek(self.visible(), &[Cell::entry(Oid::ROOT, ROOT_NAME)])?.revisions.pop().flatten();
        let Some(directory) = root.and_then(|revision| leads_to(&revision.record?)) else { return Ok(None) };
        let jobs = self.entries(directory, self.visible(), (Bytes::new(), Bytes::new()), JOBS_MAX)?;
        let mut from: Option<Tid> = None;
        for job in jobs.iter().filter_map(leads_to) {
            // They are in the order of their chunks.
            for owed in self.owed(job, self.visible(), 1)? {
                let before = Owed::decode(&owed).ok().map(|owed| Tid(owed.chunk).prev());
                from = from.into_iter().chain(before).min();
            }
        }
        Ok(from)
    }

    /// The first records of what a job owes.
    pub(crate) fn owed(&self, job: Oid, at: Tid, most: usize) -> Result<Vec<Bytes>, Fault> {
        self.entries(job, at, owed_keys(), most)
    }

    /// The records of a collection's first entries between two keys.
    fn entries(&self, oid: Oid, at: Tid, (from, to): (Bytes, Bytes), most: usize) -> Result<Vec<Bytes>, Fault> {
        let mut range = Range { oid, from, to, reverse: false, keys_only: false };
        let mut records = Vec::new();
        loop {
            let page = self.scan(at, &range, most - records.len())?;
            let is_empty = page.entries.is_empty();
            records.extend(page.entries.into_iter().map(|entry| entry.record));
            match page.next {
                Some(next) if records.len() < most && !is_empty => range.from = next,
                _ => return Ok(records),
            }
        }
    }
}

/// The one object that an entry refers to.
fn leads_to(record: &Bytes) -> Option<Oid> {
    Header::parse(record).ok()?.refs().next()
}
