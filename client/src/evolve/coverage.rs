//! Owns what a plan covers: which cells, counted and cut into ranges, at the one snapshot that the plan is of.
//!
//! ```text
//!   objects below a version   nothing is written down: the index lists and counts what is left, whoever made it, and when none is,
//!                             the job is done
//!   all else                  each oid or key is written into the ledger. Whatever is pinned anew, restarted, packed or created
//!                             later: the job covers these, and no other; so no step can feed its own plan
//! ```
//! Of many objects below a version the number is counted by the index, and where they are cut is estimated (`cuts`).
//!
//! Steps read the newest state, so what is gone by then needs nothing. Zeolite's own records are never covered (`own_records`).
//!
//! Not here: plans of more than ten million cells one by one, which are refused: their list needs memory, and nobody reads it.

use super::cuts::{self, List};
use super::ledger::{self, KeysRecord, ListRecord, Part, RangeRecord};
use super::own_records::OwnRecords;
use super::quantiles::Quantiles;
use crate::errors::{Error, Result};
use crate::revision::{Listing, Range};
use crate::tx::View;
use bytes::Bytes;
use zeolite_proto::evolve::Plan;
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::class;
use zeolite_proto::{Cell, Oid, hash};

/// Oids that are asked for at once.
const PAGE_OIDS: u32 = 10_000;
/// Oids or keys of one list.
pub(crate) const LIST_CELLS: usize = 1000;
/// More objects below a version than these are not listed to be cut.
const CUT_EXACTLY_MAX: u64 = 50_000;
/// Cells that a plan may name one by one.
const LISTED_MAX: usize = 10_000_000;
/// Bytes of all keys that a plan names.
const KEY_BYTES_MAX: usize = 256 << 20;

/// One list of the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Listed {
    Oids(Vec<u64>),
    Keys(Vec<Vec<u8>>),
}

/// What a plan covers.
pub(crate) struct Covered {
    pub(crate) ranges: Vec<RangeRecord>,
    pub(crate) lists: Vec<Listed>,
}

impl Listed {
    pub(crate) fn encoded(&self) -> Result<Bytes> {
        match self {
            Listed::Oids(oids) => ledger::encoded(&ListRecord { oids: oids.clone() }),
            Listed::Keys(keys) => ledger::encoded(&KeysRecord { keys: keys.clone() }),
        }
    }

    /// Its cells, as a plan means them.
    pub(crate) fn cells(self, plan: &Plan) -> Vec<Cell> {
        match (self, plan) {
            (Listed::Oids(oids), _) => oids.into_iter().map(|oid| Cell::object(Oid(oid))).collect(),
            (Listed::Keys(keys), Plan::Collection { oid, .. }) => {
                keys.into_iter().map(|key| Cell::entry(Oid(*oid), key)).collect()
            }
            (Listed::Keys(_), _) => Vec::new(),
        }
    }
}

/// The bound of a stored plan; it has 0 for none.
pub(crate) fn below(version: u32) -> Option<u32> {
    (version > 0).then_some(version)
}

/// The end of a stored range; it is empty for none.
pub(crate) fn end(key: &[u8]) -> Option<Bytes> {
    (!key.is_empty()).then(|| Bytes::copy_from_slice(key))
}

/// What a plan covers at a snapshot, in so many ranges at most.
pub(crate) async fn covered(view: &View, plan: &Plan, own: &OwnRecords, wanted: usize) -> Result<Covered> {
    Ok(match plan {
        Plan::Objects { class, below_version: version @ 1.. } => {
            Covered { ranges: cut_objects(view, class, *version, wanted).await?, lists: Vec::new() }
        }
        Plan::Objects { class, .. } => in_lists(&of_class(view, class, own).await?, wanted, Listed::Oids),
        Plan::Collection { oid, from, to } => {
            let range = Range::between(from.clone(), end(to));
            in_lists(&keys(view, Oid(*oid), range).await?, wanted, Listed::Keys)
        }
        Plan::Reachable { from } => in_lists(&reachable(view, Oid(*from), own).await?, wanted, Listed::Oids),
        Plan::Oids { oids } => {
            let mut seen = hash::Set::default();
            let once = |oid: &u64| !own.is_object(Oid(*oid)) && seen.insert(*oid);
            let oids: Vec<u64> = oids.iter().copied().filter(once).collect();
            is_not_too_many(oids.len())?;
            in_lists(&oids, wanted, Listed::Oids)
        }
        other => {
            let message = format!("this program does not know what a plan of {} covers; use a newer one", other.text());
            return Err(Error::invalid(message));
        }
    })
}

