//! Owns the calls: one function per request, used by both doors (the session and the unary service), so that a request
//! means the same whichever way it comes in. Each asks for its right, decodes, calls the engine, encodes.
//!
//! | call | how it answers |
//! |---|---|
//! | load, scan, history, objects, kinds, log | returns; may read the disk |
//! | outcome, pin, renew, unpin, ping | returns; memory only |
//! | commit, prepare, amend, finish, abort, undo, new_oids | a closure, called once from the engine's threads |
//!
//! `*_is_long` is the one rule of where a call runs: a request that can touch more than `sessions.inline_cells_max` cells
//! runs on the blocking pool, behind a bounded number of its like; everything else runs right where it was read, because
//! a hop between threads costs more than the work.

use super::budget::{Account, Peer};
use super::{decode, encode};
use crate::auth::Principal;
use crate::auth::rights::Verb;
use crate::databases::Database;
use crate::engine::{Caller, Closing, Engine, Owner, PreparedReceipt, Preparing, SYSTEM_OID};
use crate::store::Txn;
use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::wire::{translate, v2};
use zeolite_proto::{Cell, Draft, Fault, FaultKind, Mode, ModeEnd, Note, Oid, PreparedDraft, Receipt, Tid};

/// The calls of a principal on a database, from one connection.
#[derive(Clone)]
pub(super) struct Calls {
    database: Arc<Database>,
    who: Principal,
    account: Account,
    inline_cells_max: usize,
}

impl Calls {
    pub(super) fn new(database: Arc<Database>, peer: Peer, inline_cells_max: usize) -> Calls {
        Calls { database, who: peer.principal, account: peer.account, inline_cells_max }
    }

    /// The share of the connection that these calls come from.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// The engine, for what was allowed already.
    pub(super) fn engine(&self) -> &Arc<Engine> {
        self.database.engine()
    }

    /// Which database.
    pub(super) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Whose pins and prepared drafts these calls make and end.
    pub(super) fn owner(&self) -> &Owner {
        self.who.owner()
    }

    fn caller(&self) -> Caller {
        self.who.caller(self.account.share().clone())
    }

    /// Refuses what the principal may not do.
    pub(super) fn may(&self, verb: Verb) -> Result<(), Fault> {
        self.who.check(verb)
    }

    /// The engine, if the principal may do that.
    fn allowed(&self, verb: Verb) -> Result<&Arc<Engine>, Fault> {
        self.may(verb).map(|()| self.engine())
    }

    // ------------------------------------------------------------ where a call runs

    pub(super) fn load_is_long(&self, request: &v2::LoadRequest) -> bool {
        request.cells.len() > self.inline_cells_max
    }

    /// For scan, history and objects: `limit` cells, where 0 stands for the page limit.
    pub(super) fn page_is_long(&self, limit: u32) -> bool {
        limit == 0 || limit as usize > self.inline_cells_max
    }

    pub(super) fn draft_is_long(&self, draft: &v2::Draft) -> bool {
        draft.writes.len() + draft.read_cells.len() + draft.read_ranges.len() > self.inline_cells_max
    }

    // ------------------------------------------------------------ reading

    pub(super) fn sees_own_cells(&self) -> bool {
        self.who.sees_own_cells()
    }

    fn may_see(&self, oid: Oid) -> Result<(), Fault> {
        match oid != SYSTEM_OID || self.sees_own_cells() {
            true => Ok(()),
            false => Err(Fault::new(FaultKind::Denied, "the server's own cells are read by replicate or admin alone")),
        }
    }

    pub(super) fn load(&self, request: v2::LoadRequest) -> Result<v2::LoadReply, Fault> {
        self.may(Verb::Read)?;
        let snapshot = Tid(request.snapshot);
        self.engine().same_life(request.timeline, snapshot)?;
        let cells = decode::load_cells(request, self.engine().limits())?;
        cells.iter().try_for_each(|cell| self.may_see(cell.oid))?;
        self.engine().load(snapshot, &cells).map(encode::loaded)
    }

    /// One page of a scan.
    pub(super) fn scan(&self, request: v2::ScanRequest) -> Result<v2::ScanPage, Fault> {
        self.may(Verb::Read)?;
        let snapshot = Tid(request.snapshot);
        self.engine().same_life(request.timeline, snapshot)?;
        let (range, limit) = decode::scan_range(request, self.engine().limits())?;
        self.may_see(range.oid)?;
        let limit = decode::page_limit(limit, self.engine().limits());
        self.engine().scan(snapshot, &range, limit).map(encode::page)
    }

