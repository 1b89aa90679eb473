//! Owns the merges of the BTrees package: buckets, sets, and trees that hold a single one of these inline, of all families.
//!
//! Two transactions that wrote one bucket are merged key by key, by the rules that BTrees' C code has had for twenty years
//! (`merge`); every application of ZODB relies on them, so they are kept to the letter, down to which of two equal-looking changes
//! is a conflict. What the rules mean for values that only Python can compare is not decided here but left to the client, and
//! the refusal says so. An inner node of a tree is never merged (reason 11).
//!
//! ```text
//!   BTrees.{OO,IO,OI,...,fs}BTree.{OO,...}{BTree,TreeSet,Bucket,Set}     22 families × 4 classes
//!   letter    O object   I, L signed 32, 64 bits   U, Q unsigned 32, 64 bits   F float (as a value)   fs 2 and 6 bytes
//! ```
//!
//! The classes of the pure Python implementation (`OOBTreePy` ...) are not among them: they compare values in another way.

mod kinds;
mod merge;
mod reason;
mod replay;
pub(crate) mod state;
pub(crate) mod tree;

use crate::oids::to_zeolite;
use crate::plain::{Plain, left};
use crate::scan::{class_of, scan};
use kinds::{KeyKind, ValueKind};
use state::{Content, Parsed};
use std::sync::Arc;
use tree::Changed;
use zeolite_proto::resolver::{Resolver, Unresolved};
use zeolite_proto::{Oid, Record};

/// Records of this size together are merged where commits are put in order; larger ones before that, in parallel.
pub(crate) const CHEAP_BYTES: usize = 4096;

/// Where more is merged than BTrees' own rules allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// What two transactions have done to a key in the same way is done once: the same value set, or the key removed, by both.
    pub same_changes: bool,
}

/// The classes that are merged here, with their resolvers.
pub fn resolvers(rules: Rules) -> impl Iterator<Item = (String, Arc<dyn Resolver>)> {
    kinds::FAMILIES.iter().flat_map(move |family| {
        let (key, value) = kinds::of(family);
        ["BTree", "TreeSet", "Bucket", "Set"].map(move |shape| {
            let value = if shape.ends_with("Set") { None } else { Some(value) };
            let is_tree = matches!(shape, "BTree" | "TreeSet");
            let node = Node { key, value, is_tree };
            (format!("BTrees.{family}BTree.{family}{shape}"), Arc::new(Merging { node, rules }) as Arc<dyn Resolver>)
        })
    })
}

/// One class of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    key: KeyKind,
    /// None: a set.
    value: Option<ValueKind>,
    is_tree: bool,
}

impl Node {
    /// The newest record of a leaf with what was made of its keys elsewhere. A tree that holds its bucket inline is not left empty.
    pub(crate) fn with_changes(
        &self,
        newest: &Record,
        changes: &[Changed<'_, '_>],
        rules: Rules,
    ) -> Result<Leaf, Unresolved> {
        let parsed = Parsed::of(newest)?;
        let mut data = parsed.class_pickle().to_vec();
        let state = if self.is_tree { parsed.into_inline()? } else { parsed.into_top() };
        let there = Content::of(state, self)?;
        let items = replay::replay(self, &there.items, changes, rules)?;
        if items.is_empty() && self.is_tree {
            return Err(reason::conflict(10, None));
        }
        state::pickle(self, &items, there.next.as_ref(), &mut data);
        let record = with_data(newest, data)?;
        Ok(match items.is_empty() {
            true => Leaf::Empty(record, there.next.map(Plain::into_owned)),
            false => Leaf::Holds(record),
        })
    }

    /// A bucket that leads to another one.
    pub(crate) fn with_next(&self, bucket: &Record, next: Option<&Plain<'_>>) -> Result<Record, Unresolved> {
        let parsed = Parsed::of(bucket)?;
        let mut data = parsed.class_pickle().to_vec();
        let there = Content::of(parsed.into_top(), self)?;
        state::pickle(self, &there.items.iter().collect::<Vec<_>>(), next, &mut data);
        with_data(bucket, data)
    }

    /// The class of this name.
    pub(crate) fn of_class(class: &str) -> Option<Node> {
        let (module, name) = class.strip_prefix("BTrees.")?.split_once('.')?;
        let family = *kinds::FAMILIES.iter().find(|family| module.strip_prefix(*family) == Some("BTree"))?;
        let (key, value) = kinds::of(family);
        match name.strip_prefix(family)? {
            "BTree" => Some(Node { key, value: Some(value), is_tree: true }),
            "TreeSet" => Some(Node { key, value: None, is_tree: true }),
            "Bucket" => Some(Node { key, value: Some(value), is_tree: false }),
            "Set" => Some(Node { key, value: None, is_tree: false }),
            _ => None,
        }
    }
}