fn is_not_too_many(cells: usize) -> Result<()> {
    if cells <= LISTED_MAX {
        return Ok(());
    }
    let how = "plan objects below a version, a range of keys, or lists in parts";
    Err(Error::invalid(format!("the plan covers more than {LISTED_MAX} objects one by one; {how}")))
}

/// The objects of a class, as the index lists them now.
struct Pages<'v> {
    view: &'v View,
    class: &'v str,
    below: Option<u32>,
    after: Option<Oid>,
}

impl Pages<'_> {
    async fn next(&mut self) -> Result<Option<Vec<Oid>>> {
        let Some(after) = self.after else { return Ok(None) };
        let (admin, at) = (self.view.db().admin(), Some(self.view.snapshot()));
        let Listing { items: page, more } = admin.objects(at, self.class, self.below, after, PAGE_OIDS).await?;
        self.after = page.last().copied().filter(|_| more);
        Ok(Some(page))
    }
}

/// The objects of a class below a version, for cuts.
struct Below<'v> {
    view: &'v View,
    class: &'v str,
    version: u32,
}

impl List for Below<'_> {
    async fn behind(&self, oid: u64, limit: u32) -> Result<Vec<u64>> {
        let (admin, at) = (self.view.db().admin(), Some(self.view.snapshot()));
        let page = admin.objects(at, self.class, Some(self.version), Oid(oid), limit).await?.items;
        Ok(page.into_iter().map(|oid| oid.0).collect())
    }
}

/// Objects below a version.
async fn cut_objects(view: &View, class: &str, version: u32, wanted: usize) -> Result<Vec<RangeRecord>> {
    let counted = view.db().admin().kinds().await?.below(class, version);
    if counted > CUT_EXACTLY_MAX {
        let listed = Below { view, class, version };
        return Ok(in_ranges(cuts::cut(&listed, counted, wanted).await?));
    }
    let mut quantiles = Quantiles::new(wanted);
    let mut pages = Pages { view, class, below: Some(version), after: Some(Oid(0)) };
    while let Some(page) = pages.next().await? {
        page.iter().for_each(|oid| quantiles.add(oid.0));
    }
    Ok(in_ranges(quantiles.cut()))
}

/// Each begins where the one before ends.
fn in_ranges(cuts: Vec<(u64, u64)>) -> Vec<RangeRecord> {
    let mut after = 0;
    let range = |(last, total): (u64, u64)| {
        let range = RangeRecord::new(Part::Objects { after, last }, total);
        after = last;
        range
    };
    cuts.into_iter().map(range).collect()
}

/// All objects of a class at the snapshot.
async fn of_class(view: &View, class: &str, own: &OwnRecords) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    let mut pages = Pages { view, class, below: None, after: Some(Oid(0)) };
    while let Some(page) = pages.next().await? {
        all.extend(page.into_iter().filter(|oid| !own.is_object(*oid)).map(|oid| oid.0));
        is_not_too_many(all.len())?;
    }
    // What was made since the snapshot is listed as well, and was not there.
    let written = written_since(view).await?;
    let doubtful: Vec<Cell> =
        all.iter().filter(|oid| written.contains(*oid)).map(|oid| Cell::object(Oid(*oid))).collect();
    let there = doubtful.iter().zip(view.get_many(&doubtful).await?);
    let made: hash::Set<u64> = there.filter(|(_, record)| record.is_none()).map(|(cell, _)| cell.oid.0).collect();
    all.retain(|oid| !made.contains(oid));
    Ok(all)
}

