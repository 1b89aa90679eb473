//! Owns the walk over the entries of a collection at a snapshot, merged with the transaction's own writes.
//!
//! Pages come from the server one after the other; from the second on, the next one is asked for while the caller works on
//! the last. So a caller who stops early costs nothing, and a long walk does not wait for the network.

use super::View;
use crate::errors::Result;
use crate::revision::{Entry, Page, Range};
use crate::tx::own::Staged;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use zeolite_proto::{Cell, Fault, FaultKind, Oid, Tid};

/// A walk over entries; see [`View::scan`]. It sees the own writes that were made before it began. Dropping it ends it. It is a
/// [`Stream`] too; after an error it is at its end.
///
/// ```
/// use zeolite_client::{Handle, Range, collections::Map};
///
/// # zeolite_testing::with_db(async |db| {
/// let words: Map<String, u64> = db.run(async |tx| tx.root_or_create("words").await).await?;
/// db.run(async |tx| words.insert(&tx, "zeolite", &1)).await?;
/// let view = db.now();
/// let mut scan = view.scan(words.oid(), Range::all()); // as stored; `words.iter` gives them decoded
/// assert_eq!(scan.next().await?.expect("an entry").key, "zeolite");
/// # Ok(()) });
/// ```
#[must_use = "a walk reads nothing until it is asked for an entry"]
pub struct Scan<'v> {
    view: &'v View,
    oid: Oid,
    whole: Range,
    /// What the server has not been asked for yet; none: nothing is left there.
    rest: Option<Range>,
    ahead: Option<NextPage>,
    /// What the server is asked for now.
    asked: Option<(Range, BoxFuture<'static, Result<Page>>)>,
    /// Own changes in the range that have not been merged yet, in the scan's direction.
    own: VecDeque<(Cell, Staged)>,
    /// Entries to return; none: no limit.
    left: Option<u64>,
    /// Entries of the last page that `next` has not returned yet.
    page: VecDeque<Entry>,
    /// The number of the range among the transaction's reads.
    covered: Option<usize>,
    pages: u64,
}

impl std::fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Scan { oid, whole, left, pages, .. } = self;
        f.debug_struct("Scan")
            .field("oid", oid)
            .field("range", whole)
            .field("left", left)
            .field("pages", pages)
            .finish_non_exhaustive()
    }
}

/// A page that is on its way; given up with the scan.
#[derive(Debug)]
struct NextPage(tokio::task::JoinHandle<Result<Page>>);

impl Drop for NextPage {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<'v> Scan<'v> {
    pub(super) fn new(view: &'v View, oid: Oid, range: Range) -> Scan<'v> {
        let own = view.own.lock();
        let staged = own.entries(oid, &range).into_iter();
        let staged = staged.map(|(cell, staged)| (cell.clone(), staged.clone()));
        let own = if range.reverse { staged.rev().collect() } else { staged.collect() };
        Scan {
            view,
            oid,
            rest: (!range.is_nothing()).then(|| range.clone()),
            ahead: None,
            asked: None,
            own,
            left: range.limit,
            page: VecDeque::new(),
            covered: None,
            pages: 0,
            whole: range,
        }
    }

    /// The next entry.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        poll_fn(|cx| self.poll_entry(cx)).await
    }

    /// The next entries, as many as are at hand; faster than one by one. Never empty.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Entry>>> {
        poll_fn(|cx| self.poll_page(cx)).await
    }

    /// Whether there is nothing more, as far as that is known without asking: after the last page it is.
    pub fn is_at_end(&self) -> bool {
        let nothing_to_come = self.rest.is_none() && self.asked.is_none() && self.own.is_empty();
        self.page.is_empty() && (self.left == Some(0) || nothing_to_come)
    }

