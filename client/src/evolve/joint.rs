//! Owns the stepping of a chunk's objects *together*: one after the other in one piece of work, so that each sees what those before
//! it have made of what they share.
//!
//! ```text
//!   doc 1 ─> f ─> doc 1', bucket', length'
//!   doc 2 ─> f ─> doc 2', bucket'', length''      one record of the bucket for the whole chunk, merged with live ones by the server
//!   doc 3 ─> f ─> fails: nothing of it            to the quarantine
//! ```
//! For applications whose objects are shared by many steps and cannot be written as entries and operations: ZODB's. What each step
//! has written is known, and told in the chunk's note: of the work, which is the chunk's, a step has its *share*.
//!
//! What a step has left in shared objects cannot be taken back by their records, once later steps have changed them as well. So an object
//! that a live draft has gone over is given back to the step with the chunk that stepped it before: the step takes away what it had
//! made elsewhere (or replaces it), and steps the object anew. Its own record, if nobody has written it since, is what it was before.

use super::earlier::{Former, Repaid, Stuck, TakeBack};
use super::own_records::OwnRecords;
use super::step::{JointObject, JointStep, JointWork};
use super::stepping::{StepResult, SteppedCell, Stepping, Wanted, bad};
use crate::errors::{Error, Result};
use crate::revision::Revision;
use crate::tx::{Place, Prefetched, Share, Staged, View, Work, damaged};
use std::collections::BTreeMap;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, ReadCell};

/// Steps cells together at a place.
pub(crate) struct Joint<'a> {
    pub(crate) stepping: &'a Stepping<'a>,
    pub(crate) step: &'a dyn JointStep,
    pub(crate) ahead: &'a Prefetched,
    pub(crate) place: Place,
}

/// One cell before the step.
enum Looked {
    /// The step is not asked.
    Over(Box<StepResult>),
    Asked(Box<Asked>),
}

struct Asked {
    object: JointObject,
    /// What is there: for the quarantine, and for who judges.
    now: Revision,
    version: u32,
    repaid: Option<Repaid>,
}

