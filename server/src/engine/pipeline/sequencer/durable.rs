//! Owns the sequencer's part in prepared drafts that outlive the server: how one is kept, taken up again, and ended.
//!
//! ```text
//!   prepare ── its pieces, sealed ──> durable: answered          finish: its writes and the end of its pieces, in one transaction
//!   start, restore ──> pieces read ──> held again                abort:  the end of its pieces
//!   the server is stopped ──> the others are kept as well, for as long as their time limits last
//! ```
//! What keeps it are cells of the server's own, written like everything else: so they are refused, packed, copied and recovered
//! like everything else. Whoever is in its way waits a while, and is told then whom to ask: it may take days.

use super::Sequencer;
use crate::engine::answers::Done;
use crate::engine::caller::Caller;
use crate::engine::faults::shutting_down;
use crate::engine::keep::prepared_cell::{self, KeptDraft};
use crate::engine::pipeline::ask::{Answer, Origin};
use crate::engine::pipeline::endings::Ending;
use crate::engine::pipeline::holds::{Durable, Prepared};
use crate::engine::pipeline::keys::Keyed;
use crate::engine::pipeline::ranges;
use crate::engine::pipeline::wide::WideReads;
use crate::engine::pipeline::yields::Passed;
use crate::engine::sealed_write::SealedWrite;
use crate::engine::share::Share;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{CommitKey, Fault, FaultKind, Limits, Note, Oid, PreparedDraft, Receipt, Role, Tid};

/// For so long whoever needs the cells of a durable draft is parked.
const WAIT: Duration = Duration::from_secs(10);
/// An end that was refused is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

impl Sequencer {
    /// The records that would keep a draft, or why it cannot be kept: a copy of the database has to take both of its
    /// transactions.
    pub(super) fn records_to_keep(
        &self,
        prepared: &Prepared,
        time_limit_ms: u64,
        for_restart: bool,
    ) -> Result<Vec<Bytes>, Fault> {
        let kept = KeptDraft {
            key: prepared.key,
            digest: self.engine.keys().digest(prepared.key),
            priority: prepared.priority,
            note: prepared.note.clone(),
            owner: prepared.caller.owner.clone(),
            writes: prepared.writes.clone(),
            read_cells: prepared.read_cells.clone(),
            read_ranges: prepared.read_ranges.clone(),
            bytes: prepared.bytes,
            since_unix_ms: prepared.since_unix_ms,
            since_lived_ms: self.engine.keys().lived_ms(),
            time_limit_ms,
            for_restart,
        };
        let limits = self.engine.limits();
        let records = prepared_cell::records_of(&kept, limits.record_bytes_max)?;
        fits(prepared, &records, limits).map(|()| records)
    }

    /// A draft is prepared when what keeps it is durable. Gives what it is known by.
    pub(super) fn keep(&mut self, key: CommitKey, records: Vec<Bytes>, done: Done<Receipt>) -> Durable {
        let pieces = records.len();
        self.engine.keys().keep(key, 0);
        let write = |(cell, record)| SealedWrite { cell, stamped: false, record: Some(record), merged: false };
        let writes = prepared_cell::cells(key, pieces).zip(records).map(write).collect();
        self.write_own(writes, format!("prepared {key}"), done);
        Durable { pieces, waited_until: self.engine.clock().steady() + WAIT, for_restart: false }
    }

