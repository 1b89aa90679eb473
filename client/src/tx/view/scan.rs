//! Owns the walk over the entries of a collection at a snapshot, merged with the transaction's own writes.
//!
//! Pages come from the server one after the other; from the second on, the next one is asked for while the caller works on
//! the last. So a caller who stops early costs nothing, and a long walk does not wait for the network.

use super::View;
use crate::errors::Result;
use crate::revision::{Entry, Page, Range};
use crate::tx::own::Staged;
use bytes::Bytes;
use std::collections::VecDeque;
use zeolite_proto::{Cell, Fault, FaultKind, Oid, Tid};

/// A walk over entries; see [`View::scan`]. It sees the own writes that were made before it began. Dropping it ends it.
#[derive(Debug)]
pub struct Scan<'v> {
    view: &'v View,
    oid: Oid,
    whole: Range,
    /// What the server has not been asked for yet; none: nothing is left there.
    rest: Option<Range>,
    ahead: Option<NextPage>,
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
        loop {
            if let Some(entry) = self.page.pop_front() {
                return Ok(Some(entry));
            }
            match self.next_page().await? {
                Some(page) => self.page = page.into(),
                None => return Ok(None),
            }
        }
    }

    /// The next entries, as many as are at hand; faster than one by one. Never empty.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Entry>>> {
        loop {
            if self.left == Some(0) || (self.rest.is_none() && self.own.is_empty()) {
                return Ok(None);
            }
            let entries = match self.rest.take() {
                Some(range) => {
                    let page = self.fetch(range).await?;
                    self.read_ahead();
                    self.merge(page)?
                }
                None => self.merge(Page::default())?,
            };
            let entries = self.limited(entries);
            if !entries.is_empty() {
                return Ok(Some(entries));
            }
        }
    }

    async fn fetch(&mut self, range: Range) -> Result<Page> {
        let page = match self.ahead.take() {
            Some(mut ahead) => match (&mut ahead.0).await {
                Ok(page) => page?,
                Err(_) => View::page(self.view.db(), self.view.place(), self.oid, &range, 0).await?,
            },
            None => View::page(self.view.db(), self.view.place(), self.oid, &range, self.page_limit()).await?,
        };
        self.pages += 1;
        self.rest = page.next.clone().map(|next| self.go_on(range, next)).transpose()?;
        self.cover(page.next.as_ref());
        Ok(page)
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
