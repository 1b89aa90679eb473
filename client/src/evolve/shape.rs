//! Owns the resolver for classes that an evolve brings to a newer version: an edit and the change of the shape are no
//! conflict.
//!
//! ```text
//!   base v1 ──> theirs: v2, which is exactly what the upgrade makes of the base     (the worker was first)
//!          └──> ours:   an edit of the base, written by code that knows v2           => ours
//!   base v1 ──> theirs: an edit    ours: exactly the upgrade of the base             => theirs, upgraded
//! ```
//!
//! A live client that has read the old record, edits it, and commits after the worker, thus never sees a conflict. Register it
//! where the conflict is to be resolved: with the client's [`crate::Options::resolvers`], or natively on the server, which saves
//! the round trip. It knows nothing of the fields: two edits of one object are a conflict as ever.

use crate::typed::{Persistent, decode_record, encode_record};
use std::marker::PhantomData;
use std::sync::Arc;
use zeolite_proto::resolver::Unresolved;
use zeolite_proto::{Cell, Oid, Record, Registry, Resolver};

struct Upgrades<T> {
    class: PhantomData<fn() -> T>,
}

/// Registers the resolver for a type's class.
pub fn merge_upgrades<T: Persistent + 'static>(registry: &mut Registry) {
    registry.register(T::CLASS, Arc::new(Upgrades::<T> { class: PhantomData }));
}

impl<T: Persistent + 'static> Upgrades<T> {
    /// The record in the type's newest shape.
    fn newest(record: &Record) -> Result<Record, Unresolved> {
        if record.version == T::VERSION {
            return Ok(record.clone());
        }
        let refused = |error: crate::Error| Unresolved(error.to_string());
        let value: T = decode_record(&Cell::object(Oid::ROOT), &record.encode()?).map_err(refused)?;
        Ok(Record::decode(&encode_record(&value).map_err(refused)?)?)
    }
}

impl<T: Persistent + 'static> Resolver for Upgrades<T> {
    fn description(&self) -> &str {
        "an edit and an upgrade of the shape: the edit, in the new shape"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        if base == theirs {
            return Ok(ours.cloned());
        }
        if base == ours || theirs == ours {
            return Ok(theirs.cloned());
        }
        let (Some(base), Some(theirs), Some(ours)) = (base, theirs, ours) else {
            return Err(Unresolved::because("made or deleted by one of two concurrent commits"));
        };
        let base = Self::newest(base)?;
        let (theirs, ours) = (Self::newest(theirs)?, Self::newest(ours)?);
        if theirs == base {
            Ok(Some(ours))
        } else if ours == base || ours == theirs {
            Ok(Some(theirs))
        } else {
            Err(Unresolved::because("two edits of one object, of which only one can stay"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Result;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Page {
        title: String,
        views: u32,
    }

    impl Persistent for Page {
        const CLASS: &str = "Page";
        const VERSION: u32 = 2;

        fn upgrade(version: u32, data: &[u8]) -> Result<Page> {
            let title: String = Page::old_shape(version, data)?;
            Ok(Page { views: title.len() as u32, title })
        }
    }

    fn old(title: &str) -> Record {
        Record::new("Page", 1, postcard::to_allocvec(title).expect("encodes"))
    }

    fn new(title: &str, views: u32) -> Record {
        let page = Page { title: title.into(), views };
        Record::decode(&encode_record(&page).expect("encodes")).expect("decodes")
    }

    #[test]
    fn an_edit_and_an_upgrade_are_no_conflict() {
        let mut registry = Registry::empty();
        merge_upgrades::<Page>(&mut registry);
        let resolver = registry.get("Page").expect("registered");
        let merge = |base: &Record, theirs: &Record, ours: &Record| {
            resolver.merge(Some(base), Some(theirs), Some(ours)).ok().flatten()
        };
        assert_eq!(merge(&old("a"), &new("a", 1), &new("b", 5)), Some(new("b", 5)));
        assert_eq!(merge(&old("a"), &new("b", 5), &new("a", 1)), Some(new("b", 5)));
        assert_eq!(merge(&old("a"), &old("bb"), &new("a", 1)), Some(new("bb", 2)), "old code has edited it");
        assert_eq!(merge(&old("a"), &new("b", 1), &new("c", 1)), None, "two edits");
        assert_eq!(merge(&old("a"), &new("a", 9), &new("c", 1)), None, "not just the upgrade");
        assert!(resolver.merge(None, Some(&new("a", 1)), Some(&new("b", 1))).is_err());
        assert_eq!(resolver.merge(Some(&old("a")), Some(&old("a")), None), Ok(None));
    }
}
