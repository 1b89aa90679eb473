//! Owns the replay of a transaction's changes of keys on the newest tree, for conflicts that only a split makes.
//!
//! A transaction that sets a key in a bucket which another one has split meanwhile is refused (reason 0), and so is one that has split a
//! bucket itself beside another split below the same node (reason 11), although no key was touched by both. What it meant is in its writes:
//!
//! ```text
//!   as read     root (B1, 40, B2)            B2: 41 50 60
//!   written     root (B1, 40, B2, 55, B9)    B2: 41 45 50    B9: 60        it has added 45, and split
//!   newest      root (B1, 40, B2, 50, B3)    B2: 41 42       B3: 50 60     another has added 42, and split
//!   replayed                                 B2: 41 42 45                  45 leads to B2; B9, and its root, are left out
//! ```
//!
//! - *What it changed*: the keys of all leaves of the tree that it wrote, before and after, as one sequence. What it has split cancels out.
//! - *Where*: each key goes down the newest tree, from the root. Whoever sets a key has read or written each node on its way, so the topmost
//!   node of the draft is the root.
//! - *How*: in its leaf. A key that the other side has changed is a conflict. Its least key may go, and its last one: in a merge these are
//!   conflicts (reasons 13 and 10) since nobody looks at the nodes above; here they are looked at, held, and written where a leaf goes (`way`).
//! - *Empty trees*: whoever has emptied a tree has seen that, and may have thrown it away, as indexes do; so has whoever finds one empty that had keys.
//!   Such a tree is not replayed, whatever its keys say.
//! - *What is left out*: all of the draft's own nodes and leaves of that tree, unless a key leads there. The newest tree is sane without them. A leaf may become longer
//!   than Python would make it; its next writer splits it.
//!
//! All that the draft did to nodes must be told by its keys, or nothing is replayed: a child that has gone from a node must have been
//! emptied, and each leaf that was written must be below nodes that are known. So a `clear()` stays a conflict, which leaves its buckets as they were.

#[cfg(test)]
mod tests;
mod way;

use crate::btrees::state::Item;
use crate::btrees::tree::{Shape, changed};
use crate::btrees::{Node, Rules, emptied};
use crate::oids::to_zeolite;
use crate::plain::Plain;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use way::Way;
use zeolite_proto::record::Header;
use zeolite_proto::resolver::Unresolved;
use zeolite_proto::{Cell, Change, Draft, Record, Records, Replayed, Replayer, Tid};

/// Nodes between a root and a leaf.
const DEPTH_MAX: usize = 32;
/// Records that one replay looks at, and the bytes of each.
const RECORDS_MAX: usize = 5_000;
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Reads and writes of a draft that is replayed.
const PARTS_MAX: usize = 20_000;

/// No answer: then nothing is replayed.
type Maybe<T> = Option<T>;

/// Replays changes of BTrees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    /// The rules of each key.
    pub rules: Rules,
}

impl Replayer for Replay {
    fn may_replay(&self, draft: &Draft) -> bool {
        let writes_a_node = |change: &Change| match change {
            Change::Put(record) => node_of(record).is_some(),
            _ => false,
        };
        draft.writes.len() + draft.read_cells.len() <= PARTS_MAX
            && draft.writes.iter().any(|write| writes_a_node(&write.change))
    }

    fn replay(&self, draft: &Draft, conflicts: &[Cell], records: &mut dyn Records) -> Result<Replayed, Unresolved> {
        let mut asked = Asked { records, count: 0, why: None };
        let made = self.of_trees(draft, conflicts, &mut asked);
        made.ok_or_else(|| {
            asked.why.unwrap_or_else(|| Unresolved::because("its writes do not tell what it did to the tree"))
        })
    }
}

impl Replay {
    fn of_trees(&self, draft: &Draft, conflicts: &[Cell], asked: &mut Asked<'_>) -> Maybe<Replayed> {
        let sides = sides(draft, asked)?;
        let forest = Forest::of(&sides)?;
        if forest.has_strays() {
            return None;
        }
        let mut tops: Vec<&Cell> = conflicts.iter().filter_map(|cell| forest.top_of(cell)).collect();
        tops.sort_unstable();
        tops.dedup();
        let mut made = Replayed::default();
        for top in &tops {
            forest.replay(top, self.rules, asked, &mut made)?;
        }
        (!tops.is_empty()).then_some(made)
    }
}

fn node_of(record: &Bytes) -> Maybe<Node> {
    Node::of_class(Header::parse(record).ok()?.class)
}

fn decoded(record: &Bytes) -> Maybe<Record> {
    Record::decode(record).ok().filter(|record| record.data.len() <= RECORD_BYTES_MAX)
}

/// The records that are looked at.
struct Asked<'r> {
    records: &'r mut dyn Records,
    count: usize,
    /// Why nothing is replayed, where that can be said.
    why: Option<Unresolved>,
}

