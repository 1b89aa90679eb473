//! Owns the objects of a backup on their way in: transactions gathered up to some size, blobs in parts, each put whole.
//!
//! ```text
//!   piece ─> names blobs that the chain does not have? each is put first ─> gathered ─> 16 MiB, a transaction's end ─> put
//! ```
//! So memory holds what is being gathered, which ends with a whole transaction, and one object that is on its way.

use crate::errors::{Error, Result};
use crate::manifest::{LogObject, Stored, StoredBlob, store, store_list};
use crate::place::Place;
use crate::sealed::Kind;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use std::collections::HashSet;
use zeolite_client::{BlobId, Db, LogPiece, Naming, Tid};

/// How long objects are, about, unless somebody wants them otherwise.
pub const OBJECT_BYTES: usize = 16 << 20;
/// An object of transactions is also closed when it is the first to name so many blobs.
const BLOBS_MAX: usize = 10_000;

/// What is written of one backup.
pub(crate) struct Writer<'a> {
    place: &'a Place,
    chain: &'a str,
    /// The directory of this run in the chain.
    run: String,
    /// An object of transactions is closed at the end of the one with which it is as long as this; a part of a blob is so long.
    object_bytes: usize,
    naming: Naming,
    /// Blobs that the chain has.
    known: HashSet<BlobId>,
    open: Open,
    pub(crate) objects: Vec<LogObject>,
    pub(crate) numbers: Numbers,
    /// The number that the next object gets.
    next: u64,
}

/// What was written.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Numbers {
    pub(crate) transactions: u64,
    pub(crate) revisions: u64,
    pub(crate) blobs: u64,
    pub(crate) blob_bytes: u64,
    pub(crate) stored_bytes: u64,
}

/// The object that is being gathered.
#[derive(Default)]
struct Open {
    plain: BytesMut,
    first: Tid,
    last: Tid,
    transactions: u64,
    revisions: u64,
    blobs: Vec<StoredBlob>,
    /// Where the last whole transaction ends.
    whole: usize,
    revisions_whole: u64,
}

