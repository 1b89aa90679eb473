//! Owns the pin: a guard that keeps a snapshot from being packed for as long as it lives.
//!
//! On the server a pin is a lease. A task renews it at a third of its time, and each new session does (`connect::pins`). When the
//! server has lost it and would not take it again, the pin is *lost*: reads go on as long as pack leaves the snapshot alone, and
//! fail with a named fault after that.

use crate::connect::{Attached, Core, Db, LEASE_MS, Life, LivePin, Resend};
use crate::errors::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::Tid;

/// A pinned snapshot. Clones share the pin; the last one that is dropped gives it up.
///
/// ```
/// # zeolite_testing::with_db(async |db| {
/// let pin = db.pin().await?;
/// let then = pin.view(); // whatever is packed meanwhile
/// assert_eq!(then.snapshot(), pin.snapshot());
/// pin.release().await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Pin {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: Db,
    pin: Arc<LivePin>,
    renewal: tokio::task::AbortHandle,
    open: bool,
}

impl Pin {
    pub(crate) async fn take(db: Db, snapshot: Tid) -> Result<Pin> {
        let take = |attached: Arc<Attached>| async move {
            attached.link.pin(snapshot, LEASE_MS).await.map(|lease| (lease, attached.generation))
        };
        let (lease, generation) = db.core().call_at(Resend::Always, snapshot, take).await?;
        let known = db.core().position.life_at(lease.snapshot);
        let life = if known.generation == generation { known } else { Life { generation, timeline: 0 } };
        let pin = db.core().pins.keep(&lease, life);
        let renewal = tokio::spawn(renew(db.core().clone(), lease.lease_ms, pin.clone())).abort_handle();
        Ok(Pin { shared: Arc::new(Shared { db, pin, renewal, open: true }) })
    }

    pub(super) fn db(&self) -> &Db {
        &self.shared.db
    }

    pub(super) fn life(&self) -> Life {
        self.shared.pin.life()
    }

    /// Gives it up, and waits until the server has; nothing happens while there are clones.
    pub async fn release(self) -> Result<()> {
        let Some(mut shared) = Arc::into_inner(self.shared) else { return Ok(()) };
        shared.open = false;
        shared.renewal.abort();
        let pin = shared.pin.number();
        shared.db.core().call(Resend::Always, |link| async move { link.unpin(pin).await }).await
    }

    /// The pinned tid.
    pub fn snapshot(&self) -> Tid {
        self.shared.pin.snapshot()
    }

    /// Whether the server no longer holds it, and would not take it again.
    pub fn is_lost(&self) -> bool {
        self.shared.pin.is_lost()
    }
}

async fn renew(core: Arc<Core>, mut lease_ms: u64, pin: Arc<LivePin>) {
    loop {
        tokio::time::sleep(Duration::from_millis((lease_ms / 3).max(10))).await;
        let renewed = &pin;
        let renew = |attached: Arc<Attached>| async move {
            // Where its tid means something else, it would pin what it never saw.
            if attached.generation == renewed.life().generation {
                renewed.renew(&attached.link).await.map(Some)
            } else {
                Ok(None)
            }
        };
        match core.call_attached(Resend::Always, renew).await {
            Ok(Some(lease)) => lease_ms = lease.lease_ms,
            Ok(None) => {
                pin.give_up();
                return;
            }
            Err(Error::Fault(fault)) => {
                tracing::debug!(%fault, "a pin was not renewed");
                pin.give_up();
                return;
            }
            // No connection: the next session renews it.
            Err(_) => {}
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.open || self.db.core().here().is_err() {
            return;
        }
        self.renewal.abort();
        // Without a runtime (the process is ending) the lease simply runs out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (db, pin) = (self.db.clone(), self.pin.number());
            runtime.spawn(async move {
                let given_up = db.core().call(Resend::Always, |link| async move { link.unpin(pin).await }).await;
                tracing::trace!(pin, ok = given_up.is_ok(), "unpinned");
            });
        }
    }
}
