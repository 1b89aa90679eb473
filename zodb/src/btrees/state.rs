//! Owns the shapes that the states of BTrees' nodes have.
//!
//! ```text
//!   bucket       ((key, value, key, value, ...),)      or    ((...), next bucket)        set   ((key, key, ...), ...)
//!   tree         None                                        empty
//!                (((key, value, ...),),)                     one bucket, inline
//!                ((child, key, child, key, child), first bucket)
//! ```

use super::Node;
use super::reason::conflict;
use crate::plain::{Plain, Unfold, left};
use crate::values::Values;
use crate::write;
use zeolite_proto::Record;
use zeolite_proto::resolver::Unresolved;

/// A record whose two pickles were read.
pub(crate) struct Parsed<'a> {
    class: &'a [u8],
    state: Plain<'a>,
}

impl<'a> Parsed<'a> {
    pub(crate) fn of(record: &'a Record) -> Result<Parsed<'a>, Unresolved> {
        Parsed::of_data(&record.data)
    }

    pub(crate) fn of_data(data: &'a [u8]) -> Result<Parsed<'a>, Unresolved> {
        let mut values = Values::new(data);
        values.pickle().map_err(left)?;
        let class = &data[..values.at()];
        let top = values.pickle().map_err(left)?;
        if values.at() != data.len() {
            return Err(left("a record with something behind its two pickles"));
        }
        Ok(Parsed { class, state: Unfold::of(&values).plain(top)? })
    }

    pub(crate) fn class_pickle(&self) -> &'a [u8] {
        self.class
    }

    pub(crate) fn into_top(self) -> Plain<'a> {
        self.state
    }

    /// The state of the one bucket of a tree that holds it inline.
    pub(crate) fn into_inline(self) -> Result<Plain<'a>, Unresolved> {
        let wrong = || left("a state that is none of a tree");
        let parts = match self.state {
            Plain::None => return Ok(Plain::None),
            Plain::Tuple(parts) => parts,
            _ => return Err(wrong()),
        };
        if parts.len() == 2 {
            return Err(conflict(11, None));
        }
        match only(parts).and_then(only_of) {
            Some(bucket @ Plain::Tuple(_)) => Ok(bucket),
            _ => Err(wrong()),
        }
    }
}

fn only(parts: Vec<Plain<'_>>) -> Option<Plain<'_>> {
    <[Plain<'_>; 1]>::try_from(parts).ok().map(|[only]| only)
}

fn only_of(tuple: Plain<'_>) -> Option<Plain<'_>> {
    match tuple {
        Plain::Tuple(parts) => only(parts),
        _ => None,
    }
}

/// One key, and its value if it is no set.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) key: Plain<'a>,
    pub(crate) value: Option<Plain<'a>>,
}

/// What a bucket or a set holds.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Content<'a> {
    pub(crate) items: Vec<Item<'a>>,
    pub(crate) next: Option<Plain<'a>>,
}

impl<'a> Content<'a> {
    pub(crate) fn of(state: Plain<'a>, node: &Node) -> Result<Content<'a>, Unresolved> {
        let wrong = || left("a state that is none of a bucket");
        let mut parts = match state {
            Plain::None => return Ok(Content { items: Vec::new(), next: None }),
            Plain::Tuple(parts) => parts.into_iter(),
            _ => return Err(wrong()),
        };
        let (Some(Plain::Tuple(flat)), next, None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        if next.as_ref().is_some_and(|next| !matches!(next, Plain::Reference(_))) {
            return Err(wrong());
        }
        let mut items = Vec::with_capacity(flat.len());
        let mut flat = flat.into_iter();
        while let Some(key) = flat.next() {
            let value = match node.is_set() {
                true => None,
                false => Some(node.loaded_value(flat.next().ok_or_else(wrong)?)?),
            };
            items.push(Item { key: node.loaded_key(key)?, value });
        }
        Ok(Content { items, next })
    }
}

/// Appends the pickle of a bucket's state; of a tree that holds it inline, if there is one above.
pub(super) fn pickle(node: &Node, items: &[&Item<'_>], next: Option<&Plain<'_>>, out: &mut Vec<u8>) {
    let flat = items.iter().flat_map(|item| [Some(&item.key), item.value.as_ref()]).flatten();
    let wrapped = if node.is_tree() { 2 } else { 0 };
    write::state(flat, next, wrapped, out);
}
