//! Owns the tests of what is replayed and what is not.

use super::*;
use crate::made;
use crate::oids::to_zeolite;
use crate::plain::Plain;
use zeolite_proto::{CommitKey, Note, Priority, ReadCell, Write};

const TREE: &str = "BTrees.IIBTree.IIBTree";
const BUCKET: &str = "BTrees.IIBTree.IIBucket";
const READ: Tid = Tid(5);
const ROOT: u64 = 20;

fn cell(n: u64) -> Cell {
    Cell::object(to_zeolite(n.to_be_bytes()).expect("has one"))
}

fn bytes(class: &str, state: &Plain<'_>) -> Bytes {
    made::record(class, state).encode().expect("encodes")
}

/// A root: its first bucket, and the others with their least keys.
fn root(first: u64, others: &[(i128, u64)]) -> Bytes {
    let child = |n: u64| made::reference(n, BUCKET);
    let others = others.iter().flat_map(|(key, n)| [Plain::Int(*key), child(*n)]);
    let flat = Plain::Tuple([child(first)].into_iter().chain(others).collect());
    bytes(TREE, &Plain::Tuple(vec![flat, made::reference(first, BUCKET)]))
}

fn bucket(keys: &[i128], next: u64) -> Bytes {
    let pairs = keys.iter().map(|key| (*key, Plain::Int(0))).collect();
    bytes(BUCKET, &made::bucket(pairs, Some(made::reference(next, BUCKET))))
}

/// The newest records, those that the draft was made on, and the draft: cells without a new record are read.
#[derive(Default)]
struct Scene {
    newest: HashMap<Cell, Bytes>,
    old: HashMap<Cell, Bytes>,
    written: Vec<(u64, Option<Bytes>)>,
}

impl Records for Scene {
    fn newest(&mut self, cell: &Cell) -> Option<Bytes> {
        self.newest.get(cell).cloned()
    }

    fn as_of(&mut self, cell: &Cell, tid: Tid) -> Option<Bytes> {
        self.old.get(cell).filter(|_| tid == READ).cloned()
    }
}

impl Scene {
    fn old(mut self, n: u64, record: Bytes) -> Scene {
        self.old.insert(cell(n), record.clone());
        self.newest.insert(cell(n), record);
        self
    }

    fn newest(mut self, n: u64, record: Bytes) -> Scene {
        self.newest.insert(cell(n), record);
        self
    }

    fn reads(mut self, n: u64) -> Scene {
        self.written.push((n, None));
        self
    }

    fn writes(mut self, n: u64, record: Bytes) -> Scene {
        self.written.retain(|(other, _)| *other != n);
        self.written.push((n, Some(record)));
        self
    }

    fn replayed(self, conflict: u64) -> Option<Replayed> {
        self.replayed_by(Rules::default(), conflict).ok()
    }

    fn replayed_by(mut self, rules: Rules, conflict: u64) -> Result<Replayed, Unresolved> {
        let mut draft = Draft {
            key: CommitKey([1; 16]),
            key_since: Tid::NONE,
            note: Note::new("", ""),
            priority: Priority::Live,
            writes: vec![],
            read_cells: vec![],
            read_ranges: vec![],
        };
        for (n, record) in self.written.clone() {
            let base = if self.old.contains_key(&cell(n)) { READ } else { Tid::NONE };
            match record {
                None => draft.read_cells.push(ReadCell { cell: cell(n), base }),
                Some(record) => {
                    draft.writes.push(Write { cell: cell(n), base, change: Change::Put(record), stamped: false });
                }
            }
        }
        let replay = Replay { rules };
        assert!(replay.may_replay(&draft));
        replay.replay(&draft, &[cell(conflict)], &mut self)
    }
}

/// Buckets 1 and 2; another has split 2 into 2 and 3.
fn split_by_another() -> Scene {
    Scene::default()
        .old(ROOT, root(1, &[(40, 2)]))
        .old(1, bucket(&[10, 20], 2))
        .old(2, bucket(&[40, 50, 60], 9))
        .newest(ROOT, root(1, &[(40, 2), (50, 3)]))
        .newest(2, bucket(&[40, 42], 3))
        .newest(3, bucket(&[50, 60], 9))
}

fn writes(replayed: &Replayed) -> BTreeMap<Cell, Bytes> {
    replayed.writes.iter().cloned().collect()
}

#[test]
fn keys_go_where_another_ones_split_has_taken_them() {
    let replayed = split_by_another().reads(ROOT).writes(2, bucket(&[40, 50, 55], 9)).replayed(2).expect("replays");
    assert_eq!(writes(&replayed), BTreeMap::from([(cell(3), bucket(&[50, 55], 9))]), "55 set, 60 removed");
    assert_eq!(replayed.reads, [cell(ROOT)]);
    assert_eq!(replayed.left_out_writes, [cell(2)].into());
    assert_eq!(replayed.left_out_reads, [cell(ROOT)].into());
}

