//! Owns the merge of three buckets or sets: what both had, what was committed first, and what wants to be committed now.
//!
//! Three cursors go through the keys in order. A key that one side changed, added or removed is as that side has it; what both
//! touched is a conflict, and so is whatever would change the tree above: a bucket that becomes empty, or loses its least key.
//!
//! ```text
//!   old  10      20      30            20 removed by theirs, 25 added by ours:    10 25 30
//!   theirs 10            30            20 given a value by ours:                  conflict, reason 3
//!   ours 10      20  25  30
//! ```
//!
//! Both sides adding one key is a conflict even with the same value, and so is one value given
//! to one key by both: these are the rules that there are, whatever one might wish. With `same_changes` they are wished for: what both did to a key
//! is done once, if it is the same value, and the least key of neither side is concerned.

use super::reason::conflict;
use super::state::Item;
use super::{Node, Rules};
use std::cmp::Ordering::{Equal, Greater, Less};
use zeolite_proto::resolver::Unresolved;

/// What is in the bucket after both.
pub(super) fn merge<'s, 'a>(
    node: &Node,
    old: &'s [Item<'a>],
    theirs: &'s [Item<'a>],
    ours: &'s [Item<'a>],
    rules: Rules,
) -> Result<Vec<&'s Item<'a>>, Unresolved> {
    if theirs.is_empty() || ours.is_empty() {
        return Err(conflict(12, None));
    }
    let mut merge =
        Merge { node, rules, old: Cursor::on(old), theirs: Cursor::on(theirs), ours: Cursor::on(ours), out: vec![] };
    while merge.step()? {}
    if merge.out.is_empty() {
        return Err(conflict(10, None));
    }
    Ok(merge.out)
}

#[derive(Clone, Copy)]
struct Cursor<'s, 'a> {
    items: &'s [Item<'a>],
    at: usize,
}

impl<'s, 'a> Cursor<'s, 'a> {
    fn on(items: &'s [Item<'a>]) -> Cursor<'s, 'a> {
        Cursor { items, at: 0 }
    }

    fn item(&self) -> Option<&'s Item<'a>> {
        self.items.get(self.at)
    }
}

struct Merge<'n, 's, 'a> {
    node: &'n Node,
    rules: Rules,
    old: Cursor<'s, 'a>,
    theirs: Cursor<'s, 'a>,
    ours: Cursor<'s, 'a>,
    out: Vec<&'s Item<'a>>,
}

