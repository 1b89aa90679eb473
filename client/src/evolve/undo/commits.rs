//! Owns the way through a job's commits: the newest first, from the revisions of its ranges' cells.

use crate::errors::Result;
use crate::evolve::job::{Job, JobRecord};
use crate::evolve::ledger::range_cell;
use crate::revision::Listing;
use std::collections::VecDeque;
use zeolite_proto::evolve::ChunkNote;
use zeolite_proto::{Cell, Tid};

/// Revisions of a range that are asked for at once.
const HISTORY_PAGE: u32 = 200;

/// The job's commits, the newest first, a page at a time.
pub(super) struct Commits {
    ranges: Vec<RangeCommits>,
}

struct RangeCommits {
    cell: Cell,
    /// Older ones are asked for next.
    before: Option<Tid>,
    page: VecDeque<(Tid, ChunkNote)>,
    more: bool,
}

impl Commits {
    pub(super) fn new(job: &Job, record: &JobRecord, before: Option<Tid>) -> Commits {
        let cell = |number| range_cell(job.oid(), number);
        let range = |number| RangeCommits { cell: cell(number), before, page: VecDeque::new(), more: true };
        Commits { ranges: (0..=record.ranges).map(range).collect() }
    }

    /// The newest one that is left.
    pub(super) async fn next(&mut self, job: &Job) -> Result<Option<(Tid, ChunkNote)>> {
        for range in &mut self.ranges {
            while range.page.is_empty() && range.more {
                let Listing { items: past, more } =
                    job.db.history(&range.cell, range.before, HISTORY_PAGE, false).await?;
                range.more = more && !past.is_empty();
                for past in past {
                    range.before = Some(past.revision.tid);
                    if let Some(note) = ChunkNote::of(&past.note.extension, job.oid()).filter(|t| !t.groups.is_empty())
                    {
                        range.page.push_back((past.revision.tid, note));
                    }
                }
            }
        }
        let newest = |range: &&mut RangeCommits| range.page.front().map_or(Tid::NONE, |(tid, _)| *tid);
        Ok(self.ranges.iter_mut().max_by_key(newest).and_then(|range| range.page.pop_front()))
    }
}
