//! Owns typed references, and the way they are found while a value is encoded.
//!
//! A reference is an oid with a type, serialized as a number. While a value is being encoded, a list on the thread is
//! open, and every reference that is serialized adds its oid to it. Encoding is one synchronous call on one thread, so
//! the list holds exactly the value's references.

use std::cell::RefCell;
use std::marker::PhantomData;
use zeolite_proto::{Oid, hash};

/// Up to this many references a walk over the list is the fastest way to see whether one is there.
const LIST_ONLY: usize = 32;

/// The references of one value, each once, in order.
#[derive(Default)]
struct Found {
    list: Vec<Oid>,
    /// Used beyond [`LIST_ONLY`].
    seen: hash::Set<Oid>,
}

impl Found {
    fn add(&mut self, oid: Oid) {
        if self.list.len() < LIST_ONLY {
            if !self.list.contains(&oid) {
                self.list.push(oid);
            }
            return;
        }
        if self.seen.is_empty() {
            self.seen.extend(&self.list);
        }
        if self.seen.insert(oid) {
            self.list.push(oid);
        }
    }
}

thread_local! {
    static FOUND: RefCell<Option<Found>> = const { RefCell::new(None) };
}

/// Runs an encoding, and gives the references that it met, each once, in order.
pub(super) fn collect<R>(encode: impl FnOnce() -> R) -> (R, Vec<Oid>) {
    let outer = FOUND.replace(Some(Found::default()));
    let result = encode();
    (result, FOUND.replace(outer).unwrap_or_default().list)
}

/// A reference was serialized.
pub(crate) fn found(oid: Oid) {
    FOUND.with_borrow_mut(|found| {
        if let Some(found) = found {
            found.add(oid);
        }
    });
}

/// Something that stands for an object: a [`Ref`] or a collection. It can be a field of a persistent value, and it can
/// have a name in the root.
///
/// ```
/// use zeolite_client::{Handle, collections::Counter};
///
/// # zeolite_testing::with_db(async |db| {
/// let hits: Counter = db.run(async |tx| tx.root_or_create("hits").await).await?;
/// let same = Counter::from_oid(hits.oid());
/// assert_eq!((same, Counter::CLASS), (hits, "zeolite.Counter"));
/// # Ok(()) });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` stands for no object",
    label = "a name in the root, and a place in the database, is an object's",
    note = "what does is a collection (`Map<String, u64>`, `Counter`) or a reference: `Ref<T>` of a type with `#[derive(Persistent)]`"
)]
pub trait Handle: Sized {
    /// The class of the object's own record.
    const CLASS: &str;

    /// The handle of an object.
    fn from_oid(oid: Oid) -> Self;

    /// The object.
    fn oid(&self) -> Oid;
}

/// A reference to an object of class `T`: copied freely, loaded when wanted.
///
/// ```
/// use zeolite_client::{Persistent, Ref};
///
/// #[derive(serde::Serialize, serde::Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page")]
/// struct Page {
///     title: String,
///     parent: Option<Ref<Page>>, // found by itself, and kept from being collected
/// }
///
/// # zeolite_testing::with_db(async |db| {
/// let leaf = db
///     .run(async |tx| {
///         let home = tx.create(&Page { title: "Home".into(), parent: None }).await?;
///         tx.create(&Page { title: "Leaf".into(), parent: Some(home) }).await
///     })
///     .await?;
/// let view = db.now();
/// let parent = view.load(leaf).await?.parent.expect("it has one");
/// assert_eq!(view.load(parent).await?.title, "Home");
/// # Ok(()) });
/// ```
pub struct Ref<T> {
    oid: Oid,
    // Not T itself: a reference can be sent and shared whatever T is.
    class: PhantomData<fn() -> T>,
}

impl<T> Ref<T> {
    /// The reference to an object. Its class is checked when it is loaded.
    pub const fn new(oid: Oid) -> Ref<T> {
        Ref { oid, class: PhantomData }
    }

    /// The object.
    pub const fn oid(&self) -> Oid {
        self.oid
    }

    /// The cell that its record is in.
    pub fn cell(&self) -> zeolite_proto::Cell {
        zeolite_proto::Cell::object(self.oid)
    }
}

impl<T: super::Persistent> Handle for Ref<T> {
    const CLASS: &str = T::CLASS;

    fn from_oid(oid: Oid) -> Ref<T> {
        Ref::new(oid)
    }

    fn oid(&self) -> Oid {
        self.oid
    }
}

impl<T> crate::keys::AsKey for Ref<T> {
    fn put_last(&self, out: &mut Vec<u8>) {
        self.oid.put_last(out);
    }

    fn put_refs(&self, refs: &mut Vec<Oid>) {
        refs.push(self.oid);
    }
}

impl<T> crate::keys::Key for Ref<T> {
    const KIND: crate::keys::KeyKind = crate::keys::KeyKind::Named("ref");

    fn take_last(input: &mut &[u8]) -> Result<Self, crate::keys::BadKey> {
        Oid::take_last(input).map(Ref::new)
    }
}

/// What all handles have in common: copying, comparing, serde as a number that is found as a reference; and the class of their
/// own record, where it is named.
macro_rules! handle {
    ($type:ident $(<$($param:ident),+>)?, $class:expr) => {
        $crate::typed::handle!($type $(<$($param),+>)?);
        impl$(<$($param),+>)? $crate::typed::Handle for $type$(<$($param),+>)? {
            const CLASS: &str = $class;

            fn from_oid(oid: zeolite_proto::Oid) -> Self {
                Self::new(oid)
            }

            fn oid(&self) -> zeolite_proto::Oid {
                self.oid
            }
        }
    };
    ($type:ident $(<$($param:ident),+>)?) => {
        impl$(<$($param),+>)? Clone for $type$(<$($param),+>)? {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl$(<$($param),+>)? Copy for $type$(<$($param),+>)? {}
        impl$(<$($param),+>)? PartialEq for $type$(<$($param),+>)? {
            fn eq(&self, other: &Self) -> bool {
                self.oid == other.oid
            }
        }
        impl$(<$($param),+>)? Eq for $type$(<$($param),+>)? {}
        impl$(<$($param),+>)? PartialOrd for $type$(<$($param),+>)? {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl$(<$($param),+>)? Ord for $type$(<$($param),+>)? {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.oid.cmp(&other.oid)
            }
        }
        impl$(<$($param),+>)? std::hash::Hash for $type$(<$($param),+>)? {
            fn hash<S: std::hash::Hasher>(&self, state: &mut S) {
                self.oid.hash(state);
            }
        }
        impl$(<$($param),+>)? std::fmt::Debug for $type$(<$($param),+>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self.oid)
            }
        }
        impl$(<$($param),+>)? serde::Serialize for $type$(<$($param),+>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::typed::found(self.oid);
                serializer.serialize_u64(self.oid.0)
            }
        }
        impl<'de $(, $($param),+)?> serde::Deserialize<'de> for $type$(<$($param),+>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <u64 as serde::Deserialize>::deserialize(deserializer).map(|oid| Self::new(zeolite_proto::Oid(oid)))
            }
        }
    };
}

pub(crate) use handle;
handle!(Ref<T>);