/// What a leaf has become.
pub(crate) enum Leaf {
    Holds(Record),
    /// It has no key any more; what is behind it.
    Empty(Record, Option<Plain<'static>>),
}

/// A record with other data, and the references that are in it.
fn with_data(record: &Record, data: Vec<u8>) -> Result<Record, Unresolved> {
    let refs = references(&data)?;
    Ok(Record { refs, data: data.into(), ..record.clone() })
}

/// One class of nodes, and the rules by which its records are merged.
#[derive(Clone, Copy, Debug)]
struct Merging {
    node: Node,
    rules: Rules,
}

impl Resolver for Merging {
    fn description(&self) -> &str {
        if self.node.is_tree {
            return "a small BTree of ZODB: merged like its one bucket";
        }
        "a bucket of ZODB's BTrees: changes of different keys are merged"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let sides = three(base, theirs, ours)?;
        let parsed = [Parsed::of(sides[0])?, Parsed::of(sides[1])?, Parsed::of(sides[2])?];
        let class = parsed[2].class_pickle();
        let node = &self.node;
        let [old, first, second] = match node.is_tree {
            true => {
                let [old, first, second] = parsed.map(Parsed::into_inline);
                [old?, first?, second?]
            }
            false => parsed.map(Parsed::into_top),
        };
        let (old, first, second) = (Content::of(old, node)?, Content::of(first, node)?, Content::of(second, node)?);
        if old.next != first.next || old.next != second.next {
            return Err(reason::conflict(0, None));
        }
        let items = merge::merge(node, &old.items, &first.items, &second.items, self.rules)?;
        let mut data = class.to_vec();
        state::pickle(node, &items, old.next.as_ref(), &mut data);
        record(sides, class, data).map(Some)
    }

    // A bucket that was split holds no more what it did, and the tree above knows.
    fn is_structural(&self) -> bool {
        true
    }

    fn expensive(&self, bytes: usize) -> bool {
        bytes > CHEAP_BYTES
    }
}

/// A tree that one has emptied, and another one has changed.
pub(crate) fn emptied() -> Unresolved {
    reason::conflict(12, None)
}

/// All three sides, or why there is nothing to merge.
pub(crate) fn three<'r>(
    base: Option<&'r Record>,
    theirs: Option<&'r Record>,
    ours: Option<&'r Record>,
) -> Result<[&'r Record; 3], Unresolved> {
    let sides = match (base, theirs, ours) {
        (Some(base), Some(theirs), Some(ours)) => [base, theirs, ours],
        (None, Some(_), Some(_)) => return Err(Unresolved::because("another commit made the same object")),
        (_, None, _) => return Err(Unresolved::because("another commit deleted what this one changed")),
        (_, _, None) => return Err(Unresolved::because("another commit changed what this one deletes")),
    };
    if sides.iter().any(|side| side.class != sides[2].class) {
        return Err(Unresolved::because("another commit gave the object a different class"));
    }
    Ok(sides)
}

/// The merged record of this data, which begins with the class as ours has it; with the references that are in it.
pub(crate) fn record(sides: [&Record; 3], class: &[u8], data: Vec<u8>) -> Result<Record, Unresolved> {
    let [base, theirs, ours] = sides;
    if class_of(class).ok().as_deref() != Some(ours.class.as_str()) {
        return Err(left("the record's header names another class than its pickle"));
    }
    if references(&ours.data)? != ours.refs {
        return Err(left("the record's header names other references than its pickle"));
    }
    let version = match (theirs.version == base.version, ours.version == base.version) {
        (true, _) => ours.version,
        (_, true) => theirs.version,
        _ if theirs.version == ours.version => ours.version,
        _ => return Err(Unresolved::because("both commits changed the schema version, to different ones")),
    };
    let refs = references(&data)?;
    Ok(Record { class: ours.class.clone(), version, refs, blobs: ours.blobs.clone(), data: data.into() })
}

