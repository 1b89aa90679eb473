//! Owns the way of a key through a tree, and with it the judgement of read checks: whether a tree that has changed still leads to the
//! bucket that was written.
//!
//! Whoever sets or deletes a key walks from the root down to a bucket, and asks for a read check on every node above it. Most of the
//! checks that fail do so for nothing: another bucket below the same node was split, and the node has one child more. What the walk concluded
//! is only "this key's bucket is that one". So that is what is looked at:
//!
//! ```text
//!   as read    root (B1, 40, B2, 80, B3)              41, written by this draft: B2
//!   newest     root (B1, 40, B2, 80, B3, 95, B4)      41: still B2, so the check holds
//!              root (N1, 80, N2)                      N1 has taken B1, 40, B2: still B2
//!              root (B1, 40, B5, 60, B2, ...)         41: B5, so it does not
//! ```
//!
//! It holds if this draft has written buckets that were below the node, and each key that it added, changed or removed there leads
//! from the node's newest record, through the newest records of what is below it, to the bucket where the draft has it. A draft that wrote only elsewhere has concluded
//! something else from the node, which nobody knows: no. Also no, whatever the keys say: if the draft has split, emptied or unlinked such a
//! bucket (its next pointer is another one, or nothing is left), if the way leads through a node that the draft writes, and where only Python
//! knows the order of keys, or a class. The bucket itself is a write, and checked as one: if it was split meanwhile, its merge refuses (reason 0).
//!
//! Keys that the draft set to the value that they had already are in no write. That is so for ZODB as well: a bucket that is not
//! changed is not checked.

use crate::btrees::Node;
use crate::btrees::state::{Content, Item, Parsed};
use crate::oids::to_zeolite;
use crate::plain::Plain;
use bytes::Bytes;
use std::collections::HashMap;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Change, Draft, ReadCell, ReadJudge, Record, Records, Tid, Write};

/// Nodes between a root and a bucket: no store has room for a tree that is deeper.
const DEPTH_MAX: usize = 32;
/// Records that one judgement looks at, and the bytes of each.
const RECORDS_MAX: usize = 1_000;
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Reads and writes of a draft that is judged.
const PARTS_MAX: usize = 20_000;

/// Judges read checks of the nodes of BTrees.
#[derive(Clone, Copy, Debug)]
pub struct Routes;

impl ReadJudge for Routes {
    fn may_hold(&self, draft: &Draft, read: &ReadCell) -> bool {
        read.cell.is_object()
            && draft.writes.len() + draft.read_cells.len() <= PARTS_MAX
            && draft.writes.iter().any(|write| written_bucket(&write.change).is_some())
    }

    fn holds(&self, draft: &Draft, read: &ReadCell, records: &mut dyn Records) -> bool {
        let reads = draft.read_cells.iter().map(|read| (&read.cell, read.base)).collect();
        let writes = draft.writes.iter().map(|write| (&write.cell, write)).collect();
        Judgement { reads, writes, records, asked: 0 }.holds(read).unwrap_or(false)
    }
}

/// The bucket that a change writes: its class, and the encoded record.
fn written_bucket(change: &Change) -> Option<(Node, &Bytes)> {
    let Change::Put(record) = change else { return None };
    let node = Node::of_class(Header::parse(record).ok()?.class)?;
    (!node.is_tree()).then_some((node, record))
}

/// No answer: then the check is what it is without a judge.
type Maybe<T> = Option<T>;

struct Judgement<'d, 'r> {
    reads: HashMap<&'d Cell, Tid>,
    writes: HashMap<&'d Cell, &'d Write>,
    records: &'r mut dyn Records,
    asked: usize,
}

