//! Owns the ranges of one collection that prepared drafts have read: who holds a key.
//!
//! ```text
//!   a ├────────────────────────────────┤          a search tree by where a range begins; each node knows where the last of its
//!   b      ├──┤        ├───────────┤              subtree ends, so whole subtrees that end before a key are passed over
//!   c                     ├────────────────> no end
//! ```
//! One draft's ranges never touch each other (`held` joins them), so at most one of a draft's own is met on the way to another's:
//! a question costs the depth of the tree, twice. The tree is a treap: its shape is chance of our own, which no client can choose.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use zeolite_proto::hash;

/// Where a range ends, exclusive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    Before(Bytes),
    Never,
}

impl End {
    pub(super) fn is_behind(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => end.as_ref() > key,
            End::Never => true,
        }
    }
}

/// The ranges of one collection.
#[derive(Default)]
pub(super) struct Spans {
    root: Link,
    /// So many of them by prepared draft.
    drafts: BTreeMap<u64, usize>,
    made: u64,
    #[cfg(test)]
    pub(super) looked_at: std::cell::Cell<u64>,
}

type Link = Option<Box<Node>>;

struct Node {
    from: Bytes,
    to: End,
    id: u64,
    /// The greatest `to` from here down.
    latest: End,
    /// Greater than those below.
    chance: u64,
    left: Link,
    right: Link,
}

impl Spans {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(super) fn insert(&mut self, from: Bytes, to: End, id: u64) {
        self.made += 1;
        *self.drafts.entry(id).or_default() += 1;
        let chance = hash::Seeded::default().hash_one(self.made);
        let (before, behind) = split(self.root.take(), (&from, id));
        let node = Node { from, latest: to.clone(), to, id, chance, left: None, right: None };
        self.root = join(join(before, Some(Box::new(node))), behind);
    }

    pub(super) fn remove(&mut self, from: &Bytes, id: u64) {
        if !remove(&mut self.root, (from, id)) {
            return;
        }
        if let Some(count) = self.drafts.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.drafts.remove(&id);
            }
        }
    }

    /// A draft other than `own` that holds any range here.
    pub(super) fn any(&self, own: Option<u64>) -> Option<u64> {
        self.drafts.keys().copied().find(|id| Some(*id) != own)
    }

    /// A draft other than `own` that holds this key.
    pub(super) fn holder(&self, key: &[u8], own: Option<u64>) -> Option<u64> {
        self.find(&self.root, key, own)
    }

    fn find(&self, link: &Link, key: &[u8], own: Option<u64>) -> Option<u64> {
        let node = link.as_deref().filter(|node| node.latest.is_behind(key))?;
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + 1);
        let on_the_left = self.find(&node.left, key, own);
        if on_the_left.is_some() || node.from.as_ref() > key {
            return on_the_left;
        }
        match node.to.is_behind(key) && Some(node.id) != own {
            true => Some(node.id),
            false => self.find(&node.right, key, own),
        }
    }
}

impl Node {
    fn place(&self) -> (&Bytes, u64) {
        (&self.from, self.id)
    }

    fn look_down(&mut self) {
        let below = [&self.left, &self.right].into_iter().flatten().map(|node| &node.latest);
        self.latest = below.chain([&self.to]).max().unwrap_or(&self.to).clone();
    }
}

/// What stands before a place, and the rest.
fn split(link: Link, at: (&Bytes, u64)) -> (Link, Link) {
    let Some(mut node) = link else { return (None, None) };
    if node.place() < at {
        let (before, behind) = split(node.right.take(), at);
        node.right = before;
        node.look_down();
        (Some(node), behind)
    } else {
        let (before, behind) = split(node.left.take(), at);
        node.left = behind;
        node.look_down();
        (before, Some(node))
    }
}

/// All of the first stand before all of the second.
fn join(first: Link, second: Link) -> Link {
    let (mut one, mut other) = match (first, second) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    if one.chance > other.chance {
        one.right = join(one.right.take(), Some(other));
        one.look_down();
        Some(one)
    } else {
        other.left = join(Some(one), other.left.take());
        other.look_down();
        Some(other)
    }
}

fn remove(link: &mut Link, at: (&Bytes, u64)) -> bool {
    let Some(node) = link else { return false };
    let removed = match at.cmp(&node.place()) {
        std::cmp::Ordering::Less => remove(&mut node.left, at),
        std::cmp::Ordering::Greater => remove(&mut node.right, at),
        std::cmp::Ordering::Equal => {
            *link = join(node.left.take(), node.right.take());
            return true;
        }
    };
    node.look_down();
    removed
}