    pub(super) fn history(&self, request: v2::HistoryRequest) -> Result<v2::HistoryReply, Fault> {
        self.may(Verb::Read)?;
        let cell = decode::named_cell(request.cell, self.engine().limits())?;
        self.may_see(cell.oid)?;
        let limit = decode::page_limit(request.limit as usize, self.engine().limits());
        let (revisions, more) = self.engine().history(&cell, Tid(request.before), limit)?;
        Ok(encode::history(revisions, more, request.with_records))
    }

    pub(super) fn objects(&self, request: v2::ObjectsRequest) -> Result<v2::ObjectsReply, Fault> {
        self.may(Verb::Read)?;
        // On the wire `after` 0 is "from the first", and the first may be the root, oid 0. A page has at least two oids, so
        // that the root is never the last of a page and "after the root" never has to be said.
        let limit = decode::page_limit(request.limit as usize, self.engine().limits()).max(2);
        let after = (request.after != 0).then_some(Oid(request.after));
        let limit = if request.with_records { limit.min(self.engine().limits().load_cells_max) } else { limit };
        let class = (!request.class.is_empty()).then_some(request.class.as_str());
        let mut page = self.engine().objects(class, request.version_below, after, limit, Tid(request.snapshot))?;
        if !request.with_records {
            return Ok(encode::objects(page, Vec::new()));
        }
        let cells: Vec<Cell> = page.oids.iter().map(|oid| Cell::object(*oid)).collect();
        let mut revisions = self.engine().load(page.snapshot, &cells)?.revisions;
        if let (1, [_, second, ..]) = (revisions.len(), cells.as_slice()) {
            // The root alone would be asked for again.
            revisions.extend(self.engine().load(page.snapshot, std::slice::from_ref(second))?.revisions);
        }
        page.more |= revisions.len() < page.oids.len();
        page.oids.truncate(revisions.len());
        Ok(encode::objects(page, revisions))
    }

    pub(super) fn kinds(&self) -> Result<v2::KindsReply, Fault> {
        self.may(Verb::Read)?;
        let (kinds, tid) = self.engine().kinds()?;
        Ok(encode::kinds(kinds, tid))
    }

    /// One page of the log; empty at the end.
    pub(super) fn log_page(&self, from: Tid, to: Tid, limit: usize, reverse: bool) -> Result<Vec<Txn>, Fault> {
        if reverse { self.engine().log_page_back(from, to, limit) } else { self.engine().log_page(from, to, limit) }
    }

    pub(super) fn outcome(&self, request: &v2::OutcomeRequest) -> Result<v2::OutcomeReply, Fault> {
        self.may(Verb::Outcome)?;
        let key = translate::commit_key(&request.commit_key)?;
        self.engine().outcome(key, request.key_since.map(Tid)).map(|outcome| encode::outcome(&outcome))
    }

    /// A worker of an evolve is told the pressure with it.
    pub(super) fn ping(&self) -> Result<v2::Done, Fault> {
        let engine = self.allowed(Verb::Read)?;
        Ok(v2::Done { pressure: self.pressure(), ..encode::done(engine.visible()) })
    }

    fn pressure(&self) -> Option<v2::Pressure> {
        self.who.is_evolve().then(|| self.engine().pressure().into())
    }

    pub(super) fn heat(&self, request: &v2::HeatRequest) -> Result<v2::HeatReply, Fault> {
        self.may(Verb::Read)?;
        let limit = self.engine().limits().load_cells_max;
        if request.oids.len() > limit {
            return Err(Fault::too_large("number of oids", request.oids.len(), limit));
        }
        Ok(v2::HeatReply { heat: request.oids.iter().map(|oid| self.engine().heat(Oid(*oid))).collect() })
    }

    // ------------------------------------------------------------ pins

    pub(super) fn pin(&self, request: &v2::PinRequest) -> Result<v2::PinReply, Fault> {
        self.may(Verb::Pin)?;
        self.engine().pin(&self.caller(), Tid(request.snapshot), request.lease_ms).map(|pin| encode::pin(&pin))
    }