impl<'s, 'a> Merge<'_, 's, 'a> {
    /// One key further; false: there is none.
    fn step(&mut self) -> Result<bool, Unresolved> {
        match (self.old.item(), self.theirs.item(), self.ours.item()) {
            (Some(old), Some(theirs), Some(ours)) => self.three(old, theirs, ours)?,
            (None, Some(theirs), Some(ours)) => self.added_by_both_or_one(theirs, ours, 6)?,
            (Some(old), Some(theirs), None) => self.removed_at_the_end(old, theirs, 7)?,
            (Some(old), None, Some(ours)) => self.removed_at_the_end(old, ours, 8)?,
            (Some(old), None, None) => self.removed_by_both(old, 9)?,
            (None, Some(_), None) => self.take_theirs(),
            (None, None, Some(_)) => self.take_ours(),
            (None, None, None) => return Ok(false),
        }
        Ok(true)
    }

    fn three(&mut self, old: &'s Item<'a>, theirs: &'s Item<'a>, ours: &'s Item<'a>) -> Result<(), Unresolved> {
        let compare = |other: &Item<'a>| self.node.compare_keys(&old.key, &other.key);
        match (compare(theirs)?, compare(ours)?) {
            (Equal, Equal) => self.kept_by_both(old, theirs, ours)?,
            (Equal, Greater) => self.take_ours(),
            (Greater, Equal) => self.take_theirs(),
            (Equal, Less) => {
                self.removed(old, theirs, self.ours.at, 2)?;
                self.theirs.at += 1;
            }
            (Less, Equal) => {
                self.removed(old, ours, self.theirs.at, 3)?;
                self.ours.at += 1;
            }
            (Less, Less) if self.rules.same_changes => self.removed_by_both(old, 5)?,
            (Less, Less) => match self.node.compare_keys(&theirs.key, &ours.key)? {
                Equal => return Err(conflict(4, Some(&ours.key))),
                Less | Greater => return Err(conflict(5, Some(&old.key))),
            },
            (Greater, Less) => match self.node.compare_keys(&theirs.key, &ours.key)? {
                Equal => return Err(conflict(4, Some(&ours.key))),
                Less => self.take_theirs(),
                Greater => self.take_ours(),
            },
            (Less, Greater) => match self.node.compare_keys(&theirs.key, &ours.key)? {
                Equal => return Err(conflict(4, Some(&ours.key))),
                Less | Greater => self.take_ours(),
            },
            (Greater, Greater) => self.added_by_both_or_one(theirs, ours, 4)?,
        }
        Ok(())
    }

    fn kept_by_both(&mut self, old: &'s Item<'a>, theirs: &'s Item<'a>, ours: &'s Item<'a>) -> Result<(), Unresolved> {
        let kept = if self.same(old, theirs)? {
            ours
        } else if self.same(old, ours)? {
            theirs
        } else if self.did_the_same(theirs, ours) {
            ours
        } else {
            return Err(conflict(1, Some(&ours.key)));
        };
        self.out.push(kept);
        self.old.at += 1;
        self.theirs.at += 1;
        self.ours.at += 1;
        Ok(())
    }

    /// One side has removed the key; `kept` is what the other has of it, `remover` how far the remover's cursor is.
    fn removed(&mut self, old: &Item<'a>, kept: &Item<'a>, remover: usize, reason: u8) -> Result<(), Unresolved> {
        if !self.same(old, kept)? {
            return Err(conflict(reason, Some(&old.key)));
        }
        if remover == 0 {
            return Err(conflict(13, Some(&old.key)));
        }
        self.old.at += 1;
        Ok(())
    }

    fn removed_by_both(&mut self, old: &Item<'a>, reason: u8) -> Result<(), Unresolved> {
        if !self.rules.same_changes {
            return Err(conflict(reason, Some(&old.key)));
        }
        if self.theirs.at == 0 || self.ours.at == 0 {
            return Err(conflict(13, Some(&old.key)));
        }
        self.old.at += 1;
        Ok(())
    }

    fn did_the_same(&self, theirs: &Item<'a>, ours: &Item<'a>) -> bool {
        self.rules.same_changes && theirs.value == ours.value
    }

    fn added_by_both_or_one(&mut self, theirs: &Item<'a>, ours: &'s Item<'a>, reason: u8) -> Result<(), Unresolved> {
        match self.node.compare_keys(&theirs.key, &ours.key)? {
            Equal if self.did_the_same(theirs, ours) => {
                self.theirs.at += 1;
                self.take_ours();
            }
            Equal => return Err(conflict(reason, Some(&ours.key))),
            Less => self.take_theirs(),
            Greater => self.take_ours(),
        }
        Ok(())
    }

    /// The other side has nothing more: what was there is removed by it, what was not is added by this one.
    fn removed_at_the_end(&mut self, old: &Item<'a>, here: &Item<'a>, reason: u8) -> Result<(), Unresolved> {
        let is_theirs = reason == 7;
        match self.node.compare_keys(&old.key, &here.key)? {
            Greater if is_theirs => self.take_theirs(),
            Greater => self.take_ours(),
            Equal if self.same(old, here)? => {
                self.old.at += 1;
                let cursor = if is_theirs { &mut self.theirs } else { &mut self.ours };
                cursor.at += 1;
            }
            Less => self.removed_by_both(old, reason)?,
            Equal => return Err(conflict(reason, Some(&old.key))),
        }
        Ok(())
    }

    fn same(&self, old: &Item<'a>, new: &Item<'a>) -> Result<bool, Unresolved> {
        match (&old.value, &new.value) {
            (Some(was), Some(is)) => {
                let same = self.node.same_values(was, is);
                same.map_err(|why| Unresolved(format!("{why} (key {})", old.key)))
            }
            _ => Ok(true),
        }
    }

    fn take_theirs(&mut self) {
        self.out.extend(self.theirs.item());
        self.theirs.at += 1;
    }

    fn take_ours(&mut self) {
        self.out.extend(self.ours.item());
        self.ours.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::Plain;

    type Pairs<'p> = &'p [(i128, i128)];

    fn items(pairs: Pairs<'_>) -> Vec<Item<'static>> {
        let item = |(key, value): &(i128, i128)| Item { key: Plain::Int(*key), value: Some(Plain::Int(*value)) };
        pairs.iter().map(item).collect()
    }

    fn merged(old: Pairs<'_>, theirs: Pairs<'_>, ours: Pairs<'_>) -> Result<Vec<Item<'static>>, Unresolved> {
        merged_by(Rules::default(), old, theirs, ours)
    }

    fn merged_by(
        rules: Rules,
        old: Pairs<'_>,
        theirs: Pairs<'_>,
        ours: Pairs<'_>,
    ) -> Result<Vec<Item<'static>>, Unresolved> {
        let node = Node::of_class("BTrees.IIBTree.IIBucket").expect("a class of BTrees");
        let [old, theirs, ours] = [old, theirs, ours].map(items);
        merge(&node, &old, &theirs, &ours, rules).map(|items| items.into_iter().cloned().collect())
    }

    const OLD: Pairs<'static> = &[(10, 1), (20, 2), (30, 3)];

    #[test]
    fn what_both_meant_is_merged() {
        let cases: [(&str, Pairs<'_>, Pairs<'_>, Pairs<'_>, Pairs<'_>); 9] = [
            (
                "inserts",
                OLD,
                &[(10, 1), (15, 0), (20, 2), (30, 3)],
                &[(10, 1), (20, 2), (25, 0), (30, 3)],
                &[(10, 1), (15, 0), (20, 2), (25, 0), (30, 3)],
            ),
            (
                "appends",
                OLD,
                &[(10, 1), (20, 2), (30, 3), (50, 0)],
                &[(10, 1), (20, 2), (30, 3), (40, 0)],
                &[(10, 1), (20, 2), (30, 3), (40, 0), (50, 0)],
            ),
            ("into an empty one", &[], &[(1, 1)], &[(2, 2)], &[(1, 1), (2, 2)]),
            (
                "below the first",
                OLD,
                &[(5, 0), (10, 1), (20, 2), (30, 3)],
                &[(6, 0), (10, 1), (20, 2), (30, 3)],
                &[(5, 0), (6, 0), (10, 1), (20, 2), (30, 3)],
            ),
            (
                "values of two keys",
                OLD,
                &[(10, 9), (20, 2), (30, 3)],
                &[(10, 1), (20, 8), (30, 3)],
                &[(10, 9), (20, 8), (30, 3)],
            ),
            ("removals in the middle and at the end", OLD, &[(10, 1), (30, 3)], &[(10, 1), (20, 2)], &[(10, 1)]),
            (
                "a removal and an insert",
                OLD,
                &[(10, 1), (20, 2)],
                &[(10, 1), (20, 2), (25, 0), (30, 3)],
                &[(10, 1), (20, 2), (25, 0)],
            ),
            (
                "the least key removed, a lesser one added",
                OLD,
                &[(5, 0), (20, 2), (30, 3)],
                &[(10, 1), (20, 9), (30, 3)],
                &[(5, 0), (20, 9), (30, 3)],
            ),
            ("nothing, and a change", OLD, OLD, &[(10, 1), (20, 7), (30, 3)], &[(10, 1), (20, 7), (30, 3)]),
        ];
        for (what, old, theirs, ours, expected) in cases {
            assert_eq!(merged(old, theirs, ours), Ok(items(expected)), "{what}");
            assert_eq!(merged(old, ours, theirs), Ok(items(expected)), "{what}, the other way");
        }
    }

    #[test]
    fn what_both_did_alike_is_done_once_if_it_may() {
        let merged = |theirs, ours| merged_by(Rules { same_changes: true }, OLD, theirs, ours);
        let cases: [(&str, Pairs<'_>, Pairs<'_>, Pairs<'_>); 7] = [
            ("one value", &[(10, 1), (20, 8), (30, 3)], &[(10, 1), (20, 8)], &[(10, 1), (20, 8)]),
            ("one insert", &[(10, 1), (15, 0), (20, 2)], &[(10, 1), (15, 0), (30, 3)], &[(10, 1), (15, 0)]),
            ("one append", &[(10, 1), (30, 3), (40, 0)], &[(10, 1), (30, 3), (40, 0)], &[(10, 1), (30, 3), (40, 0)]),
            ("one removed", &[(10, 1), (30, 3)], &[(10, 1), (30, 3)], &[(10, 1), (30, 3)]),
            ("the last ones removed", &[(10, 1)], &[(10, 1)], &[(10, 1)]),
            ("one removed, one more added", &[(10, 1), (30, 3)], &[(10, 1), (40, 0)], &[(10, 1), (40, 0)]),
            ("the last one removed, more added", &[(10, 1), (20, 2)], &[(10, 1), (40, 0)], &[(10, 1), (40, 0)]),
        ];
        for (what, theirs, ours, expected) in cases {
            assert_eq!(merged(theirs, ours), Ok(items(expected)), "{what}");
            assert_eq!(merged(ours, theirs), Ok(items(expected)), "{what}, the other way");
        }
        let conflicts: [(&str, Pairs<'_>, Pairs<'_>, &str); 4] = [
            ("two values", &[(10, 1), (20, 8), (30, 3)], &[(10, 1), (20, 9), (30, 3)], "reason 1, key 20"),
            ("two inserts", &[(10, 1), (15, 0), (20, 2)], &[(10, 1), (15, 4), (20, 2)], "reason 4, key 15"),
            ("the least key removed by both", &[(20, 2), (30, 3)], &[(20, 2), (30, 3)], "reason 13, key 10"),
            ("emptied by both", &[], &[], "reason 12"),
        ];
        for (what, theirs, ours, reason) in conflicts {
            let why = merged(theirs, ours).expect_err(what);
            assert!(why.0.contains(&format!("({reason})")), "{what}: {why}");
        }
    }

    #[test]
    fn each_reason_has_its_number_and_key() {
        let cases: [(&str, Pairs<'_>, Pairs<'_>, &str); 16] = [
            ("one key, two values", &[(10, 1), (20, 8), (30, 3)], &[(10, 1), (20, 9), (30, 3)], "reason 1, key 20"),
            ("one key, one value", &[(10, 1), (20, 8), (30, 3)], &[(10, 1), (20, 8), (30, 3)], "reason 1, key 20"),
            ("changed, removed", &[(10, 1), (20, 8), (30, 3)], &[(10, 1), (30, 3)], "reason 2, key 20"),
            ("removed, changed", &[(10, 1), (30, 3)], &[(10, 1), (20, 8), (30, 3)], "reason 3, key 20"),
            (
                "one insert twice",
                &[(10, 1), (15, 0), (20, 2), (30, 3)],
                &[(10, 1), (15, 0), (20, 2), (30, 3)],
                "reason 4, key 15",
            ),
            ("one removed by both", &[(10, 1), (30, 3)], &[(10, 1), (30, 3)], "reason 4, key 30"),
            ("removed by both, one more by us", &[(10, 1), (30, 3)], &[(10, 1), (40, 0)], "reason 5, key 20"),
            (
                "one append twice",
                &[(10, 1), (20, 2), (30, 3), (40, 0)],
                &[(10, 1), (20, 2), (30, 3), (40, 0)],
                "reason 6, key 40",
            ),
            ("the last changed, removed", &[(10, 1), (20, 2), (30, 9)], &[(10, 1), (20, 2)], "reason 7, key 30"),
            ("the last removed, changed", &[(10, 1), (20, 2)], &[(10, 1), (20, 2), (30, 9)], "reason 8, key 30"),
            ("the last removed by both", &[(10, 1), (20, 2)], &[(10, 1), (20, 2)], "reason 9, key 30"),
            ("theirs emptied it", &[], &[(10, 1), (20, 2)], "reason 12"),
            ("ours emptied it", &[(10, 1), (20, 2), (30, 4)], &[], "reason 12"),
            ("theirs removed the least", &[(20, 2), (30, 3)], &[(10, 1), (20, 2), (30, 4)], "reason 13, key 10"),
            ("ours removed the least", &[(10, 1), (20, 2), (30, 4)], &[(20, 2), (30, 3)], "reason 13, key 10"),
            ("all but one of each removed", &[(10, 1)], &[(20, 2)], "reason 13, key 10"),
        ];
        for (what, theirs, ours, reason) in cases {
            let why = merged(OLD, theirs, ours).expect_err(what);
            assert!(why.0.contains(&format!("({reason})")), "{what}: {why}");
        }
    }
}
