//! Owns what a follower has heard its primary say to have, for the day on which that is lost: a copy that knows that it lacks something is
//! not promoted without a word.
//!
//! ```text
//!   primary: newest ──> heard        promote: newest heard > have on the disk? ──> so much is lacking
//! ```
//! With `replication.sync` what was told is on the disk of a follower, and the others are asked who has more: what one that was whole lacks
//! since is what nobody was told. It is forgotten with the process: what was not heard since is not known.

use zeolite_client::{Behind, Tid};

/// More than this is not what a moment brings.
const TRANSACTIONS_SOON: u64 = 10_000;
const BYTES_SOON: u64 = 64 << 20;

/// What the primary of the last connection has said.
#[derive(Clone, Copy, Default)]
pub(super) struct Heard {
    newest: Tid,
    behind: Behind,
    /// It had everything once.
    was_whole: bool,
}

impl Heard {
    pub(super) fn hears(&mut self, has: Tid, newest: Tid, behind: Option<Behind>) {
        self.newest = newest;
        self.behind = behind.unwrap_or(self.behind);
        if has >= newest {
            self.behind = Behind::default();
            // One that has said nothing yet has not said that this is all.
            self.was_whole |= newest != Tid::NONE;
        }
    }

    /// What is lacking of a copy that has this, in words; none: nothing that is known and was told.
    pub(super) fn lacking(&self, have: Tid, sync: u64) -> Option<String> {
        if have == Tid::NONE {
            return Some("this copy has nothing yet".to_owned());
        }
        let is_told_elsewhere = sync > 0 && self.was_whole;
        (self.newest > have && !is_told_elsewhere).then(|| {
            let Behind { transactions, more, bytes } = self.behind;
            let least = if more { "at least " } else { "" };
            let begun = if self.was_whole { "" } else { ", and has not been whole since its start" };
            format!(
                "the primary had everything up to {} when it was last heard, and this copy has up to {have}: it lacks {least}{} \
                 transactions ({bytes} bytes){begun}",
                self.newest,
                transactions.max(1)
            )
        })
    }

    /// Whether what is lacking comes in a moment.
    pub(super) fn is_nearly_whole(&self) -> bool {
        let Behind { transactions, more, bytes } = self.behind;
        !more && transactions <= TRANSACTIONS_SOON && bytes <= BYTES_SOON
    }

    /// How far behind it is.
    pub(super) fn behind(&self) -> Behind {
        self.behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Behind = Behind { transactions: 30, more: true, bytes: 1 << 30 };

    #[test]
    fn a_copy_knows_what_it_lacks() {
        let mut heard = Heard::default();
        assert!(heard.lacking(Tid::NONE, 1).is_some_and(|why| why.contains("nothing")));
        heard.hears(Tid(5), Tid(9), Some(FAR));
        for sync in [0, 1] {
            let why = heard.lacking(Tid(5), sync).expect("it never was whole");
            assert!(why.contains("at least 30 transactions") && why.contains("not been whole"), "{why}");
        }
        assert!(!heard.is_nearly_whole());
        heard.hears(Tid(9), Tid(9), None);
        assert!(heard.is_nearly_whole() && heard.lacking(Tid(9), 0).is_none());
        heard.hears(Tid(9), Tid(11), None);
        assert!(heard.lacking(Tid(9), 0).is_some_and(|why| why.contains("lacks 1 transactions")));
        assert_eq!(heard.lacking(Tid(9), 1), None, "nobody was told of it");
        assert_eq!(heard.lacking(Tid(11), 0), None);
    }
}
