//! Owns the resolvers that only tests register: a slow one, one that makes too much.

use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::Record;
use zeolite_proto::Registry;
use zeolite_proto::resolver::{Resolver, Unresolved};

/// The class of [`Slow`].
pub const SLOW: &str = "Slow";
/// The class of [`Bloat`].
pub const BLOAT: &str = "Bloat";

/// Text that is appended to, by a resolver that says of itself that it is expensive.
#[derive(Clone, Copy, Debug)]
pub struct Slow;

impl Resolver for Slow {
    fn description(&self) -> &str {
        "text that is appended to, slowly"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let data = |side: Option<&Record>| side.map_or(Bytes::new(), |record| record.data.clone());
        let (base, theirs, ours) = (data(base), data(theirs), data(ours));
        let Some(added) = ours.strip_prefix(base.as_ref()) else {
            return Err(Unresolved::because("the text was not only appended to"));
        };
        Ok(Some(Record::new(SLOW, 1, [theirs.as_ref(), added].concat())))
    }

    fn apply(&self, _class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        let there = current.map_or(Bytes::new(), |record| record.data.clone());
        Ok(Some(Record::new(SLOW, 1, [there.as_ref(), operation.as_ref()].concat())))
    }

    fn applies(&self) -> bool {
        true
    }

    fn expensive(&self, _bytes: usize) -> bool {
        true
    }
}

/// Makes a record as long as the operation's text says, whatever the limits are.
#[derive(Clone, Copy, Debug)]
pub struct Bloat;

impl Resolver for Bloat {
    fn description(&self) -> &str {
        "as many bytes as it is told"
    }

    fn merge(
        &self,
        _base: Option<&Record>,
        _theirs: Option<&Record>,
        _ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        Err(Unresolved::because("it never merges"))
    }

    fn apply(&self, _class: &str, _current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        let len = std::str::from_utf8(operation).ok().and_then(|text| text.parse().ok());
        let len: usize = len.ok_or_else(|| Unresolved::because("the operation is not a number"))?;
        Ok(Some(Record::new(BLOAT, 1, vec![b'x'; len])))
    }

    fn applies(&self) -> bool {
        true
    }
}

/// The built-in set and those of this file.
pub fn registry() -> Registry {
    let mut registry = Registry::built_in();
    registry.register(SLOW, Arc::new(Slow));
    registry.register(BLOAT, Arc::new(Bloat));
    registry
}