impl<'a> Writer<'a> {
    /// Goes on behind these objects, which have these numbers; the chain has these blobs.
    pub(crate) fn new(
        (place, chain): (&'a Place, &'a str),
        run: String,
        object_bytes: usize,
        known: HashSet<BlobId>,
        (objects, numbers): (Vec<LogObject>, Numbers),
    ) -> Writer<'a> {
        let next = objects.len() as u64 + 1;
        Writer {
            place,
            chain,
            run,
            object_bytes,
            naming: Naming::default(),
            known,
            open: Open::default(),
            objects,
            numbers,
            next,
        }
    }

    /// The newest transaction that is whole here.
    pub(crate) fn last(&self) -> Tid {
        self.open.last.max(self.stored())
    }

    /// The newest that is stored.
    pub(crate) fn stored(&self) -> Tid {
        self.objects.last().map_or(Tid::NONE, |object| object.last)
    }

    /// Where it writes.
    pub(crate) fn chain(&self) -> &str {
        self.chain
    }

    /// Takes a piece of the log, with the blobs that it names; says how many bytes that were.
    pub(crate) async fn add(&mut self, db: &Db, piece: &LogPiece) -> Result<usize> {
        let mut taken = 0;
        for id in self.naming.of(piece) {
            if !self.known.contains(&id) {
                let blob = self.blob(db, id).await?;
                taken += blob.length as usize;
                self.open.blobs.push(blob);
                self.known.insert(id);
            }
        }
        let bytes = piece.encode();
        self.open.plain.put_u32_le(u32::try_from(bytes.len()).expect("a message is smaller"));
        self.open.plain.extend_from_slice(&bytes);
        self.open.revisions += piece.writes();
        if !piece.goes_on() {
            self.open.ends(piece.tid());
            if self.open.plain.len() >= self.object_bytes || self.open.blobs.len() >= BLOBS_MAX {
                self.close().await?;
            }
        }
        Ok(taken + bytes.len())
    }

    /// Forgets the beginning of a transaction whose rest does not come.
    pub(crate) fn drop_unfinished(&mut self) {
        self.open.plain.truncate(self.open.whole);
        self.open.revisions = self.open.revisions_whole;
        self.naming = Naming::default();
    }

    /// Puts what was gathered, up to the end of the last whole transaction.
    pub(crate) async fn close(&mut self) -> Result<()> {
        if self.open.transactions == 0 {
            return Ok(());
        }
        let mut open = std::mem::take(&mut self.open);
        open.plain.truncate(open.whole);
        let name = format!("{}/{:06}", self.run, self.next);
        self.next += 1;
        let blobs = match open.blobs.is_empty() {
            true => None,
            false => Some(store_list(self.place, self.chain, format!("{name}.blobs"), &open.blobs).await?),
        };
        let stored = store(self.place, self.chain, format!("{name}.log"), Kind::Log, &open.plain).await?;
        let of_blobs = blobs.as_ref().map_or(0, |list: &Stored| list.bytes);
        let parts = open.blobs.iter().flat_map(|blob| &blob.parts).map(|part| part.bytes).sum::<u64>();
        self.numbers.stored_bytes += stored.bytes + of_blobs + parts;
        self.numbers.transactions += open.transactions;
        self.numbers.revisions += open.revisions_whole;
        self.numbers.blobs += open.blobs.len() as u64;
        self.numbers.blob_bytes += open.blobs.iter().map(|blob| blob.length).sum::<u64>();
        let Open { first, last, transactions, .. } = open;
        self.objects.push(LogObject { stored, first, last, transactions, blobs });
        Ok(())
    }

    async fn blob(&self, db: &Db, id: BlobId) -> Result<StoredBlob> {
        let mut pieces = std::pin::pin!(db.blob(id).read(0..u64::MAX));
        let (mut parts, mut length, mut part) = (Vec::new(), 0, BytesMut::new());
        loop {
            let piece = pieces.next().await.transpose()?;
            let is_end = piece.is_none();
            let mut piece = piece.unwrap_or_default();
            length += piece.len() as u64;
            while part.len() + piece.len() >= self.object_bytes {
                part.extend_from_slice(&piece.split_to(self.object_bytes - part.len()));
                parts.push(self.part(id, parts.len(), &part.split()).await?);
            }
            part.extend_from_slice(&piece);
            if is_end {
                // An empty blob has one empty part: so there is something to look at.
                if !part.is_empty() || parts.is_empty() {
                    parts.push(self.part(id, parts.len(), &part).await?);
                }
                return Ok(StoredBlob { id, length, parts });
            }
        }
    }

    async fn part(&self, id: BlobId, at: usize, bytes: &[u8]) -> Result<Stored> {
        let name = format!("{}/blobs/{id}/{:06}", self.run, at + 1);
        store(self.place, self.chain, name, Kind::BlobPart, bytes).await
    }
}

impl Open {
    fn ends(&mut self, tid: Tid) {
        if self.transactions == 0 {
            self.first = tid;
        }
        self.last = tid;
        self.transactions += 1;
        (self.whole, self.revisions_whole) = (self.plain.len(), self.revisions);
    }
}

/// The pieces of an object of transactions.
pub(crate) fn pieces(name: &str, mut plain: Bytes) -> Result<Vec<LogPiece>> {
    let mut all = Vec::new();
    while !plain.is_empty() {
        let bad = || Error::damaged(name, "a transaction in it ends before its end");
        let (len, _) = plain.split_at_checked(4).ok_or_else(bad)?;
        let len = u32::from_le_bytes(len.try_into().expect("4 bytes")) as usize;
        if plain.len() - 4 < len {
            return Err(bad());
        }
        drop(plain.split_to(4));
        all.push(LogPiece::decode(plain.split_to(len)).map_err(|error| Error::damaged(name, error))?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::load;
    use crate::place::Reach;

    #[tokio::test]
    async fn the_beginning_of_a_transaction_whose_rest_did_not_come_is_not_stored() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::open(dir.path().to_str().expect("plain"), Reach::default()).expect("a place");
        let mut writer = Writer::new((&place, "chain"), "run".to_owned(), 4096, HashSet::new(), Default::default());
        for (bytes, revisions) in [(&b"whole"[..], 2), (b"half of one", 1)] {
            if writer.open.revisions > 0 {
                writer.open.ends(Tid(5));
            }
            writer.open.plain.extend_from_slice(bytes);
            writer.open.revisions += revisions;
        }
        writer.close().await.expect("is put");
        let object = &writer.objects[0];
        assert_eq!((object.last, object.transactions, writer.numbers.revisions), (Tid(5), 1, 2));
        assert_eq!(load(&place, "chain", &object.stored, Kind::Log).await.expect("reads"), &b"whole"[..]);
    }
}
