//! Owns the collections: handles to objects whose parts can be written by many at once.
//!
//! | collection | its parts | two writers conflict |
//! |---|---|---|
//! | [`Counter`], [`Greatest`], [`Least`] | one record, changed by operations | never |
//! | [`BoundedCounter`] | the same within bounds | only at a bound |
//! | [`Map`] | an entry per key, ordered | on one key, with different values |
//! | [`Index`] | an entry per (key, object), ordered | when one takes out what the other puts in |
//! | [`UniqueIndex`] | an entry per key, made once | on one key |
//! | [`Set`] | an entry per member, ordered | when one takes out what the other puts in |
//! | [`Queue`] | an entry per item, in the order of commits | when they take the same item |
//! | [`List`] | an entry per item, in the order of commits | when they change the same item |
//! | [`SmallSet`], [`SmallList`] | one record, changed by operations | never |
//!
//! A handle is an oid with types. It is copied freely, can be a field of a persistent value, and can have a name in the root
//! (see [`crate::Tx::set_root`]). Reading takes a [`View`](crate::View) or a transaction, writing a transaction:
//!
//! ```no_run
//! # use zeolite_client::{Db, Error, collections::Map};
//! # async fn example(db: Db) -> Result<(), Error> {
//! db.run(async |tx| {
//!     let words: Map<String, u64> = tx.root_or_create("words").await?;
//!     words.insert(&tx, "zeolite", &1)?;
//!     let mut range = words.range(&tx, "a".to_owned()..);
//!     while let Some((word, count)) = range.next().await? {
//!         println!("{word} {count}");
//!     }
//!     Ok(())
//! })
//! .await?;
//! # Ok(()) }
//! ```
//!
//! What is stored has names of its own, which tools show and other languages use (`zeolite get` tells both):
//!
//! | here | class of its record | | here | class of its record |
//! |---|---|---|---|---|
//! | [`Counter`] | `zeolite.Counter` | | [`Set`] | `zeolite.Members` |
//! | [`BoundedCounter`] | `zeolite.Bounded` | | [`List`] | `zeolite.Sequence` |
//! | [`Greatest`], [`Least`] | `zeolite.Max`, `zeolite.Min` | | [`SmallSet`] | `zeolite.Set` |
//! | [`Map`], [`Queue`] | `zeolite.Map`, `zeolite.Queue` | | [`SmallList`] | `zeolite.List` |
//! | [`Index`], [`UniqueIndex`] | `zeolite.Index`, `zeolite.UniqueIndex` | | | |
//!
//! One rule for all of them:
//!
//! | what a method does | it is | and gives |
//! |---|---|---|
//! | reads (`get`, `find`, `contains`, `first`) | `async`, with a view or a transaction | what is there: `Option`, `Vec` |
//! | writes without looking (`insert`, `remove`, `add`, `push`) | plain, with a transaction | nothing but the error; it is sent at the commit |
//! | looks, and then writes (`UniqueIndex::insert`, `Queue::take`) | `async`, with a transaction | what it has found; look at it, or the compiler warns |
//! | walks (`range`, `prefix`, `iter`, `walk`) | plain, with a view or a transaction | [`Entries`]: nothing is read before the first is asked for |
//!
//! Entries are cells of their own: there are no buckets, so nothing splits, and a reader loads only what it asks for.
//! No collection keeps a count of its entries, because that would be a cell that all writers share; where a count is
//! needed all the time, keep a [`Counter`] beside it.

mod counters;
mod cursor;
mod entries;
mod index;
pub(crate) mod kept;
mod map;
mod queue;
pub(crate) mod roots;
mod small;

pub use counters::{BoundedCounter, Counter, Greatest, Least};
pub use cursor::{BadCursor, Cursor};
pub use entries::Entries;
pub use index::{Index, UniqueIndex};
pub use kept::{IndexBy, KeptName, KeptPlace, UniqueBy, index_in_name};
pub use map::{Map, Set};
pub use queue::{Item, List, Queue};
pub use roots::Named;
pub use small::{SmallList, SmallSet};
pub use zeolite_proto::resolvers::bounded::Bounded;
pub use zeolite_proto::resolvers::class::api_name;

use crate::errors::Result;
use crate::tx::Tx;
use crate::typed::Handle;
use zeolite_proto::Cell;
use zeolite_proto::resolvers::collection;

/// A collection that can be made without further arguments.
///
/// ```
/// use zeolite_client::collections::{Create, Map};
///
/// # zeolite_testing::with_db(async |db| {
/// // Any collection, by the type that is asked for.
/// let words: Map<String, u64> = db.run(async |tx| Map::create(&tx).await).await?;
/// assert_eq!(words.count(&db.now()).await?, 0);
/// # Ok(()) });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no collection that can be made without further arguments",
    label = "say which: `let map: Map<String, u64> = tx.root_or_create(\"name\").await?`",
    note = "an object is made with `tx.create(&value)` and named with `tx.set_root(name, &reference)`"
)]
pub trait Create: Handle {
    /// Makes an empty one. It stays only if something reachable from the root refers to it.
    fn create(tx: &Tx) -> impl Future<Output = Result<Self>> + Send;
}

/// Makes the own record of a collection of entries.
async fn create_entries<C: Handle>(tx: &Tx) -> Result<C> {
    let made = C::from_oid(tx.db().new_oid().await?);
    tx.put(Cell::object(made.oid()), &collection::record(C::CLASS))?;
    Ok(made)
}
