//! Owns typed persistent objects: which class a Rust type is, how a value becomes a record, and how old records become
//! values of the type as it is now.
//!
//! ```text
//!   value ── serde, CODEC ───────> data ┐
//!         ── references found ───> refs ├─ record: class, schema version, refs, data
//!         ── CLASS, VERSION ──────────> ┘
//! ```
//!
//! *References are found while encoding*: each [`Ref`] and each collection handle inside a value reports itself, so the
//! record's header lists them without the application's help, and garbage collection never removes what is still
//! referred to. Only a reference that is hidden from serde (an oid in a string) needs [`Persistent::refs`].
//!
//! *Two versions of code live side by side*: a record of an older version is upgraded as it is loaded, and stored in the
//! new shape when it is next written. Postcard does not describe itself, so a change of the type without a change of
//! `VERSION` gives wrong values or a decode error: raise it, and keep the old shape in `upgrade` (the derive does it by
//! `from`, and its `shape` makes a forgotten version a compile error). CBOR does describe itself: any
//! language reads it, at two to three times the bytes. Which of them is a class's own choice ([`Codec`]).

mod chain;
mod codec;
mod indexed;
mod reference;

pub use chain::{codec_of_former, codec_of_newer, downgrade_from, follows, precedes, upgrade_from};
use codec::decode_as;
pub use codec::{Codec, decode_record, encode_record, value_of};
pub(crate) use codec::{decode_value, encode_value};
pub use indexed::{Keys, formerly_indexed, index_former, index_newer, indexes_from, indexes_to, later_indexed};
pub(crate) use indexed::{is_indexed, keys_of, keys_of_value};
pub use reference::{Handle, Ref};
pub(crate) use reference::{found, handle};
pub use zeolite_derive::Persistent;

use crate::errors::{Error, Result};
pub use crate::tx::KeptIndex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeolite_proto::Oid;

/// A type whose values are objects of the database.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use zeolite_client::{Persistent, Ref};
///
/// /// As it was: kept for as long as there may be records of it.
/// #[derive(Serialize, Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page")]
/// struct PageV1 {
///     title: String,
///     parent: Option<Ref<Page>>,
/// }
///
/// #[derive(Serialize, Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page", version = 2, from = PageV1)]
/// struct Page {
///     title: String,
///     parent: Option<Ref<Page>>,
///     views_allowed: bool,
/// }
///
/// impl From<PageV1> for Page {
///     fn from(old: PageV1) -> Page {
///         Page { title: old.title, parent: old.parent, views_allowed: true }
///     }
/// }
/// ```
///
/// By hand, for an upgrade that can fail, or that is no chain of types:
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use zeolite_client::{Error, Persistent};
///
/// #[derive(Serialize, Deserialize)]
/// struct Page {
///     title: String,
///     length: u64,
/// }
///
/// impl Persistent for Page {
///     const CLASS: &str = "wiki.Page";
///     const VERSION: u32 = 2;
///
///     fn upgrade(version: u32, data: &[u8]) -> Result<Page, Error> {
///         match version {
///             1 => {
///                 let title: String = Page::old_shape(version, data)?;
///                 Ok(Page { length: title.len() as u64, title })
///             }
///             _ => Err(Page::no_upgrade(version)),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no class in the database",
    note = "`#[derive(Serialize, Deserialize, Persistent)]` with `#[persistent(class = \"app.Name\")]` gives it one; so does an `impl Persistent`"
)]
pub trait Persistent: Serialize + DeserializeOwned {
    /// The class name in the record's header, at most 255 bytes. It also chooses the resolver.
    const CLASS: &str;
    /// The schema version that this type writes. Raise it when the type's shape changes.
    const VERSION: u32 = 1;
    /// How its data is written. Another codec is another shape: raise the version, and say in `codec_of` what the old ones had.
    const CODEC: Codec = Codec::Postcard;
    /// The indexes that are kept with the objects: whatever creates, changes or removes one keeps its entries ([`crate::objects`]).
    /// Raise the version when one is added.
    const INDEXES: &'static [KeptIndex] = &[];

    /// The indexes of former versions of the type, in which its records may still be: [`Persistent::index_former`] gives their keys.
    const FORMERLY_INDEXED: &'static [KeptIndex] = &[];
    /// Those of newer versions, which a bridge reads ([`Persistent::upgrade`] is asked for newer versions as well).
    const LATER_INDEXED: &'static [KeptIndex] = &[];
    /// The highest version whose indexes are all named here. A record of a higher one is overwritten or removed only where its class
    /// has no index that is not: its entries would stay ([`Error::KeptElsewhere`]).
    const INDEXED_TO: u32 = Self::VERSION;

    /// The codec of another version's data.
    fn codec_of(version: u32) -> Codec {
        let _ = version;
        Self::CODEC
    }

    /// References that serde does not see. [`Ref`]s and collections inside the value are found without this.
    fn refs(&self) -> Vec<Oid> {
        Vec::new()
    }

    /// The value of a record that another version of the type has written.
    fn upgrade(version: u32, data: &[u8]) -> Result<Self> {
        let _ = data;
        Err(Self::no_upgrade(version))
    }

    /// Under which keys this object is to be found in [`Persistent::INDEXES`].
    fn index(&self, keys: &mut Keys) {
        let _ = keys;
    }

    /// Under which keys a record of another version may be found: those that its type gave it. Unless told otherwise, the keys that it
    /// has after the upgrade.
    fn index_former(version: u32, data: &[u8], keys: &mut Keys) -> Result<()> {
        keys.of_value(&Self::upgrade(version, data)?);
        Ok(())
    }

    /// The error for a version that `upgrade` does not know: names class and versions.
    fn no_upgrade(version: u32) -> Error {
        Error::NoUpgrade { class: Self::CLASS.to_owned(), found: version, wanted: Self::VERSION }
    }

    /// Decodes the data of an older version as the type that it had then; for use in `upgrade`.
    fn old_shape<Old: DeserializeOwned>(version: u32, data: &[u8]) -> Result<Old> {
        decode_as(Self::codec_of(version), Self::CLASS, version, data)
    }
}

#[cfg(test)]
mod tests;
