//! Owns filling a database: so many objects of a size, or a collection of so many entries.

use super::disk::noise;
use anyhow::Result;
use zeolite_client::Db;
use zeolite_proto::resolvers::{class, collection, entry};
use zeolite_proto::{Cell, Oid, Record};

/// The data of an object.
pub(super) const OBJECT_BYTES: usize = 1024;
const WRITES_PER_COMMIT: u64 = 1000;
/// Commits on their way at once: one is put in order while another syncs.
const COMMITS_AT_ONCE: usize = 4;

/// The record of every object.
pub(super) fn record() -> Record {
    record_of(OBJECT_BYTES)
}

/// The record of an object with so many bytes of data.
pub(super) fn record_of(bytes: usize) -> Record {
    Record::new("Bench", 1, noise(bytes, 6))
}

/// Makes objects of 1 KiB; gives their oids in order. They are entered in a collection, so that a pack does not collect them.
pub(super) async fn objects(db: &Db, count: u64, told: impl Fn(u64)) -> Result<Vec<Oid>> {
    objects_of(db, count, OBJECT_BYTES, told).await
}

/// The same of another size.
pub(super) async fn objects_of(db: &Db, count: u64, bytes: usize, told: impl Fn(u64)) -> Result<Vec<Oid>> {
    let holder = db.new_oid().await?;
    let tx = db.begin().await?;
    let root = format!("bench-{holder}");
    tx.put(Cell::object(Oid::ROOT), &collection::record(class::MAP))?;
    tx.put(Cell::entry(Oid::ROOT, root), &entry::record(b"", vec![holder]))?;
    tx.put(Cell::object(holder), &collection::record(class::MAP))?;
    tx.commit().await?;
    let record = record_of(bytes).encode()?;
    let mut oids = Vec::new();
    // Oids are taken as they are needed: a fill that is cut off has written something.
    while (oids.len() as u64) < count {
        let begun = oids.len();
        for _ in 0..(count - begun as u64).min(WRITES_PER_COMMIT * COMMITS_AT_ONCE as u64) {
            oids.push(db.new_oid().await?);
        }
        let group = &oids[begun..];
        let commits = group.chunks(WRITES_PER_COMMIT as usize).map(async |part| -> Result<()> {
            let tx = db.begin().await?;
            for oid in part {
                tx.put_encoded(Cell::object(*oid), record.clone())?;
            }
            tx.put(Cell::entry(holder, part[0].0.to_be_bytes().to_vec()), &entry::record(b"", part.to_vec()))?;
            tx.commit().await?;
            Ok(())
        });
        futures_util::future::try_join_all(commits).await?;
        told(group.len() as u64);
    }
    Ok(oids)
}

/// Makes a collection of entries with small records.
pub(super) async fn entries(db: &Db, count: u64) -> Result<Oid> {
    let oid = db.new_oid().await?;
    let tx = db.begin().await?;
    tx.put(Cell::object(oid), &collection::record(class::MAP))?;
    tx.commit().await?;
    let value = noise(32, 7);
    let numbers: Vec<u64> = (0..count).collect();
    for part in numbers.chunks(5 * WRITES_PER_COMMIT as usize) {
        let tx = db.begin().await?;
        for number in part {
            tx.put(Cell::entry(oid, number.to_be_bytes().to_vec()), &entry::record(&value, Vec::new()))?;
        }
        tx.commit().await?;
    }
    Ok(oid)
}
