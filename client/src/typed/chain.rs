//! Owns chains of types: a class as it is now, as it was before, and before that; each knows its predecessor.
//!
//! ```text
//!   record of version 1 ── decode ──> PageV1 ── From ──> PageV2 ── From ──> Page
//!   record of version 2 ── decode ─────────────────────> PageV2 ── From ──> Page
//! ```
//!
//! `#[persistent(from = PageV2)]` on `Page` writes the calls of these functions. A chain must stay in its class, and its versions must
//! ascend; the compiler holds that:
//!
//! ```compile_fail
//! use serde::{Deserialize, Serialize};
//! use zeolite_client::Persistent;
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Page", version = 2)]
//! struct Old {}
//! impl From<Old> for Page { fn from(_: Old) -> Page { Page {} } }
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Page", version = 2, from = Old)] // not above the version of Old
//! struct Page {}
//! ```
//!
//! ```compile_fail
//! use serde::{Deserialize, Serialize};
//! use zeolite_client::Persistent;
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Topic")]
//! struct Old {}
//! impl From<Old> for Page { fn from(_: Old) -> Page { Page {} } }
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Page", version = 2, from = Old)] // another class
//! struct Page {}
//! ```
//!
//! ```compile_fail
//! use serde::{Deserialize, Serialize};
//! use zeolite_client::Persistent;
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Page")]
//! struct Old {}
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Page", version = 2, from = Old)] // no `impl From<Old> for Page`
//! struct Page {}
//! ```
//!
//! ```compile_fail
//! use serde::{Deserialize, Serialize};
//! use zeolite_client::Persistent;
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Page", shape = "00000000")] // not the shape that it has
//! struct Page { title: String }
//! ```

use super::Persistent;
use super::codec::decode_as;
use crate::errors::{Error, Result};

/// The value of a record that a former type of the class has written: decoded by the former type, or upgraded by its own chain, and
/// then upgraded once more. What `#[persistent(from = Old)]` makes of [`Persistent::upgrade`].
pub fn upgrade_from<Old: Persistent, New: Persistent + From<Old>>(version: u32, data: &[u8]) -> Result<New> {
    if version >= New::VERSION {
        return Err(New::no_upgrade(version));
    }
    let old = match version {
        same if same == Old::VERSION => decode_as(Old::CODEC, Old::CLASS, version, data),
        older => Old::upgrade(older, data),
    };
    match old {
        Ok(old) => Ok(New::from(old)),
        // The end of the chain knows its own version only.
        Err(Error::NoUpgrade { .. }) => Err(New::no_upgrade(version)),
        Err(error) => Err(error),
    }
}

/// Does not compile as a constant unless `New` can come after `Old`: of the same class, and of a higher version.
pub const fn follows<Old: Persistent, New: Persistent>() {
    assert!(same(Old::CLASS.as_bytes(), New::CLASS.as_bytes()), "the type in `from` is of another class");
    assert!(Old::VERSION < New::VERSION, "the type in `from` must have a lower version: raise `version` here");
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}
