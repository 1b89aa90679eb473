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
use crate::btrees::state::{Content, Parsed};
use crate::btrees::tree::{Children, changed};
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
            let (ours, old) = (Content::of(ours.into_top(), &bucket).ok()?, Content::of(old.into_top(), &bucket).ok()?);
            let keys = changed(&bucket, &old.items, &ours.items)?;
            if keys.is_empty() || ours.items.is_empty() || ours.next != old.next {
                return None;
            }
            for change in keys {
                if self.bucket_of(&read.cell, change.key()?, &mut newest)? != write.cell {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made;
    use crate::oids::to_zeolite;
    use zeolite_proto::{CommitKey, Note, Priority};

    const TREE: &str = "BTrees.IIBTree.IIBTree";
    const BUCKET: &str = "BTrees.IIBTree.IIBucket";
    const READ: Tid = Tid(5);

    /// Some records, newest and as of a base.
    #[derive(Default)]
    struct Store {
        newest: HashMap<Cell, Bytes>,
        old: HashMap<Cell, Bytes>,
    }

    impl Records for Store {
        fn newest(&mut self, cell: &Cell) -> Option<Bytes> {
            self.newest.get(cell).cloned()
        }

        fn as_of(&mut self, cell: &Cell, tid: Tid) -> Option<Bytes> {
            self.old.get(cell).filter(|_| tid == READ).cloned()
        }
    }

    fn cell(n: u64) -> Cell {
        Cell::object(to_zeolite(n.to_be_bytes()).expect("has one"))
    }

    fn bytes(class: &str, state: &Plain<'_>) -> Bytes {
        made::record(class, state).encode().expect("encodes")
    }

    /// A node: its first child, and the others with their least keys. Children from 10 on are nodes.
    fn node(first: u64, others: &[(i128, u64)]) -> Bytes {
        let child = |n: u64| made::reference(n, if n < 10 { BUCKET } else { TREE });
        let others = others.iter().flat_map(|(key, n)| [Plain::Int(*key), child(*n)]);
        let flat = Plain::Tuple([child(first)].into_iter().chain(others).collect());
        bytes(TREE, &Plain::Tuple(vec![flat, made::reference(1, BUCKET)]))
    }

    fn bucket(keys: &[i128], next: u64) -> Bytes {
        let pairs = keys.iter().map(|key| (*key, Plain::Int(0))).collect();
        bytes(BUCKET, &made::bucket(pairs, Some(made::reference(next, BUCKET))))
    }

    const ROOT: u64 = 20;

    /// A draft that has read the root, and has added 45 to bucket 2, which was behind 40.
    struct Scene {
        store: Store,
        draft: Draft,
    }

    impl Scene {
        fn new(newest_root: Bytes) -> Scene {
            let mut scene = Scene {
                store: Store::default(),
                draft: Draft {
                    key: CommitKey([1; 16]),
                    key_since: Tid::NONE,
                    note: Note::new("", ""),
                    priority: Priority::Live,
                    writes: vec![],
                    read_cells: vec![],
                    read_ranges: vec![],
                },
            };
            scene.store.old.insert(cell(ROOT), node(1, &[(40, 2), (80, 3)]));
            scene.store.newest.insert(cell(ROOT), newest_root);
            scene.store.old.insert(cell(2), bucket(&[41, 50], 3));
            scene.read(ROOT);
            scene.write(2, bucket(&[41, 45, 50], 3));
            scene
        }

        fn read(&mut self, n: u64) {
            self.draft.read_cells.push(ReadCell { cell: cell(n), base: READ });
        }

        fn write(&mut self, n: u64, record: Bytes) {
            self.draft.writes.retain(|write| write.cell != cell(n));
            self.draft.writes.push(Write { cell: cell(n), base: READ, change: Change::Put(record), stamped: false });
        }

        fn holds_of(&mut self, n: u64) -> bool {
            let read = ReadCell { cell: cell(n), base: READ };
            assert!(Routes.may_hold(&self.draft, &read));
            Routes.holds(&self.draft, &read, &mut self.store)
        }

        fn holds(&mut self) -> bool {
            self.holds_of(ROOT)
        }
    }

    fn split_elsewhere() -> Bytes {
        node(1, &[(40, 2), (80, 3), (95, 4)])
    }

    #[test]
    fn a_node_that_still_leads_to_the_bucket_holds() {
        assert!(Scene::new(split_elsewhere()).holds());
        assert!(Scene::new(node(2, &[(80, 3)])).holds(), "the bucket before it was emptied and unlinked");
        assert!(Scene::new(node(1, &[(45, 2)])).holds_of(ROOT), "45 is the least key of the bucket now");
    }

    #[test]
    fn a_root_that_was_split_leads_through_new_nodes() {
        let mut scene = Scene::new(node(10, &[(80, 11)]));
        assert!(!scene.holds(), "the new node cannot be read");
        scene.store.newest.insert(cell(10), node(1, &[(40, 2)]));
        assert!(scene.holds());
        scene.store.newest.insert(cell(10), node(1, &[(40, 5)]));
        assert!(!scene.holds());
    }

    #[test]
    fn a_node_that_leads_elsewhere_does_not_hold() {
        for (newest, what) in [
            (node(1, &[(40, 2), (43, 5), (80, 3)]), "45 has another bucket"),
            (node(1, &[(40, 5), (80, 3)]), "the bucket is not there any more"),
            (node(2, &[(40, 5)]), "it is there, for lesser keys"),
            (bytes(TREE, &Plain::None), "the tree was emptied"),
            (bytes("BTrees.OOBTree.OOBTree", &Plain::None), "it is no such tree any more"),
            (Bytes::from_static(b"no record"), "it cannot be read"),
        ] {
            assert!(!Scene::new(newest).holds(), "{what}");
        }
        let mut scene = Scene::new(node(1, &[(40, 2), (50, 5)]));
        assert!(scene.holds(), "45 still leads there");
        scene.write(2, bucket(&[41], 3));
        assert!(!scene.holds(), "50, which it removes, does not");
    }

    #[test]
    fn who_did_something_else_than_setting_keys_below_it_is_refused_as_ever() {
        let mut elsewhere = Scene::new(split_elsewhere());
        elsewhere.draft.writes.clear();
        elsewhere.store.old.insert(cell(7), bucket(&[41], 3));
        elsewhere.write(7, bucket(&[41, 45], 3));
        assert!(!elsewhere.holds(), "it was read for something else");
        for (ours, what) in [
            (bucket(&[41, 45], 9), "it has split the bucket, or unlinked the next one"),
            (bucket(&[], 3), "it has emptied the bucket"),
            (bucket(&[41, 50], 3), "it has set no key"),
            (bytes("BTrees.OOBTree.OOBucket", &Plain::Tuple(vec![Plain::Tuple(vec![])])), "another class"),
        ] {
            let mut scene = Scene::new(split_elsewhere());
            scene.write(2, ours);
            scene.write(7, bucket(&[1], 3));
            assert!(!scene.holds(), "{what}");
        }
        let mut deletes = Scene::new(split_elsewhere());
        deletes.write(7, bucket(&[1], 3));
        deletes.draft.writes[0].change = Change::Delete;
        assert!(!deletes.holds(), "it deletes the bucket");
        let mut packed = Scene::new(split_elsewhere());
        packed.store.old.remove(&cell(2));
        assert!(!packed.holds(), "nobody knows what it has changed");
    }

    #[test]
    fn the_nodes_between_are_those_that_were_read() {
        let scene = || {
            let mut scene = Scene::new(node(10, &[(80, 12), (95, 11)]));
            scene.store.old.insert(cell(ROOT), node(10, &[(80, 11)]));
            scene.store.old.insert(cell(10), node(1, &[(40, 2)]));
            scene.store.newest.insert(cell(10), node(1, &[(40, 2), (60, 6)]));
            scene
        };
        assert!(!scene().holds(), "that the bucket is below node 10 was never read");
        let mut read = scene();
        read.read(10);
        assert!(read.holds() && read.holds_of(10));
        let mut written = scene();
        written.write(10, node(1, &[(40, 2), (70, 8)]));
        assert!(!written.holds(), "the draft has changed the tree itself");
    }
}
