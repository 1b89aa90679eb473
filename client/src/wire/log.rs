//! Owns the transactions of the log on the wire: large ones come, and are sent, in several messages.
//!
//! ```text
//!   message 1   tid 7, writes a b c(first part, record_more)   more
//!   message 2   tid 7, writes c(rest) d
//!   message 3   tid 8, ...
//! ```

use super::v2;
use crate::revision::{LoggedTransaction, LoggedWrite};
use bytes::{Bytes, BytesMut};
use zeolite_proto::{Cell, Note, Oid, Tid};

/// A message is closed beyond this.
const MESSAGE_BYTES_AIM: usize = 1 << 20;
/// What a write takes beside its key and record.
const WRITE_BYTES: usize = 32;

/// Puts transactions together again.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    open: Option<LoggedTransaction>,
    /// The pieces so far of the record that goes on in the next message.
    record: Option<BytesMut>,
}

impl Assembly {
    /// Takes the next message; gives the transaction once it is whole.
    pub(super) fn add(&mut self, message: v2::Transaction) -> Option<LoggedTransaction> {
        let transaction = self.open.get_or_insert_with(|| LoggedTransaction {
            tid: Tid(message.tid),
            commit_key: message.commit_key,
            note: message.note.map(Note::from).unwrap_or_default(),
            writes: Vec::new(),
            draft_digest: message.draft_digest,
            own: message.own,
            packed_to: Tid(message.packed_to),
        });
        for write in message.writes {
            let (more, piece) = (write.record_more, write.record.clone());
            match (&mut self.record, transaction.writes.last_mut(), piece) {
                (Some(whole), Some(begun), Some(piece)) => {
                    whole.extend_from_slice(&piece);
                    if !more {
                        begun.record = self.record.take().map(BytesMut::freeze);
                    }
                }
                (_, _, piece) => {
                    self.record = piece.filter(|_| more).map(|piece| BytesMut::from(&piece[..]));
                    transaction.writes.push(logged(write));
                }
            }
        }
        if message.more { None } else { self.open.take() }
    }
}

fn logged(write: v2::LoggedWrite) -> LoggedWrite {
    LoggedWrite {
        cell: write.cell.map_or_else(|| Cell::object(Oid::ROOT), Cell::from),
        record: write.record,
        merged: write.merged,
        record_bytes: write.record_bytes,
        deleted: write.deleted,
    }
}

/// The messages that carry a transaction.
pub(super) fn messages(transaction: LoggedTransaction) -> Vec<v2::Transaction> {
    let part = || v2::Transaction {
        tid: transaction.tid.0,
        commit_key: transaction.commit_key.clone(),
        note: Some((&transaction.note).into()),
        writes: Vec::new(),
        more: false,
        packed_to: transaction.packed_to.0,
        draft_digest: transaction.draft_digest,
        own: transaction.own,
    };
    let (mut done, mut open, mut size) = (Vec::new(), part(), 0);
    let mut close = |open: &mut v2::Transaction, size: &mut usize| {
        open.more = true;
        *size = 0;
        done.push(std::mem::replace(open, part()));
    };
    for write in &transaction.writes {
        if size >= MESSAGE_BYTES_AIM {
            close(&mut open, &mut size);
        }
        let mut rest = write.record.clone().unwrap_or_default();
        loop {
            let piece = rest.split_to(rest.len().min(MESSAGE_BYTES_AIM));
            size += WRITE_BYTES + write.cell.key.len() + piece.len();
            open.writes.push(on_the_wire(write, piece, !rest.is_empty()));
            if rest.is_empty() {
                break;
            }
            close(&mut open, &mut size);
        }
    }
    done.push(open);
    done
}

fn on_the_wire(write: &LoggedWrite, piece: Bytes, record_more: bool) -> v2::LoggedWrite {
    v2::LoggedWrite {
        cell: Some((&write.cell).into()),
        record: write.record.as_ref().map(|_| piece),
        merged: write.merged,
        record_bytes: write.record_bytes,
        deleted: write.deleted,
        record_more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_in_pieces_comes_back_whole() {
        let write = |n: u64, record: Option<usize>| LoggedWrite {
            cell: Cell::entry(Oid(n), vec![b'k'; n as usize]),
            record: record.map(|len| vec![n as u8; len].into()),
            merged: n % 2 == 1,
            record_bytes: record.unwrap_or(0) as u64,
            deleted: record.is_none(),
        };
        let sizes =
            [Some(10), None, Some(3 << 20), Some(0), Some(MESSAGE_BYTES_AIM), Some(600_000), Some(600_000), None];
        let writes: Vec<_> = sizes.into_iter().zip(1..).map(|(size, n)| write(n, size)).collect();
        let note = Note { user: "amy".into(), ..Note::default() };
        let key = Bytes::from_static(&[7; 16]);
        let whole = LoggedTransaction {
            tid: Tid(9),
            commit_key: key,
            note,
            writes,
            draft_digest: 5,
            own: true,
            packed_to: Tid(3),
        };
        let messages = messages(whole.clone());
        assert!(messages.len() > 4);
        let bytes = |message: &v2::Transaction| prost::Message::encoded_len(message);
        assert!(messages.iter().all(|message| bytes(message) < 2 * MESSAGE_BYTES_AIM + 4096));
        let mut assembly = Assembly::default();
        let empty = LoggedTransaction { writes: vec![], tid: Tid(10), ..whole.clone() };
        let all = messages.into_iter().chain(super::messages(empty.clone()));
        let back: Vec<_> = all.filter_map(|message| assembly.add(message)).collect();
        assert_eq!(back, [whole, empty]);
    }
}
