//! Owns the judgement of counters: a value is the sum of what was acknowledged, and at most of what was left unknown.
//!
//! A client that never learnt an outcome may have added or not: each subset of the unknown adds is allowed, and nothing else.
//! When there are too many subsets to list, the value must still lie between the least and the greatest of them.

use super::{Anomaly, History, Outcome, Summary, Violation, Violations};
use std::collections::{BTreeMap, HashSet};

const SUBSET_SUMS_MAX: usize = 100_000;

/// What a counter may show.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allowed {
    /// The sum of the acknowledged adds.
    pub acknowledged: i128,
    /// The adds whose outcome is unknown.
    pub unknown: Vec<i64>,
}

impl Allowed {
    /// Whether the counter may show this value.
    pub fn allows(&self, value: i64) -> bool {
        let rest = i128::from(value) - self.acknowledged;
        let mut sums = HashSet::from([0i128]);
        for add in &self.unknown {
            let with: Vec<i128> = sums.iter().map(|sum| sum + i128::from(*add)).collect();
            sums.extend(with);
            if sums.len() > SUBSET_SUMS_MAX {
                let least: i128 = self.unknown.iter().map(|add| i128::from((*add).min(0))).sum();
                let most: i128 = self.unknown.iter().map(|add| i128::from((*add).max(0))).sum();
                return (least..=most).contains(&rest);
            }
        }
        sums.contains(&rest)
    }
}

/// What each counter may show when everything is over.
pub fn totals(history: &History) -> BTreeMap<u64, Allowed> {
    let mut totals: BTreeMap<u64, Allowed> = BTreeMap::new();
    for txn in &history.txns {
        for (counter, difference) in txn.adds() {
            let total = totals.entry(counter).or_default();
            match txn.outcome {
                Outcome::Committed(_) => total.acknowledged += i128::from(difference),
                Outcome::Unknown => total.unknown.push(difference),
                Outcome::Aborted | Outcome::ReadOnly => {}
            }
        }
    }
    totals
}

/// Checks the values that counters show at the end. A counter that is not given is not checked.
pub fn check(history: &History, last: &BTreeMap<u64, i64>) -> Result<Summary, Violations> {
    let totals = totals(history);
    let mut found = Vec::new();
    for (counter, value) in last {
        let allowed = totals.get(counter).cloned().unwrap_or_default();
        if !allowed.allows(*value) {
            let text = format!(
                "counter {counter} shows {value}; acknowledged adds sum to {}, {} more adds are unknown: {:?}",
                allowed.acknowledged,
                allowed.unknown.len(),
                &allowed.unknown[..allowed.unknown.len().min(10)]
            );
            found.push(Violation::new(Anomaly::WrongSum, text));
        }
    }
    let summary = Summary { reads: last.len(), ..count(history) };
    super::verdict(summary, found)
}

/// Counts outcomes.
pub(super) fn count(history: &History) -> Summary {
    let mut summary = Summary::default();
    for txn in &history.txns {
        match txn.outcome {
            Outcome::Committed(_) => summary.committed += 1,
            Outcome::Aborted => summary.aborted += 1,
            Outcome::Unknown => summary.unknown += 1,
            Outcome::ReadOnly => {}
        }
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_subset_of_the_unknown_adds_is_allowed_and_nothing_else() {
        let allowed = Allowed { acknowledged: 10, unknown: vec![3, -5] };
        let all: Vec<i64> = (0..=20).filter(|value| allowed.allows(*value)).collect();
        assert_eq!(all, [5, 8, 10, 13]);
    }

    #[test]
    fn too_many_subsets_leave_the_range() {
        let allowed = Allowed { acknowledged: 0, unknown: (0..40).map(|bit| 1 << bit).collect() };
        assert!(allowed.allows((1 << 40) - 1));
        assert!(!allowed.allows(1 << 40) && !allowed.allows(-1));
    }
}
