//! Owns the numbers that many writers change at once: counters, bounded counters, extremes.
//!
//! Writing them sends an operation, not a value: it needs no read, has no base, and does not conflict.

use super::Create;
use crate::errors::{Error, Result};
use crate::tx::{Tx, View, damaged};
use crate::typed::handle;
use zeolite_proto::resolvers::bounded::{self, Bounded};
use zeolite_proto::resolvers::{class, counter, extreme};
use zeolite_proto::{BadRecord, Cell, Oid, Record};

/// A number that is added to, by any number of writers, without conflict.
///
/// ```
/// use zeolite_client::collections::Counter;
///
/// # zeolite_testing::with_db(async |db| {
/// let hits: Counter = db.run(async |tx| tx.root_or_create("hits").await).await?;
/// db.run(async |tx| hits.add(&tx, 2)).await?;
/// assert_eq!(hits.get(&db.now()).await?, 2);
/// # Ok(()) });
/// ```
pub struct Counter {
    oid: Oid,
}

/// A number that is added to and stays within bounds: a writer that would leave them gets a conflict with the reason.
///
/// ```
/// use zeolite_client::FaultKind;
/// use zeolite_client::collections::{Bounded, BoundedCounter};
///
/// # zeolite_testing::with_db(async |db| {
/// let bounds = Bounded { value: 3, low: 0, high: 10 };
/// let stock = db.run(async |tx| BoundedCounter::create(&tx, bounds).await).await?;
/// db.run(async |tx| stock.add(&tx, -3)).await?;
/// let refused = db.run(async |tx| stock.add(&tx, -1)).await.expect_err("there is none left");
/// assert_eq!(refused.kind(), Some(FaultKind::Refused));
/// # Ok(()) });
/// ```
pub struct BoundedCounter {
    oid: Oid,
}

handle!(Counter, class::COUNTER);
handle!(BoundedCounter, class::BOUNDED);

fn encode_error(class: &str, bad: &BadRecord) -> Error {
    Error::Encode { class: class.to_owned(), reason: bad.to_string() }
}

/// The record of a cell, checked to be of the class, read with the resolver's own function.
async fn read<T>(
    view: &View,
    oid: Oid,
    expected: &'static str,
    read: impl FnOnce(&Record) -> Result<T, BadRecord>,
) -> Result<Option<T>> {
    let cell = Cell::object(oid);
    let Some(record) = view.get(&cell).await? else { return Ok(None) };
    if record.class != expected {
        return Err(Error::WrongClass { cell, expected: expected.to_owned(), found: record.class });
    }
    read(&record).map(Some).map_err(|bad| damaged(&cell, &bad))
}

impl Counter {
    /// The counter of an object.
    pub const fn new(oid: Oid) -> Counter {
        Counter { oid }
    }

    /// Makes a counter that starts at a value.
    pub async fn create_at(tx: &Tx, value: i64) -> Result<Counter> {
        let made = Counter::new(tx.db().new_oid().await?);
        tx.put(Cell::object(made.oid), &counter::record(value))?;
        Ok(made)
    }

    /// The value; 0 if nothing was ever added.
    pub async fn get(&self, view: &View) -> Result<i64> {
        Ok(read(view, self.oid, class::COUNTER, counter::value).await?.unwrap_or(0))
    }

    /// Adds to it, without reading it.
    pub fn add(&self, tx: &Tx, difference: i64) -> Result<()> {
        tx.apply(Cell::object(self.oid), class::COUNTER, counter::add(difference))
    }
}

impl Create for Counter {
    async fn create(tx: &Tx) -> Result<Counter> {
        Counter::create_at(tx, 0).await
    }
}

impl BoundedCounter {
    /// The bounded counter of an object.
    pub const fn new(oid: Oid) -> BoundedCounter {
        BoundedCounter { oid }
    }

    /// Makes one.
    pub async fn create(tx: &Tx, bounded: Bounded) -> Result<BoundedCounter> {
        let made = BoundedCounter::new(tx.db().new_oid().await?);
        let record = bounded::record(bounded).map_err(|bad| encode_error(class::BOUNDED, &bad))?;
        tx.put(Cell::object(made.oid), &record)?;
        Ok(made)
    }

    /// Value and bounds.
    pub async fn get(&self, view: &View) -> Result<Bounded> {
        let found = read(view, self.oid, class::BOUNDED, bounded::read).await?;
        found.ok_or_else(|| Error::NotFound { cell: Cell::object(self.oid) })
    }

    /// Adds to it, without reading it. Whether the bounds allow it is known at the commit.
    pub fn add(&self, tx: &Tx, difference: i64) -> Result<()> {
        tx.apply(Cell::object(self.oid), class::BOUNDED, bounded::add(difference))
    }
}

macro_rules! extreme {
    ($(#[doc = $doc:literal] $type:ident, $class:expr;)*) => {$(
        #[doc = $doc]
        pub struct $type {
            oid: Oid,
        }

        handle!($type, $class);

        impl $type {
            /// The one of an object.
            pub const fn new(oid: Oid) -> $type {
                $type { oid }
            }

            /// The value; none if nothing was ever offered.
            pub async fn get(&self, view: &View) -> Result<Option<i64>> {
                read(view, self.oid, $class, extreme::value).await
            }

            /// Offers a value, without reading what is there.
            pub fn offer(&self, tx: &Tx, value: i64) -> Result<()> {
                tx.apply(Cell::object(self.oid), $class, extreme::offer(value))
            }
        }

        impl Create for $type {
            /// Takes an oid; its record comes with the first offer.
            async fn create(tx: &Tx) -> Result<$type> {
                Ok($type::new(tx.db().new_oid().await?))
            }
        }
    )*};
}

extreme! {
    /// The greatest value that was ever offered; offers never conflict.
    Greatest, class::MAX;
    /// The least value that was ever offered; offers never conflict.
    Least, class::MIN;
}
