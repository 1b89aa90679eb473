//! Owns what is asked before an object of a higher version is overwritten or removed: whether it may be in an index that the type which does
//! it does not know.
//!
//! ```text
//!   record of version 2, written over by a type of version 1
//!     newer = r2::Page                    r2 gives its keys, in all of its indexes        nothing is asked
//!     by hand, with LATER_INDEXED         the keys that `index_former` gives, in these    are there names in the root that it does not name?
//!     by hand, without a word             no keys                                         are there any?
//! ```
//! The names of the class in the root are asked for, which the connection keeps until the root changes: so it is no round trip for each
//! such write, and none at all for others. With a feed, that is: without one they are asked for each time. An index that a version in between has
//! left in the root counts while it has an entry: nobody but its type knows whether that is the record's.

use crate::collections::kept::{KeptName, index_in_name, root_name};
use crate::errors::{Error, Result};
use crate::revision::Range;
use crate::tx::{KeptClass, KeptIndex, KeptObject, View, damaged};
use bytes::Bytes;
use std::collections::BTreeMap;
use zeolite_proto::Cell;
use zeolite_proto::record::Header;

/// By class: an object of a version that its type does not know the indexes of.
#[derive(Default)]
pub(super) struct Newer(BTreeMap<&'static str, (Cell, u32, KeptClass)>);

impl Newer {
    /// Looks at the record that is there.
    pub(super) fn look(&mut self, cell: &Cell, object: &KeptObject, record: Option<&Bytes>) -> Result<()> {
        let Some(record) = record else { return Ok(()) };
        let header = Header::parse(record).map_err(|bad| damaged(cell, &bad))?;
        if let Some(known) = object.known(header.class).filter(|known| header.version > known.indexed_to) {
            self.0.entry(known.class).or_insert_with(|| (cell.clone(), header.version, *known));
        }
        Ok(())
    }

    /// Refuses what would leave entries behind.
    pub(super) async fn refuse_unknown(self, view: &View) -> Result<()> {
        for (class, (cell, version, type_)) in self.0 {
            let own: Vec<String> = type_.indexes.into_iter().flatten().flat_map(|index| names(class, *index)).collect();
            let there = view.index_names().await?;
            let of_class = there.iter().filter_map(|(name, _)| Some((name, index_in_name(name, class)?)));
            let mut indexes = Vec::new();
            for (name, index) in of_class.filter(|(name, _)| !own.contains(name)) {
                if has_entries(view, name).await? {
                    indexes.push(index.to_owned());
                }
            }
            if !indexes.is_empty() {
                return Err(Error::KeptElsewhere { cell, class: class.to_owned(), version, indexes });
            }
        }
        Ok(())
    }
}

/// Whether an object is in an index, as it is now. One without an entry is nobody's: a release that was taken back has left it.
async fn has_entries(view: &View, name: &str) -> Result<bool> {
    let place = view.db().place();
    let newest = place.at(place.snapshot().max(view.snapshot())).view(view.db());
    let Some(named) = newest.named(name).await? else { return Ok(false) };
    let mut scan = newest.scan(named.oid(), Range::all().keys_only().limited(1));
    Ok(scan.next_page().await?.is_some_and(|page| !page.is_empty()))
}

/// Under which an index may be.
fn names(class: &str, index: KeptIndex) -> impl Iterator<Item = String> {
    let former = (!index.was_other).then(|| KeptName::of(class, index).bare_in_root());
    [Some(root_name(class, index)), former].into_iter().flatten()
}
