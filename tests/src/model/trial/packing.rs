//! Owns the packs of a trial, and the pins that hold them back. Only history goes: what is garbage has tests of its own.

use super::Trial;
use zeolite_proto::{Draft, Fault, FaultKind, PackOptions, Tid};
use zeolite_server::engine::{Caller, Owner};

const LEASE_MS: u64 = 3_600_000;
const PINS: usize = 2;

impl Trial {
    /// A pack to now or to some tid, perhaps given up on the way. It works on its own thread, while somebody turns the loops.
    pub(super) fn pack(&mut self) -> Result<(), String> {
        self.run_dry()?;
        self.collect()?;
        let known: Vec<Tid> = self.beside.model.log().map(|txn| txn.tid).collect();
        let to = if self.dice.chance(50) { None } else { self.dice.rng.choice(known) };
        let mut portions = self.dice.rng.u32(0..8);
        let engine = self.beside.house.engine().clone();
        let mut goes_on = move || {
            portions = portions.saturating_sub(1);
            portions > 0
        };
        let options = PackOptions::new().to(to).keep_garbage(true).dry_run(false);
        let patient = self.dice.chance(60);
        let pack = move || engine.pack(options, &mut |_| patient || goes_on());
        let packing = std::thread::spawn(pack);
        while !packing.is_finished() {
            self.beside.house.run_dry();
            std::thread::yield_now();
        }
        let packed = packing.join().map_err(|_| "a pack panicked")?;
        let harmed = self.harm.full || self.harm.log || self.harm.index;
        match packed {
            Ok(_) => self.count("packed"),
            Err(_) if harmed || !patient => self.count("a pack ended early"),
            Err(fault) => return Err(format!("a pack was refused: {fault}")),
        }
        self.packed_as_told()
    }

    /// However it ended, in whichever life: nothing that is pinned went.
    pub(super) fn packed_as_told(&mut self) -> Result<(), String> {
        let to = self.beside.house.engine().status().packed_to;
        if let Some((_, pinned)) = self.pins.iter().find(|(_, pinned)| *pinned < to) {
            return Err(format!("packed to {to}, but {pinned} is pinned"));
        }
        self.beside.model.pack(to);
        // Who expects nothing where a packed deletion was may be told of it or not: nobody here does.
        self.snapshots.iter_mut().filter(|snapshot| **snapshot == Tid::NONE).for_each(|snapshot| *snapshot = to);
        Ok(())
    }

    /// Snapshots are pinned, moved and let go.
    pub(super) fn change_a_pin(&mut self) -> Result<(), String> {
        let engine = self.beside.house.engine().clone();
        let owner = Owner::anonymous();
        if self.pins.len() < PINS {
            let at = self.a_snapshot();
            let at = if at == Tid::NONE { engine.visible() } else { at };
            return match engine.pin(&Caller::default(), at, LEASE_MS) {
                Ok(pin) => {
                    self.pins.push((pin.pin, at));
                    Ok(())
                }
                Err(fault) => self.is_packed_away(at, &fault),
            };
        }
        let which = self.dice.rng.usize(0..PINS);
        if self.dice.chance(50) {
            engine.unpin(&owner, self.pins.swap_remove(which).0);
            return Ok(());
        }
        let to = engine.visible();
        let moved = engine.renew(&owner, self.pins[which].0, LEASE_MS, Some(to));
        moved.map_err(|fault| format!("a pin was not moved: {fault}"))?;
        self.pins[which].1 = to;
        self.count("moved a pin");
        Ok(())
    }

    /// A snapshot is refused only if it is older than the last pack.
    pub(super) fn is_packed_away(&self, at: Tid, fault: &Fault) -> Result<(), String> {
        match fault.kind {
            FaultKind::SnapshotPacked if at < self.beside.model.packed_to() => Ok(()),
            _ => Err(format!("the snapshot {at} was refused: {fault}")),
        }
    }

    /// Whether a draft may be refused because what it was made on is packed away.
    pub(super) fn is_made_on_what_went(&self, draft: &Draft) -> bool {
        draft.writes.iter().any(|write| write.base <= self.beside.model.packed_to())
    }
}
