//! Owns the reasons why BTrees' nodes are not merged: BTrees' own numbers, in words.

use crate::plain::Plain;
use zeolite_proto::resolver::Unresolved;

/// A conflict by the rules: BTrees' number of the reason, and the key if there is one.
pub(super) fn conflict(reason: u8, key: Option<&Plain<'_>>) -> Unresolved {
    let what = match reason {
        0 => "another commit has split the bucket, or this one has",
        1 => "both commits gave one key a new value",
        2 => "another commit changed the value of a key that this one removes",
        3 => "this commit changes the value of a key that another one removed",
        4 => "both commits added, or both removed, one key",
        6 => "both commits added one key",
        7 => "another commit changed or removed a key that this one removes",
        8 => "this commit changes or removes a key that another one removed",
        5 | 9 => "both commits removed one key",
        10 => "the two commits together leave the bucket empty",
        11 => "both commits changed an inner node of the tree, which a split does",
        12 => "one of the commits has emptied the bucket",
        _ => "one of the commits removed the least key, which the node above may know",
    };
    match key {
        Some(key) => Unresolved(format!("{what} (reason {reason}, key {key})")),
        None => Unresolved(format!("{what} (reason {reason})")),
    }
}