#[test]
fn its_own_split_is_left_out() {
    let scene = split_by_another()
        .writes(ROOT, root(1, &[(40, 2), (55, 7)]))
        .writes(2, bucket(&[40, 45, 50], 7))
        .writes(7, bucket(&[60, 70], 9));
    let replayed = scene.replayed(ROOT).expect("replays");
    let expected = [(cell(2), bucket(&[40, 42, 45], 3)), (cell(3), bucket(&[50, 60, 70], 9))];
    assert_eq!(writes(&replayed), expected.into());
    assert_eq!(replayed.left_out_writes, [cell(ROOT), cell(2), cell(7)].into());
}

#[test]
fn a_tree_that_was_small_is_replayed_on_one_that_has_grown() {
    let small = |keys: &[i128]| {
        let pairs = keys.iter().map(|key| (*key, Plain::Int(0))).collect();
        bytes(TREE, &Plain::Tuple(vec![Plain::Tuple(vec![made::bucket(pairs, None)])]))
    };
    let grown = || Scene::default().old(ROOT, small(&[40, 50])).newest(ROOT, root(1, &[(50, 2)]));
    let grown = || grown().newest(1, bucket(&[40, 42], 2)).newest(2, bucket(&[50, 60], 9));
    let replayed = grown().writes(ROOT, small(&[40, 50, 55])).replayed(ROOT).expect("replays");
    assert_eq!(writes(&replayed), [(cell(2), bucket(&[50, 55, 60], 9))].into());
    let both = grown().writes(ROOT, root(7, &[(50, 8)]));
    let both = both.writes(7, bucket(&[40, 45], 8)).writes(8, bucket(&[50], 9)).replayed(ROOT).expect("replays");
    assert_eq!(writes(&both), [(cell(1), bucket(&[40, 42, 45], 2))].into());
    assert_eq!(both.left_out_writes, [cell(ROOT), cell(7), cell(8)].into());
}

#[test]
fn what_both_have_changed_stays_a_conflict() {
    for (ours, what) in [(&[40, 42, 50, 60][..], "42 is added by both"), (&[40, 50, 60], "nothing was changed")] {
        assert_eq!(split_by_another().reads(ROOT).writes(2, bucket(ours, 9)).replayed(2), None, "{what}");
    }
    let gone = split_by_another().newest(3, bucket(&[50], 9));
    assert_eq!(gone.reads(ROOT).writes(2, bucket(&[40, 50], 9)).replayed(2), None, "60 is removed by both");
}

#[test]
fn a_bucket_that_becomes_empty_goes_out_of_its_tree() {
    let scene = || split_by_another().newest(2, bucket(&[40, 41, 42], 3));
    // Written as a tuple of any length is.
    let empty = |next| {
        let short = made::record(BUCKET, &made::bucket(vec![], Some(made::reference(next, BUCKET))));
        let at = short.data.windows(2).position(|two| two == b")C").expect("an empty tuple");
        let data = [&short.data[..at], b"(t", &short.data[at + 1..]].concat();
        zeolite_proto::Record { data: data.into(), ..short }.encode().expect("encodes")
    };
    let behind = scene().reads(ROOT).writes(2, bucket(&[40], 9)).replayed(2).expect("50 and 60 go");
    let expected = [(cell(ROOT), root(1, &[(40, 2)])), (cell(2), bucket(&[40, 41, 42], 9)), (cell(3), empty(9))];
    assert_eq!((writes(&behind), behind.reads.len()), (expected.into(), 0), "what is written is not only read");
    let scene = || split_by_another().newest(1, bucket(&[10, 20], 2)).newest(2, bucket(&[40, 42], 3));
    let first = scene().reads(ROOT).writes(1, bytes(BUCKET, &made::bucket(vec![], Some(made::reference(2, BUCKET)))));
    let first = first.replayed(1).expect("10 and 20 go");
    assert_eq!(writes(&first), [(cell(ROOT), root(2, &[(50, 3)])), (cell(1), empty(2))].into());
    let all = scene().newest(2, bucket(&[40], 3)).newest(3, bucket(&[50, 60], 9)).newest(1, bucket(&[10, 20], 2));
    let ours = |n, next| (n, bytes(BUCKET, &made::bucket(vec![], Some(made::reference(next, BUCKET)))));
    let all = [ours(1, 2), ours(2, 9)].into_iter().fold(all.reads(ROOT), |all, (n, record)| all.writes(n, record));
    assert!(
        all.replayed_by(Rules::default(), 2).is_err_and(|why| why.0.contains("reason 12")),
        "nothing would be left"
    );
}

#[test]
fn who_leads_past_an_emptied_bucket_is_left_out_also_if_nobody_knows_where_it_is() {
    let other = |next| bucket(&[1, 2], next);
    let scene = split_by_another().old(30, other(1)).reads(ROOT);
    let scene = scene.writes(30, other(2)).writes(1, bytes(BUCKET, &Plain::None)).writes(ROOT, root(2, &[]));
    let replayed = scene.newest(1, bucket(&[5, 6, 10, 20], 2)).replayed(ROOT).expect("replays");
    assert_eq!(writes(&replayed), [(cell(1), bucket(&[5, 6], 2))].into());
    assert!(replayed.left_out_writes.contains(&cell(30)));
}

