//! Owns the walk over the entries of a collection, decoded: what `range` and `iter` of the collections give.

use super::cursor::Cursor;
use crate::errors::{Error, Result};
use crate::keys::{self, AsKey, Key, Prefixed};
use crate::revision::{Entry, Range};
use crate::tx::{Scan, View, damaged};
use crate::typed::decode_value;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::{Bound, RangeBounds};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::value;
use zeolite_proto::{Cell, Oid, Record};

/// A walk over entries; each step gives what the collection's entries stand for. It begins with the first entry that is asked for: until
/// then it can be turned round, cut short, or begun behind a place where another one ended. It is a [`Stream`] too. Dropping it ends it.
///
/// ```no_run
/// # use zeolite_client::{Error, View, collections::{Cursor, Map}};
/// # async fn page(view: &View, words: Map<String, u64>, behind: Option<Cursor>) -> Result<(), Error> {
/// let mut page = words.range(view, "a".to_owned()..).limit(20).after(behind);
/// while let Some((word, count)) = page.next().await? {
///     println!("{word} {count}");
/// }
/// let next = page.cursor(); // for the link to the next page
/// # let _ = next; Ok(()) }
/// ```
#[must_use = "a walk reads nothing until it is asked for an entry"]
pub struct Entries<'v, T> {
    view: &'v View,
    from: From<'v>,
    range: Range,
    after: Option<Cursor>,
    decode: fn(Oid, Entry) -> Result<T>,
    ready: VecDeque<Entry>,
    last: Option<Bytes>,
    wrong: Option<Error>,
}

/// Where the entries come from.
enum From<'v> {
    Oid(Oid),
    /// The collection is looked up first; none: there is none.
    Looked(BoxFuture<'v, Result<Option<Oid>>>),
    Scan(Oid, Box<Scan<'v>>),
    Nowhere,
}

impl<T> std::fmt::Debug for Entries<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("range", &self.range).field("after", &self.after).finish_non_exhaustive()
    }
}

impl<'v, T> Entries<'v, T> {
    pub(super) fn new(view: &'v View, oid: Oid, range: Range, decode: fn(Oid, Entry) -> Result<T>) -> Entries<'v, T> {
        Entries::of(view, From::Oid(oid), range, decode)
    }

    /// Of a collection that is looked up when the walk begins.
    pub(super) fn looked_up(
        view: &'v View,
        oid: impl Future<Output = Result<Option<Oid>>> + Send + 'v,
        range: Range,
        decode: fn(Oid, Entry) -> Result<T>,
    ) -> Entries<'v, T> {
        Entries::of(view, From::Looked(Box::pin(oid)), range, decode)
    }

    fn of(view: &'v View, from: From<'v>, range: Range, decode: fn(Oid, Entry) -> Result<T>) -> Entries<'v, T> {
        Entries { view, from, range, after: None, decode, ready: VecDeque::new(), last: None, wrong: None }
    }

    /// This many entries at most: no more are asked for.
    pub fn limit(self, entries: u64) -> Self {
        self.begin(|walk| walk.range.limit = Some(entries))
    }

    /// From the last to the first.
    pub fn reverse(self) -> Self {
        self.begin(|walk| walk.range.reverse = !walk.range.reverse)
    }

    /// What comes behind the place where another walk over the same range, in the same direction, has ended ([`Entries::cursor`]). None:
    /// from the beginning. A place outside of the range leads nowhere else.
    pub fn after(self, cursor: impl Into<Option<Cursor>>) -> Self {
        let cursor = cursor.into();
        self.begin(|walk| walk.after = cursor)
    }

    fn begin(mut self, change: impl FnOnce(&mut Self)) -> Self {
        match self.from {
            From::Oid(_) | From::Looked(_) => change(&mut self),
            _ => {
                let message = "`limit`, `reverse` and `after` come before the first entry is taken; begin another walk";
                (self.from, self.wrong) = (From::Nowhere, Some(Error::invalid(message)));
                self.ready.clear();
            }
        }
        self
    }

    /// The place behind the last entry that was given, to go on from it in another transaction. None: before the first.
    pub fn cursor(&self) -> Option<Cursor> {
        self.last.clone().map(Cursor::from_bytes).or_else(|| self.after.clone())
    }

    /// The next entry.
    pub async fn next(&mut self) -> Result<Option<T>> {
        poll_fn(|cx| self.poll_entry(cx)).await
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
        while let Some(page) = poll_fn(|cx| self.poll_page(cx)).await? {
            count += page.len() as u64;
        }
        Ok(count)
    }

    fn poll_entry(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>>> {
        if self.ready.is_empty() {
            match ready!(self.poll_page(cx))? {
                Some(page) => self.ready = page.into(),
                None => return Poll::Ready(Ok(None)),
            }
        }
        let (From::Scan(oid, _), Some(entry)) = (&self.from, self.ready.pop_front()) else {
            return Poll::Ready(Ok(None));
        };
        self.last = Some(entry.key.clone());
        Poll::Ready((self.decode)(*oid, entry).map(Some))
    }

    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<Entry>>>> {
        if let Some(wrong) = self.wrong.take() {
            return Poll::Ready(Err(wrong));
        }
        loop {
            match &mut self.from {
                From::Oid(oid) => {
                    let behind = self.after.take().inspect(|after| self.last = Some(after.as_bytes().clone()));
                    let range = behind.map_or_else(|| self.range.clone(), |after| after.behind(&self.range));
                    self.from = From::Scan(*oid, Box::new(self.view.scan(*oid, range)));
                }
                From::Looked(oid) => {
                    let found = ready!(oid.as_mut().poll(cx));
                    self.from = From::Nowhere;
                    if let Some(oid) = found? {
                        self.from = From::Oid(oid);
                    }
                }
                From::Scan(_, scan) => return scan.poll_page(cx),
                From::Nowhere => return Poll::Ready(Ok(None)),
            }
        }
    }
}

impl<T> Stream for Entries<'_, T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        self.poll_entry(cx).map(Result::transpose)
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

/// All keys that begin so.
pub(super) fn prefix<K: Prefixed<Q>, Q: AsKey + ?Sized>(part: &Q) -> Range {
    let mut bytes = Vec::with_capacity(24);
    K::put_prefix(part, &mut bytes);
    Range::prefix(bytes)
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
