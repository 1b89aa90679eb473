//! Owns the pin of a process: one for all of its open snapshots, so that no transaction pays a round trip for its own.
//!
//! ```text
//!   open snapshots      a ──── b ─ b' ──────── c          the oldest open one is a
//!   the pin          p                                    p <= a, and follows within a few seconds
//! ```
//! It is taken beside the first snapshot that is opened (nobody waits for it), moved to the oldest open one now and then, and given
//! up when none was open at such a moment: so a pool of idle connections holds nothing. Before this process packs, it is moved
//! at once: what nobody here needs any more does not hold the pack back.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use zeolite_client::blocking::Wheel;
use zeolite_client::{Db, Pin, Tid};

/// Between two looks at what is open.
const LOOK: Duration = Duration::from_secs(5);

/// The open snapshots of a process on one database.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    open: Mutex<BTreeMap<Tid, usize>>,
    /// Whether somebody follows.
    followed: Mutex<bool>,
    /// Held across a move.
    pin: tokio::sync::Mutex<Option<Pin>>,
}

/// An open snapshot.
#[derive(Debug)]
pub(crate) struct Open {
    pins: Arc<Pins>,
    snapshot: Tid,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.pins.open.lock();
        if let Some(count) = open.get_mut(&self.snapshot) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.snapshot);
            }
        }
    }
}

impl Pins {
    /// Keeps a snapshot until the guard is dropped. The runtime runs who follows.
    pub(crate) fn open(self: &Arc<Self>, snapshot: Tid, db: &Db, wheel: &Wheel) -> Open {
        *self.open.lock().entry(snapshot).or_insert(0) += 1;
        let mut followed = self.followed.lock();
        if !*followed && snapshot != Tid::NONE {
            *followed = true;
            let _entered = wheel.enter();
            tokio::spawn(follow(self.clone(), db.clone()));
        }
        Open { pins: self.clone(), snapshot }
    }

    fn oldest(&self) -> Option<Tid> {
        self.open.lock().keys().find(|snapshot| **snapshot != Tid::NONE).copied()
    }

    /// Moves the pin to the oldest open snapshot, or gives it up if there is none; false then.
    pub(crate) async fn settle(&self, db: &Db) -> bool {
        let mut pin = self.pin.lock().await;
        let oldest = self.oldest();
        if let (Some(oldest), Some(held)) = (oldest, &*pin)
            && held.snapshot() == oldest
            && !held.is_lost()
        {
            return true;
        }
        // The new one first: there is no moment without.
        let next = match oldest {
            Some(oldest) => db.pin_at(oldest).await.ok(),
            None => None,
        };
        if let Some(former) = std::mem::replace(&mut *pin, next) {
            // What fails here ends with its lease.
            let _ = former.release().await;
        }
        oldest.is_some()
    }
}

async fn follow(pins: Arc<Pins>, db: Db) {
    loop {
        pins.settle(&db).await;
        tokio::time::sleep(LOOK).await;
        let mut followed = pins.followed.lock();
        if pins.oldest().is_none() {
            *followed = false;
            break;
        }
    }
    pins.settle(&db).await;
}
