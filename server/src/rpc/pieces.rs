//! Owns the cutting of the feed into pieces: a commit may have written a million cells, a message has room for fewer.
//!
//! A piece is an encoded `FeedBatch`. It ends between two commits where it can; within one that is larger than a piece it
//! says `more`, and the next piece begins with the same tid. All pieces of a batch enter a session's queue at once, so that nothing
//! stands between them.

use crate::engine::FeedItem;
use bytes::Bytes;
use prost::Message;
use zeolite_proto::wire::v2;
use zeolite_proto::{Cell, Tid};

/// A piece ends behind the cell that reaches this: far below what gRPC libraries take by default, 4 MiB.
const PIECE_BYTES: usize = 1 << 20;

/// What an item and a cell take beside the key, at most.
const HEAD_BYTES: usize = 24;

/// The feed of these commits of a life of the store, in pieces.
pub(super) fn of(items: &[FeedItem], timeline: u64) -> Vec<Bytes> {
    cut(items, timeline, PIECE_BYTES)
}

fn cut(items: &[FeedItem], timeline: u64, piece_bytes: usize) -> Vec<Bytes> {
    let mut cutter = Cutter { pieces: Vec::new(), open: Vec::new(), bytes: 0, timeline, piece_bytes };
    for item in items {
        if cutter.is_full() {
            cutter.end(false);
        }
        cutter.begin(item.tid);
        for cell in &item.cells {
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
    pieces: Vec<Bytes>,
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
        let piece = v2::FeedBatch { items: std::mem::take(&mut self.open), more, timeline: self.timeline };
        self.pieces.push(piece.encode_to_vec().into());
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
        let mut joined: Vec<FeedItem> = Vec::new();
        let mut goes_on = false;
        for piece in pieces {
            assert!(piece.len() < 1000 + 150, "{}", piece.len());
            let batch = v2::FeedBatch::decode(piece).expect("decodes");
            for item in batch.items {
                let cells = item.cells.into_iter().map(Cell::from);
                match joined.last_mut() {
                    Some(open) if std::mem::take(&mut goes_on) => {
                        assert_eq!(open.tid.0, item.tid);
                        open.cells.extend(cells);
                    }
                    _ => joined.push(FeedItem { tid: Tid(item.tid), cells: cells.collect() }),
                }
            }
            goes_on = batch.more;
            assert_eq!(batch.timeline, 7);
        }
        assert!(!goes_on && joined == items);
        assert_eq!(cut(&items[..2], 7, 1000).len(), 1, "what fits is one piece");
    }
}
