//! Owns the verification of backups where they lie: every object is read, its sum and its checksums are compared, and its
//! transactions are looked at one by one. Nothing is restored for it.

use crate::errors::{Error, Result};
use crate::manifest::{LogObject, Manifest, StoredBlob, load, load_list};
use crate::place::Place;
use crate::sealed::Kind;
use crate::shelf::{Chain, Shelf};
use crate::writer::pieces;
use futures_util::{StreamExt, stream};
use zeolite_client::Tid;

/// Objects that are read at once.
const AT_ONCE: usize = 3;
/// So many problems are told.
const PROBLEMS_MAX: usize = 100;

/// What a verification has found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Backups that were looked at.
    pub backups: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong, the first hundred.
    pub problems: Vec<String>,
    /// How many there are.
    pub problems_total: u64,
}

impl Verified {
    fn problem(&mut self, text: String) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }

    /// Notes damage; other errors end the verification.
    fn noted<T>(&mut self, what: Result<T>) -> Result<Option<T>> {
        match what {
            Ok(good) => Ok(Some(good)),
            Err(damage @ Error::Damaged { .. }) => {
                self.problem(damage.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Verifies all backups of a database; `tell` gets the bytes so far.
pub async fn verify(place: &Place, shelf: &Shelf, tell: &mut (dyn FnMut(u64) + Send)) -> Result<Verified> {
    let mut verified = Verified::default();
    for chain in &shelf.chains {
        if let Some(broken) = &chain.broken {
            verified.problem(broken.clone());
        }
        for backup in &chain.backups {
            verified.backups += 1;
            one(place, chain, &backup.manifest, &mut verified, tell).await?;
        }
    }
    Ok(verified)
}

async fn one(
    place: &Place,
    chain: &Chain,
    manifest: &Manifest,
    verified: &mut Verified,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<()> {
    let Some(objects) = verified.noted(manifest.objects(place, &chain.dir).await)? else { return Ok(()) };
    let named = format!("{}/{:04}", chain.dir, manifest.number);
    let (mut last, mut transactions, mut blobs) = (manifest.from, 0, 0);
    let dir = chain.dir.as_str();
    let looked = stream::iter(objects.clone()).map(|object| async move { look(place, dir, &object).await });
    let mut looked = std::pin::pin!(looked.buffered(AT_ONCE));
    let mut whole = true;
    for object in &objects {
        if object.first <= last {
            verified.problem(format!("{named}: {} does not follow what is before it", object.stored.name));
        }
        last = object.last;
        let found = looked.next().await.expect("one for each");
        match verified.noted(found)? {
            Some(found) => {
                transactions += found.transactions;
                blobs += found.blobs;
                verified.bytes += found.bytes;
                tell(verified.bytes);
            }
            None => whole = false,
        }
    }
    if whole && (transactions, blobs, last) != (manifest.transactions, manifest.blobs, manifest.to) {
        verified.problem(format!(
            "{named}: it has {transactions} transactions up to {last} and {blobs} blobs, and its manifest says {} up to {} and {}",
            manifest.transactions, manifest.to, manifest.blobs
        ));
    }
    verified.transactions += transactions;
    verified.blobs += blobs;
    Ok(())
}

/// What one object has.
struct Looked {
    transactions: u64,
    blobs: u64,
    bytes: u64,
}

async fn look(place: &Place, dir: &str, object: &LogObject) -> Result<Looked> {
    let mut looked = Looked { transactions: 0, blobs: 0, bytes: 0 };
    if let Some(list) = &object.blobs {
        let blobs: Vec<StoredBlob> = load_list(place, dir, list).await?;
        for blob in blobs {
            let mut length = 0;
            for part in &blob.parts {
                length += load(place, dir, part, Kind::BlobPart).await?.len() as u64;
                looked.bytes += part.bytes;
            }
            if length != blob.length {
                return Err(Error::damaged(
                    &list.name,
                    format!("blob {} has {length} bytes, not {}", blob.id, blob.length),
                ));
            }
            looked.blobs += 1;
        }
    }
    let plain = load(place, dir, &object.stored, Kind::Log).await?;
    looked.bytes += object.stored.bytes;
    let (mut last, mut first, mut open) = (Tid::NONE, None, false);
    for piece in pieces(&object.stored.name, plain)? {
        let tid = piece.tid();
        if (open && tid != last) || (!open && tid <= last) {
            return Err(Error::damaged(&object.stored.name, format!("transaction {tid} is behind {last}")));
        }
        (last, open) = (tid, piece.goes_on());
        first.get_or_insert(tid);
        looked.transactions += u64::from(!open);
    }
    let found = (first, last, looked.transactions, open);
    if found != (Some(object.first), object.last, object.transactions, false) {
        return Err(Error::damaged(&object.stored.name, "its transactions are not those that its list names"));
    }
    Ok(looked)
}
