//! Owns the decision what a write becomes when its cell has moved on: pure, over bytes.
//!
//! The resolver is that of *our* class; a delete has no class of its own and takes that of the record it deletes (the newest
//! one, or, when another has deleted it already, the one that both deleted: an item of a queue may be taken by one only).
//! What a resolver makes is checked like any write.

use bytes::Bytes;
use zeolite_proto::record::{BadRecord, Header};
use zeolite_proto::{Change, Limits, Record, Registry, Resolver};

/// Why a write could not be merged; ends up in the conflict's detail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NotMerged {
    pub(crate) class: String,
    /// Empty: the class has no resolver.
    pub(crate) reason: String,
}

/// The sides of a merge, as encoded records; `None`: does not exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sides<'a> {
    pub(crate) base: Option<&'a Bytes>,
    pub(crate) theirs: Option<&'a Bytes>,
}

impl Sides<'_> {
    /// The size of all that a resolver would look at.
    pub(crate) fn bytes_with(&self, change: &Change) -> usize {
        let ours = match change {
            Change::Put(record) => record.len(),
            Change::Apply { operation, .. } => operation.len(),
            Change::Delete => 0,
        };
        self.base.map_or(0, Bytes::len) + self.theirs.map_or(0, Bytes::len) + ours
    }
}

/// The class whose resolver decides about this write; `there` is the record that a delete deletes.
pub(crate) fn class_of<'a>(change: &'a Change, there: Option<&'a Bytes>) -> &'a str {
    let header = |bytes: &'a Bytes| Header::parse(bytes).map_or("", |header| header.class);
    match change {
        Change::Put(record) => header(record),
        Change::Apply { class, .. } => class,
        Change::Delete => there.map_or("", header),
    }
}

/// The resolver that would decide about this write.
pub(crate) fn resolver_of<'a>(registry: &'a Registry, change: &Change, sides: Sides<'_>) -> Option<&'a dyn Resolver> {
    registry.get(class_of(change, sides.theirs.or(sides.base))).map(AsRef::as_ref)
}

/// What the write becomes on top of `theirs`. For an apply, `sides.base` is not looked at.
pub(crate) fn resolve(
    registry: &Registry,
    limits: &Limits,
    change: &Change,
    sides: Sides<'_>,
) -> Result<Option<Bytes>, NotMerged> {
    let class = class_of(change, sides.theirs.or(sides.base)).to_owned();
    let refuse = |reason: String| NotMerged { class: class.clone(), reason };
    let Some(resolver) = registry.get(&class) else { return Err(refuse(no_resolver(change))) };
    let decode = |side: Option<&Bytes>| side.map(Record::decode).transpose();
    let damaged = |error: BadRecord| refuse(format!("a stored record cannot be read: {error}"));
    let theirs = decode(sides.theirs).map_err(damaged)?;
    let merged = match change {
        Change::Put(record) => {
            let base = decode(sides.base).map_err(damaged)?;
            let ours = Record::decode(record).map_err(damaged)?;
            resolver.merge(base.as_ref(), theirs.as_ref(), Some(&ours))
        }
        Change::Apply { class, operation } => resolver.apply(class, theirs.as_ref(), operation),
        Change::Delete => {
            let base = decode(sides.base).map_err(damaged)?;
            resolver.merge(base.as_ref(), theirs.as_ref(), None)
        }
    };
    match merged.map_err(|why| refuse(why.0))? {
        None => Ok(None),
        Some(record) => {
            let bytes = record.encode().map_err(|error| refuse(format!("the resolver made a {error}")))?;
            if bytes.len() > limits.record_bytes_max {
                return Err(refuse(format!("the resolver made a record of {} bytes, over the limit", bytes.len())));
            }
            Ok(Some(bytes))
        }
    }
}

fn no_resolver(change: &Change) -> String {
    match change {
        Change::Apply { class, .. } => format!("class {class:?} has no resolver that could apply the operation"),
        Change::Put(_) | Change::Delete => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::resolvers::{class, counter, entry, queue};

    fn resolved(change: &Change, base: Option<&Record>, theirs: Option<&Record>) -> Result<Option<Bytes>, NotMerged> {
        let bytes = |record: Option<&Record>| record.map(|record| record.encode().expect("encodes"));
        let (base, theirs) = (bytes(base), bytes(theirs));
        let sides = Sides { base: base.as_ref(), theirs: theirs.as_ref() };
        resolve(&Registry::built_in(), &Limits::default(), change, sides)
    }

    #[test]
    fn two_deletes_are_one_unless_it_is_an_item_to_be_taken_once() {
        let (entry, item) = (entry::record(b"v", vec![]), queue::record(b"ask", vec![]));
        assert_eq!(resolved(&Change::Delete, Some(&entry), None), Ok(None));
        let refused = resolved(&Change::Delete, Some(&item), None).expect_err("a conflict");
        assert_eq!(refused.class, class::QUEUE_ITEM);
        assert!(refused.reason.contains("took this queue item"), "{refused:?}");
        let unknown = Record::new("app.Page", 1, "");
        assert_eq!(resolved(&Change::Delete, Some(&unknown), None).expect_err("no resolver").reason, "");
    }

    #[test]
    fn puts_and_operations_are_merged_by_our_class() {
        let [base, theirs, ours] = [5, 7, 6].map(counter::record);
        let put = Change::Put(ours.encode().expect("encodes"));
        let eight = Ok(Some(counter::record(8).encode().expect("encodes")));
        assert_eq!(resolved(&put, Some(&base), Some(&theirs)), eight);
        let add = Change::Apply { class: class::COUNTER.into(), operation: counter::add(1) };
        assert_eq!(resolved(&add, None, Some(&theirs)), eight);
        assert!(resolved(&put, Some(&base), Some(&queue::record(b"", vec![]))).is_err(), "theirs is something else");
    }

    #[test]
    fn a_merged_record_beyond_the_limit_is_refused() {
        let limits = Limits { record_bytes_max: 20, ..Limits::default() };
        let theirs = counter::record(7).encode().expect("encodes");
        let add = Change::Apply { class: class::COUNTER.into(), operation: counter::add(1) };
        let sides = Sides { base: None, theirs: Some(&theirs) };
        let refused = resolve(&Registry::built_in(), &limits, &add, sides).expect_err("too large");
        assert!(refused.reason.contains("over the limit"), "{refused:?}");
    }
}