impl<'d> Judgement<'d, '_> {
    fn holds(&mut self, read: &ReadCell) -> Maybe<bool> {
        let written = self.written_below(read)?;
        let mut newest = HashMap::new();
        for write in &written {
            let (bucket, ours) = written_bucket(&write.change)?;
            let (ours, old) = (decoded(ours)?, self.as_of(&write.cell, write.base)?);
            let (ours, old) = (Parsed::of(&ours).ok()?, Parsed::of(&old).ok()?);
            let (ours, old) = (Content::of(ours.top(), &bucket).ok()?, Content::of(old.top(), &bucket).ok()?);
            let keys = changed(&bucket, &old.items, &ours.items)?;
            if keys.is_empty() || ours.items.is_empty() || ours.next != old.next {
                return None;
            }
            for key in keys {
                if self.bucket_of(&read.cell, key, &mut newest)? != write.cell {
                    return Some(false);
                }
            }
        }
        Some(!written.is_empty())
    }

    /// The writes of buckets that were below the node when it was read. The nodes between were read as well; none: one of them is written.
    fn written_below(&mut self, read: &ReadCell) -> Maybe<Vec<&'d Write>> {
        let (mut nodes, mut below) = (vec![read.cell.clone()], Vec::new());
        while let Some(cell) = nodes.pop() {
            let base = *self.reads.get(&cell)?;
            let record = self.as_of(&cell, base)?;
            for (child, is_node) in Children::of(&record)?.children {
                match self.writes.get(&child) {
                    Some(_) if is_node => return None,
                    Some(write) => below.push(*write),
                    None if is_node && self.reads.contains_key(&child) => nodes.push(child),
                    None => {}
                }
            }
        }
        Some(below)
    }

    /// The bucket that the newest tree has for a key, from this node on. None as well: a node between is written by the draft.
    fn bucket_of(&mut self, from: &Cell, key: &Plain<'_>, nodes: &mut HashMap<Cell, Record>) -> Maybe<Cell> {
        let mut cell = from.clone();
        for _ in 0..DEPTH_MAX {
            if self.writes.contains_key(&cell) {
                return None;
            }
            if !nodes.contains_key(&cell) {
                self.one_more()?;
                nodes.insert(cell.clone(), decoded(&self.records.newest(&cell)?)?);
            }
            let (child, is_node) = Children::of(nodes.get(&cell)?)?.of_key(key)?;
            if !is_node {
                return Some(child);
            }
            cell = child;
        }
        None
    }

    fn as_of(&mut self, cell: &Cell, tid: Tid) -> Maybe<Record> {
        self.one_more()?;
        decoded(&self.records.as_of(cell, tid)?)
    }

    fn one_more(&mut self) -> Maybe<()> {
        self.asked += 1;
        (self.asked <= RECORDS_MAX).then_some(())
    }
}

fn decoded(record: &Bytes) -> Maybe<Record> {
    Record::decode(record).ok().filter(|record| record.data.len() <= RECORD_BYTES_MAX)
}

/// The children of a node, and the least keys of all but the first: what is less than these is the first one's.
struct Children<'a> {
    tree: Node,
    keys: Vec<Plain<'a>>,
    children: Vec<(Cell, bool)>,
}

impl<'a> Children<'a> {
    fn of(record: &'a Record) -> Maybe<Children<'a>> {
        let tree = Node::of_class(&record.class).filter(Node::is_tree)?;
        let parsed = Parsed::of(record).ok()?;
        let Plain::Tuple(parts) = parsed.top() else { return None };
        let [Plain::Tuple(flat), _first_bucket] = parts.as_slice() else { return None };
        let keys = flat.iter().skip(1).step_by(2).map(|key| tree.loaded_key(key.clone()).ok());
        let children = flat.iter().step_by(2).map(|child| tree_child(&tree, child));
        let (keys, children) = (keys.collect::<Maybe<Vec<_>>>()?, children.collect::<Maybe<Vec<_>>>()?);
        (children.len() == keys.len() + 1).then_some(Children { tree, keys, children })
    }

    fn of_key(&self, key: &Plain<'_>) -> Maybe<(Cell, bool)> {
        let (mut low, mut high) = (0, self.keys.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.tree.compare_keys(&self.keys[middle], key).ok()?.is_gt() {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        self.children.get(low).cloned()
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

/// The keys that were added, removed or given another value.
fn changed<'k, 'a>(bucket: &Node, old: &'k [Item<'a>], new: &'k [Item<'a>]) -> Maybe<Vec<&'k Plain<'a>>> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (mut was, mut is, mut keys) = (old.iter().peekable(), new.iter().peekable(), Vec::new());
    loop {
        let order = match (was.peek(), is.peek()) {
            (None, None) => return Some(keys),
            (Some(_), None) => Less,
            (None, Some(_)) => Greater,
            (Some(was), Some(is)) => bucket.compare_keys(&was.key, &is.key).ok()?,
        };
        let before = if order == Greater { None } else { was.next() };
        let after = if order == Less { None } else { is.next() };
        match (order, before, after) {
            (Equal, Some(before), Some(after)) if before.value == after.value => {}
            (_, before, after) => keys.push(&before.or(after)?.key),
        }
    }
}
