//! The reads: what is visible, the feed that tells it, the pins that keep it, and every answer made of it.

pub(crate) mod age;
pub mod feed;
pub(crate) mod pins;
pub(crate) mod read;
pub(crate) mod since;
#[cfg(test)]
mod test_times;

use super::Engine;
use crate::engine::caller::{Caller, Owner};
use crate::storage::Read;
use age::Age;
use feed::{Feed, FeedItem, FeedSink};
use pins::{PinInfo, Pins};
use since::Since;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, Tid};

/// What is read from, and what of it is visible.
pub(super) struct Reads {
    reader: Arc<dyn Read>,
    feed: Arc<Feed>,
    age: Age,
    since: Since,
    pins: Pins,
}

impl Reads {
    pub(super) fn new(reader: Arc<dyn Read>, visible: Tid, age: Age, since: Since, pins: Pins) -> Reads {
        Reads { reader, feed: Arc::new(Feed::new(visible)), age, since, pins }
    }

    /// Pushes a batch to every subscriber, then makes its tids visible. Only the writer calls this, in order.
    pub(super) fn publish(&self, last: Tid, items: impl FnOnce() -> Vec<FeedItem>) {
        self.feed.publish(last, self.reader.timeline(), items);
        self.age.mark(last);
        self.since.mark(last);
    }

    /// How many listen to the feed.
    pub(super) fn listeners(&self) -> usize {
        self.feed.listeners()
    }
}

impl Engine {
    /// The newest tid that may be read.
    pub fn visible(&self) -> Tid {
        self.reads.feed.visible()
    }

    /// The newest tid that anybody can have been told of: the feed tells a commit a moment before it is visible.
    pub(crate) fn told_at_most(&self) -> Tid {
        self.reader().published()
    }

    /// The store's identity: a copy that is restored somewhere else gets another.
    pub fn store_id(&self) -> u64 {
        self.reader().store_id()
    }

    /// Registers a sink for the feed; gives the visible tid: everything later is pushed to it.
    pub fn subscribe(&self, sink: Arc<dyn FeedSink>) -> Tid {
        self.feed().join(|_| Some(sink))
    }

    /// The feed, for whoever joins it with a sink that many share, or notes what every later commit must find.
    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.reads.feed
    }

    /// Pins a snapshot for a caller ([`Tid::NONE`]: the newest) for a lease (0: the default), so that pack keeps what it sees.
    pub fn pin(&self, caller: &Caller, snapshot: Tid, lease_ms: u64) -> Result<PinInfo, Fault> {
        self.reads.pins.pin(caller, self.unpacked(snapshot)?, lease_ms)
    }

    /// Makes the lease of an owner's pin begin anew; with `to` the pin moves there.
    pub fn renew(&self, owner: &Owner, pin: u64, lease_ms: u64, to: Option<Tid>) -> Result<PinInfo, Fault> {
        let to = to.map(|to| self.unpacked(to)).transpose()?;
        self.reads.pins.renew(owner, pin, lease_ms, to)
    }

    fn unpacked(&self, snapshot: Tid) -> Result<Tid, Fault> {
        let (snapshot, packed_to) = (self.snapshot(snapshot)?, self.packed_to());
        if snapshot < packed_to { Err(pins::packed(snapshot, packed_to)) } else { Ok(snapshot) }
    }

    /// Ends an owner's pin.
    pub fn unpin(&self, owner: &Owner, pin: u64) {
        self.reads.pins.unpin(owner, pin);
    }

    pub(super) fn reader(&self) -> &dyn Read {
        self.reads.reader.as_ref()
    }

    pub(super) fn age(&self) -> &Age {
        &self.reads.age
    }

    /// How much history there is from a snapshot to the newest commit, in time that has passed.
    pub(super) fn behind(&self, snapshot: Tid) -> Duration {
        self.reads.since.behind(snapshot)
    }

    pub(super) fn pins(&self) -> &Pins {
        &self.reads.pins
    }
}