    /// The server is stopped in order: a draft that is prepared in the usual strength is kept for the next life, where its client finishes
    /// it by its key as if nothing had been. One draft a turn, since each is sealed; says whether there was one.
    pub(super) fn keep_over_restart(&mut self) -> bool {
        let now = self.engine.clock().steady();
        let is_copy = self.engine.check_seat().is_err();
        if is_copy || self.engine.health.has_died() || self.engine.health.unwritable().is_some() {
            return false;
        }
        let Some((id, prepared)) = self.holds.one_to_keep(now).and_then(|id| Some((id, self.holds.get(id)?))) else {
            return false;
        };
        let left_ms = (prepared.deadline - now).as_millis() as u64;
        let key = prepared.key;
        match self.records_to_keep(prepared, left_ms.max(1), true) {
            Ok(records) => {
                let told = move |kept: Result<Receipt, Fault>| {
                    if let Err(why) = kept {
                        tracing::warn!(%key, %why, "a prepared draft is lost by the restart; its client has to begin anew");
                    }
                };
                let durable = self.keep(key, records, Box::new(told));
                self.kept_in = Some(self.epoch);
                self.holds.is_kept(id, Durable { for_restart: true, ..durable });
            }
            Err(why) => {
                tracing::warn!(%key, %why, "a prepared draft cannot be kept over the restart; its client has to begin anew");
                let freed = self.holds.release(id).map(|(_, freed)| freed);
                self.lose(key, "the server went down");
                freed.into_iter().flatten().for_each(|draft| self.engine.refuse_draft(draft, shutting_down()));
            }
        }
        true
    }

    /// Holds what a draft holds that the store has: at the start, or because it was restored at this tid.
    pub(crate) fn take_up(&mut self, (kept, pieces): (KeptDraft, usize), rests_on: Tid) {
        self.engine.keys().keep(kept.key, kept.digest);
        // Its oids were handed out, though nothing in the log has them yet.
        let greatest = kept.writes.iter().map(|write| write.cell.oid).max();
        self.engine.keep.oids().observe(greatest.unwrap_or(Oid::ROOT));
        let now = self.engine.clock().steady();
        let passed_ms = self.engine.keys().lived_ms().saturating_sub(kept.since_lived_ms);
        let left = Duration::from_millis(kept.time_limit_ms.saturating_sub(passed_ms));
        let reads: Vec<_> = kept.shape().read_cells;
        let read_ranges = ranges::disjoint(kept.read_ranges);
        let wide = WideReads::of(&reads, &read_ranges).map(Arc::new);
        let prepared = Prepared {
            key: kept.key,
            priority: kept.priority,
            note: kept.note,
            caller: Caller { owner: kept.owner, role: Role::Write, ..Caller::default() },
            writes: kept.writes,
            passed: Passed::default(),
            wide_len: (kept.read_cells.len(), read_ranges.len()),
            wide,
            read_cells: kept.read_cells,
            read_ranges,
            deadline: if kept.time_limit_ms == 0 { Duration::MAX } else { now + left },
            since_unix_ms: kept.since_unix_ms,
            // As old as the clock says now, and no older by what is done to it later.
            since_steady_ms: now.as_millis() as i64 - self.engine.unix_ms().saturating_sub(kept.since_unix_ms) as i64,
            // Its client is on its way.
            durable: Some(Durable {
                pieces,
                waited_until: if kept.for_restart { now + WAIT } else { now },
                for_restart: kept.for_restart,
            }),
            rests_on,
            stale: BTreeMap::new(),
            bytes: kept.bytes,
            places: Prepared::places(&Share::default(), kept.bytes),
            blobs: Vec::new(),
            left_out: Vec::new(),
        };
        let id = self.new_id();
        self.holds.hold(id, prepared);
        self.count_prepared();
    }

    /// Gives a durable draft up: its end is a transaction of the server's own.
    pub(super) fn abort_durable(&mut self, id: u64, done: Done<Tid>) {
        let Some((prepared, freed)) = self.holds.release(id) else { return };
        let (key, engine) = (prepared.key, self.engine.clone());
        let told = Box::new(move |result: Result<Receipt, Fault>| {
            engine.end_key(key, result.as_ref().map(drop));
            done(result.map(|receipt| receipt.tid));
        });
        self.write_own(end_of(&prepared), format!("aborted {key}"), told);
        self.endings.begin(Ending { tid: self.last, id, prepared });
        self.count_prepared();
        self.unpark(freed);
    }

