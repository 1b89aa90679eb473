//! Owns the plan: which objects a job covers, counted and cut into ranges at one pinned snapshot.
//!
//! The snapshot only says what is covered; steps always read the newest state. Objects by class and version come from the
//! index, exactly counted; lists and reachable objects are written into the ledger oid by oid.

use super::job::{self, Job, Target};
use super::known;
use super::ledger::{self, ListRecord, Part, RangeRecord};
use super::quantiles::Quantiles;
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::revision::Range;
use crate::tx::{Pin, Tx, View};
use crate::typed::Ref;
use bytes::Bytes;
pub use zeolite_proto::evolve::{Plan, Settings};
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::class;
use zeolite_proto::{Cell, Oid, hash};

/// Oids that are asked for at once.
const PAGE_OIDS: u32 = 10_000;
/// Oids of one list.
pub(crate) const LIST_OIDS: usize = 1000;
/// Oids that a plan may name one by one.
const LISTED_OIDS_MAX: usize = 10_000_000;

/// No class has a longer name: its length is one byte of a record.
const CLASS_BYTES_MAX: usize = 255;

/// A job to be planned.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its name: unique.
    pub name: String,
    /// What it covers.
    pub plan: Plan,
    /// Close the class's gate at the end; only for objects below a version.
    pub gate: bool,
    /// How it is to be run.
    pub settings: Settings,
    /// Also if there is nothing of the kind at all, which is mostly a name that is mistyped.
    pub allow_empty: bool,
}

impl NewJob {
    /// With the default settings and without a gate.
    pub fn new(name: impl Into<String>, plan: Plan) -> NewJob {
        NewJob { name: name.into(), plan, gate: false, settings: Settings::default(), allow_empty: false }
    }

