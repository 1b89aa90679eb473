//! Owns the numbers of kinds: a kind is a class at a schema version, and the index names it by a small number.
//!
//! Numbers are given in memory when a kind is first seen and reach the index with the first settle that uses them; one
//! that was never settled may name another kind after a restart, which nobody can notice.
//!
//! A kind is remembered for good: rows of entries and of older revisions name it when no object has it any more. So there is a bound on
//! them, which is kept where a write may still be refused (`number`); what is in the log gets its number in any case. An index that is made
//! anew has only those kinds that the log has.

use super::StoreError;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zeolite_proto::hash;

/// The number of a kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct KindId(pub(crate) u32);

impl KindId {
    /// What a deletion has for a kind.
    pub(crate) const NONE: KindId = KindId(u32::MAX);
}

/// A class at a schema version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    pub(crate) class: Arc<str>,
    pub(crate) version: u32,
}

/// The kinds seen so far, shared by appender, settler and readers.
#[derive(Default)]
pub(crate) struct Kinds {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    // class -> its versions with their numbers.
    ids: hash::Map<Arc<str>, BTreeMap<u32, KindId>>,
    kinds: hash::Map<KindId, Kind>,
    next: u32,
}

impl Kinds {
    /// Takes over a kind that the index knows.
    pub(crate) fn load(&self, id: KindId, kind: Kind) {
        let mut known = self.known.write();
        known.next = known.next.max(id.0.saturating_add(1));
        known.ids.entry(kind.class.clone()).or_default().insert(kind.version, id);
        known.kinds.insert(id, kind);
    }

    /// Whether these kinds have numbers, or may have: no more than `max` would have one then. With `keep` they get them.
    pub(crate) fn number(
        &self,
        kinds: &mut dyn Iterator<Item = (&str, u32)>,
        max: usize,
        keep: bool,
    ) -> Result<(), StoreError> {
        let (new, count) = {
            let known = self.known.read();
            let is_new =
                |(class, version): &(&str, u32)| !known.ids.get(*class).is_some_and(|of| of.contains_key(version));
            (kinds.filter(is_new).collect::<BTreeSet<_>>(), known.kinds.len())
        };
        if let Some((class, version)) = new.iter().nth(max.saturating_sub(count)) {
            return Err(StoreError::TooManyKinds { class: (*class).to_owned(), version: *version, max });
        }
        for (class, version) in new.into_iter().filter(|_| keep) {
            self.id(class, version);
        }
        Ok(())
    }

    /// The number of a kind; a new one when it is new.
    pub(crate) fn id(&self, class: &str, version: u32) -> KindId {
        if let Some(id) = self.find(class, version) {
            return id;
        }
        let mut known = self.known.write();
        if let Some(id) = known.ids.get(class).and_then(|versions| versions.get(&version)) {
            return *id;
        }
        let (id, class) = (KindId(known.next), Arc::<str>::from(class));
        known.next += 1;
        known.ids.entry(class.clone()).or_default().insert(version, id);
        known.kinds.insert(id, Kind { class, version });
        id
    }

    /// The number of a kind that was seen.
    pub(crate) fn find(&self, class: &str, version: u32) -> Option<KindId> {
        self.known.read().ids.get(class)?.get(&version).copied()
    }

    /// What a number stands for.
    pub(crate) fn kind(&self, id: KindId) -> Option<Kind> {
        self.known.read().kinds.get(&id).cloned()
    }

    /// The numbers of a class's versions below one, in no order.
    pub(crate) fn below(&self, class: Option<&str>, version: u32) -> Vec<KindId> {
        let known = self.known.read();
        let one = class.into_iter().filter_map(|class| known.ids.get(class));
        let all = known.ids.values().filter(|_| class.is_none());
        one.chain(all).flat_map(|versions| versions.range(..version)).map(|(_, id)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_keeps_its_number_and_new_ones_go_on_after_the_loaded() {
        let kinds = Kinds::default();
        kinds.load(KindId(7), Kind { class: "Page".into(), version: 1 });
        assert_eq!(kinds.id("Page", 1), KindId(7));
        let second = kinds.id("Page", 2);
        assert_eq!((second, kinds.id("Page", 2)), (KindId(8), second));
        assert_eq!(kinds.below(Some("Page"), 2), [KindId(7)]);
        assert_eq!(kinds.kind(second), Some(Kind { class: "Page".into(), version: 2 }));
        assert_eq!(kinds.find("Other", 0), None);
    }

    #[test]
    fn all_of_them_get_numbers_or_none_does() {
        let kinds = Kinds::default();
        let number = |all: &[(&str, u32)]| kinds.number(&mut all.iter().copied(), 3, true);
        assert!(number(&[("A", 1), ("A", 2), ("A", 1)]).is_ok());
        let told = number(&[("A", 2), ("C", 1), ("B", 1)]).expect_err("one too many");
        assert!(matches!(&told, StoreError::TooManyKinds { class, max: 3, .. } if class == "C"), "{told}");
        assert_eq!((kinds.find("B", 1), kinds.find("C", 1)), (None, None));
        assert!(kinds.number(&mut [("B", 1)].into_iter(), 3, false).is_ok() && kinds.find("B", 1).is_none());
        assert!(number(&[("B", 1)]).is_ok() && number(&[("A", 1), ("B", 1)]).is_ok());
        kinds.id("C", 1);
        assert!(number(&[("C", 1), ("A", 2)]).is_ok(), "what the log has is known, however many there are");
        assert!(number(&[("D", 1)]).is_err());
    }
}
