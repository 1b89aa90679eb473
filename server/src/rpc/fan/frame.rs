//! Owns one frame of the feed: what a session takes at once, and its bytes, which are made when the lock of the fan is free again.

use super::Cursor;
use super::batch::Part;
use crate::rpc::interest::Place;
use crate::rpc::pieces::Piece;
use bytes::{Bytes, BytesMut};
use prost::Message;
use std::sync::Arc;
use zeolite_proto::Tid;
use zeolite_proto::wire::v2;

/// What a session sends next.
pub(in crate::rpc) struct Taking {
    pub(super) taken: Vec<Taken>,
    pub(in crate::rpc) next: Cursor,
    /// Nothing is behind it.
    pub(in crate::rpc) all: bool,
}

/// What goes into a frame.
pub(super) enum Taken {
    Piece(Piece),
    Part(Arc<Part>, Place),
    /// Nothing but how far the order has come in a life of the store.
    UpTo(Tid, u64),
}

impl Taking {
    /// The last commit of which everything is sent with it.
    pub(in crate::rpc) fn whole(&self) -> Tid {
        self.taken.iter().map(Taken::whole).max().unwrap_or(Tid::NONE)
    }

    pub(in crate::rpc) fn bytes(&self) -> Bytes {
        // The messages of a list, one behind the other, are the message of the whole list.
        match &self.taken[..] {
            [one] => one.bytes(),
            many => {
                let mut joined = BytesMut::new();
                many.iter().for_each(|one| joined.extend_from_slice(&one.bytes()));
                joined.freeze()
            }
        }
    }
}

impl Taken {
    /// The last commit that ends in it.
    fn whole(&self) -> Tid {
        match self {
            Taken::Piece(piece) => piece.whole,
            Taken::Part(part, _) => part.whole,
            Taken::UpTo(tid, _) => *tid,
        }
    }

    /// Whether its last commit goes on in the next one, and its bytes, at most.
    pub(super) fn more_and_bytes(&self) -> (bool, usize) {
        match self {
            Taken::Piece(piece) => (piece.more, piece.bytes.len()),
            Taken::Part(part, _) => (part.more, part.bytes),
            Taken::UpTo(..) => (false, 0),
        }
    }

    fn bytes(&self) -> Bytes {
        match self {
            Taken::Piece(piece) => piece.bytes.clone(),
            Taken::Part(part, place) => part.encode(*place),
            Taken::UpTo(tid, timeline) => {
                let batch = v2::FeedBatch { timeline: *timeline, up_to: tid.0, ..v2::FeedBatch::default() };
                batch.encode_to_vec().into()
            }
        }
    }
}
