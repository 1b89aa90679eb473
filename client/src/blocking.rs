//! Owns the client for programs without `async`: scripts, tools, a plain `fn main`.
//!
//! ```no_run
//! use zeolite_client::{Error, blocking, collections::{Counter, Map}};
//!
//! fn main() -> Result<(), Error> {
//!     let db = blocking::Db::connect("127.0.0.1:7878")?;
//!     let count = db.run(|tx| {
//!         let words: Map<String, u64> = tx.root_or_create("words")?;
//!         let edits: Counter = tx.root_or_create("edits")?;
//!         words.insert(tx, "zeolite", &1)?; // what is plain stays as it is
//!         edits.add(tx, 1)?;
//!         tx.wait(words.count(tx)) // what is async is waited for
//!     })?;
//!     println!("{count} words");
//!     Ok(())
//! }
//! ```
//!
//! It is the same client, on a [`Wheel`] of its own, which the threads that wait turn: everything of the crate is there, by `wait`. The work of `run` is done in
//! the caller's thread, and so need not be `Send`.
//!
//! Inside of an asynchronous runtime a thread that waits holds up whatever else is to run on it, so each call there is refused with
//! [`Error::InsideRuntime`]; also on the threads of `spawn_blocking`, which cannot be told apart.

mod wheel;

pub use wheel::Wheel;

use crate::collections::{Create, Entries};
use crate::connect::Options;
use crate::errors::{Error, Result};
use crate::tx;
use crate::typed::{Handle, Persistent, Ref};
use std::ops::Deref;
use std::sync::Arc;
use tokio::runtime::Handle as Current;
use tokio::sync::{mpsc, oneshot};

/// The wheel.
#[derive(Debug)]
struct Own(Wheel);

impl Own {
    fn start() -> Result<Own> {
        outside()?;
        let failed = |error| Error::invalid(format!("no thread for the client can be started: {error}"));
        Wheel::start().map(Own).map_err(failed)
    }

    fn here(&self) -> Result<&Wheel> {
        outside().map(|()| &self.0)
    }
}

fn outside() -> Result<()> {
    if Current::try_current().is_ok() { Err(Error::InsideRuntime) } else { Ok(()) }
}

/// A connection to a database: [`crate::Db`], waited for. Cheap to clone.
///
/// ```
/// use zeolite_client::{Error, blocking, collections::Counter};
///
/// # fn main() -> Result<(), Error> {
/// # let server = zeolite_testing::server();
/// let db = blocking::Db::connect(server.address())?;
/// let hits: Counter = db.run(|tx| tx.root_or_create("hits"))?;
/// db.run(|tx| hits.add(tx, 1))?;
/// assert_eq!(db.wait(hits.get(&db.now()))?, 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Db {
    // Dropped before its wheel.
    db: crate::Db,
    own: Arc<Own>,
}

/// A transaction of [`Db::run`]: [`crate::Tx`], with what is asynchronous waited for.
///
/// ```
/// use zeolite_client::{Error, blocking, collections::Map};
///
/// # fn main() -> Result<(), Error> {
/// # let server = zeolite_testing::server();
/// let db = blocking::Db::connect(server.address())?;
/// let words = db.run(|tx: &blocking::Tx| {
///     let words: Map<String, u64> = tx.root_or_create("words")?;
///     words.insert(tx, "zeolite", &1)?; // what is plain stays as it is
///     tx.wait(words.count(tx)) // what is async is waited for
/// })?;
/// assert_eq!(words, 1);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Tx {
    tx: tx::Tx,
    own: Arc<Own>,
}

impl Db {
    /// See [`crate::Db::connect`].
    pub fn connect(url: impl Into<String>) -> Result<Db> {
        Db::connect_with(url, Options::default())
    }

    /// See [`crate::Db::connect_with`].
    pub fn connect_with(url: impl Into<String>, options: Options) -> Result<Db> {
        let own = Arc::new(Own::start()?);
        let db = own.here()?.wait(crate::Db::connect_with(url, options))?;
        Ok(Db { db, own })
    }

