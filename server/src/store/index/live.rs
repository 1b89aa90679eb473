//! Owns the index that is used now: one that has failed is taken down and another one takes its place, under everybody who reads.
//!
//! Who has a view of the one that is gone may be told an error, and never anything wrong.

use super::{Change, Failure, Index, View};
use crate::store::StoreError;
use parking_lot::RwLock;
use std::sync::Arc;

/// An index, or why there is none at the moment.
pub(crate) struct LiveIndex {
    now: RwLock<Result<Arc<dyn Index>, Failure>>,
    #[cfg(test)]
    views: std::sync::atomic::AtomicU64,
}

impl LiveIndex {
    /// This one from now on.
    pub(crate) fn new(index: Arc<dyn Index>) -> LiveIndex {
        LiveIndex {
            now: RwLock::new(Ok(index)),
            #[cfg(test)]
            views: Default::default(),
        }
    }

    /// How many views there were.
    #[cfg(test)]
    pub(crate) fn views(&self) -> u64 {
        self.views.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// See [`Index::view`].
    pub(crate) fn view(&self) -> Result<Box<dyn View>, StoreError> {
        let index = self.now()?;
        #[cfg(test)]
        self.views.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match index.failure() {
            Some(failure) => Err(StoreError::IndexDown { why: failure.what }),
            None => index.view(),
        }
    }

    /// See [`Index::commit`].
    pub(crate) fn commit(&self, changes: &[Change], durable: bool) -> Result<(), StoreError> {
        self.now()?.commit(changes, durable)
    }

    /// See [`Index::make_room`].
    pub(crate) fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        self.now()?.make_room(bytes)
    }

    /// See [`Index::size_bytes`].
    pub(crate) fn size_bytes(&self) -> u64 {
        self.now().map_or(0, |index| index.size_bytes())
    }

    /// See [`Index::compact`]; not while somebody reads.
    pub(crate) fn compact(&self) -> Result<(), StoreError> {
        match self.now.write().as_mut().map(Arc::get_mut) {
            Ok(Some(index)) => index.compact(),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// See [`Index::close`].
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        self.now()?.close()
    }

    /// What has failed, as long as no other index has taken the place of the one that did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match &*self.now.read() {
            Ok(index) => index.failure(),
            Err(failure) => Some(failure.clone()),
        }
    }

    /// From now on there is none.
    pub(crate) fn take_down(&self, failure: Failure) {
        let old = std::mem::replace(&mut *self.now.write(), Err(failure));
        if let Ok(index) = old {
            index.abandon();
        }
    }

    /// From now on it is what another one is.
    pub(crate) fn bring_up(&self, other: LiveIndex) {
        *self.now.write() = other.now.into_inner();
    }

    fn now(&self) -> Result<Arc<dyn Index>, StoreError> {
        match &*self.now.read() {
            Ok(index) => Ok(index.clone()),
            Err(failure) => Err(StoreError::IndexDown { why: failure.what.clone() }),
        }
    }
}
