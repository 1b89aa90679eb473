//! Owns the beginnings of keys: all keys with the same first part, all texts that begin alike.

use super::{AsKey, Key};
use std::borrow::Borrow;

/// A key of several parts that begins with a `Q`, or a text that begins with another one: what `prefix` of a collection can be asked for.
///
/// ```
/// # use zeolite_client::{Entry, Error, Key, View, collections::Map};
/// #[derive(Key)]
/// struct Place {
///     shelf: String,
///     row: u16,
/// }
///
/// # async fn example(view: &View, books: Map<Place, String>, words: Map<String, u64>) -> Result<(), Error> {
/// let poems = books.prefix(view, "poems").collect().await?; // (Place, String), by rows
/// let with_ze = words.prefix(view, "ze").limit(20).collect().await?;
/// # let _ = (poems, with_ze); Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no key that begins with such a part",
    note = "the first part of a tuple, or of a struct with `#[derive(Key)]` and more than one field; or a `str` of a `String`"
)]
pub trait Prefixed<Q: AsKey + ?Sized>: Key {
    /// Appends what the encoded form of all of them begins with.
    fn put_prefix(part: &Q, out: &mut Vec<u8>) {
        part.put_inner(out);
    }

    /// The same of a key that others follow.
    fn put_inner_prefix(part: &Q, out: &mut Vec<u8>) {
        part.put_inner(out);
    }
}

impl Prefixed<str> for String {
    fn put_prefix(part: &str, out: &mut Vec<u8>) {
        // The empty text is the beginning of all, and not a key.
        if !part.is_empty() {
            part.put_last(out);
        }
    }

    fn put_inner_prefix(part: &str, out: &mut Vec<u8>) {
        part.put_inner(out);
        // It goes on: not closed.
        out.truncate(out.len() - 2);
    }
}

macro_rules! tuples {
    ($(($first:ident $($other:ident)+))*) => {$(
        impl<Q: AsKey + ?Sized, $first: Key + Borrow<Q>, $($other: Key),+> Prefixed<Q> for ($first, $($other),+) {}
    )*};
}

tuples! { (A B) (A B C) (A B C D) }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::encode;

    fn begins<K: Prefixed<Q>, Q: AsKey + ?Sized>(key: &K, part: &Q) -> (bool, bool) {
        let (mut last, mut inner, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        K::put_prefix(part, &mut last);
        K::put_inner_prefix(part, &mut inner);
        key.put_inner(&mut whole);
        (encode(key).starts_with(&last), whole.starts_with(&inner))
    }

    #[test]
    fn what_begins_so_and_nothing_else_is_found() {
        let texts = ["", "a", "ab", "\0", "\0a", "a\0", "a\0\0b"].map(str::to_owned);
        for text in &texts {
            for part in &texts {
                let wanted = text.starts_with(part.as_str());
                assert_eq!(begins::<String, str>(text, part), (wanted, wanted), "{text:?} {part:?}");
                let pair = (text.clone(), 7u8);
                assert_eq!(begins::<_, str>(&pair, part), (text == part, text == part), "{pair:?} {part:?}");
            }
        }
    }
}
