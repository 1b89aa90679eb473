//! Owns the pin: a guard that keeps a snapshot from being packed for as long as it lives.
//!
//! On the server a pin is a lease. A task renews it at a third of its time, so two renewals may fail before it runs out; a
//! pin that the server has lost (it was restarted) is taken anew at the same snapshot. When that fails too, the pin is
//! *lost*: reads go on as long as pack leaves the snapshot alone, and fail with a named fault after that.

use crate::answer::PinLease;
use crate::connect::{Attached, Core, Db, Resend};
use crate::errors::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use zeolite_proto::{FaultKind, Tid};

/// The lease to ask for: long enough to outlive a restart of the server's network, short enough to free a dead client's.
const LEASE_MS: u64 = 60_000;

/// A pinned snapshot. Clones share the pin; the last one that is dropped gives it up.
#[derive(Clone, Debug)]
pub struct Pin {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: Db,
    snapshot: Tid,
    generation: u64,
    current: Arc<Current>,
    renewal: tokio::task::AbortHandle,
}

/// What the renewing task changes.
#[derive(Debug)]
struct Current {
    pin: AtomicU64,
    lost: AtomicBool,
}

impl Pin {
    pub(crate) async fn take(db: Db, snapshot: Tid) -> Result<Pin> {
        let take = |attached: Arc<Attached>| async move {
            attached.link.pin(snapshot, LEASE_MS).await.map(|lease| (lease, attached.generation))
        };
        let (lease, generation) = db.core().call_at(Resend::Always, snapshot, take).await?;
        let current = Arc::new(Current { pin: AtomicU64::new(lease.pin), lost: AtomicBool::new(false) });
        let renewal = tokio::spawn(renew(db.core().clone(), lease, current.clone())).abort_handle();
        Ok(Pin { shared: Arc::new(Shared { db, snapshot: lease.snapshot, generation, current, renewal }) })
    }

    pub(super) fn db(&self) -> &Db {
        &self.shared.db
    }

    pub(super) fn generation(&self) -> u64 {
        self.shared.generation
    }

    /// The pinned tid.
    pub fn snapshot(&self) -> Tid {
        self.shared.snapshot
    }

    /// Whether the server no longer holds it, and would not take it again.
    pub fn is_lost(&self) -> bool {
        self.shared.current.lost.load(Ordering::Acquire)
    }
}

async fn renew(core: Arc<Core>, first: PinLease, current: Arc<Current>) {
    let mut lease = first;
    loop {
        tokio::time::sleep(Duration::from_millis((lease.lease_ms / 3).max(10))).await;
        let (pin, snapshot) = (lease.pin, lease.snapshot);
        let renewed = core.call(Resend::Always, |link| async move { link.renew(pin, LEASE_MS).await }).await;
        let renewed = match renewed {
            Err(Error::Fault(fault)) if fault.kind == FaultKind::PinLost => {
                core.call(Resend::Always, |link| async move { link.pin(snapshot, LEASE_MS).await }).await
            }
            renewed => renewed,
        };
        match renewed {
            Ok(granted) => {
                lease = PinLease { snapshot, ..granted };
                current.pin.store(lease.pin, Ordering::Release);
            }
            Err(Error::Fault(fault)) => {
                tracing::warn!(%snapshot, %fault, "a pinned snapshot was lost; pack may remove it");
                current.lost.store(true, Ordering::Release);
                return;
            }
            // No connection: the lease may still be held when there is one again.
            Err(_) => {}
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.renewal.abort();
        // Without a runtime (the process is ending) the lease simply runs out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (db, pin) = (self.db.clone(), self.current.pin.load(Ordering::Acquire));
            runtime.spawn(async move {
                let given_up = db.core().call(Resend::Always, |link| async move { link.unpin(pin).await }).await;
                tracing::trace!(pin, ok = given_up.is_ok(), "unpinned");
            });
        }
    }
}
