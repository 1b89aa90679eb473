//! Owns the drafts of one session that arrive in parts, because they are larger than one frame.
//!
//! Parts of one draft carry its commit key and arrive in order; those of several drafts may alternate. Bounded are: the
//! drafts open at once in a session, the bytes of one draft, and by the account of its connection what all of them hold.
//! A draft beyond a bound is answered with one fault at once; its further parts are swallowed up to the
//! last one, so that a tail is never taken for a new draft.

use super::budget::{Account, Charge};
use bytes::{Bytes, BytesMut};
use zeolite_proto::wire::{translate, v2};
use zeolite_proto::{CommitKey, Fault, FaultKind};

/// The open drafts of one session.
pub(super) struct Parts {
    open: Vec<Assembly>,
    open_max: usize,
    draft_bytes_max: usize,
    account: Account,
}

struct Assembly {
    key: CommitKey,
    data: BytesMut,
    charge: Charge,
    /// The draft was answered with a fault, under this request id.
    refused: Option<u64>,
}

/// What came of a part.
pub(super) enum Added {
    /// Nothing to say yet, or nothing any more.
    Waiting,
    /// It was the last: the encoded draft, and its room.
    Whole(Bytes, Charge),
}

impl Parts {
    pub(super) fn new(open_max: usize, draft_bytes_max: usize, account: Account) -> Parts {
        Parts { open: Vec::new(), open_max, draft_bytes_max, account }
    }

    /// Takes the next part of a draft.
    pub(super) fn add(&mut self, id: u64, part: v2::DraftPart) -> Result<Added, Fault> {
        let key = translate::commit_key(&part.commit_key)?;
        let at = match self.open.iter().position(|assembly| assembly.key == key) {
            Some(at) => at,
            None => self.begin(key)?,
        };
        let result = self.take(at, id, part.data);
        if part.last {
            let assembly = self.open.swap_remove(at);
            if assembly.refused.is_none() {
                return Ok(Added::Whole(assembly.data.freeze(), assembly.charge));
            }
        }
        result
    }

    fn begin(&mut self, key: CommitKey) -> Result<usize, Fault> {
        if self.open.len() >= self.open_max {
            return Err(Fault::new(
                FaultKind::TooLarge,
                format!("{} drafts in parts are open in this session, the limit; finish one first", self.open_max),
            ));
        }
        self.open.push(Assembly { key, data: BytesMut::new(), charge: self.account.take(0)?, refused: None });
        Ok(self.open.len() - 1)
    }

    fn take(&mut self, at: usize, id: u64, data: Bytes) -> Result<Added, Fault> {
        let assembly = &mut self.open[at];
        if let Some(answered) = assembly.refused {
            // The client may number its parts one by one; the one it awaits the answer for is the last.
            return match answered == id {
                true => Ok(Added::Waiting),
                false => Err(Fault::invalid("this draft was refused at an earlier part; see the fault there")),
            };
        }
        let size = assembly.data.len() + data.len();
        let taken = match size > self.draft_bytes_max {
            true => Err(Fault::too_large("size of an encoded draft in bytes", size, self.draft_bytes_max)),
            false => assembly.charge.add(data.len()),
        };
        match taken {
            Ok(()) => {
                assembly.data.extend_from_slice(&data);
                Ok(Added::Waiting)
            }
            Err(fault) => {
                assembly.data = BytesMut::new();
                assembly.charge = self.account.take(0)?;
                assembly.refused = Some(id);
                Err(fault)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;
    use crate::settings::SessionSettings;
    use std::sync::Arc;

    fn budget(bytes: usize) -> Arc<Budget> {
        Budget::new(&SessionSettings { requests_bytes_max: bytes, connection_bytes_max: bytes, ..Default::default() })
    }

    fn part(key: u8, data: &'static [u8], last: bool) -> v2::DraftPart {
        v2::DraftPart { commit_key: vec![key; 16].into(), data: Bytes::from_static(data), last, purpose: None }
    }

    #[test]
    fn alternating_parts_are_put_together() {
        let budget = budget(100);
        let mut parts = Parts::new(2, 50, budget.account());
        assert!(matches!(parts.add(1, part(1, b"ab", false)), Ok(Added::Waiting)));
        assert!(matches!(parts.add(2, part(2, b"xy", false)), Ok(Added::Waiting)));
        assert!(matches!(parts.add(1, part(1, b"c", true)), Ok(Added::Whole(data, _)) if data == "abc"));
        assert!(matches!(parts.add(2, part(2, b"", true)), Ok(Added::Whole(data, _)) if data == "xy"));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_draft_over_its_limit_is_refused_once_and_swallowed() {
        let budget = budget(100);
        let mut parts = Parts::new(2, 3, budget.account());
        assert!(parts.add(1, part(1, b"ab", false)).is_ok());
        assert_eq!(parts.add(1, part(1, b"cd", false)).err().map(|fault| fault.kind), Some(FaultKind::TooLarge));
        assert!(matches!(parts.add(1, part(1, b"ef", false)), Ok(Added::Waiting)));
        assert!(matches!(parts.add(1, part(1, b"g", true)), Ok(Added::Waiting)));
        assert_eq!(budget.used(), 0);
        assert!(
            matches!(parts.add(2, part(1, b"h", true)), Ok(Added::Whole(data, _)) if data == "h"),
            "key is free again"
        );
    }

    #[test]
    fn the_number_of_open_drafts_and_the_shared_bytes_are_bounded() {
        let budget = budget(3);
        let mut parts = Parts::new(1, 50, budget.account());
        assert!(parts.add(1, part(1, b"ab", false)).is_ok());
        assert_eq!(parts.add(2, part(2, b"x", false)).err().map(|fault| fault.kind), Some(FaultKind::TooLarge));
        assert_eq!(parts.add(1, part(1, b"cd", false)).err().map(|fault| fault.kind), Some(FaultKind::Busy));
        drop(parts);
        assert_eq!(budget.used(), 0, "a session that goes gives its bytes back");
    }
}