impl Joint<'_> {
    /// All of them; `again` says how often each was made before.
    pub(crate) async fn all(&self, wanted: Vec<Wanted>) -> Result<Vec<SteppedCell>> {
        Ok(self.all_and_read(wanted).await?.0)
    }

    /// The same, with what they have read beside their own objects.
    pub(crate) async fn all_and_read(&self, wanted: Vec<Wanted>) -> Result<(Vec<SteppedCell>, Vec<Cell>)> {
        let (made, read) = self.make(&wanted).await?;
        let base = self.place.snapshot();
        let cell = |(wanted, made): (Wanted, StepResult)| {
            let Wanted { item, was_bad, .. } = wanted;
            SteppedCell { item, made, base, again: 0, was_bad }
        };
        Ok((wanted.into_iter().zip(made).map(cell).collect(), read))
    }

    async fn make(&self, wanted: &[Wanted]) -> Result<(Vec<StepResult>, Vec<Cell>)> {
        let view = self.ahead.view(self.stepping.db);
        let mut looked = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            looked.push(self.look(wanted, &view).await?);
        }
        // What the plan does not take goes to the quarantine, and the others are stepped without it.
        loop {
            let objects: Vec<JointObject> = looked.iter().filter_map(Looked::object).cloned().collect();
            let mut made = match objects.is_empty() {
                true => JointWork::default(),
                false => self.step.steps(self.stepping.db, self.place, &objects).await?,
            };
            if made.objects.len() != objects.len() {
                let (asked, told) = (objects.len(), made.objects.len());
                return Err(Error::worker(format!("it was asked to step {asked} objects, and told of {told}")));
            }
            if self.all_are_taken(&mut looked, &made, &view).await? {
                let read = std::mem::take(&mut made.read);
                return Ok((self.results(looked, made), read));
            }
        }
    }

    async fn look(&self, wanted: &Wanted, view: &View) -> Result<Looked> {
        let (stepping, item) = (self.stepping, &wanted.item);
        if wanted.for_later {
            return Ok(Looked::over(StepResult::PutOff));
        }
        let now = view.revision(&item.cell).await?;
        if wanted.bad_at == Some(now.tid) {
            return Ok(Looked::over(StepResult::StillBad));
        }
        let former = match item.former {
            None => None,
            Some(chunk) => {
                let take = TakeBack { db: stepping.db, job: stepping.job_oid, cell: &item.cell };
                match take.own(&self.place.view(stepping.db), chunk, &now).await {
                    Ok(former) => Some(former),
                    Err(Stuck::Cannot(why)) => return Ok(Looked::bad(&item.cell, &now, &why)),
                    Err(Stuck::Error(error)) => return Err(error),
                }
            }
        };
        let (repaid, former_chunk, record, is_seen) = match former {
            None => (None, None, now.record.clone(), false),
            Some((Former { chunk, owed, changed, is_owed }, before)) => {
                let repaid = Repaid { chunk, changed, owed, staged: BTreeMap::new() };
                (Some(repaid), chunk, before.unwrap_or_else(|| now.record.clone()), chunk.is_some() && !is_owed)
            }
        };
        let Some(record) = record else { return Ok(Looked::found_done(self.place, repaid)) };
        let header = Header::parse(&record).map_err(|bad| damaged(&item.cell, &bad))?;
        let version = header.version;
        if OwnRecords::is_class(header.class) {
            return Ok(Looked::found_done(self.place, repaid));
        }
        // Who has written it since has seen what its step had made elsewhere, and does not make that anew.
        let is_wanted = is_seen || !stepping.needs_nothing(&header);
        if !is_wanted && former_chunk.is_none() {
            return Ok(Looked::found_done(self.place, repaid));
        }
        match stepping.was_planned(item, now.tid).await? {
            Ok(true) => {}
            Ok(false) => return Ok(Looked::found_done(self.place, repaid)),
            Err(why) => return Ok(Looked::bad(&item.cell, &now, &why)),
        }
        let object =
            JointObject { cell: item.cell.clone(), record, tid: now.tid, former: former_chunk, is_stepped: is_wanted };
        Ok(Looked::Asked(Box::new(Asked { object, now, version, repaid })))
    }

    /// False: some go to the quarantine, and the others have to be made without them.
    async fn all_are_taken(&self, looked: &mut [Looked], made: &JointWork, view: &View) -> Result<bool> {
        let mut all = true;
        let mut told = made.objects.iter();
        for looked in looked {
            let Looked::Asked(asked) = looked else { continue };
            let (Some(Ok(share)), cell) = (told.next(), &asked.object.cell) else { continue };
            if !asked.object.is_stepped {
                continue;
            }
            let work = made.part(&share.wrote);
            let mut judged = self.stepping.reaches_the_target(&work, cell, asked.version);
            if judged.is_ok() {
                judged = self.stepping.leaves_the_plan_alone(&work, cell, view).await?;
            }
            if let Err(why) = judged {
                *looked = Looked::bad(&cell.clone(), &asked.now, &why);
                all = false;
            }
        }
        Ok(all)
    }

    /// The work is with the first step that did something; each has its share.
    fn results(&self, looked: Vec<Looked>, made: JointWork) -> Vec<StepResult> {
        let base = self.place.snapshot();
        let checked = looked.iter().filter_map(Looked::object).map(|object| &object.cell).chain(&made.checks);
        let read_cells: std::collections::BTreeSet<Cell> = checked.cloned().collect();
        let cells = made.records.into_iter().map(|(cell, record)| (cell, record.map_or(Staged::Delete, Staged::Put)));
        let read_cells = read_cells.into_iter().map(|cell| ReadCell { cell, base }).collect();
        let mut all = Some(Work { base, cells: cells.collect(), read_cells, ..Work::default() });
        let mut told = made.objects.into_iter();
        let result = |looked| match looked {
            Looked::Over(result) => *result,
            Looked::Asked(asked) => match told.next().unwrap_or_else(|| Ok(Share::default())) {
                Err(why) => bad(&asked.object.cell, asked.now.record.as_ref(), asked.now.tid, &why),
                Ok(share) => {
                    let changed = share.wrote.contains(&asked.object.cell);
                    let work = all.take().unwrap_or_else(|| Work { base, ..Work::default() });
                    let work = Work { share: Some(share), ..work };
                    StepResult::Work { work, stepped: asked.object.is_stepped, changed, repaid: asked.repaid }
                }
            },
        };
        looked.into_iter().map(result).collect()
    }
}

/// Of cells that were made together, to each its own part of the work; what several have written is the first one's.
pub(crate) fn parted(mut made: Vec<SteppedCell>) -> Vec<SteppedCell> {
    let works = made.iter_mut().filter_map(|made| match &mut made.made {
        StepResult::Work { work, .. } => Some(work),
        _ => None,
    });
    let mut all = BTreeMap::new();
    for work in works {
        all.append(&mut work.cells);
        let share = work.share.iter().flat_map(|share| &share.wrote);
        work.cells = share.filter_map(|cell| all.remove_entry(cell)).collect();
    }
    made
}

impl Looked {
    fn object(&self) -> Option<&JointObject> {
        match self {
            Looked::Asked(asked) => Some(&asked.object),
            Looked::Over(_) => None,
        }
    }

    fn over(result: StepResult) -> Looked {
        Looked::Over(Box::new(result))
    }

    fn bad(cell: &Cell, now: &Revision, why: &str) -> Looked {
        Looked::over(bad(cell, now.record.as_ref(), now.tid, why))
    }

    /// There is nothing to be stepped; what was owed of it is paid.
    fn found_done(place: Place, repaid: Option<Repaid>) -> Looked {
        Looked::over(match repaid {
            None => StepResult::FoundDone,
            Some(repaid) => {
                let work = Work { base: place.snapshot(), share: Some(Share::default()), ..Work::default() };
                StepResult::Work { work, stepped: false, changed: false, repaid: Some(repaid) }
            }
        })
    }
}

impl JointWork {
    /// What one step has written of it.
    fn part(&self, share: &[Cell]) -> Work {
        let staged = |cell: &Cell| {
            let record = self.records.get(cell)?;
            Some((cell.clone(), record.clone().map_or(Staged::Delete, Staged::Put)))
        };
        Work { cells: share.iter().filter_map(staged).collect(), ..Work::default() }
    }
}
