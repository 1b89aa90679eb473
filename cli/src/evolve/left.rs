//! Owns how it is told what an undo has left: counted by the reasons, a few of each by name.

use crate::output::{Table, count};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use zeolite_client::evolve::NotUndone;
use zeolite_client::{Cell, Oid};

/// Of those that an undo has left for one reason, so many are named.
const LEFT_NAMED: usize = 5;

/// What an undo has left, by the reasons; `names`: what collections are called in the root.
pub(super) fn table(left: &[NotUndone], names: &BTreeMap<u64, String>, named_max: usize) -> Table {
    let mut reasons: BTreeMap<&str, Vec<&NotUndone>> = BTreeMap::new();
    for left in left {
        reasons.entry(&left.reason).or_default().push(left);
    }
    let mut table = Table::new(&[">left", "why", "not as before"]);
    for (reason, left) in reasons {
        let mut named = left.iter().take(named_max.max(LEFT_NAMED)).map(|left| group(left, names));
        table.add([count(left.len() as u64), reason.to_owned(), named.next().unwrap_or_default()]);
        named.for_each(|line| table.add([String::new(), String::new(), line]));
        if left.len() > named_max.max(LEFT_NAMED) {
            let more = left.len() - named_max.max(LEFT_NAMED);
            table.add([String::new(), String::new(), format!("and {} more", count(more as u64))]);
        }
    }
    table
}

/// What was left together: objects by their oids, entries by where they are.
fn group(left: &NotUndone, names: &BTreeMap<u64, String>) -> String {
    let (objects, entries): (Vec<_>, Vec<_>) = left.cells.iter().partition(|(_, key)| key.is_empty());
    let objects: Vec<String> = objects.into_iter().map(|(oid, _)| format!("object {}", Oid(*oid))).collect();
    let mut indexes: Vec<String> = entries
        .into_iter()
        .map(|of| names.get(&of.0).map_or_else(|| format!("entry {}", cell(of)), |name| format!("its entry of {name}")))
        .collect();
    indexes.dedup();
    [objects, indexes].concat().join(", ")
}

fn cell((oid, key): &(u64, Vec<u8>)) -> String {
    Cell::entry(Oid(*oid), key.clone()).to_string()
}

pub(super) fn json(left: &NotUndone) -> Value {
    let cells: Vec<String> = left.cells.iter().map(cell).collect();
    json!({ "tid": format!("{:016x}", left.tid), "cells": cells, "reason": left.reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_with_the_indexes_of_their_entries() {
        let names = BTreeMap::from([(7, "wiki.Page:author".to_owned()), (8, "wiki.Page:tag".to_owned())]);
        let cells =
            vec![(0x15, vec![]), (7, b"Ada".to_vec()), (8, b"a".to_vec()), (8, b"b".to_vec()), (9, b"k".to_vec())];
        let left = NotUndone { tid: 3, cells, reason: String::new() };
        let told = "object 15, its entry of wiki.Page:author, its entry of wiki.Page:tag, entry 9/k";
        assert_eq!(group(&left, &names), told);
    }
}