fn references(data: &[u8]) -> Result<Vec<Oid>, Unresolved> {
    let scanned = scan(data).map_err(left)?;
    let mapped = scanned.references.into_iter().map(to_zeolite).collect::<Option<Vec<_>>>();
    mapped.ok_or_else(|| left("an oid beyond those that Zeolite has"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made;
    use bytes::Bytes;

    const BUCKET: &str = "BTrees.OOBTree.OOBucket";
    const TREE: &str = "BTrees.OOBTree.OOBTree";

    fn reference(n: u64) -> Plain<'static> {
        made::reference(n, "")
    }

    fn bucket(pairs: &[(i128, u64)], next: Option<u64>) -> Plain<'static> {
        made::bucket(pairs.iter().map(|(key, value)| (*key, reference(*value))).collect(), next.map(reference))
    }

    fn inline(bucket: Plain<'_>) -> Plain<'_> {
        Plain::Tuple(vec![Plain::Tuple(vec![bucket])])
    }

    fn resolver(class: &str) -> Merging {
        Merging { node: Node::of_class(class).expect("a class of BTrees"), rules: Rules::default() }
    }

    fn merged(class: &str, sides: [&Plain<'_>; 3]) -> Result<Record, Unresolved> {
        let [base, theirs, ours] = sides.map(|side| made::record(class, side));
        resolver(class).merge(Some(&base), Some(&theirs), Some(&ours)).map(|merged| merged.expect("not deleted"))
    }

    #[test]
    fn references_are_those_of_what_was_merged() {
        let [old, theirs, ours] =
            [&[(1, 1), (2, 2)][..], &[(1, 1), (2, 2), (3, 3)], &[(1, 1)]].map(|it| bucket(it, Some(9)));
        let expected = made::record(BUCKET, &bucket(&[(1, 1), (3, 3)], Some(9)));
        assert_eq!(merged(BUCKET, [&old, &theirs, &ours]), Ok(expected.clone()));
        assert_eq!(expected.refs, [16, 18, 24].map(Oid), "what nobody refers to any more is not kept alive");
        let [old, theirs, ours] = [old, theirs, ours].map(|_| ()).map(|()| inline(bucket(&[(1, 1)], None)));
        let more = inline(bucket(&[(1, 1), (2, 2)], None));
        assert_eq!(merged(TREE, [&old, &theirs, &more]).map(|it| it.data), Ok(made::record(TREE, &more).data));
        assert_eq!(
            merged(TREE, [&Plain::None, &more, &ours]).expect_err("one key twice").0.matches("key 1").count(),
            1
        );
    }

    #[test]
    fn what_was_split_or_has_children_is_a_conflict() {
        let [old, split] = [Some(3), Some(4)].map(|next| bucket(&[(1, 1)], next));
        assert!(merged(BUCKET, [&old, &split, &old]).is_err_and(|why| why.0.contains("reason 0")));
        assert!(merged(BUCKET, [&old, &old, &bucket(&[(1, 1)], None)]).is_err_and(|why| why.0.contains("reason 0")));
        let small = inline(bucket(&[(1, 1)], None));
        let grown = Plain::Tuple(vec![Plain::Tuple(vec![reference(5), Plain::Int(7), reference(6)]), reference(5)]);
        assert!(merged(TREE, [&small, &grown, &small]).is_err_and(|why| why.0.contains("reason 11")));
        assert!(merged(TREE, [&Plain::None, &small, &grown]).is_err_and(|why| why.0.contains("reason 11")));
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_client() {
        let old = bucket(&[(1, 1)], None);
        let good = made::record(BUCKET, &old);
        let node = resolver(BUCKET);
        let left = |theirs: Record| {
            let merged = node.merge(Some(&good), Some(&theirs), Some(&good));
            merged.expect_err("is refused").0
        };
        let compressed = [&b".z"[..], &[0x78, 0x9c, 1, 2, 3]].concat();
        for data in [compressed, b"cBTrees.OOBTree\nOOBucket\n.K\x01.".to_vec(), [good.data.as_ref(), b"more"].concat()]
        {
            let why = left(Record { data: Bytes::from(data), ..good.clone() });
            assert!(why.contains("left to the client"), "{why}");
        }
        let others = Record { refs: vec![Oid(99)], ..good.clone() };
        let why = node.merge(Some(&good), Some(&good), Some(&others)).expect_err("is refused").0;
        assert!(why.contains("other references"), "{why}");
        let none =
            [(None, Some(&good), Some(&good)), (Some(&good), None, Some(&good)), (Some(&good), Some(&good), None)];
        for (base, theirs, ours) in none {
            assert!(node.merge(base, theirs, ours).is_err());
        }
    }

    #[test]
    fn every_family_has_its_four_classes() {
        let all: Vec<_> = resolvers(Rules::default()).map(|(class, _)| class).collect();
        assert_eq!(all.len(), 88);
        assert!(all.iter().all(|class| Node::of_class(class).is_some()), "{all:?}");
        for class in [
            "BTrees.OOBTree.IOBTree",
            "BTrees.OOBTree.OOBTreePy",
            "BTrees.OOBTree",
            "my.OOBTree.OOBTree",
            "BTrees.XXBTree.XXBTree",
        ] {
            assert_eq!(Node::of_class(class), None, "{class}");
        }
    }
}
