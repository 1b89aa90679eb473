//! Owns the pins: snapshots that pack must keep, each for as long as its lease lasts.
//!
//! A pin belongs to nobody's connection: a client that lost its line renews it from the next one. When a lease ends the pin
//! is gone, and pack may take what only it saw.

use crate::clock::Clock;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Tid};

/// A pin as its holder sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PinInfo {
    /// Its number, for renew and unpin.
    pub pin: u64,
    /// The snapshot that it keeps.
    pub snapshot: Tid,
    /// How long the lease lasts from now.
    pub lease_ms: u64,
}

/// All pins.
pub(crate) struct Pins {
    clock: Arc<dyn Clock>,
    pins_max: usize,
    lease_ms_default: u64,
    lease_ms_max: u64,
    state: Mutex<State>,
}

struct State {
    next: u64,
    pins: BTreeMap<u64, (Tid, Duration)>,
    /// Pack has been promised that nothing older than this gets pinned.
    floor: Tid,
}

impl Pins {
    pub(crate) fn new(clock: Arc<dyn Clock>, pins_max: usize, lease_ms_max: u64, seed: u64, floor: Tid) -> Pins {
        // Numbers start at a random place so that a pin of an earlier life of the server is not mistaken for one of this.
        let state = Mutex::new(State { next: seed | 1, pins: BTreeMap::new(), floor });
        Pins { clock, pins_max, lease_ms_default: lease_ms_max.min(60_000), lease_ms_max, state }
    }

    pub(crate) fn pin(&self, snapshot: Tid, lease_ms: u64) -> Result<PinInfo, Fault> {
        let lease_ms = self.lease(lease_ms)?;
        let now = self.clock.steady();
        let mut state = self.state.lock();
        state.expire(now);
        if snapshot < state.floor {
            let message = format!("snapshot {snapshot} is older than {}, up to which history is packed", state.floor);
            return Err(Fault::new(FaultKind::SnapshotPacked, message + "; open a newer snapshot"));
        }
        if state.pins.len() >= self.pins_max {
            let message = format!("{} snapshots are pinned already; unpin some, or come back", state.pins.len());
            return Err(Fault::new(FaultKind::Busy, message).after_ms(1000));
        }
        let pin = state.next;
        state.next = state.next.wrapping_add(1);
        state.pins.insert(pin, (snapshot, now + Duration::from_millis(lease_ms)));
        Ok(PinInfo { pin, snapshot, lease_ms })
    }

    pub(crate) fn renew(&self, pin: u64, lease_ms: u64) -> Result<PinInfo, Fault> {
        let lease_ms = self.lease(lease_ms)?;
        let now = self.clock.steady();
        let mut state = self.state.lock();
        state.expire(now);
        let Some((snapshot, until)) = state.pins.get_mut(&pin) else {
            let message = "the pin's lease has run out, or it never was; pin a new snapshot";
            return Err(Fault::new(FaultKind::PinLost, message));
        };
        *until = now + Duration::from_millis(lease_ms);
        Ok(PinInfo { pin, snapshot: *snapshot, lease_ms })
    }

    /// Ends a pin; one that has ended already is no error.
    pub(crate) fn unpin(&self, pin: u64) {
        self.state.lock().pins.remove(&pin);
    }

    /// The number of pins and the oldest pinned snapshot.
    pub(crate) fn oldest(&self) -> (usize, Option<Tid>) {
        let mut state = self.state.lock();
        state.expire(self.clock.steady());
        (state.pins.len(), state.pins.values().map(|(snapshot, _)| *snapshot).min())
    }

    /// Pack wants to forget everything older than `wanted`: gives the tid it may go to, and from now on refuses to pin
    /// anything older than that.
    pub(crate) fn allow_pack(&self, wanted: Tid) -> Tid {
        let mut state = self.state.lock();
        state.expire(self.clock.steady());
        let oldest = state.pins.values().map(|(snapshot, _)| *snapshot).min();
        let to = oldest.map_or(wanted, |oldest| oldest.min(wanted));
        state.floor = state.floor.max(to);
        to
    }

    /// The pack is over, and came to here: where it took nothing, anything may be pinned again.
    pub(crate) fn pack_ended(&self, packed_to: Tid) {
        self.state.lock().floor = packed_to;
    }

    fn lease(&self, lease_ms: u64) -> Result<u64, Fault> {
        match lease_ms {
            0 => Ok(self.lease_ms_default),
            ms if ms <= self.lease_ms_max => Ok(ms),
            ms => Err(Fault::too_large("lease_ms", ms as usize, self.lease_ms_max as usize)),
        }
    }
}

impl State {
    fn expire(&mut self, now: Duration) {
        self.pins.retain(|_, (_, until)| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;

    #[test]
    fn a_lease_ends_by_time_and_only_then() {
        let clock = Arc::new(HandClock::at(0));
        let pins = Pins::new(clock.clone(), 2, 10_000, 5, Tid::NONE);
        let first = pins.pin(Tid(7), 1000).expect("pins");
        let second = pins.pin(Tid(9), 2000).expect("pins");
        assert_eq!(pins.pin(Tid(9), 1).map_err(|fault| fault.kind), Err(FaultKind::Busy));
        assert_eq!(pins.allow_pack(Tid(100)), Tid(7));
        clock.advance(Duration::from_millis(999));
        assert!(pins.renew(first.pin, 500).is_ok());
        clock.advance(Duration::from_millis(500));
        assert_eq!(pins.renew(first.pin, 500).map_err(|fault| fault.kind), Err(FaultKind::PinLost));
        assert_eq!(pins.allow_pack(Tid(100)), Tid(9));
        pins.unpin(second.pin);
        assert_eq!(pins.allow_pack(Tid(100)), Tid(100));
        assert_eq!(pins.pin(Tid(99), 1).map_err(|fault| fault.kind), Err(FaultKind::SnapshotPacked));
    }
}
