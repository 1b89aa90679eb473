//! Owns the doors of blobs: an upload as a stream of pieces, how far one has come, and a blob, or a range of it, as a stream.
//!
//! A piece is read, written and forgotten, and the next one is taken only then: so an upload of any size takes the memory of a few
//! messages, and a slow disk slows its client by HTTP/2's own window. The same the other way round.

use super::Rpc;
use super::calls::Calls;
use crate::auth::rights::Verb;
use crate::engine::{BlobReader, Place, Upload};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use zeolite_proto::wire::v2;
use zeolite_proto::{BlobId, BlobStanding, Fault};

/// Bytes of a piece that is sent.
const PIECE_BYTES: u64 = 256 << 10;

/// Pieces made ahead of who reads them.
pub(super) const PIECES_AHEAD: usize = 2;

/// What a stream of pieces takes in memory.
pub(super) const STREAM_BYTES: usize = (PIECES_AHEAD + 2) * PIECE_BYTES as usize;

fn id_of(bytes: &[u8]) -> Result<BlobId, Fault> {
    match BlobId::from_slice(bytes) {
        Some(id) if id == BlobId::default() => {
            Err(Fault::invalid("the id of a blob is all zeros, which nobody has made at random; make 16 random bytes"))
        }
        Some(id) => Ok(id),
        None => Err(Fault::invalid(format!("the id of a blob has 16 bytes, this one has {}", bytes.len()))),
    }
}

fn told(standing: BlobStanding) -> v2::BlobStatusReply {
    match standing {
        BlobStanding::Unknown => v2::BlobStatusReply::default(),
        BlobStanding::Begun(length) => v2::BlobStatusReply { whole: false, length },
        BlobStanding::Whole(length) => v2::BlobStatusReply { whole: true, length },
    }
}

/// How far a blob has come.
pub(super) async fn status(
    rpc: &Rpc,
    calls: Calls,
    request: v2::BlobStatusRequest,
) -> Result<v2::BlobStatusReply, Fault> {
    calls.may(Verb::Upload)?;
    let id = id_of(&request.blob)?;
    let account = calls.account().clone();
    rpc.off_thread(&account, move || calls.engine().blob_standing(id).map(told)).await
}

