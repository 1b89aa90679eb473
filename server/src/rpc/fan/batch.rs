//! Owns one batch of the feed as it is kept, and what of it each session takes.
//!
//! ```text
//!   told everything                    all of it, in pieces that are encoded once
//!   may hold a cell of a small one     the same
//!   may hold a cell of a large one     those cells, picked out when the session takes them
//!   may hold none of it                nothing: its frame says how far the order has come
//! ```
//!
//! What is not somebody's is not kept. A part of a large batch is cut in the same places for all sessions, so that a cursor means the same
//! to each; whoever holds nothing of a commit that goes on in the next part is told its tid in both, without cells.

use crate::engine::FeedBatch;
use crate::rpc::interest::{Concern, HeldCell, Place};
use crate::rpc::pieces::{self, HEAD_BYTES, PIECE_BYTES, Piece};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use zeolite_proto::Tid;
use zeolite_proto::wire::v2;

/// What a batch of which nothing is kept takes.
const BATCH_BYTES: usize = 64;

/// One batch.
pub(super) struct Batch {
    pub(super) timeline: u64,
    pub(super) last: Tid,
    pub(super) bytes: usize,
    /// Bytes of all that came before it.
    pub(super) pushed_before: u64,
    who: Box<[u64]>,
    everything: Box<[u64]>,
    whole: Vec<Piece>,
    parts: Vec<Arc<Part>>,
}

/// What a session takes of a batch, or of all that is left of it.
pub(super) enum Share<'b> {
    Nothing,
    Pieces(&'b [Piece]),
    Parts(&'b [Arc<Part>]),
}

/// Cells of a large batch that somebody holds.
pub(super) struct Part {
    cells: Vec<HeldCell>,
    timeline: u64,
    pub(super) bytes: usize,
    /// Its first commit has begun in the part before.
    goes_on: bool,
    /// Its last commit goes on in the next part.
    pub(super) more: bool,
    /// Everything up to here is told with it; none: it says `more`, and ends nothing.
    pub(super) whole: Tid,
}

impl Batch {
    /// What is kept for these sessions; `all`: also for some that are told everything and have no column.
    pub(super) fn of(batch: &FeedBatch, concern: Concern, all: bool) -> Batch {
        let last = batch.items.last().map_or(Tid::NONE, |item| item.tid);
        let Concern { who, everything, held } = concern;
        let by_cells = who.iter().zip(&everything).any(|(who, everything)| who & !everything != 0);
        let all = all || everything.iter().any(|mask| *mask != 0) || (by_cells && held.is_none());
        let whole = if all { pieces::of(&batch.items, batch.timeline) } else { Vec::new() };
        let parts = match held {
            Some(held) if by_cells => cut(held, last, batch.timeline, PIECE_BYTES),
            _ => Vec::new(),
        };
        let kept = whole.iter().map(|piece| piece.bytes.len()).sum::<usize>();
        let bytes = BATCH_BYTES + kept + parts.iter().map(|part| part.bytes).sum::<usize>();
        Batch { timeline: batch.timeline, last, bytes, pushed_before: 0, who, everything, whole, parts }
    }

    /// What the session of a column takes of it; without one, everything.
    pub(super) fn share(&self, place: Option<Place>) -> Share<'_> {
        let Some(Place { table, bit }) = place else { return Share::Pieces(&self.whole) };
        let is_in = |masks: &[u64]| masks.get(table).is_some_and(|mask| mask & bit != 0);
        if !is_in(&self.who) {
            Share::Nothing
        } else if self.parts.is_empty() || is_in(&self.everything) {
            Share::Pieces(&self.whole)
        } else {
            Share::Parts(&self.parts)
        }
    }

    /// Whether the session of a column is told nothing of it.
    pub(super) fn is_nothing_for(&self, place: Option<Place>) -> bool {
        matches!(self.share(place), Share::Nothing)
    }

    /// What a session has taken of it that is at this piece.
    pub(super) fn bytes_before(&self, place: Option<Place>, piece: usize) -> usize {
        match self.share(place) {
            Share::Nothing => 0,
            Share::Pieces(pieces) => pieces.iter().take(piece).map(|piece| piece.bytes.len()).sum(),
            Share::Parts(parts) => parts.iter().take(piece).map(|part| part.bytes).sum(),
        }
    }
}

impl Part {
    /// What a session is told of it.
    pub(super) fn encode(&self, place: Place) -> Bytes {
        let item = |tid: Tid| v2::FeedItem { tid: tid.0, cells: Vec::new() };
        let mut items: Vec<v2::FeedItem> = Vec::new();
        items.extend(self.cells.first().filter(|_| self.goes_on).map(|first| item(first.tid)));
        for held in self.cells.iter().filter(|held| held.who[place.table] & place.bit != 0) {
            if items.last().is_none_or(|last| last.tid != held.tid.0) {
                items.push(item(held.tid));
            }
            if let Some(last) = items.last_mut() {
                last.cells.push((&held.cell).into());
            }
        }
        if let Some(last) = self.cells.last().filter(|_| self.more)
            && items.last().is_none_or(|told| told.tid != last.tid.0)
        {
            items.push(item(last.tid));
        }
        let up_to = if self.more { 0 } else { self.whole.0 };
        v2::FeedBatch { items, more: self.more, timeline: self.timeline, up_to }.encode_to_vec().into()
    }
}

/// The parts of a batch up to this tid.
fn cut(held: Vec<HeldCell>, up_to: Tid, timeline: u64, part_bytes: usize) -> Vec<Arc<Part>> {
    let new = |goes_on| Part { cells: Vec::new(), timeline, bytes: 0, goes_on, more: false, whole: Tid::NONE };
    let (mut parts, mut open) = (Vec::new(), new(false));
    for cell in held {
        if open.bytes >= part_bytes {
            open.more = open.cells.last().is_some_and(|last| last.tid == cell.tid);
            open.whole = ended(&open);
            let goes_on = open.more;
            parts.push(Arc::new(std::mem::replace(&mut open, new(goes_on))));
        }
        open.bytes += HEAD_BYTES + cell.cell.key.len() + cell.who.len() * 8;
        open.cells.push(cell);
    }
    open.whole = up_to;
    parts.push(Arc::new(open));
    parts
}

/// The last commit that ends in a part.
fn ended(part: &Part) -> Tid {
    let last = part.cells.last().map_or(Tid::NONE, |last| last.tid);
    if !part.more {
        return last;
    }
    part.cells.iter().rev().map(|held| held.tid).find(|tid| *tid != last).unwrap_or(Tid::NONE)
}

#[cfg(test)]
mod tests;
