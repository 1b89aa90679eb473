//! Owns the derives of the client: what a Rust type says about itself in attributes, as the traits of `zeolite-client`.
//!
//! ```text
//!   #[derive(Persistent)]  class, version, from, codec, shape  ──> impl Persistent   (persistent, indexed, shape)
//!   #[derive(Key)]         the fields, in their order          ──> impl AsKey, Key   (key)
//! ```
//!
//! Nothing is decided here that cannot be written by hand: each derive gives the impl that its user would write, and the parts of it that
//! are more than a constant are functions of the client (`typed::upgrade_from`). The client re-exports both; nobody depends on this crate
//! himself. Examples, and examples that must not compile, stand in the client, where they can be run.

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

mod indexed;
mod key;
mod others;
mod persistent;
mod shape;
mod values;

/// Makes a type a class of the database: `#[persistent(class = "wiki.Page", version = 2, from = PageV1)]`.
///
/// | | | |
/// |---|---|---|
/// | `class = "app.Name"` | needed | the name in the record's header |
/// | `version = 2` | 1 if it is left out | the schema version that the type writes |
/// | `from = Old` | | the type as it was before: persistent itself, of the same class and a lower version; `impl From<Old>` is the upgrade |
/// | `newer = New` | | a *bridge*: the type also reads what the newer type of the class has written, by `impl From<New>`, and writes its own shape |
/// | `codec = "cbor"` | `"postcard"` if it is left out | how the data is written |
/// | `index(name = "word", key = String, by = words)` | | an index that is kept with the objects, under the keys that `words(&value)` gives; `unique(..)`: each key is one object's |
/// | `shape = "1f0c3a55"` | | a fingerprint of fields and indexes: a change without a new version no longer compiles. Write `""` to be told it |
///
/// On a field `#[persistent(index)]` or `#[persistent(unique)]`: an index of the field's name, under the field's value. Each index is read by a
/// constant of the type: `Page::BY_AUTHOR`.
#[proc_macro_derive(Persistent, attributes(persistent))]
pub fn persistent(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    persistent::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct a key of collections: its bytes are those of the tuple of its fields, in the order of their declaration, or those of
/// its one field.
#[proc_macro_derive(Key)]
pub fn key(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    key::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
