//! A bounded fuzz run over what the store reads back from a disk: batches, index rows and keys, whole data directories.
//!
//! Checksums would hide the decoders from random damage, so batches and rows are decoded past them. A decoder may refuse; it
//! must not panic, and what it accepts must be written again as it was read.

use super::super::KnownKey;
use super::super::disk::Disk;
use super::super::frame::{
    BATCH_HEADER_LEN, BatchHeader, FORMAT_1, LOG_FORMAT, SegmentHeader, batch_len, encode_batch, parse_batch,
};
use super::super::index::{keys, rows};
use super::super::kinds::{Kind, KindId};
use super::super::log::{Place, Position};
use super::*;

const ROUNDS: usize = 30_000;

/// Damage of one to three kinds.
fn damage(bytes: &mut Vec<u8>, dice: &mut fastrand::Rng) {
    for _ in 0..dice.usize(1..4) {
        let at = dice.usize(..=bytes.len());
        match dice.u8(..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, dice.u8(..)),
            2 => bytes.iter_mut().skip(at).take(dice.usize(1..9)).for_each(|byte| *byte = 0xff),
            3 => bytes.iter_mut().skip(at).take(dice.usize(1..9)).for_each(|byte| *byte = 0),
            4 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.u8(..8)),
            _ => {
                let part = bytes[at..(at + 40).min(bytes.len())].to_vec();
                drop(bytes.splice(at..at, part));
            }
        }
    }
}

#[test]
fn batches_decode_or_are_refused_whatever_is_in_them() {
    let salt = SegmentHeader::first(7).salt();
    let (mut out, mut records) = (Vec::new(), Vec::new());
    let two_writes =
        vec![put(Cell::entry(Oid(2), "key"), record("Page", 1, 9)), put(Cell::object(Oid(3)), Bytes::new())];
    let txns = [simple(5, 20), txn(6, two_writes), simple(9, 0)];
    encode_batch(&mut out, (salt, batch_len(&txns).expect("fits")), &txns, &mut records);
    let mut samples = vec![out];
    let mut dice = fastrand::Rng::with_seed(1);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let mut bytes = samples[dice.usize(..samples.len())].clone();
        damage(&mut bytes, &mut dice);
        bytes.truncate(2000);
        let Ok(header) = BatchHeader::parse(&bytes) else { continue };
        let payload = Bytes::copy_from_slice(&bytes[BATCH_HEADER_LEN..]);
        // What is of one format is read as of the other, too: that must be refused, or at least be bounded.
        drop(parse_batch(FORMAT_1, &header, &payload));
        let Ok(parsed) = parse_batch(LOG_FORMAT, &header, &payload) else { continue };
        accepted += 1;
        let txns: Vec<Txn> = parsed.into_iter().map(|parsed| parsed.txn).collect();
        let mut again = Vec::new();
        encode_batch(&mut again, (salt, batch_len(&txns).expect("fits")), &txns, &mut records);
        let header = BatchHeader::parse(&again).expect("what was encoded");
        let parsed =
            parse_batch(LOG_FORMAT, &header, &Bytes::copy_from_slice(&again[BATCH_HEADER_LEN..])).expect("parses");
        assert_eq!(parsed.into_iter().map(|parsed| parsed.txn).collect::<Vec<_>>(), txns);
        if samples.len() < 500 {
            samples.push(again);
        }
    }
    assert!(accepted > ROUNDS / 100, "only {accepted} were accepted: the run says little");
}

