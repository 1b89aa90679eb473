//! Owns the calls that write: drafts in one phase or two, undo, oids.

use super::Calls;
use crate::auth::rights::Verb;
use crate::engine::{PreparedReceipt, Preparing, Upload};
use crate::rpc::{decode, encode};
use crate::store::TxnWrite;
use bytes::Bytes;
use zeolite_proto::wire::{translate, v2};
use zeolite_proto::{BlobId, BlobStanding, Cell, Change, Draft, Fault, FaultKind, Note, Receipt, Tid, Write};

impl Calls {
    /// Begins an upload, or goes on with it.
    pub(in crate::rpc) fn upload(&self, id: BlobId) -> Result<(Option<Upload>, BlobStanding), Fault> {
        self.engine().upload(&self.caller(), id)
    }

    pub(in crate::rpc) fn commit(
        &self,
        draft: v2::Draft,
        done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static,
    ) {
        self.commit_decoded(self.draft(|| self.of_this_life(draft)), done);
    }

    /// A draft that came in parts; it must carry the key that its parts named.
    pub(in crate::rpc) fn joined(&self, commit_key: &Bytes, encoded: Bytes) -> Result<Draft, Fault> {
        self.draft(|| {
            let draft = self.of_this_life(translate::decode_draft(encoded, self.engine().limits())?)?;
            if draft.key.0[..] != commit_key[..] {
                return Err(Fault::invalid("the draft has another commit key than its parts; use one key for both"));
            }
            Ok(draft)
        })
    }

    /// The draft of a request for two-phase commit.
    pub(in crate::rpc) fn given(&self, draft: Option<v2::Draft>) -> Result<Draft, Fault> {
        let draft = draft.ok_or_else(|| Fault::invalid("a request without a draft; send the draft with it"))?;
        self.draft(|| self.of_this_life(draft))
    }

    fn of_this_life(&self, draft: v2::Draft) -> Result<Draft, Fault> {
        let (timeline, take_oids) = (draft.timeline, draft.take_oids);
        let draft = Draft::try_from(draft)?;
        // Before it is put in order. What a stamped write becomes is known to nobody yet: no client keeps it for newer snapshots.
        if let Some(interest) = self.interest() {
            interest.note(draft.writes.iter().filter(|write| !write.stamped).map(|write| &write.cell));
        }
        // What its key says comes first: it may be committed, in a life that has ended since.
        if self.engine().knows_key(&draft) {
            return Ok(draft);
        }
        // A copy may only not have it yet: it decides nothing.
        self.engine().check_seat()?;
        let read = draft.read_cells.iter().map(|read| read.base);
        let bases = read.chain(draft.read_ranges.iter().map(|range| range.base));
        let newest = bases.chain(draft.writes.iter().map(|write| write.base)).max();
        self.engine().same_life(timeline, newest.unwrap_or(Tid::NONE))?;
        self.known(draft.key_since)?;
        if take_oids && let Some(greatest) = draft.writes.iter().map(|write| write.cell.oid).max() {
            self.engine().take_oids(greatest)?;
        }
        Ok(draft)
    }

