//! Owns the pieces of the log: transactions in the messages that carry them, passed on without being put together.
//!
//! Whoever copies a log far away (a backup) does not look into its transactions, and one may be larger than he wants to hold. So he
//! takes the messages as they come, keeps them, and sends the same ones later. The one thing that a copy must know is which blobs
//! are named, since these have to be there first ([`Naming`]).

use super::log::Assembly;
use super::unary::{Pages, failure};
use super::{Failure, LogHow, Unary, v2};
use crate::answer::Restored;
use crate::revision::LoggedTransaction;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use prost::Message;
use zeolite_proto::record::{Header, RECORD_FORMAT_BLOBS};
use zeolite_proto::{BlobId, Tid};

/// A transaction of the log, or a part of one that is large.
#[derive(Clone, PartialEq, Debug)]
pub struct LogPiece {
    message: v2::Transaction,
    timeline: u64,
}

/// Bytes are no piece of a log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no piece of a log: {0}")]
pub struct BadPiece(String);

impl LogPiece {
    /// Of which transaction.
    pub fn tid(&self) -> Tid {
        Tid(self.message.tid)
    }

    /// The transaction goes on in the next piece.
    pub fn goes_on(&self) -> bool {
        self.message.more
    }

    /// History up to here is packed where it comes from.
    pub fn packed_to(&self) -> Tid {
        Tid(self.message.packed_to)
    }

    /// The life of the store that it was read from; 0: it was decoded.
    pub fn timeline(&self) -> u64 {
        self.timeline
    }

    /// Writes that end in it.
    pub fn writes(&self) -> u64 {
        self.message.writes.iter().filter(|write| !write.record_more).count() as u64
    }

    /// Its bytes: a message `Transaction` of the protocol.
    pub fn encode(&self) -> Bytes {
        self.message.encode_to_vec().into()
    }

    /// Whether two runs of pieces tell the same transactions, whatever was packed where they come from, and wherever they are cut.
    pub fn tell_the_same(one: &[LogPiece], other: &[LogPiece]) -> bool {
        let whole = |pieces: &[LogPiece]| {
            let mut assembly = Assembly::default();
            let added = pieces.iter().filter_map(|piece| assembly.add(piece.message.clone()));
            added.map(|transaction| LoggedTransaction { packed_to: Tid::NONE, ..transaction }).collect::<Vec<_>>()
        };
        whole(one) == whole(other)
    }

    /// What these bytes are.
    pub fn decode(bytes: Bytes) -> Result<LogPiece, BadPiece> {
        let message = v2::Transaction::decode(bytes).map_err(|error| BadPiece(error.to_string()))?;
        Ok(LogPiece { message, timeline: 0 })
    }
}

/// Which blobs the pieces name, looked at in their order.
#[derive(Debug, Default)]
pub struct Naming {
    /// The record that goes on in the next piece.
    record: BytesMut,
}

impl Naming {
    /// Those of the next piece, in the order of its records.
    pub fn of(&mut self, piece: &LogPiece) -> Vec<BlobId> {
        let mut named = Vec::new();
        for write in &piece.message.writes {
            let Some(part) = &write.record else { continue };
            // What goes on in another piece is known by its first byte: a later part may begin with anything.
            let first = self.record.first().or(part.first()).copied();
            if first == Some(RECORD_FORMAT_BLOBS) {
                self.record.extend_from_slice(part);
            } else if self.record.is_empty() {
                self.record.extend(first);
            }
            if write.record_more {
                continue;
            }
            let whole = self.record.split();
            named.extend(Header::parse(&whole).into_iter().flat_map(|header| header.blobs().collect::<Vec<_>>()));
        }
        named
    }
}

impl Unary {
    /// The log from a tid on, up to what is visible now, in pieces.
    pub(crate) async fn log_pieces(&self, from: Tid, how: LogHow) -> Result<Pages<Vec<LogPiece>>, Failure> {
        let request = v2::LogRequest {
            from: from.0,
            with_records: true,
            as_left: how != LogHow::Whole,
            ..v2::LogRequest::default()
        };
        let stream = self.replicator().log(request).await.map_err(|status| failure(&status))?.into_inner();
        Ok(Pages::new(stream, |page: v2::LogPage| {
            let v2::LogPage { transactions, packed_to, timeline } = page;
            let piece = |message| LogPiece { message: v2::Transaction { packed_to, ..message }, timeline };
            transactions.into_iter().map(piece).collect()
        }))
    }

    /// Writes transactions from their pieces; gives their number and the last tid.
    pub(crate) async fn restore_pieces<S>(&self, pieces: S) -> Result<Restored, Failure>
    where
        S: Stream<Item = LogPiece> + Send + 'static,
    {
        let reply = self.replicator().restore(pieces.map(|piece| piece.message)).await;
        let reply = reply.map_err(|status| failure(&status))?.into_inner();
        Ok(Restored { transactions: reply.transactions, last: Tid(reply.tid) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::Record;

    fn piece(parts: &[(&[u8], bool)], more: bool) -> LogPiece {
        let write = |&(part, record_more): &(&[u8], bool)| v2::LoggedWrite {
            record: Some(Bytes::copy_from_slice(part)),
            record_more,
            ..v2::LoggedWrite::default()
        };
        let writes = parts.iter().map(write).collect();
        LogPiece { message: v2::Transaction { tid: 7, writes, more, packed_to: 3, ..Default::default() }, timeline: 0 }
    }

    #[test]
    fn blobs_are_found_in_records_that_are_cut_anywhere() {
        let record = |blobs: &[u8], data: &'static [u8]| {
            let blobs = blobs.iter().map(|n| BlobId([*n; 16])).collect();
            Record { blobs, ..Record::new("File", 1, data) }.encode().expect("encodes")
        };
        // Data that would pass for the head of a record with blobs, where a part begins.
        let (plain, two, one) = (record(&[], &[RECORD_FORMAT_BLOBS; 40]), record(&[1, 2], b"xy"), record(&[3], b""));
        for cut in 1..two.len() {
            let mut naming = Naming::default();
            let first = naming.of(&piece(&[(&plain, false), (&two[..cut], true)], true));
            let second = naming.of(&piece(&[(&two[cut..], false), (&one, false)], false));
            assert_eq!((first, second), (vec![], [1, 2, 3].map(|n| BlobId([n; 16])).to_vec()), "{cut}");
        }
        for cut in 1..plain.len() - 1 {
            let mut naming = Naming::default();
            let first = naming.of(&piece(&[(&plain[..cut], true)], true));
            let second = naming.of(&piece(&[(&plain[cut..=cut], true)], true));
            let third = naming.of(&piece(&[(&plain[cut + 1..], false), (&one, false)], false));
            assert_eq!((first, second, third), (vec![], vec![], vec![BlobId([3; 16])]), "{cut}");
        }
    }

    #[test]
    fn a_piece_is_the_same_when_it_comes_back() {
        let sent = piece(&[(b"abc", false), (b"d", true)], true);
        let back = LogPiece::decode(sent.encode()).expect("decodes");
        assert_eq!((&back, back.tid(), back.goes_on()), (&sent, Tid(7), true));
        assert_eq!((back.packed_to(), back.writes()), (Tid(3), 1));
        assert!(LogPiece::decode(Bytes::from_static(&[0xff; 9])).is_err());
    }
}