#[test]
fn the_least_key_of_a_bucket_may_go() {
    let scene = split_by_another().newest(2, bucket(&[40, 42, 43], 3)).reads(ROOT).writes(2, bucket(&[50, 60], 9));
    let replayed = scene.replayed(2).expect("replays");
    assert_eq!(writes(&replayed), [(cell(2), bucket(&[42, 43], 3))].into(), "40 leads there still, and 42 does");
}

#[test]
fn what_both_have_done_alike_is_done_once_if_it_may() {
    let by = |same_changes, ours: &[i128]| {
        let scene = split_by_another().newest(3, bucket(&[50, 55], 9)).reads(ROOT).writes(2, bucket(ours, 9));
        scene.replayed_by(Rules { same_changes }, 2).map(|replayed| writes(&replayed)).map_err(|why| why.0)
    };
    let both_added = by(true, &[40, 42, 50, 60]).expect("replays");
    assert_eq!(both_added, [(cell(2), bucket(&[40, 42], 3))].into());
    let both_removed = by(true, &[40, 50]).expect("replays");
    assert_eq!(both_removed, [(cell(3), bucket(&[50, 55], 9))].into());
    assert!(by(false, &[40, 42, 50, 60]).is_err_and(|why| why.contains("(reason 4, key 42)")));
    assert!(by(false, &[40, 50]).is_err_and(|why| why.contains("(reason 5, key 60)")));
}

#[test]
fn whoever_has_seen_a_tree_empty_is_not_replayed() {
    let small = |keys: &[i128]| match keys {
        [] => bytes(TREE, &Plain::None),
        _ => {
            let pairs = keys.iter().map(|key| (*key, Plain::Int(0))).collect();
            bytes(TREE, &Plain::Tuple(vec![Plain::Tuple(vec![made::bucket(pairs, None)])]))
        }
    };
    let replayed = |old: &[i128], newest: &[i128], ours: &[i128]| {
        let scene = Scene::default().old(ROOT, small(old)).newest(ROOT, small(newest)).writes(ROOT, small(ours));
        scene.replayed_by(Rules::default(), ROOT).map(|replayed| writes(&replayed)).map_err(|why| why.0)
    };
    let is = |replayed: Result<BTreeMap<Cell, Bytes>, String>, reason: &str| {
        assert!(replayed.as_ref().is_err_and(|why| why.contains(&format!("(reason {reason})"))), "{replayed:?}");
    };
    is(replayed(&[5], &[5, 7], &[]), "12");
    is(replayed(&[5], &[3, 5], &[]), "12");
    is(replayed(&[5], &[], &[5, 7]), "12");
    is(replayed(&[5, 7], &[7], &[5]), "10");
    assert_eq!(replayed(&[5, 7], &[5, 6, 7], &[7]), Ok([(cell(ROOT), small(&[6, 7]))].into()), "5 is the least");
    assert_eq!(replayed(&[], &[5], &[7]), Ok([(cell(ROOT), small(&[5, 7]))].into()), "nobody has seen it emptied");
}

#[test]
fn what_keys_do_not_tell_is_not_replayed() {
    let ours = || bucket(&[40, 50, 55, 60], 9);
    let nobody_read_the_root = split_by_another().writes(2, ours());
    assert_eq!(nobody_read_the_root.replayed(2), None);
    let stray = split_by_another().old(30, ours()).writes(30, bucket(&[40, 50, 60], 7));
    assert_eq!(stray.reads(ROOT).writes(2, ours()).replayed(2), None, "bucket 30 is below nodes that nobody knows");
    let cleared = split_by_another().writes(2, ours()).writes(ROOT, bytes(TREE, &Plain::None));
    assert_eq!(cleared.replayed(ROOT), None, "its buckets have kept their keys");
    let unlinked = split_by_another().writes(2, ours()).writes(ROOT, root(2, &[]));
    assert_eq!(unlinked.replayed(ROOT), None, "bucket 1 has not been emptied");
    let foreign = split_by_another().writes(2, ours()).writes(ROOT, root(1, &[(40, 2), (80, 30)]));
    assert_eq!(foreign.old(30, ours()).replayed(ROOT), None, "bucket 30 comes from elsewhere");
    let another = split_by_another().reads(ROOT).writes(2, ours()).newest(ROOT, bytes("app.Tree", &Plain::None));
    assert_eq!(another.replayed(2), None, "the root is no tree any more");
    assert_eq!(split_by_another().reads(ROOT).writes(2, ours()).replayed(77), None, "that is no node");
}

#[test]
fn what_was_emptied_and_unlinked_is_a_removal_of_its_keys() {
    let scene = split_by_another()
        .writes(ROOT, root(2, &[]))
        .writes(1, bytes(BUCKET, &Plain::None))
        .writes(2, bucket(&[40, 50, 60], 9))
        .newest(1, bucket(&[5, 6, 10, 20], 2));
    let replayed = scene.replayed(ROOT).expect("replays: two keys were added there");
    assert_eq!(writes(&replayed), [(cell(1), bucket(&[5, 6], 2))].into());
}