    pub(super) fn renew(&self, request: &v2::RenewRequest) -> Result<v2::PinReply, Fault> {
        self.may(Verb::Pin)?;
        let to = (request.snapshot != 0).then_some(Tid(request.snapshot));
        self.engine().renew(self.owner(), request.pin, request.lease_ms, to).map(|pin| encode::pin(&pin))
    }

    pub(super) fn unpin(&self, request: &v2::UnpinRequest) -> Result<v2::Done, Fault> {
        let engine = self.allowed(Verb::Pin)?;
        engine.unpin(self.owner(), request.pin);
        Ok(encode::done(engine.visible()))
    }

    // ------------------------------------------------------------ writing

    pub(super) fn commit(&self, draft: v2::Draft, done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static) {
        self.commit_decoded(self.draft(|| self.of_this_life(draft)), done);
    }

    /// A draft that came in parts; it must carry the key that its parts named.
    pub(super) fn joined(&self, commit_key: &Bytes, encoded: Bytes) -> Result<Draft, Fault> {
        self.draft(|| {
            let draft = self.of_this_life(translate::decode_draft(encoded, self.engine().limits())?)?;
            if draft.key.0[..] != commit_key[..] {
                return Err(Fault::invalid("the draft has another commit key than its parts; use one key for both"));
            }
            Ok(draft)
        })
    }

    /// The draft of a request for two-phase commit.
    pub(super) fn given(&self, draft: Option<v2::Draft>) -> Result<Draft, Fault> {
        let draft = draft.ok_or_else(|| Fault::invalid("a request without a draft; send the draft with it"))?;
        self.draft(|| self.of_this_life(draft))
    }

    fn of_this_life(&self, draft: v2::Draft) -> Result<Draft, Fault> {
        let (timeline, take_oids) = (draft.timeline, draft.take_oids);
        let draft = Draft::try_from(draft)?;
        let read = draft.read_cells.iter().map(|read| read.base);
        let bases = read.chain(draft.read_ranges.iter().map(|range| range.base));
        let newest = bases.chain(draft.writes.iter().map(|write| write.base)).max();
        self.engine().same_life(timeline, newest.unwrap_or(Tid::NONE))?;
        if take_oids && let Some(greatest) = draft.writes.iter().map(|write| write.cell.oid).max() {
            self.engine().take_oids(greatest)?;
        }
        Ok(draft)
    }

    pub(super) fn commit_decoded(
        &self,
        draft: Result<Draft, Fault>,
        done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Commit) {
            return done(Err(fault));
        }
        match draft {
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

    pub(super) fn prepare(
        &self,
        draft: Result<Draft, Fault>,
        how: Preparing,
        done: impl FnOnce(Result<v2::PrepareReply, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Prepare) {
            return done(Err(fault));
        }
        match draft {
            Ok(draft) => {
                let told = move |result: Result<PreparedReceipt, Fault>| {
                    done(result.map(|prepared| encode::prepared(&prepared)));
                };
                self.engine().prepare(self.caller(), draft, how, Box::new(told));
            }
            Err(fault) => done(Err(fault)),
        }
    }

    pub(super) fn amend(
        &self,
        prepared: u64,
        draft: Result<Draft, Fault>,
        withdrawn: Vec<v2::Cell>,
        done: impl FnOnce(Result<v2::PrepareReply, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Prepare) {
            return done(Err(fault));
        }
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

    pub(super) fn finish(
        &self,
        request: &v2::FinishRequest,
        done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Prepare) {
            return done(Err(fault));
        }
        match translate::commit_key(&request.commit_key) {
            Ok(key) => self.engine().finish(
                self.owner(),
                request.prepared,
                key,
                request.key_since.map(Tid),
                Box::new(move |result| done(result.map(|receipt| (&receipt).into()))),
            ),
            Err(fault) => done(Err(fault)),
        }
    }

    pub(super) fn abort(
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
        match key {
            Ok(None) if request.prepared == 0 => told(Err(Fault::invalid("abort what? name its id or its commit key"))),
            Ok(key) => {
                self.engine().abort(self.owner(), request.prepared, (key, request.key_since.map(Tid)), Box::new(told))
            }
            Err(fault) => told(Err(fault)),
        }
    }

    // ------------------------------------------------------------ an operator's second phase

    pub(super) fn list_prepared(&self, done: impl FnOnce(Result<v2::ListPreparedReply, Fault>) + Send + 'static) {
        if let Err(fault) = self.may(Verb::OthersPrepared) {
            return done(Err(fault));
        }
        let told =
            |all: Vec<PreparedDraft>| v2::ListPreparedReply { prepared: all.into_iter().map(Into::into).collect() };
        self.engine().prepared(Box::new(move |result| done(result.map(told))));
    }

    pub(super) fn finish_prepared(
        &self,
        request: &v2::EndPreparedRequest,
        done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static,
    ) {
        match self.may(Verb::OthersPrepared).and_then(|()| translate::commit_key(&request.commit_key)) {
            Ok(key) => {
                let told = move |result: Result<Receipt, Fault>| done(result.map(|receipt| (&receipt).into()));
                self.engine().finish_anybodys(key, Box::new(told));
            }
            Err(fault) => done(Err(fault)),
        }
    }

    pub(super) fn abort_prepared(
        &self,
        request: &v2::EndPreparedRequest,
        done: impl FnOnce(Result<v2::Done, Fault>) + Send + 'static,
    ) {
        match self.may(Verb::OthersPrepared).and_then(|()| translate::commit_key(&request.commit_key)) {
            Ok(key) => self.engine().abort_anybodys(key, Box::new(move |result| done(result.map(encode::done)))),
            Err(fault) => done(Err(fault)),
        }
    }

    pub(super) fn undo(
        &self,
        request: v2::UndoRequest,
        done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Commit) {
            return done(Err(fault));
        }
        match translate::commit_key(&request.commit_key) {
            Ok(key) => self.engine().undo(
                self.caller(),
                Tid(request.tid),
                (key, Tid(request.key_since.unwrap_or(request.tid))),
                request.note.map(Note::from).unwrap_or_default(),
                Box::new(move |result| done(result.map(|receipt| (&receipt).into()))),
            ),
            Err(fault) => done(Err(fault)),
        }
    }