    pub(crate) fn target(&self) -> Option<Target> {
        match &self.plan {
            Plan::Objects { class, below_version: version @ 1.. } => {
                Some(Target { class: class.clone(), version: *version, gate: self.gate })
            }
            _ => None,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.settings.check()?;
        if self.name.is_empty() || self.name.len() > 200 {
            return Err(Error::invalid("the name of an evolve has 1 to 200 bytes; choose another"));
        }
        if let Plan::Objects { class, .. } = &self.plan
            && (class.is_empty() || class.len() > CLASS_BYTES_MAX)
        {
            return Err(Error::invalid(format!(
                "the name of a class has 1 to {CLASS_BYTES_MAX} bytes; name one that objects can have"
            )));
        }
        if self.gate && self.target().is_none() {
            return Err(Error::invalid("a gate needs a plan by class and version; plan objects below a version"));
        }
        Ok(())
    }
}

/// Counts what a job covers, cuts it into ranges and writes it down. Nothing runs yet.
pub async fn plan(db: &Db, new: NewJob) -> Result<Job> {
    new.check()?;
    db.newest().await?;
    let pin = db.pin().await?;
    let wanted = if new.settings.atomic { 1 } else { new.settings.ranges_wanted() };
    let (mut ranges, lists) = cut(&pin, &new.plan, wanted).await?;
    let record = new.record(pin.snapshot(), &ranges);
    if !new.allow_empty {
        known::check(&pin.view(), &new.plan, record.total).await?;
    }
    ranges.push(RangeRecord::new(Part::Finish, 0));
    let reference = Ref::new(db.new_oid().await?);
    let write = async |tx: &Tx| {
        job::enlist(tx, &record.name, reference).await?;
        tx.set(reference, &record)?;
        for (number, range) in (0..).zip(&ranges) {
            tx.put_unchecked(ledger::range_cell(reference.oid(), number), ledger::encoded(range)?)?;
        }
        for (number, list) in (0..).zip(&lists) {
            tx.put_unchecked(ledger::list_cell(reference.oid(), number), ledger::encoded(list)?)?;
        }
        Ok(())
    };
    let transaction = db.transaction().fresh().batch().note("evolve", format!("plan {}", record.name));
    transaction.run(async |tx| write(&tx).await).await?;
    Ok(Job::new(db, reference, &record.name))
}

pub(crate) type Cut = (Vec<RangeRecord>, Vec<ListRecord>);

/// The bound of a stored plan; it has 0 for none.
pub(crate) fn below(version: u32) -> Option<u32> {
    (version > 0).then_some(version)
}

/// The end of a stored range; it is empty for none.
pub(crate) fn end(key: &[u8]) -> Option<Bytes> {
    (!key.is_empty()).then(|| Bytes::copy_from_slice(key))
}

pub(crate) async fn cut(pin: &Pin, plan: &Plan, wanted: usize) -> Result<Cut> {
    let view = pin.view();
    match plan {
        Plan::Objects { class, below_version } => {
            Ok((cut_objects(&view, class, *below_version, wanted).await?, Vec::new()))
        }
        Plan::Collection { oid, from, to } => {
            let range = Range::between(from.clone(), end(to));
            Ok((cut_entries(&view, Oid(*oid), range, wanted).await?, Vec::new()))
        }
        Plan::Reachable { from } => Ok(cut_list(reachable(&view, Oid(*from)).await?, wanted)),
        Plan::Oids { oids } => {
            let mut seen = hash::Set::default();
            let once = oids.iter().copied().filter(|oid| seen.insert(*oid)).collect::<Vec<_>>();
            if once.len() > LISTED_OIDS_MAX {
                return Err(too_many());
            }
            Ok(cut_list(once, wanted))
        }
    }
}

fn too_many() -> Error {
    Error::invalid(format!("the plan names more than {LISTED_OIDS_MAX} objects one by one; plan by class, or in parts"))
}

async fn cut_objects(view: &View, class: &str, version: u32, wanted: usize) -> Result<Vec<RangeRecord>> {
    let mut quantiles = Quantiles::new(wanted);
    let mut after = None;
    loop {
        let from = after.unwrap_or(Oid(0));
        let (page, more) =
            view.db().admin().objects(Some(view.snapshot()), class, below(version), from, PAGE_OIDS).await?;
        page.iter().for_each(|oid| quantiles.add(oid.0));
        match page.last() {
            Some(last) if more => after = Some(*last),
            _ => break,
        }
    }
    let mut after = 0;
    let range = |(last, total): (u64, u64)| {
        let range = RangeRecord::new(Part::Objects { after, last }, total);
        after = last;
        range
    };
    Ok(quantiles.cut().into_iter().map(range).collect())
}

async fn cut_entries(view: &View, oid: Oid, range: Range, wanted: usize) -> Result<Vec<RangeRecord>> {
    let mut quantiles: Quantiles<Bytes> = Quantiles::new(wanted);
    let mut scan = view.scan(oid, range.clone().keys_only());
    while let Some(page) = scan.next_page().await? {
        page.into_iter().for_each(|entry| quantiles.add(entry.key));
    }
    let cuts = quantiles.cut();
    let ends = cuts.len();
    let mut from = range.from.to_vec();
    let part = |(place, (last, total)): (usize, (Bytes, u64))| {
        let to = if place + 1 == ends {
            range.to.as_ref().map(|to| to.to_vec()).unwrap_or_default()
        } else {
            crate::keys::after(&last).to_vec()
        };
        let part = Part::Entries { from: std::mem::replace(&mut from, to.clone()), to };
        RangeRecord::new(part, total)
    };
    Ok(cuts.into_iter().enumerate().map(part).collect())
}

fn cut_list(oids: Vec<u64>, wanted: usize) -> Cut {
    let lists: Vec<ListRecord> = oids.chunks(LIST_OIDS).map(|oids| ListRecord { oids: oids.to_vec() }).collect();
    let each = lists.len().div_ceil(wanted.max(1)).max(1);
    let ranges = lists.chunks(each).enumerate().map(|(place, part)| {
        let first = (place * each) as u32;
        let total = part.iter().map(|list| list.oids.len() as u64).sum();
        RangeRecord::new(Part::Lists { first, end: first + part.len() as u32 }, total)
    });
    (ranges.collect(), lists)
}

/// All objects that can be reached, in the order in which they are found. Needs memory for each.
async fn reachable(view: &View, from: Oid) -> Result<Vec<u64>> {
    let mut seen = hash::Set::from_iter([from.0]);
    let mut found = vec![from.0];
    let mut read = 0;
    while read < found.len() {
        if found.len() > LISTED_OIDS_MAX {
            return Err(too_many());
        }
        let cells: Vec<Cell> =
            found[read..].iter().take(PAGE_OIDS as usize).map(|oid| Cell::object(Oid(*oid))).collect();
        read += cells.len();
        for (cell, record) in cells.iter().zip(view.get_many(&cells).await?) {
            let Some(record) = record else { continue };
            let header = Header::parse(&record).map_err(|bad| crate::tx::damaged(cell, &bad))?;
            let mut refer = |refs: &mut dyn Iterator<Item = Oid>| {
                found.extend(refs.map(|oid| oid.0).filter(|oid| seen.insert(*oid)));
            };
            refer(&mut header.refs());
            if class::COLLECTIONS.contains(&header.class) {
                let mut scan = view.scan(cell.oid, Range::all());
                while let Some(page) = scan.next_page().await? {
                    for entry in page {
                        let header = Header::parse(&entry.record).map_err(|bad| crate::tx::damaged(cell, &bad))?;
                        refer(&mut header.refs());
                    }
                }
            }
        }
    }
    Ok(found)
}
