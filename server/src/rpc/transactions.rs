//! Owns logged transactions on the wire: cut into messages of bounded size on the way out, joined on the way in.
//!
//! A transaction may be far larger than a message. Cut, it is a run of messages with the same tid, all but the last with
//! `more`; a record that is cut goes on in the first write of the next message. Key and note stand in the first message.

use crate::engine;
use crate::store::{Txn, TxnWrite};
use bytes::Bytes;
use bytes::BytesMut;
use zeolite_proto::wire::codec::MESSAGE_PARTS_MAX;
use zeolite_proto::wire::{translate, v2};
use zeolite_proto::{Cell, Fault, Limits, Tid};

/// What one write costs in a message beside its key and record.
const WRITE_ROOM_BYTES: usize = 48;

/// A page has no more writes than a message may have parts, so that what was read can be restored as it came.
const PAGE_BYTES_MAX: usize = MESSAGE_PARTS_MAX * WRITE_ROOM_BYTES;

/// A record is not cut into pieces smaller than this.
const PIECE_BYTES_MIN: usize = 4096;

/// Transactions as pages of about `page_bytes` each. Each says up to where history is packed here: who restores it as it came has said so.
pub(super) fn cut<'a>(
    txns: impl IntoIterator<Item = &'a Txn>,
    with_records: bool,
    packed_to: Tid,
    page_bytes: usize,
) -> Vec<v2::LogPage> {
    let page_bytes = page_bytes.clamp(2 * PIECE_BYTES_MIN, PAGE_BYTES_MAX);
    let mut cutter = Cutter { pages: vec![v2::LogPage::default()], left: page_bytes, page_bytes };
    for txn in txns {
        cutter.begin(v2::Transaction {
            tid: txn.tid.0,
            commit_key: txn.key.0.to_vec().into(),
            note: Some((&engine::note::decode(&txn.note)).into()),
            draft_digest: txn.digest,
            own: txn.own,
            packed_to: packed_to.0,
            ..Default::default()
        });
        for write in &txn.writes {
            cutter.write(txn.tid, write, with_records);
        }
    }
    cutter.pages
}

struct Cutter {
    pages: Vec<v2::LogPage>,
    left: usize,
    page_bytes: usize,
}

impl Cutter {
    fn page(&mut self) -> &mut v2::LogPage {
        self.pages.last_mut().expect("there is a first page")
    }

    fn begin(&mut self, transaction: v2::Transaction) {
        if self.left < PIECE_BYTES_MIN {
            self.pages.push(v2::LogPage::default());
            self.left = self.page_bytes;
        }
        self.left = self.left.saturating_sub(prost::Message::encoded_len(&transaction));
        self.page().transactions.push(transaction);
    }

    /// Ends the page in the middle of a transaction.
    fn go_on(&mut self, tid: Tid) {
        let open = self.page().transactions.last_mut().expect("a write belongs to a transaction");
        open.more = true;
        let rest = v2::Transaction { tid: tid.0, ..Default::default() };
        self.pages.push(v2::LogPage { transactions: vec![rest], ..Default::default() });
        self.left = self.page_bytes;
    }

    fn write(&mut self, tid: Tid, write: &TxnWrite, with_records: bool) {
        let head = WRITE_ROOM_BYTES + write.cell.key.len();
        let mut wire = v2::LoggedWrite {
            cell: Some((&write.cell).into()),
            record: None,
            merged: write.merged,
            record_bytes: write.record.as_ref().map_or(0, Bytes::len) as u64,
            deleted: write.record.is_none(),
            record_more: false,
        };
        let mut rest = write.record.clone().filter(|_| with_records);
        loop {
            let record_bytes = rest.as_ref().map_or(0, Bytes::len);
            if self.left < head + record_bytes.min(PIECE_BYTES_MIN) {
                self.go_on(tid);
            }
            let room = self.left.saturating_sub(head).max(PIECE_BYTES_MIN);
            let piece = rest.as_mut().map(|record| record.split_to(record.len().min(room)));
            let more = rest.as_ref().is_some_and(|record| !record.is_empty());
            self.left = self.left.saturating_sub(head + piece.as_ref().map_or(0, Bytes::len));
            wire.record = piece;
            wire.record_more = more;
            let open = self.page().transactions.last_mut().expect("a write belongs to a transaction");
            open.writes.push(wire.clone());
            if !more {
                return;
            }
            self.go_on(tid);
        }
    }
}

/// Joins messages to transactions.
#[derive(Default)]
pub(super) struct Joiner {
    open: Option<Txn>,
    /// The record that goes on in the next message.
    record: Option<BytesMut>,
    bytes: usize,
}

impl Joiner {
    /// Whether a transaction has begun that is not whole yet.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the next message; returns the transaction when it is whole.
    pub(super) fn add(&mut self, message: v2::Transaction, limits: &Limits) -> Result<Option<Txn>, Fault> {
        match &self.open {
            Some(open) if open.tid.0 != message.tid => {
                return Err(Fault::invalid(format!(
                    "transaction {} goes on with tid {}; send all of its messages in a row",
                    open.tid,
                    Tid(message.tid)
                )));
            }
            Some(_) => {}
            None => {
                self.bytes = 0;
                self.open = Some(Txn {
                    tid: Tid(message.tid),
                    key: translate::logged_key(&message.commit_key)?,
                    digest: message.draft_digest,
                    own: message.own,
                    note: engine::note::encode(&message.note.unwrap_or_default().into()),
                    writes: Vec::new().into(),
                });
            }
        }
        for write in message.writes {
            self.add_write(write, limits)?;
        }
        if message.more {
            return Ok(None);
        }
        if self.record.is_some() {
            return Err(Fault::invalid("the last record of a transaction is not whole; send all of its pieces"));
        }
        Ok(self.open.take())
    }

