//! Owns savepoints: what a transaction had written at a moment, to go back to.
//!
//! Nothing is sent before the commit, so going back is a matter of the own writes alone. What was read stays read: a serializable
//! transaction that looked at something in what it took back has still decided by it, and the commit checks it.

use super::own::Own;
use super::{Tx, View};
use crate::errors::{Error, Result};
use std::sync::{Arc, Weak};

/// What a transaction had written when [`Tx::savepoint`] was called.
///
/// ```
/// use zeolite_client::collections::Map;
///
/// # zeolite_testing::with_db(async |db| {
/// let words: Map<String, u64> = db.run(async |tx| tx.root_or_create("words").await).await?;
/// let tx = db.begin().await?;
/// let before = tx.savepoint();
/// words.insert(&tx, "zeolite", &1)?;
/// tx.back_to(&before)?;
/// assert!(!words.contains(&tx, "zeolite").await?);
/// # Ok(()) });
/// ```
#[must_use = "a savepoint does nothing until `Tx::back_to`"]
#[derive(Clone, Debug)]
pub struct Savepoint {
    of: Weak<View>,
    own: Own,
}

impl Tx {
    /// Keeps what has been written so far, to go back to: any number of times, in any order.
    ///
    /// ```no_run
    /// # use zeolite_client::{Error, Tx, collections::Map};
    /// # async fn import(tx: &Tx, rows: Map<u32, String>, lines: &[String]) -> Result<(), Error> {
    /// for (number, line) in (0u32..).zip(lines) {
    ///     let before = tx.savepoint();
    ///     rows.insert(tx, &number, line)?;
    ///     if line.is_empty() {
    ///         tx.back_to(&before)?;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { of: Arc::downgrade(&self.view), own: self.view.own.lock().clone() }
    }

    /// Takes back what was written since. The note stays.
    pub fn back_to(&self, savepoint: &Savepoint) -> Result<()> {
        if !savepoint.of.ptr_eq(&Arc::downgrade(&self.view)) {
            return Err(Error::invalid(
                "the savepoint is of another transaction (`run` begins a new one for each attempt)",
            ));
        }
        self.view.own.lock().back_to(savepoint.own.clone())
    }

    /// Takes everything back: work of [`crate::Db::run`] that returns `Ok` then commits nothing, and is no error.
    ///
    /// ```no_run
    /// # use zeolite_client::{Db, Error, collections::Counter};
    /// # async fn example(db: Db, places: Counter) -> Result<(), Error> {
    /// let booked = db.run(async |tx| {
    ///     places.add(&tx, -1)?;
    ///     if places.get(&tx).await? < 0 {
    ///         tx.rollback()?;
    ///         return Ok(false);
    ///     }
    ///     Ok(true)
    /// }).await?;
    /// # Ok(()) }
    /// ```
    pub fn rollback(&self) -> Result<()> {
        self.view.own.lock().back_to(Own::default())
    }
}
