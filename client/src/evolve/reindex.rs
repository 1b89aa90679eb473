//! Owns the filling and the scrub of the indexes that are kept with a class: for what was written by who did not know them.
//!
//! ```text
//!   an object of the class      its entries that are missing are written (and its record, if it is of a former version)
//!   an entry of an index        goes, unless its object is to be found under that key
//! ```
//! So one step serves two plans: of the class, and of an index as a collection. Both are stepped in transactions whose reads are
//! checked, so live writers that keep the index themselves are in nobody's way.

use super::Verified;
use super::job::newest_view;
use super::keys_hold::kept_indexes_hold;
use super::step::{Step, Stepped};
use super::sweep::is_right;
use super::verify::{Check, check_cells};
use crate::connect::Db;
use crate::errors::Result;
use crate::revision::Listing;
use crate::tx::Tx;
use crate::typed::{Persistent, decode_record};
use std::marker::PhantomData;
use zeolite_proto::{Cell, Oid, Record};

/// Objects that are looked at together.
const PAGE: u32 = 1000;

struct Reindex<T> {
    class: PhantomData<fn() -> T>,
}

/// Brings the indexes of a class in step with its objects, beside live traffic: a plan of the class (`Plan::class(T::CLASS)`) writes what is
/// missing, a plan of an index (`Plan::collection`, with the oid of its name in the root) takes out what is too much. An object whose
/// unique key is another's goes to the quarantine.
pub fn reindex<T: Persistent + Send + 'static>() -> impl Step {
    Reindex::<T> { class: PhantomData }
}

impl<T: Persistent + Send + 'static> Step for Reindex<T> {
    fn name(&self) -> String {
        format!("indexes of {}", T::CLASS)
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped> {
        if !cell.is_object() {
            let entry = old.encode().map_err(|bad| crate::tx::damaged(cell, &bad))?;
            let is_right = is_right::<T>(tx, cell, &entry).await?;
            return Ok(if is_right { Stepped::Keep } else { Stepped::Delete });
        }
        if let Some(record) = tx.get_encoded(cell).await? {
            if old.version != T::VERSION {
                tx.write_cell(cell, &decode_record::<T>(cell, &record)?)?;
            }
            tx.reindex::<T>(cell);
        }
        Ok(Stepped::Keep)
    }
}

/// Looks at every object of a class and at every entry of its kept indexes, at the newest snapshot: what is missing, and what is too much.
pub async fn verify_indexes<T: Persistent + 'static>(db: &Db) -> Result<Verified> {
    newest_view(db).await?;
    let pin = db.pin().await?;
    let view = pin.view();
    let (holds, mut verified) = (kept_indexes_hold::<T>(), Verified::default());
    verified.tid = view.snapshot();
    let mut after = Oid::ROOT;
    loop {
        let Listing { items: page, more } =
            db.admin().objects(Some(view.snapshot()), T::CLASS, None, after, PAGE).await?;
        let cells: Vec<Cell> = page.iter().map(|oid| Cell::object(*oid)).collect();
        check_cells(&view, &cells, None, &[&holds], &mut verified).await?;
        match page.last() {
            Some(last) if more => after = *last,
            _ => break,
        }
    }
    holds.whole(&view, &mut |problem| verified.problem(problem)).await?;
    Ok(verified)
}
