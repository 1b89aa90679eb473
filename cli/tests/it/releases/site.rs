//! Owns what is written in each round, and whether it is there: small commits, one of several MiB, a blob, and a transaction that is prepared in
//! one round and finished in the next.

use crate::backups::scene::noise;
use std::collections::BTreeMap;
use zeolite_client::{BlobId, Cell, CommitKey, Db, Oid, Record, Tid, Tx};
use zeolite_proto::resolvers::{class, collection, entry};

/// Of one large commit: more than is written in one piece, and than a message has.
const RECORDS: usize = 64;
const RECORD_BYTES: usize = 64 << 10;
const BLOB_BYTES: usize = 5 << 20;

#[derive(Default)]
pub(super) struct Site {
    rounds: u64,
    /// What each cell has.
    records: BTreeMap<Oid, Vec<u8>>,
    blobs: Vec<(BlobId, u64)>,
    prepared: Option<(CommitKey, Tid, Oid)>,
}

/// Keeps an object from packs.
pub(super) fn kept(tx: &Tx, cell: &Cell) {
    let name = cell.oid.to_string();
    tx.put(Cell::entry(Oid::ROOT, name.clone()), &entry::record(name.as_bytes(), vec![cell.oid])).expect("encodes");
}

impl Site {
    /// One round more; nothing that was begun is left.
    pub(super) async fn grows(&mut self, db: &Db) {
        self.grows_without_word(db).await;
        db.newest().await.expect("told");
    }

    /// The same.
    pub(super) async fn grows_without_word(&mut self, db: &Db) {
        self.rounds += 1;
        if self.rounds == 1 {
            let root = collection::record(class::MAP);
            db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &root)).await.expect("commits");
        }
        for n in 0..10 {
            self.commit(db, 1, 10 + n, None).await;
        }
        self.commit(db, RECORDS, RECORD_BYTES, None).await;
        let blob = db.put_blob(&noise(BLOB_BYTES, self.rounds)[..]).await.expect("goes up");
        self.blobs.push((blob, self.rounds));
        self.commit(db, 1, 10, Some(blob)).await;
        if let Some((key, since, oid)) = self.prepared.take() {
            db.finish_prepared(key, since).await.expect("finishes");
            self.records.insert(oid, b"prepared".to_vec());
        }
        let (key, since) = (db.new_commit_key(), db.position());
        let oid = db.new_oid().await.expect("an oid");
        let tx = db.begin().await.expect("begins");
        tx.put(Cell::object(oid), &Record::new("Thing", 1, "prepared")).expect("encodes");
        kept(&tx, &Cell::object(oid));
        drop(tx.prepare_durable(key, since, None).await.expect("prepares"));
        self.prepared = Some((key, since, oid));
    }

    async fn commit(&mut self, db: &Db, records: usize, bytes: usize, blob: Option<BlobId>) {
        let mut oids = Vec::new();
        for _ in 0..records {
            oids.push(db.new_oid().await.expect("an oid"));
        }
        let data = |oid: &Oid| noise(bytes, oid.0);
        let write = async |tx: Tx| {
            for oid in &oids {
                let blobs = blob.into_iter().collect();
                tx.put(Cell::object(*oid), &Record { blobs, ..Record::new("Thing", 1, data(oid)) })?;
                kept(&tx, &Cell::object(*oid));
            }
            Ok(())
        };
        db.run(write).await.expect("commits");
        self.records.extend(oids.iter().map(|oid| (*oid, data(oid))));
    }

    /// All of it is there, and what is prepared waits and cannot be read.
    pub(super) async fn is_in(&self, db: &Db) {
        let view = db.now();
        let cells: Vec<Cell> = self.records.keys().map(|oid| Cell::object(*oid)).collect();
        for cells in cells.chunks(50) {
            let found = futures_util::future::try_join_all(cells.iter().map(|cell| view.get(cell)));
            for (cell, found) in cells.iter().zip(found.await.expect("reads")) {
                let found = found.unwrap_or_else(|| panic!("{cell} is not there"));
                assert!(found.data == self.records[&cell.oid], "{cell} has something else");
            }
        }
        for (blob, seed) in &self.blobs {
            let bytes = db.blob(*blob).bytes(0..BLOB_BYTES as u64 + 1).await.expect("comes");
            assert!(bytes == noise(BLOB_BYTES, *seed), "{blob:?} has something else");
        }
        let waiting: Vec<CommitKey> =
            db.admin().prepared().await.expect("told").into_iter().map(|draft| draft.key).collect();
        assert_eq!(waiting, self.prepared.iter().map(|(key, ..)| *key).collect::<Vec<_>>());
        if let Some((_, _, oid)) = self.prepared {
            assert!(view.get(&Cell::object(oid)).await.expect("reads").is_none());
        }
    }
}