/// Objects that were written since the snapshot.
async fn written_since(view: &View) -> Result<hash::Set<u64>> {
    let (after, to) = (view.snapshot(), view.db().newest().await?);
    let mut written = hash::Set::default();
    if after >= to {
        return Ok(written);
    }
    let mut pages = view.db().admin().log(Some(after.next()), Some(to), None, false).await?;
    while let Some(page) = pages.next().await? {
        let cells = page.into_iter().flat_map(|transaction| transaction.writes).map(|write| write.cell);
        written.extend(cells.filter(Cell::is_object).map(|cell| cell.oid.0));
    }
    Ok(written)
}

async fn keys(view: &View, oid: Oid, range: Range) -> Result<Vec<Vec<u8>>> {
    let (mut keys, mut bytes) = (Vec::new(), 0);
    let mut scan = view.scan(oid, range.keys_only());
    while let Some(page) = scan.next_page().await? {
        let planned = page.into_iter().filter(|entry| !OwnRecords::is_entry(oid, &entry.key));
        keys.extend(planned.map(|entry| {
            bytes += entry.key.len();
            entry.key.to_vec()
        }));
        is_not_too_many(keys.len())?;
        if bytes > KEY_BYTES_MAX {
            let why = format!("the keys that the plan covers have more than {KEY_BYTES_MAX} bytes");
            return Err(Error::invalid(format!("{why}; plan the collection in parts, by ranges of its keys")));
        }
    }
    Ok(keys)
}

/// Every range begins with a list of its own.
fn in_lists<T: Clone>(cells: &[T], wanted: usize, list: impl Fn(Vec<T>) -> Listed) -> Covered {
    let each = cells.len().div_ceil(wanted.max(1)).max(1);
    let mut covered = Covered { ranges: Vec::new(), lists: Vec::new() };
    for part in cells.chunks(each) {
        let first = covered.lists.len() as u32;
        covered.lists.extend(part.chunks(LIST_CELLS).map(|cells| list(cells.to_vec())));
        let end = covered.lists.len() as u32;
        covered.ranges.push(RangeRecord::new(Part::Lists { first, end }, part.len() as u64));
    }
    covered
}

/// All objects that can be reached, in the order in which they are found. Needs memory for each.
async fn reachable(view: &View, from: Oid, own: &OwnRecords) -> Result<Vec<u64>> {
    let mut seen = hash::Set::from_iter([from.0]);
    let mut found = vec![from.0];
    let mut read = 0;
    while read < found.len() {
        is_not_too_many(found.len())?;
        let cells: Vec<Cell> =
            found[read..].iter().take(PAGE_OIDS as usize).map(|oid| Cell::object(Oid(*oid))).collect();
        read += cells.len();
        for (cell, record) in cells.iter().zip(view.get_many(&cells).await?) {
            let mut refer = |refs: &mut dyn Iterator<Item = Oid>| {
                let others = refs.filter(|oid| !own.is_object(*oid));
                found.extend(others.map(|oid| oid.0).filter(|oid| seen.insert(*oid)));
            };
            let mut leads_on = cell.oid == Oid::ROOT;
            if let Some(record) = record {
                let header = Header::parse(&record).map_err(|bad| crate::tx::damaged(cell, &bad))?;
                refer(&mut header.refs());
                leads_on |= class::COLLECTIONS.contains(&header.class);
            }
            if !leads_on {
                continue;
            }
            let mut scan = view.scan(cell.oid, Range::all());
            while let Some(page) = scan.next_page().await? {
                for entry in page.into_iter().filter(|entry| !OwnRecords::is_entry(cell.oid, &entry.key)) {
                    let header = Header::parse(&entry.record).map_err(|bad| crate::tx::damaged(cell, &bad))?;
                    refer(&mut header.refs());
                }
            }
        }
    }
    found.retain(|oid| !own.is_object(Oid(*oid)));
    Ok(found)
}
