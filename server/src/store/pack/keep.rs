//! Owns the rule of what pack keeps of one cell: pure, over its revisions from the newest to the oldest.
//!
//! ```text
//!   newest ... young | young | F  seen | past | past ... oldest       seen: what a snapshot at F sees
//!   newest ... young | young | F  past (a deletion) | past ...        a snapshot at F sees nothing: so nothing is kept
//! ```
//! Young and seen revisions stay, past ones go. A deletion that F sees goes together with everything older: who reads at F
//! or later finds nothing either way.

use zeolite_proto::Tid;

/// What a revision is to a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Newer than what is packed to.
    Young,
    /// What a snapshot there sees.
    Seen,
    /// Nobody sees it any more.
    Past,
}

/// Judges revisions in the order of the index: cell after cell, in each the newest first.
pub(crate) struct Rule {
    to: Tid,
    cell: Vec<u8>,
    decided: bool,
}

impl Rule {
    /// A rule for packing to a tid, before the first cell.
    pub(crate) fn new(to: Tid) -> Rule {
        Rule { to, cell: Vec::new(), decided: false }
    }

    /// Judges the next revision by its key in the index and whether it is a deletion; `None`: that is no key.
    pub(crate) fn judge(&mut self, key: &[u8], deleted: bool) -> Option<(Tid, Verdict)> {
        let (cell, tid) = key.split_last_chunk::<8>()?;
        let tid = Tid(!u64::from_be_bytes(*tid));
        if self.cell != cell {
            self.cell.clear();
            self.cell.extend_from_slice(cell);
            self.decided = false;
        }
        if tid > self.to {
            return Some((tid, Verdict::Young));
        }
        let first = !std::mem::replace(&mut self.decided, true);
        Some((tid, if first && !deleted { Verdict::Seen } else { Verdict::Past }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::index::keys;
    use zeolite_proto::{Cell, Oid};

    fn verdicts(to: u64, revisions: &[(u64, bool)]) -> Vec<Verdict> {
        let mut rule = Rule::new(Tid(to));
        // Another cell before must not matter.
        rule.judge(&keys::revision(&Cell::entry(Oid(1), "a"), Tid(1)), false);
        let cell = Cell::object(Oid(2));
        let judge = |(tid, deleted): &(u64, bool)| rule.judge(&keys::revision(&cell, Tid(*tid)), *deleted);
        revisions.iter().map(judge).map(|judged| judged.expect("a key").1).collect()
    }

    #[test]
    fn what_the_snapshot_sees_and_everything_newer_stays() {
        use Verdict::{Past, Seen, Young};
        assert_eq!(
            verdicts(5, &[(9, false), (6, true), (5, false), (4, false), (1, true)]),
            [Young, Young, Seen, Past, Past]
        );
        assert_eq!(verdicts(5, &[(9, false), (4, true), (3, false)]), [Young, Past, Past]);
        assert_eq!(verdicts(5, &[(3, false)]), [Seen]);
        assert_eq!(verdicts(0, &[(3, false), (1, false)]), [Young, Young]);
    }
}
