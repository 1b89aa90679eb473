//! Owns what a node of a tree says of those below it, and what one state of a tree's keys is to a later one.

use super::Node;
use super::state::{Content, Item, Parsed};
use crate::oids::to_zeolite;
use crate::plain::Plain;
use zeolite_proto::resolver::Unresolved;
use zeolite_proto::{Cell, Record};

/// No answer: then nothing is concluded.
type Maybe<T> = Option<T>;

/// The state of a node.
pub(crate) enum Shape<'a> {
    /// It holds the keys itself: a bucket, or a tree that is small or empty.
    Leaf(Content<'a>),
    Nodes(Children<'a>),
}

impl<'a> Shape<'a> {
    pub(crate) fn of(node: &Node, record: &'a Record) -> Maybe<Shape<'a>> {
        let parsed = Parsed::of(record).ok()?;
        if !node.is_tree() {
            return Some(Shape::Leaf(Content::of(parsed.into_top(), node).ok()?));
        }
        match parsed.into_inline() {
            Ok(inline) => Some(Shape::Leaf(Content::of(inline, node).ok()?)),
            Err(_) => Some(Shape::Nodes(Children::of(record)?)),
        }
    }
}

/// The children of a node, and the least keys of all but the first: what is less than these is the first one's.
pub(crate) struct Children<'a> {
    tree: Node,
    keys: Vec<Plain<'a>>,
    /// And whether each is a node itself.
    pub(crate) children: Vec<(Cell, bool)>,
    /// The first leaf below.
    pub(crate) first: Plain<'a>,
    /// Children and keys in turn, as they stand.
    flat: Vec<Plain<'a>>,
}

impl<'a> Children<'a> {
    pub(crate) fn of(record: &'a Record) -> Maybe<Children<'a>> {
        let tree = Node::of_class(&record.class).filter(Node::is_tree)?;
        let top = Parsed::of(record).ok()?.into_top();
        let Plain::Tuple(parts) = top else { return None };
        let Ok([Plain::Tuple(flat), first]) = <[Plain<'a>; 2]>::try_from(parts) else { return None };
        let keys = flat.iter().skip(1).step_by(2).map(|key| tree.loaded_key(key.clone()).ok());
        let children = flat.iter().step_by(2).map(|child| tree_child(&tree, child));
        let (keys, children) = (keys.collect::<Maybe<Vec<_>>>()?, children.collect::<Maybe<Vec<_>>>()?);
        (children.len() == keys.len() + 1).then_some(Children { tree, keys, children, first, flat })
    }

    /// The reference to a child.
    pub(crate) fn reference(&self, at: usize) -> Maybe<Plain<'static>> {
        self.flat.get(2 * at).cloned().map(Plain::into_owned)
    }

    /// The node with some of its children, and another first leaf; with none it is as BTrees leaves it.
    pub(crate) fn with(&self, record: &Record, left: &[usize], first: &Plain<'_>) -> Result<Record, Unresolved> {
        let keyed = |(place, at): (usize, &usize)| {
            let key = at.checked_sub(1).filter(|_| place > 0).and_then(|at| self.flat.get(2 * at + 1));
            [key, self.flat.get(2 * at)].into_iter().flatten().cloned()
        };
        let flat: Vec<Plain<'_>> = left.iter().enumerate().flat_map(keyed).collect();
        let state = match flat.is_empty() {
            true => Plain::None,
            false => Plain::Tuple(vec![Plain::Tuple(flat), first.clone()]),
        };
        let mut data = Parsed::of(record)?.class_pickle().to_vec();
        crate::write::pickle(&state, &mut data);
        super::with_data(record, data)
    }

    pub(crate) fn of_key(&self, key: &Plain<'_>) -> Maybe<(Cell, bool)> {
        self.children.get(self.place_of(key)?).cloned()
    }

    /// The same, as its place among the children.
    pub(crate) fn place_of(&self, key: &Plain<'_>) -> Maybe<usize> {
        let (mut low, mut high) = (0, self.keys.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.tree.compare_keys(&self.keys[middle], key).ok()?.is_gt() {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Some(low)
    }
}

/// A child, and whether it is a node itself: its reference says of which class it is.
fn tree_child(tree: &Node, child: &Plain<'_>) -> Maybe<(Cell, bool)> {
    let Plain::Reference(to) = child else { return None };
    let Some(Plain::Class(module, name)) = &to.class else { return None };
    let class = format!("{}.{}", std::str::from_utf8(module).ok()?, std::str::from_utf8(name).ok()?);
    let node = Node::of_class(&class).filter(|node| node == tree || tree.is_above(node))?;
    Some((Cell::object(to_zeolite(to.oid)?), node.is_tree()))
}

/// What became of one key.
#[derive(Clone, Copy)]
pub(crate) struct Changed<'k, 'a> {
    pub(crate) before: Option<&'k Item<'a>>,
    pub(crate) after: Option<&'k Item<'a>>,
}

impl<'k, 'a> Changed<'k, 'a> {
    pub(crate) fn key(&self) -> Maybe<&'k Plain<'a>> {
        self.before.or(self.after).map(|item| &item.key)
    }
}

/// The keys that were added, removed or given another value, in their order.
pub(crate) fn changed<'k, 'a>(node: &Node, old: &'k [Item<'a>], new: &'k [Item<'a>]) -> Maybe<Vec<Changed<'k, 'a>>> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (mut was, mut is, mut keys) = (old.iter().peekable(), new.iter().peekable(), Vec::new());
    loop {
        let order = match (was.peek(), is.peek()) {
            (None, None) => return Some(keys),
            (Some(_), None) => Less,
            (None, Some(_)) => Greater,
            (Some(was), Some(is)) => node.compare_keys(&was.key, &is.key).ok()?,
        };
        let before = if order == Greater { None } else { was.next() };
        let after = if order == Less { None } else { is.next() };
        match (order, before, after) {
            (Equal, Some(before), Some(after)) if before.value == after.value => {}
            (_, before, after) => keys.push(Changed { before, after }),
        }
    }
}
