//! Owns the way of changed keys down the newest tree, and what they make of it.
//!
//! ```text
//!   root (B1, 40, B2, 50, B3)        B1 ─> B2 ─> B3        all keys of B2 go:
//!   root (B1, 50, B3)                B1 ──────> B3         B2 is left empty, as BTrees' C code leaves it
//! ```
//! A leaf that becomes empty is taken out of the node above it, that node out of the one above if it was its last child, and what came before
//! it leads to what comes behind; if it was the first one, the nodes above say so. What is left is never an empty tree: that is a conflict.

use super::{Asked, DEPTH_MAX, Maybe};
use crate::btrees::tree::{Changed, Children, Shape};
use crate::btrees::{Leaf, Node, Rules, emptied};
use crate::plain::Plain;
use std::collections::{BTreeMap, BTreeSet};
use zeolite_proto::{Cell, Record, Replayed};

/// What is below a node.
#[derive(PartialEq)]
enum Below {
    Stands,
    Empty,
}

/// The way of changes down the newest tree.
pub(super) struct Way<'w, 'r> {
    /// The class of its nodes.
    pub(super) node: Node,
    pub(super) version: u32,
    pub(super) rules: Rules,
    /// Whoever changed it has seen a tree that was not empty.
    pub(super) had_keys: bool,
    pub(super) asked: &'w mut Asked<'r>,
    pub(super) made: &'w mut Replayed,
    /// What was made of it so far.
    now: BTreeMap<Cell, Record>,
    /// Leaves that became empty.
    empty: usize,
}

impl<'w, 'r> Way<'w, 'r> {
    pub(super) fn new(
        (node, version, rules, had_keys): (Node, u32, Rules, bool),
        asked: &'w mut Asked<'r>,
        made: &'w mut Replayed,
    ) -> Way<'w, 'r> {
        Way { node, version, rules, had_keys, asked, made, now: BTreeMap::new(), empty: 0 }
    }

    /// Makes the changes in the tree of a root.
    pub(super) fn make(mut self, top: &Cell, changes: &[Changed<'_, '_>]) -> Maybe<()> {
        if self.down(top, changes, 0, None)? == Below::Empty {
            return self.asked.refuse(emptied());
        }
        for (cell, record) in self.now {
            self.made.reads.retain(|read| *read != cell);
            self.made.writes.push((cell, record.encode().ok()?));
        }
        Some(())
    }

    fn newest(&mut self, cell: &Cell) -> Maybe<Record> {
        match self.now.get(cell) {
            Some(record) => Some(record.clone()),
            None => self.asked.newest(cell),
        }
    }

    fn read(&mut self, cell: &Cell) {
        if !self.made.reads.contains(cell) {
            self.made.reads.push(cell.clone());
        }
    }

    /// `before`: the child that is before this one, here or above.
    fn down(
        &mut self,
        cell: &Cell,
        changes: &[Changed<'_, '_>],
        depth: usize,
        before: Option<&(Cell, bool)>,
    ) -> Maybe<Below> {
        let record = self.newest(cell)?;
        let node = Node::of_class(&record.class)?;
        if depth > DEPTH_MAX || !(node == self.node || self.node.is_above(&node)) {
            return None;
        }
        let nodes = match Shape::of(&node, &record)? {
            Shape::Leaf(there) if there.items.is_empty() && self.had_keys => return self.asked.refuse(emptied()),
            Shape::Leaf(_) => return self.leaf(cell, &node, &record, (changes, before)),
            Shape::Nodes(nodes) => nodes,
        };
        self.read(cell);
        let (mut rest, mut gone, were_empty) = (changes, BTreeSet::new(), self.empty);
        while let Some(first) = rest.first() {
            let at = nodes.place_of(first.key()?)?;
            let is_there = |change: &&Changed<'_, '_>| change.key().and_then(|key| nodes.place_of(key)) == Some(at);
            let (there, behind) = rest.split_at(rest.iter().take_while(is_there).count());
            let here = (0..at).rev().find(|other| !gone.contains(other)).and_then(|other| nodes.children.get(other));
            if self.down(&nodes.children.get(at)?.0, there, depth + 1, here.or(before))? == Below::Empty {
                gone.insert(at);
            }
            rest = behind;
        }
        match self.empty == were_empty {
            true => Some(Below::Stands),
            false => self.without(cell, &record, &nodes, &gone),
        }
    }

    fn leaf(
        &mut self,
        cell: &Cell,
        node: &Node,
        record: &Record,
        (changes, before): (&[Changed<'_, '_>], Option<&(Cell, bool)>),
    ) -> Maybe<Below> {
        if record.version != self.version {
            return None;
        }
        let (merged, next) = match node.with_changes(record, changes, self.rules) {
            Ok(Leaf::Holds(merged)) => {
                self.now.insert(cell.clone(), merged);
                return Some(Below::Stands);
            }
            Ok(Leaf::Empty(merged, next)) => (merged, next),
            Err(why) => return self.asked.refuse(why),
        };
        self.now.insert(cell.clone(), merged);
        self.empty += 1;
        if let Some(before) = before {
            let last = self.last_leaf(before.clone())?;
            let record = self.newest(&last)?;
            let linked = Node::of_class(&record.class)?.with_next(&record, next.as_ref()).ok()?;
            self.now.insert(last, linked);
        }
        Some(Below::Empty)
    }

    fn last_leaf(&mut self, (mut cell, mut is_node): (Cell, bool)) -> Maybe<Cell> {
        for _ in 0..DEPTH_MAX {
            if !is_node {
                return Some(cell);
            }
            let record = self.newest(&cell)?;
            self.read(&cell);
            (cell, is_node) = Children::of(&record)?.children.pop()?;
        }
        None
    }

    /// Some children of a node have gone, or the first leaf below it has.
    fn without(&mut self, cell: &Cell, record: &Record, nodes: &Children<'_>, gone: &BTreeSet<usize>) -> Maybe<Below> {
        let left = (0..nodes.children.len()).find(|at| !gone.contains(at));
        let first = match left.and_then(|at| Some((at, nodes.children.get(at)?))) {
            None => None,
            Some((at, (_, false))) => Some(nodes.reference(at)?),
            Some((_, (child, true))) => {
                let record = self.newest(child)?;
                Some(Children::of(&record)?.first.into_owned())
            }
        };
        if gone.is_empty() && first.as_ref() == Some(&nodes.first) {
            return Some(Below::Stands);
        }
        let left: Vec<usize> = (0..nodes.children.len()).filter(|at| !gone.contains(at)).collect();
        let changed = nodes.with(record, &left, first.as_ref().unwrap_or(&Plain::None)).ok()?;
        self.now.insert(cell.clone(), changed);
        Some(if left.is_empty() { Below::Empty } else { Below::Stands })
    }
}
