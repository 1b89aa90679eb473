//! Owns the storage made of the store: its own log, an index, a pack beside the traffic.

use super::{Ahead, Append, Gatekeeper, Opened, PackPlan, Step, Times, Upkeep};
use crate::clock::Clock;
use crate::store::disk::Disk;
use crate::store::{
    self, Appended, Appender, BlobHold, Blobs, Left, Opening, Packed, Packer, Progress, Reader, Settler, Stage, Store,
    StoreError, StoreSettings, Swept, Txn, TxnWrite, Unsealed, Verified, VerifyStage, Writes,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Oid, Tid};

// Catching up is over when it finds no more than this; what is left the last one takes.
const CAUGHT_UP_TXNS: u64 = 64;
const CATCH_UPS_MAX: u32 = 16;

/// Opens the store on a disk; its times are measured by the clock.
pub fn open(
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    settings: StoreSettings,
    opening: impl Into<Opening>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Opened, StoreError> {
    let store::Opened { appender, reader, settler, recovered } = Store::open(disk, settings, opening, progress)?;
    let read = Arc::new(reader.clone());
    let blobs = reader.blobs().clone();
    let append =
        Box::new(LogAppend { appender: appender.timed_by(clock), blobs: blobs.clone(), pending: VecDeque::new() });
    Ok(Opened {
        append,
        ahead: Arc::new(reader.ahead()),
        read,
        blobs,
        upkeep: Arc::new(LogUpkeep { reader, settler: Arc::new(Mutex::new(settler)) }),
        recovered,
    })
}

/// Whether there is an index of the kind that the settings name; one that is not is made of the log at the next opening.
pub fn has_index(disk: &dyn Disk, settings: &StoreSettings) -> Result<bool, StoreError> {
    Store::has_index(disk, settings.index)
}

impl Ahead for store::Ahead {
    fn large(&self, writes: Vec<TxnWrite>, of: Unsealed) -> Result<Writes, StoreError> {
        store::Ahead::large(self, writes, of)
    }
}

struct LogAppend {
    appender: Appender,
    blobs: Arc<Blobs>,
    /// Each with what keeps the blobs that it names.
    pending: VecDeque<(Appended, Option<BlobHold>)>,
}

impl Append for LogAppend {
    fn append(&mut self, txns: &[Txn]) -> Result<Times, StoreError> {
        let records = txns.iter().flat_map(named).filter_map(|write| write.record.as_ref());
        let hold = self.blobs.keep_named(records);
        let appended = self.appender.append(txns)?;
        if let Some(hold) = &hold {
            self.blobs.set_named(hold);
        }
        let times = Times { write_ns: appended.write_ns, sync_ns: appended.sync_ns };
        self.pending.push_back((appended, hold));
        Ok(times)
    }

    fn publish(&mut self) {
        if let Some((appended, hold)) = self.pending.pop_front() {
            self.appender.publish(appended);
            drop(hold);
        }
    }

    fn fits_behind(&self, txns: &[Txn]) -> bool {
        self.appender.fits(txns)
    }

    fn roll(&mut self) -> Result<(), StoreError> {
        self.appender.roll()
    }

    fn begin_restored(&mut self, timeline: u64, packed_to: Tid) -> Result<(), StoreError> {
        self.appender.begin_restored(timeline, packed_to)
    }

    fn unsettled(&self) -> (u64, u64) {
        self.appender.unsettled()
    }
}

/// The writes of a transaction, unless it is known that none of them names blobs.
fn named(txn: &Txn) -> &[TxnWrite] {
    match txn.writes.run() {
        Some(run) if !run.has_blobs() => &[],
        _ => &txn.writes,
    }
}

struct LogUpkeep {
    reader: Reader,
    settler: Arc<Mutex<Settler>>,
}

impl Upkeep for LogUpkeep {
    fn left(&self) -> Left {
        self.settler.lock().left()
    }

    fn settle(&self, txns_max: usize) -> Result<Left, StoreError> {
        self.settler.lock().settle(txns_max)
    }

    fn set_lived(&self, lived_ms: u64) {
        self.settler.lock().set_lived(lived_ms);
    }

    fn close(&self) -> Result<(), StoreError> {
        self.settler.lock().close()
    }

    fn is_half_packed(&self) -> bool {
        self.settler.lock().is_half_packed()
    }

    fn resume_pack(&self) -> Result<(), StoreError> {
        store::resume_pack(&self.reader, &self.settler)
    }

    fn pack(&self, plan: PackPlan, gatekeeper: &mut dyn Gatekeeper) -> Result<(Tid, Packed), StoreError> {
        let told = |gatekeeper: &mut dyn Gatekeeper, stage: Stage, done, all| gatekeeper.step(stage.text(), done, all);
        let PackPlan { to, roots, dry_run, keys_floor } = plan;
        let mut packer = Packer::new(&self.reader, self.settler.clone(), to, &mut |stage, done, all| {
            told(gatekeeper, stage, done, all)
        })?;
        if !roots.is_empty() {
            find_garbage(&mut packer, &roots, dry_run, gatekeeper)?;
        }
        let forecast = packer.forecast(&mut |stage, done, all| told(gatekeeper, stage, done, all))?;
        if dry_run {
            return Ok((packer.to(), forecast));
        }
        if packer.needs_roll() {
            gatekeeper.roll()?;
        }
        let packed = packer.run(keys_floor, &mut |stage, done, all| told(gatekeeper, stage, done, all))?;
        // The log first: what it names no more is not needed, and a crash before this leaves a file too much.
        let to = packer.to();
        drop(packer);
        let swept = store::sweep_kept(&self.reader, &self.settler, &mut |done, all| {
            gatekeeper.step("looking for blobs that nothing names", done, all)
        })?;
        Ok((to, Packed { blobs: swept.blobs, blob_bytes: swept.bytes, ..packed }))
    }

    fn sweep_blobs(&self, now: Duration, may_look: &mut dyn FnMut() -> bool) -> Result<Swept, StoreError> {
        store::sweep_staged(&self.reader, &self.settler, now, may_look)
    }

    fn verify(&self, roots: &[Oid], step: &mut Step<'_>) -> Result<Verified, StoreError> {
        let mut told = |stage: VerifyStage, done, all| step(stage.text(), done, all);
        store::verify(&self.reader, &self.settler, roots, &mut told)
    }
}

fn find_garbage(
    packer: &mut Packer,
    roots: &[Oid],
    dry_run: bool,
    gatekeeper: &mut dyn Gatekeeper,
) -> Result<(), StoreError> {
    let told = |gatekeeper: &mut dyn Gatekeeper, stage: Stage, done, all| gatekeeper.step(stage.text(), done, all);
    if !packer.find_garbage(roots, &mut |stage, done, all| told(gatekeeper, stage, done, all))? {
        tracing::warn!("there is no root object: nothing is taken for garbage");
    }
    for _ in 0..CATCH_UPS_MAX {
        if packer.catch_up(&mut |stage, done, all| told(gatekeeper, stage, done, all))? <= CAUGHT_UP_TXNS {
            break;
        }
    }
    if !dry_run && !packer.garbage().is_empty() {
        let named = gatekeeper.condemn(packer.garbage())?;
        packer.rescue(named, &mut |stage, done, all| told(gatekeeper, stage, done, all))?;
        packer.catch_up(&mut |stage, done, all| told(gatekeeper, stage, done, all))?;
        // What was rescued may be named again at once, and not only when the pack ends.
        gatekeeper.condemn(packer.garbage())?;
    }
    Ok(())
}
