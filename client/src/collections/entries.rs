//! Owns the walk over the entries of a collection, decoded: what `range` and `iter` of the collections give.

use crate::errors::{Error, Result};
use crate::keys::{self, AsKey, Key};
use crate::revision::{Entry, Range};
use crate::tx::{Scan, View, damaged};
use crate::typed::decode_value;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::value;
use zeolite_proto::{Cell, Oid, Record};

/// A walk over entries; each step gives what the collection's entries stand for. Dropping it ends it.
pub struct Entries<'v, T> {
    scan: Scan<'v>,
    oid: Oid,
    decode: fn(Oid, Entry) -> Result<T>,
    ready: VecDeque<Entry>,
}

impl<T> std::fmt::Debug for Entries<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("oid", &self.oid).finish_non_exhaustive()
    }
}

impl<'v, T> Entries<'v, T> {
    pub(super) fn new(view: &'v View, oid: Oid, range: Range, decode: fn(Oid, Entry) -> Result<T>) -> Entries<'v, T> {
        Entries { scan: view.scan(oid, range), oid, decode, ready: VecDeque::new() }
    }

    /// The next entry.
    pub async fn next(&mut self) -> Result<Option<T>> {
        if self.ready.is_empty() {
            match self.scan.next_page().await? {
                Some(page) => self.ready = page.into(),
                None => return Ok(None),
            }
        }
        self.ready.pop_front().map(|entry| (self.decode)(self.oid, entry)).transpose()
    }

    /// All that are left. The caller knows that they are not too many.
    pub async fn collect(mut self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(entry) = self.next().await? {
            all.push(entry);
        }
        Ok(all)
    }

    /// How many are left.
    pub async fn count(mut self) -> Result<u64> {
        let mut count = self.ready.len() as u64;
        while let Some(page) = self.scan.next_page().await? {
            count += page.len() as u64;
        }
        Ok(count)
    }
}

/// Bounds on keys as bounds on their bytes.
pub(super) fn bounds<Q: AsKey>(range: impl RangeBounds<Q>) -> Range {
    let from = match range.start_bound() {
        Bound::Included(key) => keys::encode(key),
        Bound::Excluded(key) => keys::after(&keys::encode(key)),
        Bound::Unbounded => Bytes::new(),
    };
    let to = match range.end_bound() {
        Bound::Included(key) => Some(keys::after(&keys::encode(key))),
        Bound::Excluded(key) => Some(keys::encode(key)),
        Bound::Unbounded => None,
    };
    Range::between(from, to)
}

/// The encoded record of an entry with a value; it refers to what value and key refer to.
pub(super) fn record<Q: AsKey + ?Sized, V: Serialize>(
    key: &Q,
    value: &V,
    class: &'static str,
    make: fn(&[u8], Vec<Oid>) -> Record,
) -> Result<Bytes> {
    let encoded = crate::typed::encode_value(class, value, |data, mut refs| {
        key.put_refs(&mut refs);
        make(data, refs).encode()
    })?;
    encoded.map_err(|bad| Error::Encode { class: class.to_owned(), reason: bad.to_string() })
}

/// The value of an entry's encoded record.
pub(super) fn read<V: DeserializeOwned>(cell: &Cell, class: &'static str, record: &[u8]) -> Result<V> {
    let header = Header::parse(record).map_err(|bad| damaged(cell, &bad))?;
    if header.class != class {
        return Err(Error::WrongClass {
            cell: cell.clone(),
            expected: class.to_owned(),
            found: header.class.to_owned(),
        });
    }
    decode_value(class, header.version, value::read_encoded(record).map_err(|bad| damaged(cell, &bad))?)
}

/// The key of an entry.
pub(super) fn key<K: Key>(oid: Oid, bytes: &Bytes) -> Result<K> {
    keys::decode(bytes).map_err(|bad| Error::invalid(format!("cell {}: {bad}", Cell::entry(oid, bytes.clone()))))
}
