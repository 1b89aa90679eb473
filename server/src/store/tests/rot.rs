//! Bits that rot in the index: the right answer or a named error, never a wrong one, and the index is made anew.

use super::*;
use crate::store::{Entry, IndexKind, Kind, Range, Revision};

const OBJECTS: u64 = 30;
const COLLECTION: Oid = Oid(100);
const STRIDE: usize = 1531;

/// Everything that is asked, or the first error.
type Answers = Result<(Vec<Option<Revision>>, Vec<Entry>, Vec<Kind>, Vec<Oid>), StoreError>;

fn answers(opened: &Opened) -> Answers {
    let reader = &opened.reader;
    let cells: Vec<Cell> = (1..=OBJECTS + 3).map(|oid| Cell::object(Oid(oid))).collect();
    let range = Range { oid: COLLECTION, from: Bytes::new(), to: Bytes::new(), reverse: false, keys_only: false };
    Ok((
        reader.get_many(&cells, Tid::MAX, usize::MAX)?,
        reader.scan(&range, Tid::MAX, 1000, usize::MAX)?.0,
        reader.kinds()?,
        reader.objects(Some("Page"), u32::MAX, None, 1000)?,
    ))
}

// On redb, whatever the other tests run on: sled's mark of a clean close has the checksum of each of its files.
fn open(disk: &SimDisk) -> Opened {
    let settings = StoreSettings { index: IndexKind::Redb, ..small() };
    Store::open(Arc::new(disk.clone()), settings, 77, &mut |_| {}).expect("opens in any case")
}

fn written() -> SimDisk {
    let disk = SimDisk::new();
    let mut opened = open(&disk);
    for tid in 1..=OBJECTS {
        let entry = put(Cell::entry(COLLECTION, format!("key {tid}")), record("Entry", 1, tid as usize));
        let object = put(Cell::object(Oid(tid)), record("Page", 1 + (tid % 3) as u32, [20, 100][tid as usize % 2]));
        commit(&mut opened, &[txn(tid, vec![entry, object])]);
    }
    opened.settler.close().expect("closes");
    disk
}

#[test]
fn a_flipped_bit_anywhere_in_the_index_is_never_served() {
    let disk = written();
    let right = answers(&open(&disk.crash(0))).expect("answers");
    let (mut rebuilt, mut refused, mut unharmed) = (0, 0, 0);
    for file in ["index.redb", "index.sums"] {
        let len = disk.bytes(file).expect("there").len();
        for at in (0..len).step_by(STRIDE).chain((0..320.min(len)).step_by(5)) {
            let bad = disk.crash(0);
            bad.edit(file, |bytes| bytes[at] ^= 1 << (at % 8));
            let mut opened = open(&bad);
            match answers(&opened) {
                Ok(found) => {
                    assert_eq!(found, right, "{file} at {at}");
                    rebuilt += u32::from(opened.recovered.index_rebuilt.is_some());
                    unharmed += u32::from(opened.recovered.index_rebuilt.is_none());
                }
                Err(_) => {
                    refused += 1;
                    while opened.settler.settle(10).expect("made anew").index_down.is_some() {}
                    assert_eq!(answers(&opened).expect("ready again"), right, "{file} at {at}");
                }
            }
        }
    }
    assert!(rebuilt > 20 && unharmed > 20, "{rebuilt} rebuilt, {refused} refused, {unharmed} unharmed");
}
