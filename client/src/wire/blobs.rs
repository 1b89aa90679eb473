//! Owns the calls of blobs: a part of an upload, how far one has come, a stream of a blob's bytes.

use super::unary::failure;
use super::{FRAME_BYTES_MAX, Failure, Unary, v2};
use bytes::Bytes;
use futures_util::stream;
use tonic::Streaming;
use v2::reader_client::ReaderClient;
use v2::writer_client::WriterClient;
use zeolite_proto::{BlobId, BlobStanding};

/// Bytes of one message.
const MESSAGE_BYTES: usize = 256 << 10;

/// A stretch of an upload.
#[derive(Clone, Debug)]
pub(crate) struct BlobPart {
    pub(crate) id: BlobId,
    /// Where it begins.
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    /// It is the last: the length of all, and its CRC-32.
    pub(crate) done: Option<(u64, u32)>,
}

impl BlobPart {
    fn messages(mut self) -> Vec<v2::PutBlobPart> {
        let mut messages = vec![v2::PutBlobPart {
            blob: self.id.0.to_vec().into(),
            offset: self.offset,
            data: self.data.split_to(self.data.len().min(MESSAGE_BYTES)),
            done: None,
        }];
        while !self.data.is_empty() {
            let data = self.data.split_to(self.data.len().min(MESSAGE_BYTES));
            messages.push(v2::PutBlobPart { data, ..v2::PutBlobPart::default() });
        }
        if let (Some(last), Some((length, crc))) = (messages.last_mut(), self.done) {
            last.done = Some(v2::BlobEnd { length, crc });
        }
        messages
    }
}

fn told(reply: &v2::BlobStatusReply) -> BlobStanding {
    match (reply.whole, reply.length) {
        (true, length) => BlobStanding::Whole(length),
        (false, 0) => BlobStanding::Unknown,
        (false, length) => BlobStanding::Begun(length),
    }
}

impl Unary {
    fn uploader(&self) -> WriterClient<super::unary::Calls> {
        WriterClient::new(self.channel()).max_encoding_message_size(FRAME_BYTES_MAX)
    }

    /// How far a blob has come.
    pub(crate) async fn blob_standing(&self, id: BlobId) -> Result<BlobStanding, Failure> {
        let request = v2::BlobStatusRequest { blob: id.0.to_vec().into() };
        let reply = self.uploader().blob_status(request).await.map_err(|status| failure(&status))?;
        Ok(told(&reply.into_inner()))
    }

    /// Sends a stretch of an upload; what is there already is skipped by the server.
    pub(crate) async fn put_blob(&self, part: BlobPart) -> Result<BlobStanding, Failure> {
        let reply = self.uploader().put_blob(stream::iter(part.messages())).await.map_err(|status| failure(&status))?;
        Ok(told(&reply.into_inner()))
    }

    /// Opens a stream of a blob's bytes from an offset; `length` 0: to the end.
    pub(crate) async fn get_blob(&self, id: BlobId, offset: u64, length: u64) -> Result<BlobBytes, Failure> {
        let request = v2::GetBlobRequest { blob: id.0.to_vec().into(), offset, length };
        let mut reader = ReaderClient::new(self.channel()).max_decoding_message_size(FRAME_BYTES_MAX);
        let mut pieces = reader.get_blob(request).await.map_err(|status| failure(&status))?.into_inner();
        let first = pieces.message().await.map_err(|status| failure(&status))?.ok_or_else(Failure::lost)?;
        Ok(BlobBytes { length: first.length, first: Some(first.data), pieces })
    }
}

/// The bytes of a blob, as they come.
pub(crate) struct BlobBytes {
    /// Of the whole blob.
    pub(crate) length: u64,
    first: Option<Bytes>,
    pieces: Streaming<v2::BlobPiece>,
}

impl BlobBytes {
    /// The next ones; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let piece = self.pieces.message().await.map_err(|status| failure(&status))?;
        Ok(piece.map(|piece| piece.data))
    }
}