    pub(super) fn new_oids(
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

    // ------------------------------------------------------------ gates and modes

    pub(super) fn set_mode(
        &self,
        request: v2::SetModeRequest,
        done: impl FnOnce(Result<v2::Mode, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::SetMode) {
            return done(Err(fault));
        }
        let Ok(kind) = v2::ModeKind::try_from(request.kind) else {
            return done(Err(Fault::invalid(format!("mode {} is not known; see the protocol", request.kind))));
        };
        let end = match (request.until_unix_ms, request.for_ms) {
            (0, 0) => ModeEnd::Never,
            (until, 0) => ModeEnd::At(until),
            (0, span) => ModeEnd::After(span),
            _ => return done(Err(Fault::invalid("the mode ends at a time or after a span; send one of the two"))),
        };
        let told = move |result: Result<Mode, Fault>| done(result.map(|mode| (&mode).into()));
        self.engine().set_mode(kind.into(), request.banner, end, Box::new(told));
    }

    pub(super) fn close_gate(
        &self,
        request: v2::CloseGateRequest,
        done: impl FnOnce(Result<v2::CloseGateReply, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Gate) {
            return done(Err(fault));
        }
        let told = |closing| match closing {
            Closing::Closed(tid) => v2::CloseGateReply { closed: true, tid: tid.0, old_objects: 0 },
            Closing::Old(old_objects) => v2::CloseGateReply { closed: false, tid: 0, old_objects },
        };
        let v2::CloseGateRequest { class, min_version, job } = request;
        self.engine().close_gate(class, min_version, job, Box::new(move |result| done(result.map(told))));
    }

    pub(super) fn open_gate(
        &self,
        request: v2::OpenGateRequest,
        done: impl FnOnce(Result<v2::Done, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::Gate) {
            return done(Err(fault));
        }
        self.engine().open_gate(request.class, Box::new(move |result| done(result.map(encode::done))));
    }

    pub(super) fn gates(&self) -> Result<v2::GatesReply, Fault> {
        let gates = self.allowed(Verb::Look)?.gates();
        Ok(v2::GatesReply { gates: gates.iter().map(v2::Gate::from).collect() })
    }

    /// Decodes a draft, and says how long that took.
    fn draft(&self, decode: impl FnOnce() -> Result<Draft, Fault>) -> Result<Draft, Fault> {
        let begun = self.engine().clock().steady();
        let draft = decode();
        self.engine().stats().decode.record(self.engine().clock().steady().saturating_sub(begun).as_nanos() as u64);
        draft
    }
}
