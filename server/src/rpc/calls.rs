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

mod operator;
mod writing;

use super::budget::Account;
use super::interest::Interest;
use super::{decode, encode};
use crate::auth::rights::Verb;
use crate::auth::{Principal, audit};
use crate::databases::Database;
use crate::engine::{Caller, Engine, Loaded, Mark, Owner, RequestId, SYSTEM_OID, Share};
use crate::store::{Revision, Txn};
use std::sync::Arc;
use zeolite_proto::wire::{translate, v2};
use zeolite_proto::{Cell, Fault, FaultKind, Oid, Tid};

/// The calls of a principal on a database, from one connection.
#[derive(Clone)]
pub(super) struct Calls {
    database: Arc<Database>,
    who: Principal,
    account: Account,
    inline_cells_max: usize,
    mark: Mark,
    /// Of a session that is told only of what it may hold.
    interest: Option<Arc<Interest>>,
}

impl Calls {
    pub(super) fn new(database: Arc<Database>, who: Principal, account: Account, inline_cells_max: usize) -> Calls {
        Calls { database, who, account, inline_cells_max, mark: Mark::default(), interest: None }
    }

    /// The calls of a session that is told only of what it may hold.
    pub(super) fn told_of(self, interest: Option<Arc<Interest>>) -> Calls {
        Calls { interest, ..self }
    }

    /// What the session may hold; none: it is told everything.
    pub(super) fn interest(&self) -> Option<&Arc<Interest>> {
        self.interest.as_ref()
    }

    /// From now on the calls of this request.
    pub(super) fn mark(&mut self, mark: Mark) {
        self.mark = mark;
    }

    /// What the request is called.
    pub(super) fn request(&self) -> &RequestId {
        &self.mark.id
    }

    /// The share of the connection that these calls come from.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// How much its connection and its user may have.
    pub(super) fn share(&self) -> Share {
        self.who.share(self.account.share())
    }

    /// Waits, after so many bytes of an upload, as long as its user must.
    pub(super) async fn rest_after(&self, bytes: usize) {
        self.who.uploaded(bytes);
        while let Some(rest) = self.who.rest() {
            tokio::time::sleep(rest).await;
        }
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

    /// What came of an operator's call is noted in the log before it is told.
    pub(super) fn audited<T>(
        &self,
        verb: &'static str,
        done: impl FnOnce(Result<T, Fault>) + Send + 'static,
    ) -> impl FnOnce(Result<T, Fault>) + Send + 'static {
        let (who, database) = (self.who.clone(), self.database.name().clone());
        move |result| {
            audit::call(&who, verb, &database, &result);
            done(result);
        }
    }

    fn caller(&self) -> Caller {
        self.who.caller(self.account.share(), self.mark.clone())
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
        let Some(interest) = &self.interest else { return self.engine().load(snapshot, &cells).map(encode::loaded) };
        // Before it is looked what is visible.
        interest.note(cells.iter());
        let mut loaded = self.engine().load(snapshot, &cells)?;
        self.end_what_came_later(&mut loaded, &cells)?;
        Ok(encode::loaded(loaded))
    }

    /// Of a cell that was not there yet the store tells no end. Whoever was not told of its first commit must not take it for one
    /// that is still not there.
    fn end_what_came_later(&self, loaded: &mut Loaded, cells: &[Cell]) -> Result<(), Fault> {
        let snapshot = loaded.snapshot;
        if snapshot >= self.engine().visible() {
            return Ok(());
        }
        for (revision, cell) in loaded.revisions.iter_mut().zip(cells).filter(|(revision, _)| revision.is_none()) {
            let now = self.engine().peek(Tid::NONE, std::slice::from_ref(cell))?.revisions;
            if now.into_iter().flatten().next().is_some() {
                *revision = Some(Revision { tid: Tid::NONE, end: Some(snapshot.next()), record: None });
            }
        }
        Ok(())
    }

    /// From the answer on the session is told everything.
    pub(super) fn everything(&self) -> Result<v2::Done, Fault> {
        self.may(Verb::Read)?;
        if let Some(interest) = &self.interest {
            interest.everything();
        }
        Ok(encode::done(self.engine().visible()))
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
        self.engine().outcome(key, self.since(request.key_since)?).map(|outcome| encode::outcome(&outcome))
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
}
