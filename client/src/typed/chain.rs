//! Owns chains of types: a class as it is now, as it was before, and before that; each knows its predecessor.
//!
//! ```text
//!   record of version 1 ── decode ──> PageV1 ── From ──> PageV2 ── From ──> Page
//!   record of version 2 ── decode ─────────────────────> PageV2 ── From ──> Page
//! ```
//!
//! `#[persistent(from = PageV2)]` on `Page` writes the calls of these functions. A *bridge* is a former type that reads what a newer one
//! has written, and goes on writing its own shape: `#[persistent(newer = Page)]` on `PageV2`, with `impl From<Page> for PageV2`.
//!
//! ```text
//!   record of version 3 ── decode ──> Page ── From ──> PageV2
//! ```
//! A chain must stay in its class, and its versions must ascend; the compiler holds that:
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
use super::codec::{Codec, decode_as};
use crate::errors::{Error, Result};
use crate::tx::same;

/// The value of a record that a former type of the class has written: decoded by the former type, or upgraded by its own chain, and
/// then upgraded once more. What `#[persistent(from = Old)]` makes of [`Persistent::upgrade`].
pub fn upgrade_from<Old: Persistent, New: Persistent + From<Old>>(version: u32, data: &[u8]) -> Result<New> {
    if version >= New::VERSION {
        return Err(New::no_upgrade(version));
    }
    let old = match version {
        // Whatever `Old` reads beyond itself, if it is a bridge, comes back to this type.
        newer if newer > Old::VERSION => Err(New::no_upgrade(version)),
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

/// The value of a record that a newer type of the class has written. What `#[persistent(newer = New)]` makes of [`Persistent::upgrade`].
pub fn downgrade_from<New: Persistent, Old: Persistent + From<New>>(version: u32, data: &[u8]) -> Result<Old> {
    let new = match version {
        same if same == New::VERSION => decode_as(New::CODEC, New::CLASS, version, data),
        other => New::upgrade(other, data),
    };
    match new {
        Ok(new) => Ok(Old::from(new)),
        Err(Error::NoUpgrade { .. }) => Err(Old::no_upgrade(version)),
        Err(error) => Err(error),
    }
}

/// The codec of a version, as a former type knows it.
pub fn codec_of_former<Old: Persistent>(version: u32) -> Codec {
    if version > Old::VERSION { Old::CODEC } else { Old::codec_of(version) }
}

/// The codec of a version, as a newer type knows it.
pub fn codec_of_newer<New: Persistent>(version: u32) -> Codec {
    if version == New::VERSION { New::CODEC } else { New::codec_of(version) }
}

/// Does not compile as a constant unless `New`, which a bridge reads, comes after it: of the same class, and of a higher version.
pub const fn precedes<Old: Persistent, New: Persistent>() {
    assert!(same(Old::CLASS.as_bytes(), New::CLASS.as_bytes()), "the type in `newer` is of another class");
    assert!(
        Old::VERSION < New::VERSION,
        "the type in `newer` must have a higher version; a former type is named in `from`"
    );
}

/// Does not compile as a constant unless `New` can come after `Old`: of the same class, and of a higher version.
pub const fn follows<Old: Persistent, New: Persistent>() {
    assert!(same(Old::CLASS.as_bytes(), New::CLASS.as_bytes()), "the type in `from` is of another class");
    assert!(
        Old::VERSION < New::VERSION,
        "the type in `from` must have a lower version: raise `version` here; a bridge names the newer type, whose records it reads, in `newer`"
    );
}
