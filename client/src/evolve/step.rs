//! Owns the step: what the application makes of one object. The worker does everything else.
//!
//! A step runs in a transaction of its own at the chunk's snapshot; what it reads there is checked at the commit, and what it
//! writes there (index entries, counters, other objects) is committed with the object or not at all. It may run several times
//! for one object, whenever a live write came between, so it must have no effects outside its transaction.
//!
//! ```
//! use zeolite_client::{Record, evolve};
//!
//! // From record to record.
//! let upper = evolve::map("upper", |mut old: Record| {
//!     old.data = old.data.to_ascii_uppercase().into();
//!     old.version = 2;
//!     Ok(old)
//! });
//! // With a transaction.
//! let clean = evolve::with("clean", |tx, cell, old| {
//!     Box::pin(async move {
//!         let notes = zeolite_client::Cell::entry(cell.oid, "notes");
//!         tx.delete(notes)?;
//!         Ok(if old.data.is_empty() { evolve::Stepped::Delete } else { evolve::Stepped::Keep })
//!     })
//! });
//! // A new index over existing objects.
//! # use zeolite_client::{Persistent, Ref, collections::{Index, UniqueIndex}, typed::value_of};
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct Page { title: String }
//! # impl Persistent for Page { const CLASS: &str = "wiki.Page"; }
//! # fn example(titles: Index<String, Page>, names: UniqueIndex<String, Ref<Page>>) {
//! let index = evolve::with("title index", move |tx, cell, old| {
//!     Box::pin(async move {
//!         let page: Page = value_of(cell, &old)?;
//!         titles.insert(tx, &page.title, Ref::new(cell.oid))?;
//!         names.claim(tx, &page.title, Ref::new(cell.oid)).await?;
//!         Ok(evolve::Stepped::Keep)
//!     })
//! });
//! # let _ = index;
//! # }
//! # let _ = (upper, clean);
//! ```

use super::sweep::sweep;
use crate::connect::Db;
#[expect(unused_imports, reason = "for the documentation")]
use crate::errors::Error;
use crate::errors::Result;
pub use crate::tx::Share;
use crate::tx::{Place, Tx};
use crate::typed::{Persistent, decode_record, encode_record};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use zeolite_proto::{Cell, Record, Tid};

/// What a step wants with the object itself.
///
/// ```
/// use zeolite_client::evolve::{self, Stepped};
///
/// let tidy = evolve::with("no empty texts", |_tx, _cell, old| {
///     Box::pin(async move { Ok(if old.data.is_empty() { Stepped::Delete } else { Stepped::Keep }) })
/// });
/// # let _ = tidy;
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Stepped {
    /// It stays as it is (or the step has written it in its transaction).
    Keep,
    /// This is its new record.
    Replace(Record),
    /// It goes.
    Delete,
}

/// What the application makes of one object.
///
/// ```
/// use zeolite_client::evolve::{Step, Stepped};
/// use zeolite_client::{Cell, Record, Result, Tx};
///
/// /// With what a closure has no place for.
/// struct Retitle {
///     suffix: String,
/// }
///
/// impl Step for Retitle {
///     fn name(&self) -> String {
///         format!("titles with {}", self.suffix)
///     }
///
///     async fn step(&self, _tx: &Tx, _cell: &Cell, mut old: Record) -> Result<Stepped> {
///         old.data = [&old.data[..], self.suffix.as_bytes()].concat().into();
///         Ok(Stepped::Replace(old))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no step of an evolve",
    note = "steps are made by `evolve::upgrade::<T>()`, `evolve::typed`, `evolve::map` and `evolve::with`; or implement `Step`"
)]
pub trait Step: Send + Sync + 'static {
    /// Its name: a job is bound to the one that it was first run with.
    fn name(&self) -> String;

    /// Steps one object, or one entry of a collection. An error sends it to the quarantine, but for one of [`Error::worker`].
    fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> impl Future<Output = Result<Stepped>> + Send;

    /// How many steps of a chunk may be under way at once: more only helps one that waits for something outside.
    fn at_once(&self) -> usize {
        1
    }

    /// It ends by itself in time: then the job's `step_timeout_ms` does not count.
    fn limits_itself(&self) -> bool {
        false
    }

    /// It steps the objects of a chunk together: then [`Step::step`] is asked for none.
    fn joint(&self) -> Option<&dyn JointStep> {
        None
    }

    /// A last look, once everything is stepped and the gate has closed: nothing of the old shape can come any more. It may be asked for
    /// several times; says how much it has mended.
    fn sweep(&self, db: &Db) -> impl Future<Output = Result<u64>> + Send {
        let _ = db;
        std::future::ready(Ok(0))
    }
}

/// An object that is stepped together with others.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct JointObject {
    /// Where.
    pub cell: Cell,
    /// What it is stepped from.
    pub record: Bytes,
    /// The newest revision.
    pub tid: Tid,
    /// The commit that stepped it before: what its step made elsewhere then is still there, and has to go or to be replaced.
    pub former: Option<Tid>,
    /// It is to be stepped; otherwise only what its former step made elsewhere has to go.
    pub is_stepped: bool,
}

