//! Owns the way out: the engine's answers as wire messages.
//!
//! Records are shared bytes, so nothing is copied here; the one copy is tonic's, into the frame.

use crate::engine::{Loaded, ObjectsPage, Outcome, Page, PinInfo, PreparedReceipt};
use crate::store::{Kind, Revision};
use bytes::Bytes;
use zeolite_proto::wire::v2;
use zeolite_proto::{Fault, FaultKind, Note, Registry, Tid};

/// Records for resolution on the client are left out of a fault when together they are larger than this: the client
/// loads them.
const CONFLICT_RECORD_BYTES_MAX: usize = 1 << 20;

/// The fault of a request whose call back was dropped: the thread that had it died.
pub(super) fn lost() -> Fault {
    Fault::new(FaultKind::Internal, "the request was lost inside the server; ask for its outcome, and look at its log")
}

/// The fault of a request without an id.
pub(super) fn id_zero() -> Fault {
    Fault::invalid("a request needs an id that is not 0; number them from 1")
}

pub(super) fn revision(revision: Option<Revision>) -> v2::Revision {
    revision.map(v2::Revision::from).unwrap_or_default()
}

pub(super) fn loaded(loaded: Loaded) -> v2::LoadReply {
    v2::LoadReply { snapshot: loaded.snapshot.0, revisions: loaded.revisions.into_iter().map(revision).collect() }
}

pub(super) fn page(page: Page) -> v2::ScanPage {
    let entries = page.entries.into_iter().map(v2::Entry::from).collect();
    v2::ScanPage { snapshot: page.snapshot.0, entries, more: page.next.is_some(), next: page.next.unwrap_or_default() }
}

pub(super) fn history(revisions: Vec<(Revision, Note)>, more: bool, with_records: bool) -> v2::HistoryReply {
    let mut reply = v2::HistoryReply { more, ..Default::default() };
    for (found, note) in revisions {
        let mut found = revision(Some(found));
        if !with_records {
            found.record = found.record.map(|_| Bytes::new());
        }
        reply.revisions.push(found);
        reply.notes.push((&note).into());
    }
    reply
}

pub(super) fn objects(page: ObjectsPage, revisions: Vec<Option<Revision>>) -> v2::ObjectsReply {
    let oids = page.oids.into_iter().map(|oid| oid.0).collect();
    let revisions = revisions.into_iter().map(revision).collect();
    v2::ObjectsReply { oids, more: page.more, snapshot: page.snapshot.0, revisions }
}

pub(super) fn kinds(kinds: Vec<Kind>, tid: Tid) -> v2::KindsReply {
    let kinds = kinds
        .into_iter()
        .map(|kind| v2::Kind { class: kind.class, version: kind.version, objects: kind.objects })
        .collect();
    v2::KindsReply { kinds, tid: tid.0 }
}

pub(super) fn prepared(prepared: &PreparedReceipt) -> v2::PrepareReply {
    v2::PrepareReply {
        prepared: prepared.prepared,
        merged: prepared.merged.iter().map(v2::MergedCell::from).collect(),
        stale: prepared.stale.iter().map(v2::StaleCell::from).collect(),
    }
}

pub(super) fn outcome(outcome: &Outcome) -> v2::OutcomeReply {
    match outcome {
        Outcome::Unknown => v2::OutcomeReply::default(),
        Outcome::Forgotten => v2::OutcomeReply { forgotten: true, ..Default::default() },
        Outcome::InFlight => v2::OutcomeReply { in_flight: true, ..Default::default() },
        Outcome::Committed(receipt) => v2::OutcomeReply { receipt: Some(receipt.into()), ..Default::default() },
    }
}

pub(super) fn pin(pin: &PinInfo) -> v2::PinReply {
    v2::PinReply { pin: pin.pin, snapshot: pin.snapshot.0, lease_ms: pin.lease_ms }
}

pub(super) fn done(tid: Tid) -> v2::Done {
    v2::Done { tid: tid.0, pressure: None }
}

/// A fault as a frame carries it.
pub(super) fn fault(fault: &Fault) -> v2::Fault {
    let mut wire = v2::Fault::from(fault);
    let mut left = CONFLICT_RECORD_BYTES_MAX;
    for detail in wire.conflict.iter_mut().chain(&mut wire.others) {
        let bytes = [&detail.base_record, &detail.newest_record].into_iter().flatten().map(Bytes::len).sum::<usize>();
        match left.checked_sub(bytes) {
            Some(after) => left = after,
            None => (detail.base_record, detail.newest_record) = (None, None),
        }
    }
    wire
}

pub(super) fn resolvers(registry: &Registry) -> v2::ResolversReply {
    let info = |(class, resolver): (&str, &dyn zeolite_proto::Resolver)| v2::ResolverInfo {
        class: class.into(),
        description: resolver.description().into(),
        applies: resolver.applies(),
        expensive: resolver.expensive(0),
    };
    v2::ResolversReply { resolvers: registry.list().into_iter().map(info).collect() }
}