    /// Waits for what is asynchronous: `db.wait(db.pin())`.
    pub fn wait<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.own.here()?.wait(future)
    }

    /// A walk over entries as an iterator; at its end after an error.
    pub fn each<'e, T: 'e>(&'e self, entries: Entries<'e, T>) -> impl Iterator<Item = Result<T>> + 'e {
        each(&self.own, entries)
    }

    /// See [`crate::Db::run`].
    pub fn run<T>(&self, work: impl FnMut(&Tx) -> Result<T>) -> Result<T> {
        self.run_as(self.db.transaction(), work)
    }

    /// The same with settings: `db.run_as(db.transaction().serializable(), ..)`.
    pub fn run_as<T>(&self, settings: tx::Transaction, mut work: impl FnMut(&Tx) -> Result<T>) -> Result<T> {
        let wheel = self.own.here()?;
        // Each attempt comes over to this thread, and what the work says goes back; its value stays here.
        let (attempts, mut begun) = mpsc::channel::<(tx::Tx, oneshot::Sender<Result<()>>)>(1);
        let entered = wheel.enter();
        let running = tokio::spawn(settings.run(move |tx| {
            let (said, says) = oneshot::channel();
            let attempts = attempts.clone();
            async move {
                // Who begins an attempt waits for it.
                let _ = attempts.send((tx, said)).await;
                says.await.unwrap_or_else(|_| Err(Error::invalid("the work of this transaction panicked")))
            }
        }));
        drop(entered);
        let mut value = None;
        while let Some((tx, said)) = wheel.wait(begun.recv()) {
            let tx = Tx { tx, own: self.own.clone() };
            let done = work(&tx).map(|made| value = Some(made));
            drop(tx);
            let _ = said.send(done);
        }
        match wheel.wait(running) {
            Ok(Ok(())) => {
                value.ok_or_else(|| Error::invalid("the transaction was committed without its work; report this"))
            }
            Ok(Err(error)) => Err(error),
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }
}

impl Deref for Db {
    type Target = crate::Db;

    fn deref(&self) -> &crate::Db {
        &self.db
    }
}

impl Tx {
    /// Waits for what is asynchronous: `tx.wait(words.get(tx, "zeolite"))`.
    pub fn wait<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.own.here()?.wait(future)
    }

    /// A walk over entries as an iterator; at its end after an error.
    pub fn each<'e, T: 'e>(&'e self, entries: Entries<'e, T>) -> impl Iterator<Item = Result<T>> + 'e {
        each(&self.own, entries)
    }

    /// See [`crate::Tx::create`].
    pub fn create<T: Persistent>(&self, value: &T) -> Result<Ref<T>> {
        self.wait(self.tx.create(value))
    }

    /// See [`crate::Tx::update`].
    pub fn update<T: Persistent, R>(&self, reference: Ref<T>, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        self.wait(self.tx.update(reference, change))
    }

    /// See [`crate::View::load`].
    pub fn load<T: Persistent>(&self, reference: Ref<T>) -> Result<T> {
        self.wait(self.tx.load(reference))
    }

    /// See [`crate::View::find`].
    pub fn find<T: Persistent>(&self, reference: Ref<T>) -> Result<Option<T>> {
        self.wait(self.tx.find(reference))
    }

    /// See [`crate::View::root`].
    pub fn root<H: Handle>(&self, name: &str) -> Result<Option<H>> {
        self.wait(self.tx.root(name))
    }

    /// See [`crate::Tx::root_or_create`].
    pub fn root_or_create<H: Create>(&self, name: &str) -> Result<H> {
        self.wait(self.tx.root_or_create(name))
    }
}

impl Deref for Tx {
    type Target = tx::Tx;

    fn deref(&self) -> &tx::Tx {
        &self.tx
    }
}

fn each<'e, T: 'e>(own: &'e Own, entries: Entries<'e, T>) -> impl Iterator<Item = Result<T>> + 'e {
    let mut left = Some(entries);
    std::iter::from_fn(move || {
        let next = match (own.here(), left.as_mut()?) {
            (Ok(wheel), entries) => wheel.wait(entries.next()).transpose(),
            (Err(error), _) => Some(Err(error)),
        };
        if !matches!(next, Some(Ok(_))) {
            left = None;
        }
        next
    })
}
