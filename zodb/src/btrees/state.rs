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

    pub(crate) fn top(&self) -> &Plain<'a> {
        &self.state
    }

    /// The state of the one bucket of a tree that holds it inline.
    pub(super) fn inline(&self) -> Result<&Plain<'a>, Unresolved> {
        match &self.state {
            Plain::None => Ok(&Plain::None),
            Plain::Tuple(parts) => match parts.as_slice() {
                [_, _] => Err(conflict(11, None)),
                [Plain::Tuple(inner)] if matches!(inner.as_slice(), [Plain::Tuple(_)]) => Ok(&inner[0]),
                _ => Err(left("a state that is none of a tree")),
            },
            _ => Err(left("a state that is none of a tree")),
        }
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
    pub(crate) fn of(state: &Plain<'a>, node: &Node) -> Result<Content<'a>, Unresolved> {
        let wrong = || left("a state that is none of a bucket");
        let (flat, next) = match state {
            Plain::None => return Ok(Content { items: Vec::new(), next: None }),
            Plain::Tuple(parts) => match parts.as_slice() {
                [Plain::Tuple(flat)] => (flat, None),
                [Plain::Tuple(flat), next @ Plain::Reference(_)] => (flat, Some(next.clone())),
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        let of = |key: &Plain<'a>, value: Option<&Plain<'a>>| {
            let value = value.map(|value| node.loaded_value(value.clone())).transpose()?;
            Ok(Item { key: node.loaded_key(key.clone())?, value })
        };
        let items: Result<Vec<_>, Unresolved> = match node.is_set() {
            true => flat.iter().map(|key| of(key, None)).collect(),
            false if flat.len() % 2 != 0 => return Err(wrong()),
            false => flat.chunks_exact(2).map(|pair| of(&pair[0], Some(&pair[1]))).collect(),
        };
        Ok(Content { items: items?, next })
    }

    pub(super) fn into_state(self) -> Plain<'a> {
        let flat = self.items.into_iter().flat_map(|item| [Some(item.key), item.value]).flatten().collect();
        Plain::Tuple([Some(Plain::Tuple(flat)), self.next].into_iter().flatten().collect())
    }
}
