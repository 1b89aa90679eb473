//! Owns the other types of its class that a type names: the one before it, and the one after it that a bridge reads.

use syn::Type;

/// The other types of the class that a type knows.
#[derive(Clone, Copy)]
pub(crate) struct Others<'a> {
    pub(crate) from: Option<&'a Type>,
    pub(crate) newer: Option<&'a Type>,
}
