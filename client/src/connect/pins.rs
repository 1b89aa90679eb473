//! Owns the pins that this client holds. On the server each is a lease in memory: it is renewed as soon as there is a session
//! again, and taken anew if the server was restarted, before any request goes out. So nobody can ask for a pack through this
//! client, and no time limit can run out, before its pins are there; what others ask for meanwhile, the server's grace after a
//! start keeps away from them. In another life of the store a pin is lost, since its tid means something else there.

use super::position::Life;
use crate::answer::PinLease;
use crate::wire::{Failure, Link};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use zeolite_proto::{FaultKind, Tid};

/// The lease to ask for: long enough to outlive a restart of the server's network, short enough to free a dead client's.
pub(crate) const LEASE_MS: u64 = 60_000;

/// A pin, as the server knows it.
#[derive(Debug)]
pub(crate) struct LivePin {
    snapshot: Tid,
    /// The store that it is of.
    life: Life,
    number: AtomicU64,
    lost: AtomicBool,
}

/// Those of one client.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    all: Mutex<Vec<Weak<LivePin>>>,
}

impl Pins {
    /// Keeps a pin that was granted, for as long as somebody else does.
    pub(crate) fn keep(&self, lease: &PinLease, life: Life) -> Arc<LivePin> {
        let (number, lost) = (AtomicU64::new(lease.pin), AtomicBool::new(false));
        let pin = Arc::new(LivePin { snapshot: lease.snapshot, life, number, lost });
        let mut all = self.all.lock();
        all.retain(|pin| pin.strong_count() > 0);
        all.push(Arc::downgrade(&pin));
        pin
    }

    /// Renews all that are of the store behind the link; those of another one are lost. What fails is told when the pin is
    /// renewed next.
    pub(super) async fn renew_all(&self, link: &Link, generation: u64) {
        let all: Vec<Arc<LivePin>> = self.all.lock().iter().filter_map(Weak::upgrade).collect();
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            all.iter().filter(|pin| !pin.is_lost()).partition(|pin| pin.life.generation == generation);
        elsewhere.iter().for_each(|pin| pin.give_up());
        for pin in here {
            let renewed = pin.renew(link).await;
            tracing::debug!(snapshot = %pin.snapshot, ok = renewed.is_ok(), "a pin was renewed in a new session");
        }
    }
}

impl LivePin {
    pub(crate) fn snapshot(&self) -> Tid {
        self.snapshot
    }

    pub(crate) fn life(&self) -> Life {
        self.life
    }

    /// Its number on the server.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The server no longer holds it, and would not take it again.
    pub(crate) fn give_up(&self) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            let snapshot = self.snapshot;
            tracing::warn!(%snapshot, "a pinned snapshot was lost: pack may remove it, or the store has another life");
        }
    }

    /// Renews the lease, or takes the same snapshot anew.
    pub(crate) async fn renew(&self, link: &Link) -> Result<PinLease, Failure> {
        let lease = match link.renew(self.number(), LEASE_MS).await {
            Err(Failure::Fault(fault)) if fault.kind == FaultKind::PinLost => link.pin(self.snapshot, LEASE_MS).await?,
            renewed => renewed?,
        };
        self.number.store(lease.pin, Ordering::Release);
        Ok(lease)
    }
}
