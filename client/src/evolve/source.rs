//! Owns the walk over a range: the next cells behind its cursor, a page at a time, so that memory is flat.

use super::coverage::{self, LIST_CELLS, Listed};
use super::earlier::owed_steps;
use super::job::JobRecord;
use super::ledger::{Cursor, KeysRecord, ListRecord, Part, RangeRecord, kept, list_cell};
use super::plan::Plan;
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::revision::Listing;
use crate::revision::Range;
use std::collections::VecDeque;
use zeolite_proto::{Cell, FaultKind, Oid, Remedy, Tid, hash};

/// Cells that are asked for at once.
const PAGE: u32 = 2000;

/// Of a job that was planned when what is covered was not written down yet.
pub(crate) const NOT_TOLD: &str =
    "what the plan covers cannot be told any more: history up to then is packed away; cancel the job and plan it anew";

/// A cell to step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    pub(crate) cell: Cell,
    /// The range's cursor once it is done; none: it was deferred, and leaves the list of those.
    pub(crate) after: Option<Cursor>,
    /// Live traffic writes it often.
    pub(crate) hot: bool,
    /// The chunk that stepped it, if that is to be taken back before.
    pub(crate) former: Option<Tid>,
}

/// The cells of one range that are still to be done.
#[derive(Debug)]
pub(crate) struct Source {
    job: Oid,
    part: Part,
    /// Behind this one the next page begins.
    next: Cursor,
    page: VecDeque<Item>,
    /// The part's end was reached; what is left is in `page`.
    read: bool,
    deferred_added: bool,
    owed_added: bool,
}

impl Source {
    pub(crate) fn new(job: Oid, range: &RangeRecord) -> Source {
        Source {
            job,
            part: range.part.clone(),
            next: range.cursor.clone(),
            page: VecDeque::new(),
            read: false,
            deferred_added: false,
            owed_added: false,
        }
    }

    /// Up to so many of the next cells; none at the end. They come again until they are `passed`.
    pub(crate) async fn peek(
        &mut self,
        db: &Db,
        job: &JobRecord,
        range: &RangeRecord,
        count: usize,
    ) -> Result<Vec<Item>> {
        while self.page.len() < count && !self.read {
            self.fetch(db, job).await?;
        }
        if self.page.is_empty() && self.read && !self.deferred_added {
            self.deferred_added = true;
            let deferred = range.deferred.iter().map(|(oid, key)| Cell::entry(Oid(*oid), key.clone()));
            self.page.extend(deferred.map(|cell| Item { cell, after: None, hot: false, former: None }));
        }
        Ok(self.page.iter().take(count).cloned().collect())
    }

    /// The first so many are done.
    pub(crate) fn passed(&mut self, count: usize) {
        self.page.drain(..count.min(self.page.len()));
    }

    /// Whether nothing is left once the first so many are done and none of them is deferred.
    pub(crate) fn ends_after(&self, count: usize) -> bool {
        self.read && self.page.len() <= count
    }

