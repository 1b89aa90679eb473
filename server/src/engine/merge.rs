//! Owns the decision what a write becomes when its cell has moved on: pure, over bytes.
//!
//! The resolver is that of *our* class; a delete has no class of its own and takes that of the record it deletes. What
//! a resolver makes is checked like any write.

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

/// The class whose resolver decides about this write.
pub(crate) fn class_of<'a>(change: &'a Change, theirs: Option<&'a Bytes>) -> &'a str {
    let header = |bytes: &'a Bytes| Header::parse(bytes).map_or("", |header| header.class);
    match change {
        Change::Put(record) => header(record),
        Change::Apply { class, .. } => class,
        Change::Delete => theirs.map_or("", header),
    }
}

/// The resolver that would decide about this write.
pub(crate) fn resolver_of<'a>(
    registry: &'a Registry,
    change: &Change,
    theirs: Option<&Bytes>,
) -> Option<&'a dyn Resolver> {
    registry.get(class_of(change, theirs)).map(AsRef::as_ref)
}

/// What the write becomes on top of `theirs`. For an apply, `sides.base` is not looked at.
pub(crate) fn resolve(
    registry: &Registry,
    limits: &Limits,
    change: &Change,
    sides: Sides<'_>,
) -> Result<Option<Bytes>, NotMerged> {
    let class = class_of(change, sides.theirs).to_owned();
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