impl Asked<'_> {
    fn as_of(&mut self, cell: &Cell, tid: Tid) -> Maybe<Bytes> {
        self.one_more()?;
        self.records.as_of(cell, tid)
    }

    fn newest(&mut self, cell: &Cell) -> Maybe<Record> {
        self.one_more()?;
        decoded(&self.records.newest(cell)?)
    }

    fn refuse<T>(&mut self, why: Unresolved) -> Maybe<T> {
        self.why = Some(why);
        None
    }

    fn one_more(&mut self) -> Maybe<()> {
        self.count += 1;
        (self.count <= RECORDS_MAX).then_some(())
    }
}

/// A node or leaf that the draft has read or written: what it was made on (none: it is new), and what it is to become (none: only read).
struct Sides {
    node: Node,
    old: Option<Record>,
    new: Option<Record>,
}

fn sides(draft: &Draft, asked: &mut Asked<'_>) -> Maybe<BTreeMap<Cell, Sides>> {
    let mut sides: BTreeMap<Cell, Sides> = BTreeMap::new();
    let told_beside = draft.writes.iter().filter(|write| !write.cell.is_object());
    let told_beside: HashSet<_> = told_beside.map(|write| write.cell.oid).collect();
    for write in draft.writes.iter().filter(|write| write.cell.is_object()) {
        let Change::Put(new) = &write.change else { continue };
        let Some(node) = node_of(new) else { continue };
        // An undo tells beside the object where its data comes from.
        if told_beside.contains(&write.cell.oid) {
            return None;
        }
        let old = if write.base == Tid::NONE { None } else { Some(decoded(&asked.as_of(&write.cell, write.base)?)?) };
        let new = decoded(new)?;
        if old.as_ref().is_some_and(|old| old.class != new.class) {
            return None;
        }
        sides.insert(write.cell.clone(), Sides { node, old, new: Some(new) });
    }
    for read in draft.read_cells.iter().filter(|read| read.cell.is_object()) {
        if sides.contains_key(&read.cell) {
            continue;
        }
        // What is not there, or cannot be read, is no node that was walked through.
        let Some(old) = asked.as_of(&read.cell, read.base) else { continue };
        if let Some(node) = node_of(&old).filter(Node::is_tree) {
            sides.insert(read.cell.clone(), Sides { node, old: Some(decoded(&old)?), new: None });
        }
    }
    Some(sides)
}

/// The same, understood.
struct Known<'s> {
    node: Node,
    old: Option<Shape<'s>>,
    new: Option<(Shape<'s>, u32)>,
}

/// All trees that the draft has read and written.
struct Forest<'s> {
    known: BTreeMap<&'s Cell, Known<'s>>,
    /// As they were read.
    parents: HashMap<Cell, &'s Cell>,
}

impl<'s> Forest<'s> {
    fn of(sides: &'s BTreeMap<Cell, Sides>) -> Maybe<Forest<'s>> {
        let (mut known, mut parents) = (BTreeMap::new(), HashMap::new());
        for (cell, Sides { node, old, new }) in sides {
            let old = match old {
                Some(old) => Some(Shape::of(node, old)?),
                None => None,
            };
            let new = match new {
                Some(new) => Some((Shape::of(node, new)?, new.version)),
                None => None,
            };
            for (child, _) in old.iter().flat_map(children) {
                parents.insert(child.clone(), cell);
            }
            known.insert(cell, Known { node: *node, old, new });
        }
        Some(Forest { known, parents })
    }

    /// Whether a leaf was written of which nobody knows the tree: what is left out on one side must not stay on the other.
    fn has_strays(&self) -> bool {
        let is_leaf = |known: &Known<'_>| known.old.is_some() && known.new.is_some() && !known.node.is_tree();
        self.known.iter().any(|(cell, known)| is_leaf(known) && self.tree_of(cell).is_none())
    }

    /// The root of the tree that something was in, also if it was written only to lead past a leaf of that tree.
    fn tree_of(&self, cell: &Cell) -> Maybe<&'s Cell> {
        self.top_of(cell).or_else(|| self.top_of(&self.unlinked_by(cell)?))
    }

    /// Who unlinks a bucket writes the one before it, which may be below nodes that were not asked for.
    fn unlinked_by(&self, cell: &Cell) -> Maybe<Cell> {
        let known = self.known.get(cell)?;
        let (Some(Shape::Leaf(old)), Some((Shape::Leaf(new), _))) = (&known.old, &known.new) else { return None };
        let Some(Plain::Reference(to)) = old.next.as_ref().filter(|_| old.items == new.items) else { return None };
        let unlinked = Cell::object(to_zeolite(to.oid)?);
        let is_empty = |known: &Known<'_>| matches!(&known.new, Some((Shape::Leaf(leaf), _)) if leaf.items.is_empty());
        (old.next != new.next && self.known.get(&unlinked).is_some_and(is_empty)).then_some(unlinked)
    }