#[test]
fn index_rows_and_keys_decode_or_are_refused() {
    let place = Place { segment: 3, generation: 2, offset: 9, len: 8, crc: 7 };
    let position = Position { segment: 1, generation: 0, offset: 64 };
    let covered = rows::Covered {
        store_id: 1,
        position,
        last: Tid(3),
        packed_to: Tid(2),
        oid_max: 4,
        keys_floor: Tid(1),
        lived_ms: 9,
    };
    let revision = |record| rows::Revision { kind: KindId(5), has_refs: false, has_blobs: false, record }.encode();
    let known = |n: u8| KnownKey { key: CommitKey([n; 16]), digest: 5, tid: Tid(n.into()), lived_ms: 8 };
    let samples = [
        keys::revision(&Cell::entry(Oid(7), vec![0, 1, 0, 0xff]), Tid(9)),
        keys::object(3, Oid(8)),
        revision(rows::Stored::Deleted),
        revision(rows::Stored::Inline(Bytes::from_static(b"record"))),
        revision(rows::Stored::At(place)),
        rows::encode_kind(&Kind { class: "Page".into(), version: 2 }, 12),
        rows::encode_position(position),
        rows::encode_keys(8, &[known(1), known(2)]),
        rows::generation_key(3, 7),
        covered.encode(),
    ];
    let mut dice = fastrand::Rng::with_seed(2);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let mut bytes = samples[dice.usize(..samples.len())].clone();
        damage(&mut bytes, &mut dice);
        if let Some((cell, tid)) = keys::parse_revision(&bytes) {
            accepted += 1;
            assert_eq!(keys::revision(&cell, tid), bytes, "one key for one revision");
            assert_eq!(keys::tid_of(&bytes), Some(tid));
        }
        if let Some(row) = rows::Revision::parse(&bytes) {
            accepted += 1;
            assert_eq!(rows::Revision::parse(&row.encode()).map(|row| row.record), Some(row.record));
        }
        if let Some(found) = rows::Covered::parse(&bytes) {
            assert_eq!(found.encode(), bytes);
        }
        if let Some(found) = rows::parse_keys(&bytes) {
            assert_eq!(bytes.len(), 8 + found.len() * 32);
            let lived_ms = found.first().map(|known| known.lived_ms);
            assert!(lived_ms.is_none_or(|lived_ms| rows::encode_keys(lived_ms, &found) == bytes));
        }
        if let Some((number, generation)) = rows::parse_generation(&bytes) {
            assert_eq!(rows::generation_key(number, generation), bytes);
        }
        if let Some((id, kind, objects)) = rows::parse_kind(&[0, 0, 0, 9], &bytes) {
            assert_eq!((id, rows::encode_kind(&kind, objects)), (KindId(9), bytes.clone()));
        }
        let readable = (rows::Revision::live_kind(&bytes), rows::parse_position(&bytes), rows::object_oid(&bytes));
        assert_eq!(readable.1.is_some(), bytes.len() >= 14);
    }
    assert!(accepted > ROUNDS / 10, "only {accepted} were accepted: the run says little");
}

/// A data directory with several segments, one batch for each transaction, closed cleanly.
fn directory() -> (SimDisk, Vec<Txn>) {
    let disk = SimDisk::new();
    let mut opened = open(&disk, small()).expect("opens");
    let txns: Vec<Txn> = (1..60).map(|tid| simple(tid, 10 * tid as usize)).collect();
    txns.iter().for_each(|txn| commit(&mut opened, std::slice::from_ref(txn)));
    drop((opened.appender, opened.reader));
    opened.settler.close().expect("closes");
    (disk, txns)
}

#[test]
fn a_damaged_log_is_named_or_cut_at_its_end_and_never_read_wrongly() {
    let (disk, txns) = directory();
    let segments = disk.list("log").expect("lists");
    assert!(segments.len() > 3, "{segments:?}");
    let mut dice = fastrand::Rng::with_seed(3);
    let mut refused = 0;
    for _ in 0..300 {
        let disk = disk.crash(0);
        let path = format!("log/{}", segments[dice.usize(..segments.len())]);
        assert!(disk.edit(&path, |bytes| damage(bytes, &mut dice)));
        // Without the index everything is read again.
        let without_index = dice.bool();
        if without_index {
            Store::remove_index(&disk).expect("removes");
        }
        let Ok(opened) = open(&disk, small()) else {
            refused += 1;
            continue;
        };
        let mut from = Tid::NONE;
        while let Ok(page) = opened.reader.txns(from, Tid::MAX, 1000) {
            let Some(last) = page.last() else { break };
            from = last.tid.next();
            page.iter().for_each(|txn| assert!(txns.contains(txn), "{} is not what was committed", txn.tid));
        }
        for txn in &txns {
            let written = &txn.writes[0];
            if let Ok(Some(revision)) = opened.reader.get(&written.cell, Tid(1000)) {
                assert_eq!(revision.record, written.record);
            }
        }
    }
    assert!(refused > 30, "only {refused} were refused");
}

#[test]
fn a_damaged_index_loses_nothing_of_the_log() {
    let (disk, txns) = directory();
    let index = engine::files(&disk);
    assert!(!index.is_empty());
    let mut dice = fastrand::Rng::with_seed(4);
    let (mut opened_at_all, mut rebuilt, mut wrong) = (0, 0, 0);
    for _ in 0..150 {
        let disk = disk.crash(0);
        let path = &index[dice.usize(..index.len())];
        assert!(disk.edit(path, |bytes| (0..dice.usize(1..20)).for_each(|_| damage(bytes, &mut dice))), "{path}");
        let Ok(opened) = open(&disk, small()) else { continue };
        opened_at_all += 1;
        rebuilt += usize::from(opened.recovered.index_rebuilt.is_some());
        for txn in &txns {
            let written = &txn.writes[0];
            if let Ok(found) = opened.reader.get(&written.cell, Tid(1000)) {
                wrong += usize::from(found.and_then(|revision| revision.record) != written.record);
            }
        }
    }
    assert!(opened_at_all > 100 && rebuilt > 20, "{opened_at_all} opened, {rebuilt} with a new index");
    assert_eq!(wrong, 0, "a damaged index gave other records than the log holds");
}
