//! Owns the replay of changes of keys in a leaf: what somebody made of some keys elsewhere, on what the leaf holds now.
//!
//! ```text
//!   changed    15: - ──> a      20: b ──> c      30: d ──> -
//!   there      10 20 30         20 is b, 30 is d, nobody has 15:    10 15 20
//!                               one of them is something else:      a conflict
//! ```
//!
//! A key must be what the change was made on. So the leaf's other keys do not matter, nor which of them is the least: who replays has looked for the leaf
//! in the newest tree, and a key that goes leaves what the nodes above say of the others true.

use super::reason::conflict;
use super::state::Item;
use super::tree::Changed;
use super::{Node, Rules};
use std::cmp::Ordering;
use zeolite_proto::resolver::Unresolved;

/// What is in the leaf after the changes, which are in the order of their keys.
pub(super) fn replay<'s, 'a>(
    node: &Node,
    there: &'s [Item<'a>],
    changes: &[Changed<'s, 'a>],
    rules: Rules,
) -> Result<Vec<&'s Item<'a>>, Unresolved> {
    let mut out = Vec::with_capacity(there.len() + changes.len());
    let mut rest = there;
    for change in changes {
        let Some(key) = change.key() else { continue };
        let found = loop {
            let Some((first, behind)) = rest.split_first() else { break None };
            let order = node.compare_keys(&first.key, key)?;
            if order.is_gt() {
                break None;
            }
            rest = behind;
            match order {
                Ordering::Equal => break Some(first),
                _ => out.push(first),
            }
        };
        if is_same(node, found, change.before)? {
            out.extend(change.after);
        } else if rules.same_changes && is_identical(found, change.after) {
            out.extend(found);
        } else {
            return Err(conflict(reason(found, change), Some(key)));
        }
    }
    out.extend(rest);
    Ok(out)
}

fn is_same(node: &Node, a: Option<&Item<'_>>, b: Option<&Item<'_>>) -> Result<bool, Unresolved> {
    match (a, b) {
        (None, None) => Ok(true),
        (Some(a), Some(b)) => match (&a.value, &b.value) {
            (Some(a), Some(b)) => Ok(a == b || node.same_values(a, b)?),
            _ => Ok(true),
        },
        _ => Ok(false),
    }
}

fn is_identical(a: Option<&Item<'_>>, b: Option<&Item<'_>>) -> bool {
    a.map(|item| &item.value) == b.map(|item| &item.value)
}

/// BTrees' number for what two have done to one key.
fn reason(found: Option<&Item<'_>>, change: &Changed<'_, '_>) -> u8 {
    match (change.before, change.after, found) {
        (None, ..) => 4,
        (Some(_), None, None) => 5,
        (Some(_), None, Some(_)) => 2,
        (Some(_), Some(_), None) => 3,
        (Some(_), Some(_), Some(_)) => 1,
    }
}
