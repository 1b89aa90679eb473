//! Owns the session's requests: each one method of [`Link`], in the crate's own types.

use super::{Failure, Link, Reply, Request, unexpected, v2};
use crate::answer::{FirstPhase, How, Outcome, PinLease, Terms};
use crate::revision::{Entry, Page, PastRevision, Range, Revision};
use bytes::Bytes;
use prost::Message;
use zeolite_proto::wire::codec::MESSAGE_PARTS_MAX;
use zeolite_proto::wire::v2::draft_part::Purpose;
use zeolite_proto::{Cell, CommitKey, Draft, Fault, Merged, Note, Oid, Receipt, StaleCell, Tid};

/// What the envelope of a frame (id, field tags, lengths) takes at most.
const ENVELOPE_BYTES: usize = 64;

macro_rules! reply {
    ($reply:expr, $kind:ident) => {
        match $reply {
            Reply::$kind(reply) => reply,
            _ => return Err(unexpected()),
        }
    };
}

fn key_bytes(key: CommitKey) -> Bytes {
    Bytes::copy_from_slice(&key.0)
}

impl Link {
    /// The revisions of the cells at the snapshot of a life of the store; fewer than asked when the reply was full.
    pub(crate) async fn load(
        &self,
        (snapshot, timeline): (Tid, u64),
        cells: &[Cell],
    ) -> Result<Vec<Revision>, Failure> {
        self.note(cells);
        let request = v2::LoadRequest {
            snapshot: snapshot.0,
            timeline,
            cells: cells.iter().map(v2::Cell::from).collect(),
            continued_from: 0,
        };
        let reply = reply!(self.request(Request::Load(request)).await?, Load);
        Ok(reply.revisions.into_iter().map(Revision::from).collect())
    }

    /// One page of a scan.
    pub(crate) async fn scan(
        &self,
        (snapshot, timeline): (Tid, u64),
        oid: Oid,
        range: &Range,
        limit: u32,
    ) -> Result<Page, Failure> {
        let request = v2::ScanRequest {
            snapshot: snapshot.0,
            timeline,
            oid: oid.0,
            from: range.from.clone(),
            to: range.to.clone().unwrap_or_default(),
            reverse: range.reverse,
            limit,
            keys_only: range.keys_only,
        };
        let reply = reply!(self.request(Request::Scan(request)).await?, Scan);
        Ok(Page {
            entries: reply.entries.into_iter().map(Entry::from).collect(),
            next: reply.more.then_some(reply.next),
        })
    }

    /// Commits a draft whose bases are of a life of the store; one too large for one frame goes in parts.
    pub(crate) async fn commit(&self, draft: &Draft, terms: Terms) -> Result<Receipt, Failure> {
        Ok(reply!(self.send_draft(draft, terms, None).await?, Receipt).into())
    }

    async fn send_draft(&self, draft: &Draft, terms: Terms, purpose: Option<Purpose>) -> Result<Reply, Failure> {
        let Terms { timeline, take_oids } = terms;
        self.note(draft.writes.iter().filter(|write| !write.stamped).map(|write| &write.cell));
        let wire = v2::Draft { timeline, take_oids, ..v2::Draft::from(draft) };
        let (said, withdrawn) = match &purpose {
            None => (0, 0),
            Some(Purpose::Prepare(prepare)) => (prepare.encoded_len(), 0),
            Some(Purpose::Amend(amend)) => (amend.encoded_len(), amend.withdrawn.len()),
        };
        let frame_max = self.welcome.limits.message_bytes_max.saturating_sub(ENVELOPE_BYTES);
        if said > frame_max / 2 {
            return Err(Failure::Fault(Fault::too_large("number of withdrawn cells, in bytes", said, frame_max / 2)));
        }
        let parts = draft.writes.len() + draft.read_cells.len() + draft.read_ranges.len() + withdrawn;
        if withdrawn > MESSAGE_PARTS_MAX {
            return Err(Failure::Fault(Fault::too_large("number of withdrawn cells", withdrawn, MESSAGE_PARTS_MAX)));
        }
        if wire.encoded_len() + said > frame_max || parts > MESSAGE_PARTS_MAX {
            return self.send_in_parts(draft.key, wire.encode_to_vec().into(), frame_max - said, purpose).await;
        }
        let request = match purpose {
            None => Request::Commit(wire),
            Some(Purpose::Prepare(prepare)) => Request::Prepare(v2::PrepareRequest { draft: Some(wire), ..prepare }),
            Some(Purpose::Amend(amend)) => Request::Amend(v2::AmendRequest { draft: Some(wire), ..amend }),
        };
        self.request(request).await
    }

    /// All parts carry one id: they are one request, answered once.
    async fn send_in_parts(
        &self,
        key: CommitKey,
        mut rest: Bytes,
        part_bytes: usize,
        mut purpose: Option<Purpose>,
    ) -> Result<Reply, Failure> {
        let mut waiter = self.expect()?;
        while !rest.is_empty() {
            let data = rest.split_to(part_bytes.min(rest.len()));
            let last = rest.is_empty();
            let purpose = if last { purpose.take() } else { None };
            let part = v2::DraftPart { commit_key: key_bytes(key), data, last, purpose };
            self.send(waiter.id, Request::Part(part)).await?;
            // A refusal of an early part makes the others useless.
            if let Some(reply) = waiter.ready()? {
                return Ok(reply);
            }
        }
        waiter.reply().await
    }

