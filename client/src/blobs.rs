//! Owns blobs: bytes too large for a record (files, images), beside the objects.
//!
//! ```no_run
//! # use zeolite_client::{Cell, Db, Error, Record};
//! # async fn example(db: Db, cell: Cell, file: impl tokio::io::AsyncRead + Unpin + Send) -> Result<(), Error> {
//! let id = db.put_blob(file).await?;
//! db.run(async |tx| tx.put(cell.clone(), &Record { blobs: vec![id], ..Record::new("File", 1, "talk.mp4") })).await?;
//! for blob in db.now().blobs(&cell).await? {
//!     println!("{} bytes, the first of them {:?}", blob.length().await?, blob.bytes(0..100).await?);
//! }
//! # Ok(()) }
//! ```
//! A blob is uploaded *before* the transaction that names it, under a random id of its own, and is durable when that is told. A record
//! names it in [`Record::blobs`](zeolite_proto::Record): as long as a revision does that is not packed away, the blob is kept. One that
//! no commit names is removed a while later (a day, by the server's setting), so a transaction that fails leaves nothing.
//!
//! What goes up and down passes through a few megabytes of memory, whatever its size. An upload that is cut off goes on by itself when
//! the connection is back, and in another process with [`Db::put_blob_as`] under the same id; a stream that is read does, too.

use crate::connect::{Db, Resend};
use crate::errors::{Error, Result};
use crate::revision::LoggedTransaction;
use crate::tx::View;
use crate::wire::{BlobBytes, BlobPart, Failure, Link};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use std::ops::Range;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use zeolite_proto::record::Header;
use zeolite_proto::{BlobId, BlobStanding, Cell};

/// So much is sent and acknowledged at once: what a cut connection makes one send again. A multiple of what servers write at once.
const STRETCH_BYTES: usize = 4 << 20;

/// A blob of the database, to be read.
///
/// ```
/// use zeolite_client::{Cell, Record};
///
/// # zeolite_testing::with_db(async |db| {
/// let id = db.put_blob(&b"an image"[..]).await?;
/// let mut file = Record::new("File", 1, "");
/// file.blobs.push(id); // which keeps it
/// let cell = Cell::object(db.new_oid().await?);
/// db.run(async |tx| tx.put(cell.clone(), &file)).await?;
/// assert_eq!(db.blob(id).bytes(3..8).await?, "image");
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Blob {
    db: Db,
    id: BlobId,
}

impl Db {
    /// Uploads all that a reader gives, as a new blob. When this returns it is durable, and a record may name it.
    pub async fn put_blob(&self, reader: impl AsyncRead + Unpin + Send) -> Result<BlobId> {
        let id = self.new_blob_id();
        self.put_blob_as(id, reader).await.map(|()| id)
    }

    /// A fresh id of a blob, for [`Db::put_blob_as`]: whoever writes it down goes on with the upload after a crash of his own.
    pub fn new_blob_id(&self) -> BlobId {
        BlobId(crate::commit_keys::new().0)
    }

    /// Uploads all that a reader gives, from its beginning, under an id; what is there already is read and not sent again.
    pub async fn put_blob_as(&self, id: BlobId, reader: impl AsyncRead + Unpin + Send) -> Result<()> {
        self.put_source(id, FromReader(reader)).await
    }

    /// The same of a stream's bytes; an error of it ends the upload, which may be gone on with.
    pub async fn put_blob_of<S>(&self, id: BlobId, stream: S) -> Result<()>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Unpin + Send,
    {
        self.put_source(id, FromStream { stream, left: Bytes::new() }).await
    }

    async fn put_source(&self, id: BlobId, mut source: impl Source) -> Result<()> {
        let there = match self.blob_standing(id).await? {
            BlobStanding::Unknown => 0,
            BlobStanding::Begun(at) => at,
            BlobStanding::Whole(_) => return Ok(()),
        };
        let (mut offset, mut hasher) = (0, crc32fast::Hasher::new());
        loop {
            let data = source.stretch().await?;
            let (len, is_last) = (data.len() as u64, data.len() < STRETCH_BYTES);
            hasher.update(&data);
            let done = is_last.then(|| (offset + len, hasher.clone().finalize()));
            if is_last || offset + len > there {
                let part = BlobPart { id, offset, data, done };
                let put = |link: Arc<Link>| {
                    let part = part.clone();
                    async move { link.unary().put_blob(part).await }
                };
                self.core().call(Resend::Always, put).await?;
            }
            if is_last {
                return Ok(());
            }
            offset += len;
        }
    }

    /// How far an upload has come.
    pub async fn blob_standing(&self, id: BlobId) -> Result<BlobStanding> {
        self.core().call(Resend::Always, |link| async move { link.unary().blob_standing(id).await }).await
    }

    /// A blob by its id, whether there is one or not.
    pub fn blob(&self, id: BlobId) -> Blob {
        Blob { db: self.clone(), id }
    }