    /// The root of the tree that something was in.
    fn top_of(&self, cell: &Cell) -> Maybe<&'s Cell> {
        let mut top = *self.known.get_key_value(cell).filter(|(_, known)| known.old.is_some())?.0;
        for _ in 0..DEPTH_MAX {
            match self.parents.get(top) {
                Some(above) => top = above,
                None => return self.known.get(top).filter(|known| known.node.is_tree()).map(|_| top),
            }
        }
        None
    }

    fn replay(&self, top: &Cell, rules: Rules, asked: &mut Asked<'_>, made: &mut Replayed) -> Maybe<()> {
        let written = self.written(top)?;
        let node = self.known.get(top)?.node;
        let (mut old, mut new): (Vec<Item<'_>>, Vec<Item<'_>>) = (Vec::new(), Vec::new());
        let mut version = None;
        for known in written.iter().filter_map(|cell| self.known.get(cell)) {
            let (shape, its_version) = known.new.as_ref()?;
            if *version.get_or_insert(*its_version) != *its_version {
                return None;
            }
            for (shape, keys) in [(known.old.as_ref(), &mut old), (Some(shape), &mut new)] {
                if let Some(Shape::Leaf(content)) = shape {
                    keys.extend(content.items.iter().cloned());
                }
            }
        }
        let (old, new) = (in_order(&node, old)?, in_order(&node, new)?);
        let changes = changed(&node, &old, &new)?;
        if changes.is_empty() {
            return None;
        }
        let (had_keys, has_keys) = (!old.is_empty() || self.is_large(top), !new.is_empty() || self.is_large_now(top));
        if had_keys && !has_keys {
            return asked.refuse(emptied());
        }
        Way::new((node, version?, rules, had_keys), asked, made).make(top, &changes)?;
        for cell in written {
            // What was led to the written one has been led to where it belongs.
            let mut above = self.parents.get(cell);
            while let Some(node) = above {
                made.left_out_reads.insert((*node).clone());
                above = self.parents.get(*node);
            }
            made.left_out_writes.insert(cell.clone());
        }
        Some(())
    }

    /// Whether a tree had nodes: such a one has keys.
    fn is_large(&self, top: &Cell) -> bool {
        matches!(self.known.get(top).and_then(|known| known.old.as_ref()), Some(Shape::Nodes(_)))
    }

    /// The same as the draft leaves it.
    fn is_large_now(&self, top: &Cell) -> bool {
        match self.known.get(top).map(|known| &known.new) {
            Some(Some((shape, _))) => matches!(shape, Shape::Nodes(_)),
            _ => self.is_large(top),
        }
    }

    /// What was written of a tree: all that were in it or have come into it. None: more was done to it than its keys tell.
    fn written(&self, top: &Cell) -> Maybe<Vec<&'s Cell>> {
        let mut written: Vec<&'s Cell> = Vec::new();
        for (cell, known) in &self.known {
            if known.new.is_some() && self.tree_of(cell) == Some(top) {
                written.push(cell);
            }
        }
        let (mut are_below, mut were_below) = (HashSet::new(), HashSet::new());
        let mut at = 0;
        while let Some(known) = written.get(at).and_then(|cell| self.known.get(*cell)) {
            at += 1;
            were_below.extend(known.old.iter().flat_map(children));
            for child in known.new.iter().flat_map(|(shape, _)| children(shape)) {
                if !are_below.insert(child) {
                    return None;
                }
                if let Some((cell, Known { old: None, .. })) = self.known.get_key_value(&child.0) {
                    written.push(cell);
                }
            }
        }
        let is_new = |cell: &Cell| self.known.get(cell).is_some_and(|known| known.old.is_none());
        let is_empty = |cell: &Cell| match self.known.get(cell).and_then(|known| known.new.as_ref()) {
            Some((Shape::Leaf(content), _)) => content.items.is_empty(),
            _ => false,
        };
        let came_from_here = are_below.iter().all(|child| were_below.contains(child) || is_new(&child.0));
        let went_empty = were_below.difference(&are_below).all(|child| is_empty(&child.0));
        (came_from_here && went_empty).then_some(written)
    }
}

fn children<'s>(shape: &'s Shape<'_>) -> &'s [(Cell, bool)] {
    match shape {
        Shape::Nodes(nodes) => &nodes.children,
        Shape::Leaf(_) => &[],
    }
}

/// Some keys in their order. None: one is there twice, or only Python knows the order.
fn in_order<'a>(node: &Node, mut items: Vec<Item<'a>>) -> Maybe<Vec<Item<'a>>> {
    items.sort_by(|a, b| node.compare_keys(&a.key, &b.key).unwrap_or(Ordering::Equal));
    let ascend = |pair: &[Item<'a>]| node.compare_keys(&pair[0].key, &pair[1].key).is_ok_and(Ordering::is_lt);
    items.windows(2).all(ascend).then_some(items)
}
