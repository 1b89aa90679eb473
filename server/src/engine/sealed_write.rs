//! Owns a sealed write: what a draft comes to for one cell, once the sequencer or a resolver has decided it.

use bytes::Bytes;
use zeolite_proto::Cell;

/// A write whose result is known; its key may still want its stamp.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SealedWrite {
    pub(crate) cell: Cell,
    pub(crate) stamped: bool,
    pub(crate) record: Option<Bytes>,
    pub(crate) merged: bool,
}