    async fn fetch(&mut self, db: &Db, job: &JobRecord) -> Result<()> {
        match self.part.clone() {
            Part::Objects { after, last } => {
                let Plan::Objects { class, below_version } = &job.plan else { return self.nothing() };
                let from = if let Cursor::Oid(oid) = self.next { oid } else { after };
                let Listing { items: oids, more } = db
                    .admin()
                    .objects(Some(Tid(job.snapshot)), class, coverage::below(*below_version), Oid(from), PAGE)
                    .await?;
                self.read = !more || oids.last().is_none_or(|oid| oid.0 >= last);
                let oids = oids.into_iter().filter(|oid| oid.0 <= last);
                self.add_objects(db, job, oids.map(|oid| (oid, Cursor::Oid(oid.0))).collect()).await
            }
            Part::Finish if !self.owed_added => {
                self.owed_added = true;
                let owed = owed_steps(db, self.job).await?.into_iter();
                self.page.extend(owed.map(|(cell, tid)| Item { cell, after: None, hot: false, former: Some(tid) }));
                Ok(())
            }
            Part::Finish => {
                let Some(target) = &job.target else { return self.nothing() };
                let from = if let Cursor::Oid(oid) = self.next { oid } else { 0 };
                let Listing { items: oids, more } =
                    db.admin().objects(None, &target.class, Some(target.version), Oid(from), PAGE).await?;
                self.read = !more;
                // What is owed comes first, and but once.
                let owed: hash::Set<Cell> = self.page.iter().map(|item| item.cell.clone()).collect();
                let cells = oids.into_iter().map(|oid| (Cell::object(oid), Cursor::Oid(oid.0), false));
                self.extend(cells.filter(|(cell, ..)| !owed.contains(cell)));
                Ok(())
            }
            Part::Entries { from, to } => {
                let Plan::Collection { oid, .. } = &job.plan else { return self.nothing() };
                let from = if let Cursor::Key(key) = &self.next { crate::keys::after(key) } else { from.into() };
                let range = Range::between(from, coverage::end(&to)).keys_only().limited(u64::from(PAGE));
                let listed = db.at(Tid(job.planned)).entries(Oid(*oid), range).await;
                let entries = listed.map_err(|error| match error.remedy() {
                    Remedy::ReopenSnapshot => Error::invalid(NOT_TOLD),
                    _ => error,
                })?;
                self.read = entries.len() < PAGE as usize;
                let oid = Oid(*oid);
                self.extend(
                    entries
                        .into_iter()
                        .map(|entry| (Cell::entry(oid, entry.key.clone()), Cursor::Key(entry.key.to_vec()), false)),
                );
                Ok(())
            }
            Part::Lists { first, end } => self.fetch_list(db, job, first, end).await,
            _ => self.nothing(),
        }
    }

    fn nothing(&mut self) -> Result<()> {
        self.read = true;
        Ok(())
    }

    async fn add_objects(&mut self, db: &Db, job: &JobRecord, items: Vec<(Oid, Cursor)>) -> Result<()> {
        let hottest = job.settings.heat_max;
        let oids: Vec<Oid> = items.iter().map(|(oid, _)| *oid).collect();
        let heat = if hottest == 0 || oids.is_empty() {
            Vec::new()
        } else {
            match db.admin().heat(&oids).await {
                Ok(heat) => heat,
                // An older server: then all count as cold.
                Err(Error::Fault(fault)) if fault.kind == FaultKind::Unsupported => Vec::new(),
                Err(error) => return Err(error),
            }
        };
        let hot = |place: usize| heat.get(place).is_some_and(|heat| *heat > hottest);
        let items = items.into_iter().enumerate();
        self.extend(items.map(|(place, (oid, after))| (Cell::object(oid), after, hot(place))));
        Ok(())
    }

    async fn fetch_list(&mut self, db: &Db, job: &JobRecord, first: u32, end: u32) -> Result<()> {
        let listed = if let Cursor::Listed(listed) = self.next { listed } else { 0 };
        let (number, inside) = (first + (listed / LIST_CELLS as u64) as u32, (listed % LIST_CELLS as u64) as usize);
        self.read = number + 1 >= end;
        if number >= end {
            return Ok(());
        }
        let cells = self.list(db, number, &job.plan).await?.cells(&job.plan);
        let rest = cells.into_iter().skip(inside).zip((listed + 1..).map(Cursor::Listed));
        if matches!(job.plan, Plan::Collection { .. }) {
            self.extend(rest.map(|(cell, after)| (cell, after, false)));
            return Ok(());
        }
        self.add_objects(db, job, rest.map(|(cell, after)| (cell.oid, after)).collect()).await
    }

    async fn list(&self, db: &Db, number: u32, plan: &Plan) -> Result<Listed> {
        let (view, cell) = (db.now(), list_cell(self.job, number));
        Ok(if let Plan::Collection { .. } = plan {
            let keys = kept::<KeysRecord>(&view, &cell).await?;
            Listed::Keys(keys.map(|kept| kept.record.keys).unwrap_or_default())
        } else {
            let oids = kept::<ListRecord>(&view, &cell).await?;
            Listed::Oids(oids.map(|kept| kept.record.oids).unwrap_or_default())
        })
    }

    fn extend(&mut self, items: impl Iterator<Item = (Cell, Cursor, bool)>) {
        for (cell, after, hot) in items {
            self.next = after.clone();
            self.page.push_back(Item { cell, after: Some(after), hot, former: None });
        }
    }
}
