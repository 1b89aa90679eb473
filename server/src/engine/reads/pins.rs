//! Owns the pins: snapshots that pack must keep, each for as long as its lease lasts.
//!
//! A pin belongs to its owner and to nobody's connection: a client that lost its line renews it from the next one. When a lease ends the pin
//! is gone, and pack may take what only it saw.
//!
//! Pins are kept in memory, so none outlives the server. What was pinned before is not known after a start: for a *grace* pack
//! leaves all history, and each client that comes back in that time pins its snapshots again by their tids. One that is away
//! for longer has lost them, as by a lease that has run out.

use crate::clock::Clock;
use crate::engine::caller::{Caller, Owner};
use crate::engine::ids::Ids;
use crate::engine::share::{Counted, Place};
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
    /// Until then clients may come back for what they had pinned.
    grace_until: Duration,
    ids: Ids,
    state: Mutex<State>,
}

/// What pins are bound by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PinBounds {
    pub(crate) pins_max: usize,
    pub(crate) lease_ms_max: u64,
    /// After the start, for pins of before.
    pub(crate) grace: Duration,
}

/// A pinned snapshot.
struct Pin {
    owner: Owner,
    snapshot: Tid,
    until: Duration,
    _place: Place,
}

struct State {
    pins: BTreeMap<u64, Pin>,
    /// Pack has been promised that nothing older than this gets pinned.
    floor: Tid,
}

impl Pins {
    pub(crate) fn new(clock: Arc<dyn Clock>, bounds: PinBounds, seed: u64, floor: Tid) -> Pins {
        let PinBounds { pins_max, lease_ms_max, grace } = bounds;
        let grace_until = clock.steady() + grace;
        let state = Mutex::new(State { pins: BTreeMap::new(), floor });
        let (ids, lease_ms_default) = (Ids::new(seed, "pin"), lease_ms_max.min(60_000));
        Pins { clock, pins_max, lease_ms_default, lease_ms_max, grace_until, ids, state }
    }

    pub(crate) fn pin(&self, caller: &Caller, snapshot: Tid, lease_ms: u64) -> Result<PinInfo, Fault> {
        let lease_ms = self.lease(lease_ms)?;
        let now = self.clock.steady();
        let mut state = self.state.lock();
        state.expire(now);
        if snapshot < state.floor {
            return Err(packed(snapshot, state.floor));
        }
        if state.pins.len() >= self.pins_max {
            let message = format!("{} snapshots are pinned already; unpin some, or come back", state.pins.len());
            return Err(Fault::new(FaultKind::Busy, message).after_ms(1000));
        }
        let place = caller.share.take(Counted::Pins, 1, self.pins_max)?;
        let pin = self.ids.next(|id| state.pins.contains_key(&id));
        let until = now + Duration::from_millis(lease_ms);
        state.pins.insert(pin, Pin { owner: caller.owner.clone(), snapshot, until, _place: place });
        Ok(PinInfo { pin, snapshot, lease_ms })
    }

    /// A new lease from now on; with `to` the pin moves there.
    pub(crate) fn renew(&self, owner: &Owner, pin: u64, lease_ms: u64, to: Option<Tid>) -> Result<PinInfo, Fault> {
        let lease_ms = self.lease(lease_ms)?;
        let now = self.clock.steady();
        let mut state = self.state.lock();
        state.expire(now);
        let floor = state.floor;
        let Some(held) = state.pins.get_mut(&pin).filter(|held| held.owner == *owner) else {
            // One that is somebody else's is none: the answer tells nobody what others have.
            let message = "the pin's lease has run out, or it never was; pin a new snapshot";
            return Err(Fault::new(FaultKind::PinLost, message));
        };
        if let Some(to) = to {
            if to < floor {
                return Err(packed(to, floor));
            }
            held.snapshot = to;
        }
        held.until = now + Duration::from_millis(lease_ms);
        Ok(PinInfo { pin, snapshot: held.snapshot, lease_ms })
    }

    /// Ends a pin; one that has ended already, or is not the owner's, is no error.
    pub(crate) fn unpin(&self, owner: &Owner, pin: u64) {
        let mut state = self.state.lock();
        if state.pins.get(&pin).is_some_and(|held| held.owner == *owner) {
            state.pins.remove(&pin);
        }
    }

