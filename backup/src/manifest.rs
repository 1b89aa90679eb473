//! Owns what is said of a backup: the manifest, the list of its objects, the lists of its blobs. docs/backup.md has the format.
//!
//! ```text
//!   main/000001-20261129T211500Z-3fc28a01/ a chain: one full backup and what follows it
//!     0001.manifest                        the full one: written last, with it the backup is there
//!     0001-9a41c0de/objects-000012             which objects it has, with their sums
//!     0001-9a41c0de/000001.log                 transactions, in order
//!     0001-9a41c0de/000001.blobs               the blobs that these are the first to name
//!     0001-9a41c0de/blobs/3f0c.../000001       their bytes, in parts
//!     0002.manifest, 0002-b7e0.../         what came since: an incremental one
//!     0003-11d2.progress                   one that is not whole: how far it has come
//! ```
//! A manifest has the sum of the one before it, and the sums of its objects by way of the list: so the last manifest of a chain
//! vouches for everything in it.

use crate::errors::{Error, Result};
use crate::place::Place;
use crate::sealed::{Kind, open, seal, sum_of};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeolite_client::{BlobId, Tid};

/// The format of all of it.
pub const FORMAT: u32 = 1;

/// SHA-256, as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Sum(String);

impl Sum {
    pub(crate) fn of(sum: &[u8; 32]) -> Sum {
        Sum(sum.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether these bytes have it.
    pub(crate) fn fits(&self, bytes: &[u8]) -> bool {
        *self == Sum::of(&sum_of(bytes))
    }
}

/// A stored object that is vouched for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Below the chain.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) sum: Sum,
}

/// One object of transactions, with what it names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LogObject {
    pub(crate) stored: Stored,
    pub(crate) first: Tid,
    pub(crate) last: Tid,
    pub(crate) transactions: u64,
    /// The list of the blobs that its transactions are the first to name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blobs: Option<Stored>,
}

/// A blob, in its list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StoredBlob {
    pub(crate) id: BlobId,
    pub(crate) length: u64,
    pub(crate) parts: Vec<Stored>,
}

/// Whether a backup needs one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// Everything that the database had.
    Full,
    /// What came since the backup before.
    Incremental,
}

/// What is said of one backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// The program that made it.
    pub version: String,
    /// The database's name on its server.
    pub database: String,
    /// The store.
    #[serde(with = "zeolite_proto::hex")]
    pub store_id: u64,
    /// Its life.
    #[serde(with = "zeolite_proto::hex")]
    pub timeline: u64,
    /// Its place in the chain, from 1 on.
    pub number: u32,
    /// Full or incremental.
    pub extent: Extent,
    /// Why it is a full one.
    pub why: String,
    /// The sum of the manifest before.
    pub(crate) before: Option<Sum>,
    /// What it has begins behind this.
    pub from: Tid,
    /// Its newest transaction.
    pub to: Tid,
    /// There was nothing newer up to this moment of the server's clock.
    pub covers: Tid,
    /// History up to here was packed in the database.
    pub packed_to: Tid,
    /// By the clock of the machine that made it, in milliseconds since 1970.
    pub begun_unix_ms: u64,
    /// When it was whole.
    pub done_unix_ms: u64,
    /// Transactions in it.
    pub transactions: u64,
    /// Writes in these.
    pub revisions: u64,
    /// Blobs in it.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Bytes that it takes here.
    pub stored_bytes: u64,
    /// The list of its objects; none: it has none.
    pub(crate) objects: Option<Stored>,
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

fn decoded<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::damaged(name, error))
}

/// Stores a value under a name of a chain, and says what vouches for it.
pub(crate) async fn store(place: &Place, chain: &str, name: String, kind: Kind, plain: &[u8]) -> Result<Stored> {
    let sealed = seal(&name, kind, plain, place.key())?;
    let stored = Stored { bytes: sealed.bytes.len() as u64, sum: Sum::of(&sealed.sum), name };
    place.put(&format!("{chain}/{}", stored.name), sealed.bytes).await?;
    Ok(stored)
}

/// What a stored object has in it, checked twice: by its sum, and by itself.
pub(crate) async fn load(place: &Place, chain: &str, stored: &Stored, kind: Kind) -> Result<Bytes> {
    let whole = format!("{chain}/{}", stored.name);
    let Some(bytes) = place.get(&whole).await? else {
        return Err(Error::damaged(&whole, "it is not there"));
    };
    if !stored.sum.fits(&bytes) {
        // What is wrong with it says more than that something is; whatever that is, it is damage.
        let why = open(&stored.name, kind, &bytes, place.key()).err().map(|error| format!(": {error}"));
        return Err(Error::damaged(&whole, format!("it is not what was written{}", why.unwrap_or_default())));
    }
    open(&stored.name, kind, &bytes, place.key())
}

/// Stores a list.
pub(crate) async fn store_list<T: Serialize>(place: &Place, chain: &str, name: String, list: &[T]) -> Result<Stored> {
    store(place, chain, name, Kind::List, &encoded(&list)).await
}

/// Reads a list.
pub(crate) async fn load_list<T: DeserializeOwned>(place: &Place, chain: &str, stored: &Stored) -> Result<Vec<T>> {
    decoded(&stored.name, &load(place, chain, stored, Kind::List).await?)
}

impl Manifest {
    /// The bytes to be stored under a name.
    pub(crate) fn sealed(&self, place: &Place, name: &str) -> Result<Bytes> {
        Ok(seal(name, Kind::Manifest, &encoded(self), place.key())?.bytes)
    }

    /// Reads one.
    pub(crate) fn opened(place: &Place, name: &str, bytes: &[u8]) -> Result<Manifest> {
        let plain = open(name, Kind::Manifest, bytes, place.key())?;
        let manifest: Manifest = decoded(name, &plain)?;
        match manifest.format {
            FORMAT => Ok(manifest),
            format => Err(Error::Refused(format!(
                "{name} is of format {format}, and this program reads {FORMAT}; use a newer one"
            ))),
        }
    }

    /// Its objects.
    pub(crate) async fn objects(&self, place: &Place, chain: &str) -> Result<Vec<LogObject>> {
        match &self.objects {
            Some(stored) => load_list(place, chain, stored).await,
            None => Ok(Vec::new()),
        }
    }
}
