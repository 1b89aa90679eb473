//! Owns the drafts of one session that arrive in parts, because they are larger than one frame.
//!
//! Parts of one draft carry its commit key and arrive in order; those of several drafts may alternate. Bounded are: the
//! drafts open at once in a session, the bytes of one draft, and, through a budget that all sessions share, the bytes
//! of all of them. A draft beyond a bound is answered with one fault at once; its further parts are swallowed up to the
//! last one, so that a tail is never taken for a new draft.

use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeolite_proto::wire::{translate, v2};
use zeolite_proto::{CommitKey, Fault, FaultKind};

/// When to come back after the shared budget was found empty.
const RETRY_AFTER_MS: u64 = 200;

/// The bytes that parts of all sessions may hold together.
pub(super) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget { left: AtomicUsize::new(bytes) })
    }

    fn take(&self, bytes: usize) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The open drafts of one session.
pub(super) struct Parts {
    open: Vec<Assembly>,
    open_max: usize,
    draft_bytes_max: usize,
    budget: Arc<Budget>,
}

struct Assembly {
    key: CommitKey,
    data: BytesMut,
    /// The draft was answered with a fault, under this request id.
    refused: Option<u64>,
    budget: Arc<Budget>,
}

impl Drop for Assembly {
    fn drop(&mut self) {
        self.budget.give_back(self.data.len());
    }
}

/// What came of a part.
#[derive(Debug)]
pub(super) enum Added {
    /// Nothing to say yet, or nothing any more.
    Waiting,
    /// It was the last: the encoded draft.
    Whole(Bytes),
}

impl Parts {
    pub(super) fn new(open_max: usize, draft_bytes_max: usize, budget: Arc<Budget>) -> Parts {
        Parts { open: Vec::new(), open_max, draft_bytes_max, budget }
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
            let mut assembly = self.open.swap_remove(at);
            if assembly.refused.is_none() {
                let data = std::mem::take(&mut assembly.data);
                self.budget.give_back(data.len());
                return Ok(Added::Whole(data.freeze()));
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
        self.open.push(Assembly { key, data: BytesMut::new(), refused: None, budget: self.budget.clone() });
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
        let fault = if size > self.draft_bytes_max {
            Fault::too_large("size of an encoded draft in bytes", size, self.draft_bytes_max)
        } else if !self.budget.take(data.len()) {
            Fault::new(
                FaultKind::Busy,
                "the memory for drafts in parts is used up by all sessions; send it again later",
            )
            .after_ms(RETRY_AFTER_MS)
        } else {
            assembly.data.extend_from_slice(&data);
            return Ok(Added::Waiting);
        };
        self.budget.give_back(assembly.data.len());
        assembly.data = BytesMut::new();
        assembly.refused = Some(id);
        Err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(key: u8, data: &'static [u8], last: bool) -> v2::DraftPart {
        v2::DraftPart { commit_key: vec![key; 16].into(), data: Bytes::from_static(data), last, purpose: None }
    }

    #[test]
    fn alternating_parts_are_put_together() {
        let budget = Budget::new(100);
        let mut parts = Parts::new(2, 50, budget.clone());
        assert!(matches!(parts.add(1, part(1, b"ab", false)), Ok(Added::Waiting)));
        assert!(matches!(parts.add(2, part(2, b"xy", false)), Ok(Added::Waiting)));
        assert!(matches!(parts.add(1, part(1, b"c", true)), Ok(Added::Whole(data)) if data == "abc"));
        assert!(matches!(parts.add(2, part(2, b"", true)), Ok(Added::Whole(data)) if data == "xy"));
        assert_eq!(budget.left.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn a_draft_over_its_limit_is_refused_once_and_swallowed() {
        let budget = Budget::new(100);
        let mut parts = Parts::new(2, 3, budget.clone());
        assert!(parts.add(1, part(1, b"ab", false)).is_ok());
        assert_eq!(parts.add(1, part(1, b"cd", false)).map_err(|fault| fault.kind).err(), Some(FaultKind::TooLarge));
        assert!(matches!(parts.add(1, part(1, b"ef", false)), Ok(Added::Waiting)));
        assert!(matches!(parts.add(1, part(1, b"g", true)), Ok(Added::Waiting)));
        assert_eq!(budget.left.load(Ordering::Relaxed), 100);
        assert!(
            matches!(parts.add(2, part(1, b"h", true)), Ok(Added::Whole(data)) if data == "h"),
            "key is free again"
        );
    }

    #[test]
    fn the_number_of_open_drafts_and_the_shared_bytes_are_bounded() {
        let budget = Budget::new(3);
        let mut parts = Parts::new(1, 50, budget.clone());
        assert!(parts.add(1, part(1, b"ab", false)).is_ok());
        assert_eq!(parts.add(2, part(2, b"x", false)).map_err(|fault| fault.kind).err(), Some(FaultKind::TooLarge));
        assert_eq!(parts.add(1, part(1, b"cd", false)).map_err(|fault| fault.kind).err(), Some(FaultKind::Busy));
        drop(parts);
        assert_eq!(budget.left.load(Ordering::Relaxed), 3, "a session that goes gives its bytes back");
    }
}
