//! The store against a model: seeded random writes, settles, kills and power cuts, and every kind of reading compared.

mod ahead;
pub(crate) mod engine;
mod failures;
mod files;
mod fuzz;
mod model;
mod races;
mod remake;
mod rest;
mod room;
mod rot;
#[cfg(feature = "sled")]
mod sled;
mod stepped;
mod tail;
mod timelines;

use super::disk::SimDisk;
use super::{Opened, Store, StoreError, StoreSettings, Txn, TxnWrite, Writes};
use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::record::Record;
use zeolite_proto::{Cell, CommitKey, Oid, Tid};

/// Settings that make everything happen soon: many segments, checkpoints, records inline, kept and neither.
fn small() -> StoreSettings {
    StoreSettings {
        segment_bytes_max: 6000,
        cache_bytes: 64 << 10,
        index_cache_bytes: 1 << 20,
        inline_bytes_max: 60,
        kept_bytes_max: 200,
        checkpoint_log_bytes: 9000,
        keys_count_max: 40,
        ..StoreSettings::default()
    }
}

fn open(disk: &SimDisk, settings: StoreSettings) -> Result<Opened, StoreError> {
    let settings = StoreSettings { index: engine::kind(), ..settings };
    Store::open(engine::on(disk), settings, 77, &mut |_| {})
}

fn record(class: &str, version: u32, len: usize) -> Bytes {
    Record::new(class, version, vec![version as u8; len]).encode().expect("encodes")
}

fn put(cell: Cell, record: Bytes) -> TxnWrite {
    TxnWrite { cell, record: Some(record), merged: false }
}

fn txn(tid: u64, writes: Vec<TxnWrite>) -> Txn {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&tid.to_le_bytes());
    Txn {
        tid: Tid(tid),
        key: CommitKey(key),
        digest: !tid,
        own: tid.is_multiple_of(7),
        note: Bytes::from_static(b"note"),
        writes: writes.into(),
    }
}

/// The same, as a large one comes.
fn as_large(txn: Txn) -> Txn {
    let writes = Writes::large(txn.writes.into_vec(), txn.note.len()).expect("fits");
    Txn { writes, ..txn }
}

/// A transaction with one record of a plain object.
fn simple(tid: u64, len: usize) -> Txn {
    txn(tid, vec![put(Cell::object(Oid(tid)), record("Page", 1, len))])
}

fn commit(opened: &mut Opened, txns: &[Txn]) {
    let appended = opened.appender.append(txns).expect("appends");
    opened.appender.publish(appended);
}

/// Everything in the log, in order.
fn all_txns(opened: &Opened) -> Vec<Txn> {
    let (mut out, mut from) = (Vec::new(), Tid::NONE);
    loop {
        let page = opened.reader.txns(from, Tid::MAX, 1000).expect("reads");
        let Some(last) = page.last() else { return out };
        from = last.tid.next();
        out.extend(page);
    }
}
