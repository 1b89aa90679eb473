//! Owns the patience with wrong tokens: each further one from an address waits longer for its answer, and only so many wait at once.
//!
//! The protocol's doors count on the connection; here each request has one of its own, so it is the address that is counted. Nobody guesses 256
//! random bits; this bounds what trying costs. Whoever shows a good token waits for nobody.

use crate::auth::visitor::delay_after;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use tokio::sync::Semaphore;

/// Addresses that are counted; beyond it all of them begin anew, which costs no more than the first tries did.
const ADDRESSES_MAX: usize = 1024;

pub(super) struct Strangers {
    wrong: Mutex<HashMap<IpAddr, u32>>,
    waiting: Semaphore,
}

impl Strangers {
    /// A quarter of the connections may wait.
    pub(super) fn new(connections_max: usize) -> Strangers {
        Strangers { wrong: Mutex::default(), waiting: Semaphore::new((connections_max / 4).max(1)) }
    }

    /// A wrong token came from there: comes back when it may be answered. False: too many wait already.
    pub(super) async fn wait(&self, address: Option<IpAddr>) -> bool {
        let Ok(_place) = self.waiting.try_acquire() else { return false };
        let before = address.map_or(0, |address| {
            let mut wrong = self.wrong.lock();
            if wrong.len() >= ADDRESSES_MAX && !wrong.contains_key(&address) {
                wrong.clear();
            }
            let count = wrong.entry(address).or_default();
            *count = count.saturating_add(1);
            *count - 1
        });
        tokio::time::sleep(delay_after(before)).await;
        true
    }

    /// A good token came from there.
    pub(super) fn forget(&self, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.wrong.lock().remove(&address);
        }
    }
}