    fn write_own(&mut self, writes: Vec<SealedWrite>, why: String, done: Done<Receipt>) {
        let key = self.engine.own_key();
        // An own key is new, so this never finds it taken.
        self.engine.keys().enter(&Keyed::new(key), done);
        let note = Note { description: why.into(), ..Note::default() };
        self.seal(key, &note, writes, Answer::Key(Origin::own()));
    }

    /// The end of a durable draft was refused: if its time is over, it is tried again later.
    pub(super) fn not_ended(&self, prepared: &mut Prepared) {
        if prepared.durable.is_some() {
            prepared.deadline = prepared.deadline.max(self.engine.clock().steady() + RETRY);
        }
    }

    /// Why nobody waits for this prepared draft any more.
    pub(super) fn in_doubt(&self, id: u64) -> Option<Fault> {
        let prepared = self.holds.get(id)?;
        let until = prepared.durable?.waited_until;
        (until <= self.engine.clock().steady()).then(|| in_the_way(prepared))
    }

    /// Whoever has waited long enough for a durable draft is told what it is.
    pub(super) fn refuse_who_waited(&mut self, now: Duration) {
        for parked in self.holds.waited_enough(now) {
            if let Some(prepared) = self.holds.get(parked.behind) {
                self.engine.refuse_draft(parked.draft, in_the_way(prepared));
            }
        }
    }

    /// Everything that is prepared or being ended, the oldest first.
    pub(super) fn list_prepared(&self) -> Vec<PreparedDraft> {
        let told = |prepared: &Prepared| PreparedDraft {
            key: prepared.key,
            owner: prepared.caller.owner.name().map(str::to_owned),
            since_unix_ms: prepared.since_unix_ms,
            cells: prepared.writes.len() as u64,
            bytes: prepared.bytes as u64,
            durable: prepared.durable.is_some(),
        };
        let mut all: Vec<PreparedDraft> = self.promised().map(told).collect();
        all.sort_by_key(|prepared| (prepared.since_unix_ms, prepared.key));
        all
    }
}

/// The writes that end what keeps a prepared draft.
pub(super) fn end_of(prepared: &Prepared) -> Vec<SealedWrite> {
    let pieces = prepared.durable.map_or(0, |durable| durable.pieces);
    let gone = |cell| SealedWrite { cell, stamped: false, record: None, merged: false };
    prepared_cell::cells(prepared.key, pieces).map(gone).collect()
}

fn fits(prepared: &Prepared, records: &[Bytes], limits: &Limits) -> Result<(), Fault> {
    // What a restored transaction is counted as, with the key of a piece.
    let write = |key: usize, record: usize| 64 + key + record;
    let piece_key = prepared_cell::cells(prepared.key, 1).map(|cell| cell.key.len()).sum();
    let kept: usize = records.iter().map(|record| write(piece_key, record.len())).sum();
    let record = |record: &Option<Bytes>| record.as_ref().map_or(0, Bytes::len);
    let written = prepared.writes.iter().map(|one| write(one.cell.key.len() + 12, record(&one.record)));
    let finish = written.sum::<usize>() + records.len() * write(piece_key, 0);
    let (bytes, max) = (64 + prepared.bytes.max(kept).max(finish), limits.draft_bytes_max);
    if bytes > max {
        return Err(Fault::too_large("size of a durable prepared draft", bytes, max));
    }
    let (count, max) = (prepared.writes.len() + records.len(), limits.draft_writes_max);
    if count > max {
        return Err(Fault::too_large("number of writes of a durable prepared draft and what keeps it", count, max));
    }
    Ok(())
}

fn in_the_way(prepared: &Prepared) -> Fault {
    let since = Tid::from_unix_nanos(i128::from(prepared.since_unix_ms) * 1_000_000).utc();
    let (key, owner) = (prepared.key, prepared.caller.owner.name().unwrap_or("anonymous"));
    let message = format!(
        "a cell of this draft is held by the prepared transaction {key} of {owner}, since {since}; who prepared it has to end it, \
         or an operator: zeolite prepared finish {key}, or abort"
    );
    Fault::new(FaultKind::Busy, message).after_ms(1000)
}
