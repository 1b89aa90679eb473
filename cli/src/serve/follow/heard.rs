//! Owns what a follower has heard its primary say to have, for the day on which that is lost: a copy that knows that it lacks something is
//! not promoted without a word.
//!
//! ```text
//!   primary: newest ──> heard        promote: newest heard > have on the disk? ──> so much is lacking
//!                         └── kept in `seat`: at the beginning of a copy, once in a while as long as it is not whole, when it is, when
//!                             the primary is lost
//! ```
//! With `replication.sync` what was told is on the disk of a follower, and the others are asked who has more: what one that was whole lacks
//! since is what nobody was told. What came between the last word that was kept and the end of the process is not known after a restart.

use std::time::{Duration, Instant};
use zeolite_client::{Behind, Tid};
use zeolite_server::server::Heard as Said;

/// So often it is kept while the copy is not whole.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// More than this is not what a moment brings.
const TRANSACTIONS_SOON: u64 = 10_000;
const BYTES_SOON: u64 = 64 << 20;

/// What the primary of the last connection has said.
#[derive(Clone, Copy)]
pub(super) struct Heard {
    said: Said,
    kept: Said,
    kept_at: Option<Instant>,
}

impl Heard {
    /// As it was kept.
    pub(super) fn of(kept: Said) -> Heard {
        Heard { said: kept, kept, kept_at: None }
    }

    /// What is to be kept now; `lost`: the primary says nothing more.
    pub(super) fn take_due(&mut self, has: Tid, lost: bool, now: Instant) -> Option<Said> {
        let is_due = self.kept_at.is_none_or(|at| now.saturating_duration_since(at) >= KEEP_EVERY);
        let lacks = self.said.newest > has;
        let keeps = self.said.was_whole != self.kept.was_whole || lacks && (lost || is_due && !self.said.was_whole);
        (keeps && self.said != self.kept).then(|| {
            (self.kept, self.kept_at) = (self.said, Some(now));
            self.said
        })
    }

    pub(super) fn hears(&mut self, has: Tid, newest: Tid, behind: Option<Behind>) {
        let said = &mut self.said;
        said.newest = newest;
        said.behind = behind.unwrap_or(said.behind);
        if has >= newest {
            said.behind = Behind::default();
            // One that has said nothing yet has not said that this is all.
            said.was_whole |= newest != Tid::NONE;
        }
    }

    /// What is lacking of a copy that has this, in words; none: nothing that is known and was told.
    pub(super) fn lacking(&self, have: Tid, sync: u64) -> Option<String> {
        if have == Tid::NONE {
            return Some("this copy has nothing yet".to_owned());
        }
        let Said { newest, was_whole, behind } = self.said;
        let is_told_elsewhere = sync > 0 && was_whole;
        (newest > have && !is_told_elsewhere).then(|| {
            let Behind { transactions, more, bytes } = behind;
            let least = if more { "at least " } else { "" };
            let begun = if was_whole { "" } else { ", and has never been whole" };
            format!(
                "the primary had everything up to {} when it was last heard, and this copy has up to {have}: it lacks {least}{} \
                 transactions ({bytes} bytes){begun}",
                newest,
                transactions.max(1)
            )
        })
    }

    /// Whether what is lacking comes in a moment.
    pub(super) fn is_nearly_whole(&self) -> bool {
        let Behind { transactions, more, bytes } = self.said.behind;
        !more && transactions <= TRANSACTIONS_SOON && bytes <= BYTES_SOON
    }

    /// How far behind it is.
    pub(super) fn behind(&self) -> Behind {
        self.said.behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Behind = Behind { transactions: 30, more: true, bytes: 1 << 30 };

    #[test]
    fn a_copy_knows_what_it_lacks() {
        let mut heard = Heard::of(Said::default());
        assert!(heard.lacking(Tid::NONE, 1).is_some_and(|why| why.contains("nothing")));
        heard.hears(Tid(5), Tid(9), Some(FAR));
        for sync in [0, 1] {
            let why = heard.lacking(Tid(5), sync).expect("it never was whole");
            assert!(why.contains("at least 30 transactions") && why.contains("never been whole"), "{why}");
        }
        assert!(!heard.is_nearly_whole());
        heard.hears(Tid(9), Tid(9), None);
        assert!(heard.is_nearly_whole() && heard.lacking(Tid(9), 0).is_none());
        heard.hears(Tid(9), Tid(11), None);
        assert!(heard.lacking(Tid(9), 0).is_some_and(|why| why.contains("lacks 1 transactions")));
        assert_eq!(heard.lacking(Tid(9), 1), None, "nobody was told of it");
        assert_eq!(heard.lacking(Tid(11), 0), None);
    }

    #[test]
    fn what_it_lacks_is_kept_seldom_and_what_it_had_at_once() {
        let mut heard = Heard::of(Said::default());
        let begun = Instant::now();
        assert_eq!(heard.take_due(Tid(5), true, begun), None, "nothing was heard");
        heard.hears(Tid(5), Tid(9), Some(FAR));
        let said = heard.take_due(Tid(5), false, begun).expect("at once");
        assert_eq!((said.newest, said.was_whole, said.behind), (Tid(9), false, FAR));
        heard.hears(Tid(6), Tid(12), Some(FAR));
        assert_eq!(heard.take_due(Tid(6), false, begun), None);
        assert!(heard.take_due(Tid(6), false, begun + KEEP_EVERY).is_some_and(|said| said.newest == Tid(12)));
        heard.hears(Tid(12), Tid(12), None);
        assert!(heard.take_due(Tid(12), false, begun + KEEP_EVERY).is_some_and(|said| said.was_whole));
        heard.hears(Tid(12), Tid(14), None);
        assert_eq!(heard.take_due(Tid(12), false, begun + KEEP_EVERY * 3), None, "a moment behind is nothing to keep");
        let lost = heard.take_due(Tid(12), true, begun).expect("the primary is lost");
        let again = Heard::of(lost);
        assert!(again.lacking(Tid(12), 0).is_some_and(|why| why.contains("everything up to")));
        assert_eq!(again.lacking(Tid(14), 0), None);
    }
}