/// What has become of objects that were stepped together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct JointWork {
    /// Of each object, in their order, what its step has done; or why it failed: then it has written nothing.
    pub objects: Vec<Result<Share, String>>,
    /// All that was written; none: deleted.
    pub records: BTreeMap<Cell, Option<Bytes>>,
    /// What has to be current beside the objects.
    pub checks: Vec<Cell>,
    /// What steps have read beside their own objects. It is not checked; but where one of them has written it, all are one work.
    pub read: Vec<Cell>,
}

/// Steps objects together, one after the other: each sees what those before it have made.
pub trait JointStep: Send + Sync {
    /// At a place of the client. An error is no object's.
    fn steps<'a>(&'a self, db: &'a Db, at: Place, objects: &'a [JointObject]) -> BoxFuture<'a, Result<JointWork>>;
}

zeolite_proto::setters! { JointWork {
    records: BTreeMap<Cell, Option<Bytes>>,
    checks: Vec<Cell>,
    read: Vec<Cell>,
    objects: Vec<Result<Share, String>>,
} }

impl JointWork {
    /// Nothing was done.
    pub fn new() -> JointWork {
        JointWork::default()
    }
}

/// A step whose type nobody needs to know.
pub trait AnyStep: Send + Sync + 'static {
    /// See [`Step::name`].
    fn name(&self) -> String;

    /// See [`Step::step`].
    fn step<'a>(&'a self, tx: &'a Tx, cell: &'a Cell, old: Record) -> BoxFuture<'a, Result<Stepped>>;

    /// See [`Step::at_once`].
    fn at_once(&self) -> usize;

    /// See [`Step::limits_itself`].
    fn limits_itself(&self) -> bool;

    /// See [`Step::joint`].
    fn joint(&self) -> Option<&dyn JointStep>;

    /// See [`Step::sweep`].
    fn sweep<'a>(&'a self, db: &'a Db) -> BoxFuture<'a, Result<u64>>;
}

impl<S: Step> AnyStep for S {
    fn name(&self) -> String {
        Step::name(self)
    }

    fn step<'a>(&'a self, tx: &'a Tx, cell: &'a Cell, old: Record) -> BoxFuture<'a, Result<Stepped>> {
        Box::pin(Step::step(self, tx, cell, old))
    }

    fn at_once(&self) -> usize {
        Step::at_once(self)
    }

    fn limits_itself(&self) -> bool {
        Step::limits_itself(self)
    }

    fn joint(&self) -> Option<&dyn JointStep> {
        Step::joint(self)
    }

    fn sweep<'a>(&'a self, db: &'a Db) -> BoxFuture<'a, Result<u64>> {
        Box::pin(Step::sweep(self, db))
    }
}

struct Map<F> {
    name: String,
    make: F,
}

/// A step from record to record. A record that comes out as it went in stays as it is.
pub fn map<F>(name: impl Into<String>, make: F) -> impl Step
where
    F: Fn(Record) -> Result<Record> + Send + Sync + 'static,
{
    Map { name: name.into(), make }
}

impl<F: Fn(Record) -> Result<Record> + Send + Sync + 'static> Step for Map<F> {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn step(&self, _: &Tx, _: &Cell, old: Record) -> Result<Stepped> {
        (self.make)(old).map(Stepped::Replace)
    }
}

struct With<F> {
    name: String,
    make: F,
}

/// A step with a transaction.
pub fn with<F>(name: impl Into<String>, make: F) -> impl Step
where
    F: for<'a> Fn(&'a Tx, &'a Cell, Record) -> BoxFuture<'a, Result<Stepped>> + Send + Sync + 'static,
{
    With { name: name.into(), make }
}

impl<F> Step for With<F>
where
    F: for<'a> Fn(&'a Tx, &'a Cell, Record) -> BoxFuture<'a, Result<Stepped>> + Send + Sync + 'static,
{
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped> {
        (self.make)(tx, cell, old).await
    }
}

struct Typed<T, F> {
    name: String,
    make: F,
    class: PhantomData<fn() -> T>,
}

/// A step on typed values; the value comes as the type is now, upgraded if it was of an older version.
pub fn typed<T, F>(name: impl Into<String>, make: F) -> impl Step
where
    T: Persistent + Send + 'static,
    F: Fn(T) -> Result<T> + Send + Sync + 'static,
{
    Typed { name: name.into(), make, class: PhantomData }
}

/// Brings every object of a type to its newest schema version, by [`Persistent::upgrade`].
pub fn upgrade<T: Persistent + Send + 'static>() -> impl Step {
    typed::<T, _>(format!("{} to version {}", T::CLASS, T::VERSION), Ok)
}

impl<T, F> Step for Typed<T, F>
where
    T: Persistent + Send + 'static,
    F: Fn(T) -> Result<T> + Send + Sync + 'static,
{
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped> {
        // The bytes come from the cache: the worker has read them for this very call.
        if let Some(record) = tx.get_encoded(cell).await? {
            let value = (self.make)(decode_record::<T>(cell, &record)?)?;
            // What comes out as it went in needs nothing.
            if old.version != T::VERSION || encode_record(&value)? != record {
                tx.write_cell(cell, &value)?;
            }
        }
        Ok(Stepped::Keep)
    }

    async fn sweep(&self, db: &Db) -> Result<u64> {
        sweep::<T>(db).await
    }
}
