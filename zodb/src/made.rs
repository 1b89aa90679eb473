//! Owns the records that unit tests are made of: states of BTrees' nodes, pickled as ZODB does it.

use crate::oids::to_zeolite;
use crate::plain::{Plain, Reference};
use crate::{scan, write};
use zeolite_proto::Record;

/// A record of a class with this state, its header as an adapter writes it.
pub(crate) fn record(class: &str, state: &Plain<'_>) -> Record {
    let (module, name) = class.rsplit_once('.').expect("dotted");
    let mut data = format!("c{module}\n{name}\n.").into_bytes();
    write::pickle(state, &mut data);
    let references = scan(&data).expect("is a record").references;
    let refs = references.into_iter().map(|oid| to_zeolite(oid).expect("has one")).collect();
    Record { class: class.into(), version: 0, refs, blobs: Vec::new(), data: data.into() }
}

/// A reference to an object of a class, or of one that it does not tell.
pub(crate) fn reference(n: u64, class: &str) -> Plain<'static> {
    let class = class
        .rsplit_once('.')
        .map(|(module, name)| Plain::Class(module.as_bytes().to_vec().into(), name.as_bytes().to_vec().into()));
    Plain::Reference(Box::new(Reference { oid: n.to_be_bytes(), class }))
}

/// The state of a bucket: keys and values, and what is behind it.
pub(crate) fn bucket(pairs: Vec<(i128, Plain<'static>)>, next: Option<Plain<'static>>) -> Plain<'static> {
    let flat = pairs.into_iter().flat_map(|(key, value)| [Plain::Int(key), value]).collect();
    Plain::Tuple([Some(Plain::Tuple(flat)), next].into_iter().flatten().collect())
}