    /// The number of pins and the oldest pinned snapshot.
    pub(crate) fn oldest(&self) -> (usize, Option<Tid>) {
        let mut state = self.state.lock();
        state.expire(self.clock.steady());
        (state.pins.len(), state.pins.values().map(|pin| pin.snapshot).min())
    }

    /// For how long pack is to leave all history yet.
    pub(crate) fn grace_left(&self) -> Option<Duration> {
        let left = self.grace_until.saturating_sub(self.clock.steady());
        (!left.is_zero()).then_some(left)
    }

    /// Pack wants to forget everything older than `wanted`: gives the tid it may go to, and from now on refuses to pin
    /// anything older than that.
    pub(crate) fn allow_pack(&self, wanted: Tid) -> Tid {
        let mut state = self.state.lock();
        state.expire(self.clock.steady());
        let oldest = state.pins.values().map(|pin| pin.snapshot).min();
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

/// The fault of a snapshot that cannot be pinned any more.
pub(crate) fn packed(snapshot: Tid, floor: Tid) -> Fault {
    let message =
        format!("snapshot {snapshot} is older than {floor}, up to which history is packed; open a newer snapshot");
    Fault::new(FaultKind::SnapshotPacked, message)
}

impl State {
    fn expire(&mut self, now: Duration) {
        self.pins.retain(|_, pin| pin.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;

    const BOUNDS: PinBounds = PinBounds { pins_max: 2, lease_ms_max: 10_000, grace: Duration::ZERO };

    fn by(name: &str) -> Caller {
        Caller { owner: Owner::named(name), ..Caller::default() }
    }

    #[test]
    fn a_lease_ends_by_time_and_only_then() {
        let clock = Arc::new(HandClock::at(0));
        let pins = Pins::new(clock.clone(), BOUNDS, 5, Tid::NONE);
        let (owner, by_me) = (Owner::named("me"), by("me"));
        let first = pins.pin(&by_me, Tid(7), 1000).expect("pins");
        let second = pins.pin(&by_me, Tid(9), 2000).expect("pins");
        assert_eq!(pins.pin(&by_me, Tid(9), 1).map_err(|fault| fault.kind), Err(FaultKind::Busy));
        assert_eq!(pins.allow_pack(Tid(100)), Tid(7));
        clock.advance(Duration::from_millis(999));
        assert!(pins.renew(&owner, first.pin, 500, None).is_ok());
        clock.advance(Duration::from_millis(500));
        assert_eq!(pins.renew(&owner, first.pin, 500, None).map_err(|fault| fault.kind), Err(FaultKind::PinLost));
        assert_eq!(pins.allow_pack(Tid(100)), Tid(9));
        assert_eq!(pins.renew(&owner, second.pin, 500, Some(Tid(50))).map(|pin| pin.snapshot), Ok(Tid(50)));
        assert_eq!(pins.allow_pack(Tid(100)), Tid(50), "it keeps what it moved to, and no longer what it left");
        assert_eq!(
            pins.renew(&owner, second.pin, 1, Some(Tid(9))).map_err(|fault| fault.kind),
            Err(FaultKind::SnapshotPacked)
        );
        pins.unpin(&owner, second.pin);
        assert_eq!(pins.allow_pack(Tid(100)), Tid(100));
        assert_eq!(pins.pin(&by_me, Tid(99), 1).map_err(|fault| fault.kind), Err(FaultKind::SnapshotPacked));
    }

    #[test]
    fn a_pin_is_its_owners_alone() {
        let pins = Pins::new(Arc::new(HandClock::at(0)), BOUNDS, 5, Tid::NONE);
        let (mine, theirs) = (Owner::named("me"), Owner::named("they"));
        let pin = pins.pin(&by("me"), Tid(7), 1000).expect("pins").pin;
        for stranger in [&theirs, &Owner::anonymous()] {
            assert_eq!(pins.renew(stranger, pin, 500, None).map_err(|fault| fault.kind), Err(FaultKind::PinLost));
            pins.unpin(stranger, pin);
        }
        assert!(pins.renew(&mine, pin, 500, None).is_ok(), "nobody else has ended it");
        pins.unpin(&mine, pin);
        assert_eq!(pins.oldest(), (0, None));
    }
}