    /// Brings what a transaction of another database's log names and this one lacks: before it is restored here, which a blob that is
    /// not here refuses. Gives how many came.
    pub async fn bring_blobs(&self, from: &Db, transaction: &LoggedTransaction) -> Result<u64> {
        let mut came = 0;
        for id in named_by(transaction) {
            if !matches!(self.blob_standing(id).await?, BlobStanding::Whole(_)) {
                self.put_source(id, from.blob(id).reading(0..u64::MAX)).await?;
                came += 1;
            }
        }
        Ok(came)
    }
}

/// The blobs that the records of a transaction name, each once.
pub fn named_by(transaction: &LoggedTransaction) -> Vec<BlobId> {
    let records = transaction.writes.iter().filter_map(|write| write.record.as_ref());
    let headers = records.filter_map(|record| Header::parse(record).ok());
    let mut named: Vec<BlobId> = headers.flat_map(|header| header.blobs().collect::<Vec<_>>()).collect();
    named.sort_unstable();
    named.dedup();
    named
}

impl View {
    /// The blobs that a cell names at this snapshot, in the order of its record; none where nothing is stored.
    pub async fn blobs(&self, cell: &Cell) -> Result<Vec<Blob>> {
        let record = self.get(cell).await?;
        Ok(record.into_iter().flat_map(|record| record.blobs).map(|id| self.db().blob(id)).collect())
    }
}

impl Blob {
    /// Its id.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// Its length in bytes.
    pub async fn length(&self) -> Result<u64> {
        self.open(0, 1).await.map(|bytes| bytes.length)
    }

    /// A range of its bytes in memory; shorter where the blob ends.
    pub async fn bytes(&self, range: Range<u64>) -> Result<Bytes> {
        let (mut all, mut reading) = (BytesMut::new(), self.reading(range));
        while let Some(piece) = reading.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// The pieces of a range, as they come; to the end of the blob with `0..u64::MAX`. A stream that was cut off goes on.
    pub fn read(&self, range: Range<u64>) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        stream::try_unfold(self.reading(range), |mut reading| async move {
            Ok(reading.next().await?.map(|piece| (piece, reading)))
        })
    }

    fn reading(&self, range: Range<u64>) -> Reading {
        Reading { blob: self.clone(), at: range.start, end: range.end, open: None }
    }

    async fn open(&self, offset: u64, length: u64) -> Result<BlobBytes> {
        let id = self.id;
        let core = self.db.core();
        core.call(Resend::Always, |link| async move { link.unary().get_blob(id, offset, length).await }).await
    }
}

/// A range that is being read.
struct Reading {
    blob: Blob,
    at: u64,
    end: u64,
    open: Option<BlobBytes>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.at >= self.end {
                return Ok(None);
            }
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.blob.open(self.at, self.end - self.at).await?,
            };
            match open.next().await {
                Ok(Some(piece)) if piece.is_empty() => return Ok(None),
                Ok(Some(piece)) => {
                    self.at += piece.len() as u64;
                    self.end = self.end.min(open.length);
                    self.open = Some(open);
                    return Ok(Some(piece));
                }
                Ok(None) => return Ok(None),
                Err(Failure::Fault(fault)) => return Err(fault.into()),
                // Opened again where it was; elsewhere that is refused.
                Err(Failure::Lost(_) | Failure::Elsewhere) => {}
            }
        }
    }
}

/// Where the bytes of an upload come from.
trait Source: Send {
    /// As much as is sent at once; less at the end.
    fn stretch(&mut self) -> impl Future<Output = Result<Bytes>> + Send;
}

struct FromReader<R>(R);

impl<R: AsyncRead + Unpin + Send> Source for FromReader<R> {
    async fn stretch(&mut self) -> Result<Bytes> {
        let mut data = BytesMut::with_capacity(STRETCH_BYTES);
        while data.len() < STRETCH_BYTES {
            let left = (STRETCH_BYTES - data.len()) as u64;
            let read = (&mut self.0).take(left).read_buf(&mut data).await;
            if read.map_err(unreadable)? == 0 {
                break;
            }
        }
        Ok(data.freeze())
    }
}

struct FromStream<S> {
    stream: S,
    /// What the next stretch begins with.
    left: Bytes,
}

impl<S: Stream<Item = std::io::Result<Bytes>> + Unpin + Send> Source for FromStream<S> {
    async fn stretch(&mut self) -> Result<Bytes> {
        let mut data = BytesMut::with_capacity(STRETCH_BYTES);
        while data.len() < STRETCH_BYTES {
            if self.left.is_empty() {
                match self.stream.next().await {
                    Some(next) => self.left = next.map_err(unreadable)?,
                    None => break,
                }
            }
            data.extend_from_slice(&self.left.split_to(self.left.len().min(STRETCH_BYTES - data.len())));
        }
        Ok(data.freeze())
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::invalid(format!("what was to be uploaded cannot be read: {error}; mend it, and go on with the upload"))
}

impl Source for Reading {
    async fn stretch(&mut self) -> Result<Bytes> {
        let mut data = BytesMut::with_capacity(STRETCH_BYTES);
        let end = self.end;
        self.end = end.min(self.at + STRETCH_BYTES as u64);
        while let Some(piece) = self.next().await? {
            data.extend_from_slice(&piece);
        }
        self.open = None;
        self.end = end;
        Ok(data.freeze())
    }
}