/// Takes an upload. A status: its stream failed; a fault: it was refused.
pub(super) async fn put(
    rpc: &Rpc,
    calls: &Calls,
    mut parts: Streaming<v2::PutBlobPart>,
) -> Result<Result<v2::BlobStatusReply, Fault>, Status> {
    if let Err(fault) = calls.may(Verb::Upload) {
        return Ok(Err(fault));
    }
    let Some(mut part) = parts.message().await? else {
        return Ok(Err(Fault::invalid("an upload without a message; say which blob in the first one")));
    };
    let _place = match calls.engine().blob_place(&calls.share()) {
        Ok(place) => place,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut putting = match Putting::begin(rpc, calls, &part).await {
        Ok(Begun::Whole(length)) => return Ok(Ok(v2::BlobStatusReply { whole: true, length })),
        Ok(Begun::At(putting)) => putting,
        Err(fault) => return Ok(Err(fault)),
    };
    loop {
        // It is the last one only if nothing follows: who goes on behind it means something else than a whole blob.
        if part.done.is_some() && parts.message().await?.is_some() {
            return Ok(Err(Fault::invalid(format!(
                "a part came behind the one that says `done`, so the upload was not ended; go on from byte {}, and end with `done`",
                putting.upload.rest()
            ))));
        }
        match putting.take(rpc, calls, part).await {
            Ok(Taken::More(more)) => putting = more,
            Ok(Taken::Whole(length)) => return Ok(Ok(v2::BlobStatusReply { whole: true, length })),
            Err(fault) => return Ok(Err(fault)),
        }
        part = match parts.message().await? {
            Some(part) => part,
            // It goes on in another call.
            None => return Ok(Ok(v2::BlobStatusReply { whole: false, length: putting.upload.rest() })),
        };
    }
}

enum Begun {
    Whole(u64),
    At(Putting),
}

enum Taken {
    More(Putting),
    Whole(u64),
}

/// An upload on its way.
struct Putting {
    upload: Upload,
    /// What is there already of what comes next.
    skip: u64,
}

impl Putting {
    async fn begin(rpc: &Rpc, calls: &Calls, first: &v2::PutBlobPart) -> Result<Begun, Fault> {
        if calls.engine().limits().blob_bytes_max == 0 {
            return Err(Fault::new(
                zeolite_proto::FaultKind::Unsupported,
                "blobs are not taken here (limits.blob_bytes_max = 0)",
            ));
        }
        let (id, offset, at_work) = (id_of(&first.blob)?, first.offset, calls.clone());
        let begun = rpc.off_thread(calls.account(), move || at_work.upload(id)).await?;
        match begun {
            (Some(upload), BlobStanding::Begun(at)) if offset <= at => {
                Ok(Begun::At(Putting { upload, skip: at - offset }))
            }
            (_, BlobStanding::Whole(length)) => Ok(Begun::Whole(length)),
            (_, BlobStanding::Begun(at)) => Err(Fault::invalid(format!(
                "{at} bytes of the blob have come, and these begin at {offset}; go on from {at}"
            ))),
            (_, BlobStanding::Unknown) => Err(Fault::new(zeolite_proto::FaultKind::Internal, "an upload that is none")),
        }
    }

    async fn take(mut self, rpc: &Rpc, calls: &Calls, part: v2::PutBlobPart) -> Result<Taken, Fault> {
        let mut data = part.data;
        let skipped = self.skip.min(data.len() as u64);
        self.skip -= skipped;
        let data = data.split_off(skipped as usize);
        let _charge = calls.account().take_for(data.len())?;
        calls.rest_after(data.len()).await;
        let (engine, done) = (calls.engine().clone(), part.done);
        rpc.off_thread(calls.account(), move || {
            if !data.is_empty() {
                engine.append_blob(&self.upload, &data)?;
            }
            match done {
                None => Ok(Taken::More(self)),
                Some(v2::BlobEnd { length, crc }) => {
                    engine.finish_blob(self.upload, length, crc).map(|()| Taken::Whole(length))
                }
            }
        })
        .await
    }
}

/// Opens what is asked for.
pub(super) async fn open(rpc: &Rpc, calls: &Calls, request: &v2::GetBlobRequest) -> Result<(BlobReader, Place), Fault> {
    calls.may(Verb::Read)?;
    let place = calls.engine().blob_place(&calls.share())?;
    let (id, engine) = (id_of(&request.blob)?, calls.engine().clone());
    rpc.off_thread(calls.account(), move || engine.read_blob(id)).await.map(|reader| (reader, place))
}

/// Sends the bytes asked for, the first piece also when there are none: it tells the length.
pub(super) async fn send(
    rpc: Arc<Rpc>,
    calls: Calls,
    reader: BlobReader,
    request: v2::GetBlobRequest,
    pieces: mpsc::Sender<Result<v2::BlobPiece, Status>>,
) {
    let reader = Arc::new(reader);
    let end = match request.length {
        0 => reader.length(),
        length => request.offset.saturating_add(length).min(reader.length()),
    };
    let (mut at, mut is_first) = (request.offset, true);
    while is_first || at < end {
        let (reading, left) = (reader.clone(), end.saturating_sub(at).min(PIECE_BYTES));
        let read =
            rpc.off_thread(calls.account(), move || reading.read(at, left).map_err(crate::engine::fault_of)).await;
        let data = match read {
            Ok(data) => data,
            Err(fault) => return drop(pieces.send(Err(rpc.refusal(&fault))).await),
        };
        at += data.len() as u64;
        let (length, crc) = if is_first { (reader.length(), reader.crc()) } else { (0, 0) };
        is_first = false;
        if pieces.send(Ok(v2::BlobPiece { data, length, crc })).await.is_err() {
            return;
        }
    }
}