    fn add_write(&mut self, write: v2::LoggedWrite, limits: &Limits) -> Result<(), Fault> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let cell = Cell::from(write.cell.ok_or_else(|| Fault::invalid("a write names no cell; give its oid and key"))?);
        if write.deleted && (write.record.is_some() || write.record_more) {
            return Err(Fault::invalid(format!("cell {cell} is deleted and has a record; say one of them")));
        }
        let piece = write.record.unwrap_or_default();
        self.bytes += piece.len() + cell.key.len();
        if self.bytes > limits.draft_bytes_max {
            return Err(Fault::too_large("size of a transaction in bytes", self.bytes, limits.draft_bytes_max));
        }
        let joined = self.record.as_ref().map_or(0, BytesMut::len) + piece.len();
        if joined > limits.record_bytes_max {
            return Err(Fault::too_large("size of a record in bytes", joined, limits.record_bytes_max));
        }
        let begun = self.record.is_some();
        if begun || write.record_more {
            self.record.get_or_insert_default().extend_from_slice(&piece);
        }
        if begun {
            if open.writes.last().map(|last| &last.cell) != Some(&cell) {
                return Err(Fault::invalid(format!(
                    "a piece of a record names cell {cell}; it must be the cell before"
                )));
            }
        } else {
            if open.writes.len() >= limits.draft_writes_max {
                let count = open.writes.len() + 1;
                return Err(Fault::too_large("number of writes of a transaction", count, limits.draft_writes_max));
            }
            let record = (!write.deleted).then_some(piece);
            open.writes.to_mut().push(TxnWrite { cell, record, merged: write.merged });
        }
        if begun && !write.record_more {
            let whole = self.record.take().unwrap_or_default().freeze();
            if let Some(last) = open.writes.to_mut().last_mut() {
                last.record = Some(whole);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::{CommitKey, Oid};

    fn txn(tid: u64, sizes: &[Option<usize>]) -> Txn {
        let write = |(at, size): (usize, &Option<usize>)| TxnWrite {
            cell: Cell::entry(Oid(7), format!("k{at}")),
            record: size.map(|size| (0..size).map(|byte| byte as u8).collect::<Vec<_>>().into()),
            merged: at % 2 == 0,
        };
        let note = engine::note::encode(&zeolite_proto::Note { user: "u".into(), ..Default::default() });
        Txn {
            tid: Tid(tid),
            key: CommitKey([3; 16]),
            digest: 0,
            own: false,
            note,
            writes: sizes.iter().enumerate().map(write).collect(),
        }
    }

    #[test]
    fn what_is_cut_is_joined_again_and_every_page_is_small() {
        let txns = vec![
            txn(1, &[Some(10), None, Some(0)]),
            txn(2, &[Some(100_000), Some(3), None, Some(50_000)]),
            txn(3, &[]),
            txn(4, &vec![Some(100); 500]),
        ];
        let page_bytes = 16 << 10;
        let pages = cut(&txns, true, Tid(9), page_bytes);
        let mut joiner = Joiner::default();
        let mut joined = Vec::new();
        for page in pages {
            let bytes = prost::Message::encoded_len(&page);
            assert!(bytes <= page_bytes + PIECE_BYTES_MIN, "{bytes}");
            for message in page.transactions {
                assert!(message.packed_to == 9 || message.commit_key.is_empty(), "its first message says it");
                joined.extend(joiner.add(message, &Limits::default()).expect("joins"));
            }
        }
        assert!(!joiner.is_open());
        assert_eq!(joined, txns);
    }

    #[test]
    fn joining_names_what_is_wrong() {
        let limits = Limits { record_bytes_max: 5, ..Limits::default() };
        let piece = |record: &'static [u8], record_more| v2::Transaction {
            tid: 1,
            commit_key: vec![0; 16].into(),
            writes: vec![v2::LoggedWrite {
                cell: Some(v2::Cell { oid: 1, key: Bytes::new() }),
                record: Some(Bytes::from_static(record)),
                record_more,
                ..Default::default()
            }],
            more: record_more,
            ..Default::default()
        };
        let mut joiner = Joiner::default();
        assert_eq!(joiner.add(piece(b"abc", true), &limits), Ok(None));
        let fault = joiner.add(piece(b"def", false), &limits).expect_err("6 bytes are over 5");
        assert_eq!(fault.kind, zeolite_proto::FaultKind::TooLarge);

        let mut joiner = Joiner::default();
        assert_eq!(joiner.add(piece(b"abc", true), &limits), Ok(None));
        let other = v2::Transaction { tid: 2, ..piece(b"d", false) };
        assert_eq!(joiner.add(other, &limits).map_err(|fault| fault.kind), Err(zeolite_proto::FaultKind::Invalid));
    }
}
