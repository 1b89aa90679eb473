//! Owns the cutting of the feed into pieces: a commit may have written a million cells, a message has room for fewer.
//!
//! A piece is an encoded `FeedBatch`. It ends between two commits where it can; within one that is larger than a piece it
//! says `more`, and the next piece begins with the same tid. A session sends all pieces of a batch one behind the other, so that nothing
//! of the feed stands between them.

use crate::engine::FeedItem;
use bytes::Bytes;
use prost::Message;
use zeolite_proto::wire::v2;
use zeolite_proto::{Cell, Tid};

/// A piece ends behind the cell that reaches this: far below what gRPC libraries take by default, 4 MiB.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// What an item and a cell take beside the key, at most.
pub(super) const HEAD_BYTES: usize = 24;

/// An encoded `FeedBatch`.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Its last commit goes on in the next piece.
    pub(super) more: bool,
    /// The last commit that ends in it; none: it is the middle of one.
    pub(super) whole: Tid,
}

/// The feed of these commits of a life of the store, in pieces; at least one.
pub(super) fn of(items: &[FeedItem], timeline: u64) -> Vec<Piece> {
    cut(items, timeline, PIECE_BYTES)
}

fn cut(items: &[FeedItem], timeline: u64, piece_bytes: usize) -> Vec<Piece> {
    let mut cutter = Cutter { pieces: Vec::new(), open: Vec::new(), bytes: 0, timeline, piece_bytes };
    for item in items {
        if cutter.is_full() {
            cutter.end(false);
        }
        cutter.begin(item.tid);
        for cell in item.cells.iter() {
            if cutter.is_full() {
                cutter.end(true);
                cutter.begin(item.tid);
            }
            cutter.add(cell);
        }
    }
    cutter.end(false);
    cutter.pieces
}

struct Cutter {
    pieces: Vec<Piece>,
    open: Vec<v2::FeedItem>,
    bytes: usize,
    timeline: u64,
    piece_bytes: usize,
}

impl Cutter {
    fn is_full(&self) -> bool {
        self.bytes >= self.piece_bytes
    }

    fn begin(&mut self, tid: Tid) {
        self.bytes += HEAD_BYTES;
        self.open.push(v2::FeedItem { tid: tid.0, cells: Vec::new() });
    }

    fn add(&mut self, cell: &Cell) {
        self.bytes += HEAD_BYTES + cell.key.len();
        if let Some(item) = self.open.last_mut() {
            item.cells.push(cell.into());
        }
    }

    fn end(&mut self, more: bool) {
        let whole = self.open.iter().rev().nth(usize::from(more)).map_or(Tid::NONE, |item| Tid(item.tid));
        let batch = v2::FeedBatch { items: std::mem::take(&mut self.open), more, timeline: self.timeline, up_to: 0 };
        self.pieces.push(Piece { bytes: batch.encode_to_vec().into(), more, whole });
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::Oid;

    #[test]
    fn pieces_are_small_and_tell_everything_once() {
        let item = |tid, cells: u64| FeedItem {
            tid: Tid(tid),
            cells: (0..cells).map(|cell| Cell::entry(Oid(tid), format!("{cell:0100}"))).collect(),
        };
        let items = [item(1, 3), item(2, 0), item(3, 100), item(4, 1), item(5, 8), item(6, 1)];
        let pieces = cut(&items, 7, 1000);
        assert!(pieces.len() > 10);
        let mut joined: Vec<(u64, Vec<Cell>)> = Vec::new();
        let mut goes_on = false;
        for piece in pieces {
            assert!(piece.bytes.len() < 1000 + 150, "{}", piece.bytes.len());
            let batch = v2::FeedBatch::decode(piece.bytes).expect("decodes");
            let whole = batch.items.len() - usize::from(batch.more);
            assert_eq!(piece.more, batch.more);
            assert_eq!(piece.whole.0, batch.items[..whole].last().map_or(0, |item| item.tid));
            for item in batch.items {
                let cells = item.cells.into_iter().map(Cell::from);
                match joined.last_mut() {
                    Some((tid, open)) if std::mem::take(&mut goes_on) => {
                        assert_eq!(*tid, item.tid);
                        open.extend(cells);
                    }
                    _ => joined.push((item.tid, cells.collect())),
                }
            }
            goes_on = batch.more;
            assert_eq!(batch.timeline, 7);
        }
        let told = joined.into_iter().map(|(tid, cells)| FeedItem { tid: Tid(tid), cells: cells.into() });
        assert!(!goes_on && told.eq(items.iter().cloned()));
        assert_eq!(cut(&items[..2], 7, 1000).len(), 1, "what fits is one piece");
    }
}