    /// The first phase of two.
    pub(crate) async fn prepare(
        &self,
        draft: &Draft,
        terms: Terms,
        limit_ms: u64,
        how: How,
    ) -> Result<FirstPhase, Failure> {
        let (hold, durable) = (how == How::Hold, how == How::Durable);
        let request = v2::PrepareRequest { draft: None, time_limit_ms: limit_ms, hold, durable };
        Ok(first_phase(reply!(self.send_draft(draft, terms, Some(Purpose::Prepare(request))).await?, Prepare)))
    }

    /// Makes parts of a prepared draft anew.
    pub(crate) async fn amend(
        &self,
        prepared: u64,
        draft: &Draft,
        terms: Terms,
        gone: &[Cell],
    ) -> Result<FirstPhase, Failure> {
        let withdrawn = gone.iter().map(v2::Cell::from).collect();
        let request = v2::AmendRequest { prepared, draft: None, withdrawn };
        Ok(first_phase(reply!(self.send_draft(draft, terms, Some(Purpose::Amend(request))).await?, Prepare)))
    }

    /// The second phase.
    pub(crate) async fn finish(&self, prepared: u64, key: CommitKey, since: Tid) -> Result<Receipt, Failure> {
        let request = v2::FinishRequest { prepared, commit_key: key_bytes(key), key_since: Some(since.0) };
        Ok(reply!(self.request(Request::Finish(request)).await?, Receipt).into())
    }

    /// Gives a prepared draft up.
    pub(crate) async fn abort(&self, prepared: u64, key: CommitKey, since: Tid) -> Result<(), Failure> {
        let request = v2::AbortRequest { prepared, commit_key: key_bytes(key), key_since: Some(since.0) };
        reply!(self.request(Request::Abort(request)).await?, Done);
        Ok(())
    }

    /// What became of a commit.
    pub(crate) async fn outcome(&self, key: CommitKey, since: Tid) -> Result<Outcome, Failure> {
        let request = v2::OutcomeRequest { commit_key: key_bytes(key), key_since: Some(since.0) };
        let reply = reply!(self.request(Request::Outcome(request)).await?, Outcome);
        Ok(match reply.receipt {
            Some(receipt) => Outcome::Committed(receipt.into()),
            None if reply.in_flight => Outcome::InFlight,
            None if reply.forgotten => Outcome::Forgotten,
            None => Outcome::Unknown,
        })
    }

    /// A block of fresh oids: the first, and how many.
    pub(crate) async fn new_oids(&self, count: u32) -> Result<(Oid, u32), Failure> {
        let reply = reply!(self.request(Request::NewOids(v2::NewOidsRequest { count })).await?, NewOids);
        Ok((Oid(reply.first), reply.count))
    }

    /// Pins a snapshot ([`Tid::NONE`]: the newest).
    pub(crate) async fn pin(&self, snapshot: Tid, lease_ms: u64) -> Result<PinLease, Failure> {
        let request = v2::PinRequest { snapshot: snapshot.0, lease_ms };
        Ok(lease(reply!(self.request(Request::Pin(request)).await?, Pin)))
    }

    /// Renews a pin's lease.
    pub(crate) async fn renew(&self, pin: u64, lease_ms: u64) -> Result<PinLease, Failure> {
        Ok(lease(reply!(self.request(Request::Renew(v2::RenewRequest { pin, lease_ms, snapshot: 0 })).await?, Pin)))
    }

    /// Gives a pin up.
    pub(crate) async fn unpin(&self, pin: u64) -> Result<(), Failure> {
        reply!(self.request(Request::Unpin(v2::UnpinRequest { pin })).await?, Done);
        Ok(())
    }

    /// Revisions of a cell, newest first, and whether there are more.
    pub(crate) async fn history(
        &self,
        cell: &Cell,
        before: Option<Tid>,
        limit: u32,
        with_records: bool,
    ) -> Result<(Vec<PastRevision>, bool), Failure> {
        let before = before.map_or(0, |before| before.0);
        let request = v2::HistoryRequest { cell: Some(cell.into()), before, limit, with_records };
        let reply = reply!(self.request(Request::History(request)).await?, History);
        let mut notes = reply.notes.into_iter().map(Note::from);
        let past = |past: v2::Revision| PastRevision { revision: past.into(), note: notes.next().unwrap_or_default() };
        Ok((reply.revisions.into_iter().map(past).collect(), reply.more))
    }

    /// Undoes a transaction.
    pub(crate) async fn undo(&self, tid: Tid, key: CommitKey, since: Tid, note: &Note) -> Result<Receipt, Failure> {
        let (note, key_since) = (Some(note.into()), Some(since.0));
        let request = v2::UndoRequest { tid: tid.0, commit_key: key_bytes(key), note, key_since };
        Ok(reply!(self.request(Request::Undo(request)).await?, Receipt).into())
    }

    /// From the answer on every cell of the commits behind the tid that it gives is told.
    pub(crate) async fn everything(&self) -> Result<Tid, Failure> {
        Ok(Tid(reply!(self.request(Request::Everything(v2::Everything {})).await?, Done).tid))
    }

    /// The newest visible tid.
    pub(crate) async fn ping(&self) -> Result<Tid, Failure> {
        Ok(Tid(reply!(self.request(Request::Ping(v2::Ping {})).await?, Done).tid))
    }
}

fn first_phase(reply: v2::PrepareReply) -> FirstPhase {
    FirstPhase {
        prepared: reply.prepared,
        merged: reply.merged.into_iter().map(Merged::from).collect(),
        stale: reply.stale.into_iter().map(StaleCell::from).collect(),
    }
}

fn lease(reply: v2::PinReply) -> PinLease {
    PinLease { pin: reply.pin, snapshot: Tid(reply.snapshot), lease_ms: reply.lease_ms }
}