    pub(in crate::rpc) fn commit_decoded(
        &self,
        draft: Result<Draft, Fault>,
        done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Commit) {
            return done(Err(fault));
        }
        match self.within_rate(draft) {
            Ok(draft) => {
                let calls = self.clone();
                let told = move |result: Result<Receipt, Fault>| {
                    let told = |receipt: Receipt| v2::Receipt { pressure: calls.pressure(), ..(&receipt).into() };
                    done(result.map(told));
                };
                self.engine().commit_as(self.caller(), draft, Box::new(told));
            }
            Err(fault) => done(Err(fault)),
        }
    }

    pub(in crate::rpc) fn prepare(
        &self,
        draft: Result<Draft, Fault>,
        how: Preparing,
        done: impl FnOnce(Result<v2::PrepareReply, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Prepare) {
            return done(Err(fault));
        }
        match self.within_rate(draft) {
            Ok(draft) => {
                let told = move |result: Result<PreparedReceipt, Fault>| {
                    done(result.map(|prepared| encode::prepared(&prepared)));
                };
                self.engine().prepare(self.caller(), draft, how, Box::new(told));
            }
            Err(fault) => done(Err(fault)),
        }
    }

    pub(in crate::rpc) fn amend(
        &self,
        prepared: u64,
        draft: Result<Draft, Fault>,
        withdrawn: Vec<v2::Cell>,
        done: impl FnOnce(Result<v2::PrepareReply, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Prepare) {
            return done(Err(fault));
        }
        let draft = self.within_rate(draft).and_then(|draft| {
            self.who.prepared_room(written(&draft))?;
            Ok(draft)
        });
        match draft {
            Ok(draft) => {
                let withdrawn = withdrawn.into_iter().map(Cell::from).collect();
                let told = move |result: Result<PreparedReceipt, Fault>| {
                    done(result.map(|prepared| encode::prepared(&prepared)));
                };
                self.engine().amend(self.caller(), prepared, draft, withdrawn, Box::new(told));
            }
            Err(fault) => done(Err(fault)),
        }
    }

    pub(in crate::rpc) fn finish(
        &self,
        request: &v2::FinishRequest,
        done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Prepare) {
            return done(Err(fault));
        }
        let since = self.since(request.key_since);
        match translate::commit_key(&request.commit_key).and_then(|key| Ok((key, since?))) {
            Ok((key, since)) => self.engine().finish(
                self.owner(),
                request.prepared,
                key,
                since,
                Box::new(move |result| done(result.map(|receipt| (&receipt).into()))),
            ),
            Err(fault) => done(Err(fault)),
        }
    }

    pub(in crate::rpc) fn abort(
        &self,
        request: &v2::AbortRequest,
        done: impl FnOnce(Result<v2::Done, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Prepare) {
            return done(Err(fault));
        }
        let key = match request.commit_key.is_empty() {
            true => Ok(None),
            false => translate::commit_key(&request.commit_key).map(Some),
        };
        let told = move |result: Result<Tid, Fault>| done(result.map(encode::done));
        match key.and_then(|key| Ok((key, self.since(request.key_since)?))) {
            Ok((None, _)) if request.prepared == 0 => {
                told(Err(Fault::invalid("abort what? name its id or its commit key")))
            }
            Ok(key) => self.engine().abort(self.owner(), request.prepared, key, Box::new(told)),
            Err(fault) => told(Err(fault)),
        }
    }

    pub(in crate::rpc) fn undo(
        &self,
        request: v2::UndoRequest,
        done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static,
    ) {
        let done = self.audited("undo", done);
        let spent = || self.who.spend_commit(|| self.undone_bytes(Tid(request.tid)));
        if let Err(fault) = self.may(Verb::Commit).and_then(|()| spent()) {
            return done(Err(fault));
        }
        let since = self.since(request.key_since).map(|since| since.unwrap_or(Tid(request.tid)));
        match translate::commit_key(&request.commit_key).and_then(|key| Ok((key, since?))) {
            Ok(key) => self.engine().undo(
                self.caller(),
                Tid(request.tid),
                key,
                request.note.map(Note::from).unwrap_or_default(),
                Box::new(move |result| done(result.map(|receipt| (&receipt).into()))),
            ),
            Err(fault) => done(Err(fault)),
        }
    }

    pub(in crate::rpc) fn new_oids(
        &self,
        request: &v2::NewOidsRequest,
        done: impl FnOnce(Result<v2::NewOidsReply, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::NewOids) {
            return done(Err(fault));
        }
        match decode::oid_count(request, self.engine().limits()) {
            Ok(count) => self.engine().new_oids(
                count,
                Box::new(move |result| done(result.map(|first| v2::NewOidsReply { first: first.0, count }))),
            ),
            Err(fault) => done(Err(fault)),
        }
    }

    /// Since when a key exists, if that is said.
    pub(in crate::rpc) fn since(&self, since: Option<u64>) -> Result<Option<Tid>, Fault> {
        since.map(|since| self.known(Tid(since)).map(|()| Tid(since))).transpose()
    }

    /// A key that is said to be younger than everything here would never be one that may have been forgotten.
    fn known(&self, since: Tid) -> Result<(), Fault> {
        let newest = self.engine().told_at_most();
        if since <= newest {
            return Ok(());
        }
        let message = format!(
            "key_since {since} is newer than anything here ({newest}); say the newest tid that was known when the key was made"
        );
        Err(Fault::new(FaultKind::SnapshotAhead, message))
    }

    /// A draft, unless its user has written too much for now.
    fn within_rate(&self, draft: Result<Draft, Fault>) -> Result<Draft, Fault> {
        let draft = draft?;
        self.who.spend_commit(|| written(&draft))?;
        Ok(draft)
    }

    /// About what the undo of a transaction writes: as much as that has written. Asked only where it counts.
    fn undone_bytes(&self, tid: Tid) -> usize {
        if !self.who.counts_bytes() {
            return 0;
        }
        let found = self.engine().log_page(tid, tid, 1).unwrap_or_default();
        let record = |write: &TxnWrite| write.cell.key.len() + write.record.as_ref().map_or(0, Bytes::len);
        found.iter().flat_map(|txn| txn.writes.iter().map(record)).sum()
    }

    /// Decodes a draft, and says how long that took.
    fn draft(&self, decode: impl FnOnce() -> Result<Draft, Fault>) -> Result<Draft, Fault> {
        let begun = self.engine().clock().steady();
        let draft = decode();
        self.engine().stats().decode.record(self.engine().clock().steady().saturating_sub(begun).as_nanos() as u64);
        draft
    }
}

/// The bytes of a draft's keys, records and operations.
fn written(draft: &Draft) -> usize {
    let bytes = |write: &Write| match &write.change {
        Change::Put(record) | Change::Apply { operation: record, .. } => write.cell.key.len() + record.len(),
        _ => write.cell.key.len(),
    };
    draft.writes.iter().map(bytes).sum()
}