    fn poll_entry(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Entry>>> {
        loop {
            if let Some(entry) = self.page.pop_front() {
                return Poll::Ready(Ok(Some(entry)));
            }
            match ready!(self.poll_page(cx))? {
                Some(page) => self.page = page.into(),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// The same as `next_page`. Whoever asks again after he has not waited for it loses nothing.
    pub(crate) fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<Entry>>>> {
        loop {
            let entries = match &mut self.asked {
                Some((_, page)) => {
                    let page = ready!(page.as_mut().poll(cx));
                    let range = self.asked.take().map(|(range, _)| range).unwrap_or_default();
                    let came = page.and_then(|page| {
                        self.came(range, &page)?;
                        self.read_ahead();
                        self.merge(page)
                    });
                    // What is left is nothing, also of the own writes: they would look like all that there is.
                    came.inspect_err(|_| self.left = Some(0))?
                }
                None if self.left == Some(0) || (self.rest.is_none() && self.own.is_empty()) => {
                    return Poll::Ready(Ok(None));
                }
                None => match self.rest.take() {
                    Some(range) => {
                        let page = self.ask(&range);
                        self.asked = Some((range, page));
                        continue;
                    }
                    None => self.merge(Page::default())?,
                },
            };
            let entries = self.limited(entries);
            if !entries.is_empty() {
                return Poll::Ready(Ok(Some(entries)));
            }
        }
    }

    fn ask(&mut self, range: &Range) -> BoxFuture<'static, Result<Page>> {
        let (db, at, oid, range) = (self.view.db().clone(), self.view.place(), self.oid, range.clone());
        match self.ahead.take() {
            Some(mut ahead) => Box::pin(async move {
                match (&mut ahead.0).await {
                    Ok(page) => page,
                    Err(_) => View::page(&db, at, oid, &range, 0).await,
                }
            }),
            None => {
                let limit = self.page_limit();
                Box::pin(async move { View::page(&db, at, oid, &range, limit).await })
            }
        }
    }

    /// A page has come; its entries are still to be merged.
    fn came(&mut self, range: Range, page: &Page) -> Result<()> {
        self.pages += 1;
        self.rest = page.next.clone().map(|next| self.go_on(range, next)).transpose()?;
        self.cover(page.next.as_ref());
        Ok(())
    }

    /// The range that is left after a page.
    fn go_on(&self, before: Range, next: Bytes) -> Result<Range> {
        let rest = match before.reverse {
            true => Range { to: Some(next), ..before.clone() },
            false => Range { from: next, ..before.clone() },
        };
        if rest == before {
            let message = format!("the scan of {} does not come further; report this with both versions", self.oid);
            return Err(Fault::new(FaultKind::Internal, message).into());
        }
        Ok(rest)
    }

    /// The entries that are still wanted, in one page; 0: as many as the server likes.
    fn page_limit(&self) -> u32 {
        // Own deletions may take some away again: those are asked for as well.
        self.left.map_or(0, |left| u32::try_from(left + self.own.len() as u64).unwrap_or(0))
    }

    fn read_ahead(&mut self) {
        let wanted = self.left.is_none_or(|left| left > 0);
        if let Some(range) = &self.rest
            && wanted
            && self.pages >= 2
        {
            let (db, at, oid, range) = (self.view.db().clone(), self.view.place(), self.oid, range.clone());
            let limit = self.page_limit();
            self.ahead = Some(NextPage(tokio::spawn(async move { View::page(&db, at, oid, &range, limit).await })));
        }
    }

    /// Tells the transaction how far the scan has come.
    fn cover(&mut self, next: Option<&Bytes>) {
        let Some(reads) = self.view.reads() else { return };
        let (mut from, mut to) = (self.whole.from.clone(), self.whole.to.clone());
        match next {
            Some(next) if self.whole.reverse => from = next.clone(),
            Some(next) => to = Some(next.clone()),
            None => {}
        }
        match self.covered {
            Some(number) => reads.grow(number, from, to),
            None => self.covered = Some(reads.range(self.oid, from, to)),
        }
    }

    /// Merges a page with the own changes that lie within or before it.
    fn merge(&mut self, page: Page) -> Result<Vec<Entry>> {
        if self.own.is_empty() {
            return Ok(page.entries);
        }
        let reverse = self.whole.reverse;
        let before = |a: &Bytes, b: &Bytes| if reverse { a > b } else { a < b };
        let mut merged = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            while let Some((cell, staged)) = self.own.pop_front_if(|(cell, _)| before(&cell.key, &entry.key)) {
                merged.extend(self.own_entry(cell, &staged, None)?);
            }
            match self.own.pop_front_if(|(cell, _)| cell.key == entry.key) {
                Some((cell, staged)) => merged.extend(self.own_entry(cell, &staged, Some(entry.record))?),
                None => merged.push(entry),
            }
        }
        // What lies behind the page's last entry but before the next page belongs here as well.
        let edge = self
            .rest
            .as_ref()
            .map(|rest| if reverse { rest.to.clone().unwrap_or_default() } else { rest.from.clone() });
        let within = |key: &Bytes| match &edge {
            None => true,
            Some(edge) if reverse => key >= edge,
            Some(edge) => key < edge,
        };
        while let Some((cell, staged)) = self.own.pop_front_if(|(cell, _)| within(&cell.key)) {
            merged.extend(self.own_entry(cell, &staged, None)?);
        }
        Ok(merged)
    }

    fn own_entry(&self, cell: Cell, staged: &Staged, stored: Option<Bytes>) -> Result<Option<Entry>> {
        if self.whole.keys_only {
            // Without the stored record an operation cannot be run; that it deletes the entry is the rare case.
            let gone = matches!(staged, Staged::Delete);
            return Ok((!gone).then(|| Entry { key: cell.key, tid: Tid::NONE, record: Bytes::new() }));
        }
        let record = self.view.staged(&cell, staged, stored)?;
        Ok(record.map(|record| Entry { key: cell.key, tid: Tid::NONE, record }))
    }

    fn limited(&mut self, mut entries: Vec<Entry>) -> Vec<Entry> {
        if let Some(left) = &mut self.left {
            entries.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= entries.len() as u64;
        }
        entries
    }
}

impl Stream for Scan<'_> {
    type Item = Result<Entry>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Entry>>> {
        self.poll_entry(cx).map(Result::transpose)
    }
}
