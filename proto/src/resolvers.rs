//! Owns the built-in set of resolvers: their class names, and the list of them.
//!
//! Two writers that changed one cell from the same base need not fight when what they *meant* can be combined. Each
//! resolver here is one meaning:
//!
//! ```text
//!   class              meaning                            merge of two changes             apply operation
//!   zeolite.Counter    a number that is added to          both differences added           add
//!   zeolite.Bounded    the same within bounds             the same, refused outside        add
//!   zeolite.Min, .Max  the least / greatest value seen    the lesser / greater             offer
//!   zeolite.Last       whoever commits last is right      ours                             put
//!   zeolite.Set        a small set in one record          both sides' adds and removes     change
//!   zeolite.List       an append-only list in one record  theirs, then what ours appended  append
//!   zeolite.Entry      an entry of an ordered map         only if both did the same        (none)
//!   zeolite.Unique     an entry that may be made once     never                            insert
//!   zeolite.QueueItem  an item to be taken once           never                            take
//!   zeolite.Map, ...   a collection's own record          only if both did the same        (none)
//! ```
//!
//! Ordered maps, unique indexes and queues need no resolver for *different* keys: each entry is a cell of its own, so
//! such writes never meet. Producers of a queue write under stamped keys, which never collide.
//!
//! Common to all (see `three_way`): a side that did not change anything yields to the other, whatever the class;
//! a delete against a change is a real conflict (except for `zeolite.Last`); sides of different classes are never merged.
//! A result that is beyond a limit or a bound is refused with a reason, never cut.
//!
//! An application may register these resolvers for classes of its own; they keep the record's class, its schema version
//! (the side that changed it counts) and its references.

pub mod bounded;
pub mod collection;
pub mod counter;
pub mod entry;
pub mod extreme;
mod fields;
pub mod items;
pub mod last;
pub mod list;
pub mod queue;
pub mod set;
mod three_way;
pub mod unique;
pub mod value;

use crate::resolver::Resolver;
use std::sync::Arc;

/// The schema version of every record that the built-in classes write.
pub const SCHEMA_VERSION: u32 = 1;

/// The class names of the built-in set.
pub mod class {
    /// A number that is added to; see [`super::counter`].
    pub const COUNTER: &str = "zeolite.Counter";
    /// A number within bounds; see [`super::bounded`].
    pub const BOUNDED: &str = "zeolite.Bounded";
    /// The least value offered; see [`super::extreme`].
    pub const MIN: &str = "zeolite.Min";
    /// The greatest value offered; see [`super::extreme`].
    pub const MAX: &str = "zeolite.Max";
    /// A value for which the last commit counts; see [`super::last`].
    pub const LAST: &str = "zeolite.Last";
    /// A small set in one record; see [`super::set`].
    pub const SET: &str = "zeolite.Set";
    /// An append-only list in one record; see [`super::list`].
    pub const LIST: &str = "zeolite.List";
    /// An entry of an ordered map; see [`super::entry`].
    pub const ENTRY: &str = "zeolite.Entry";
    /// An entry of a unique index; see [`super::unique`].
    pub const UNIQUE: &str = "zeolite.Unique";
    /// An item of a queue; see [`super::queue`].
    pub const QUEUE_ITEM: &str = "zeolite.QueueItem";
    /// The own record of an ordered map; see [`super::collection`].
    pub const MAP: &str = "zeolite.Map";
    /// The own record of an index; see [`super::collection`].
    pub const INDEX: &str = "zeolite.Index";
    /// The own record of a unique index; see [`super::collection`].
    pub const UNIQUE_INDEX: &str = "zeolite.UniqueIndex";
    /// The own record of a queue; see [`super::collection`].
    pub const QUEUE: &str = "zeolite.Queue";
    /// The own record of a set with an entry per member; see [`super::collection`].
    pub const MEMBERS: &str = "zeolite.Members";
    /// The own record of a list with an entry per item; see [`super::collection`].
    pub const SEQUENCE: &str = "zeolite.Sequence";

    /// What Rust's and Python's API call the handle of a class, where that is another word than the class's own. Class names are stored, and
    /// older than these words: the collections with an entry for each part came second, and got the plain names.
    pub fn api_name(class: &str) -> Option<&'static str> {
        match class {
            BOUNDED => Some("BoundedCounter"),
            MAX => Some("Greatest"),
            MIN => Some("Least"),
            SET => Some("SmallSet"),
            LIST => Some("SmallList"),
            MEMBERS => Some("Set"),
            SEQUENCE => Some("List"),
            _ => None,
        }
    }

    /// The classes of collections' own records.
    pub const COLLECTIONS: [&str; 6] = [MAP, INDEX, UNIQUE_INDEX, QUEUE, MEMBERS, SEQUENCE];
}

/// All of them, under their class names.
pub fn built_in() -> impl Iterator<Item = (&'static str, Arc<dyn Resolver>)> {
    let each: [(&str, Arc<dyn Resolver>); 10] = [
        (class::COUNTER, Arc::new(counter::Counter)),
        (class::BOUNDED, Arc::new(bounded::BoundedCounter)),
        (class::MIN, Arc::new(extreme::Extreme::Min)),
        (class::MAX, Arc::new(extreme::Extreme::Max)),
        (class::LAST, Arc::new(last::LastWriter)),
        (class::SET, Arc::new(set::SmallSet)),
        (class::LIST, Arc::new(list::AppendList)),
        (class::ENTRY, Arc::new(entry::MapEntry)),
        (class::UNIQUE, Arc::new(unique::UniqueEntry)),
        (class::QUEUE_ITEM, Arc::new(queue::QueueItem)),
    ];
    let own_records = class::COLLECTIONS.map(|class| (class, Arc::new(collection::OwnRecord) as Arc<dyn Resolver>));
    each.into_iter().chain(own_records)
}
