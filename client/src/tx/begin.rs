//! Owns how a [`Db`] is read and written: beginning transactions and views, `run`, pins.

use super::{Pin, Transaction, Tx, View};
use crate::connect::Db;
use crate::errors::Result;
use std::time::{SystemTime, UNIX_EPOCH};
use zeolite_proto::Tid;

impl Db {
    /// Begins a snapshot transaction at the newest tid that this client knows of. Without a feed it asks the server.
    pub async fn begin(&self) -> Result<Tx> {
        self.transaction().begin().await
    }

    /// Settings for a transaction other than the default: serializable, fresh, with a note, with batch priority.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.clone())
    }

    /// Runs the work in a transaction and commits it; runs it again, on a new snapshot, when another commit was in the way.
    ///
    /// The work must be free of effects outside its transaction, since it may run several times. Only an error drops what it has
    /// written: whoever finds in the middle that nothing is to be done says so with one ([`crate::Error::app`]).
    ///
    /// ```no_run
    /// # use zeolite_client::{Db, Error, Cell, Oid, Record};
    /// # async fn example(db: Db, oid: Oid) -> Result<(), Error> {
    /// let length = db
    ///     .run(async |tx| {
    ///         let cell = Cell::object(oid);
    ///         let mut record = tx.get(&cell).await?.unwrap_or_else(|| Record::new("Text", 1, ""));
    ///         record.data = [&record.data[..], b"!"].concat().into();
    ///         tx.put(cell, &record)?;
    ///         Ok(record.data.len())
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub async fn run<T, F>(&self, work: impl FnMut(Tx) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.transaction().run(work).await
    }

    /// A read-only view of the database as it was at a tid. Fails at the first read if pack has removed that state;
    /// a [`Pin`] prevents that.
    pub fn at(&self, tid: Tid) -> View {
        View::new(self.clone(), tid, self.core().position.life_at(tid))
    }

    /// A read-only view of the database as it was at a time; a time to come means now.
    pub async fn at_time(&self, time: SystemTime) -> Result<View> {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        let tid = Tid::from_unix_nanos(nanos);
        if tid <= self.core().position.get() {
            return Ok(self.at(tid));
        }
        Ok(self.at(tid.min(self.newest().await?)))
    }

    /// A read-only view of the newest state that this client knows of.
    pub fn now(&self) -> View {
        let (tid, life) = self.core().position.snapshot();
        View::new(self.clone(), tid, life)
    }

    /// Pins the newest snapshot, so that pack keeps what it sees, until the guard is dropped.
    pub async fn pin(&self) -> Result<Pin> {
        Pin::take(self.clone(), Tid::NONE).await
    }

    /// Pins a given snapshot.
    pub async fn pin_at(&self, snapshot: Tid) -> Result<Pin> {
        Pin::take(self.clone(), snapshot).await
    }
}

impl Pin {
    /// A read-only view at the snapshot, which keeps the pin.
    pub fn view(&self) -> View {
        View::new(self.db().clone(), self.snapshot(), self.life()).pinned(Some(self.clone()))
    }

    /// Settings for a transaction that reads at the snapshot.
    pub fn transaction(&self) -> Transaction {
        self.db().transaction().at(self)
    }
}
