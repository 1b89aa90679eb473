//! Owns the sealing of what was made ready (`ready`): nothing of it is looked at write by write.

use super::Sequencer;
use crate::engine::caller::Caller;
use crate::engine::pipeline::admission::Admitted;
use crate::engine::pipeline::ask::{Answer, DraftAsk, Origin};
use crate::engine::pipeline::ready::Ready;
use zeolite_proto::Draft;

impl Sequencer {
    /// Seals a draft that was made ready, if nothing is in its way; else gives it back as one that was not. No prepared draft is.
    pub(super) fn seal_ready(&mut self, draft: DraftAsk) -> Option<DraftAsk> {
        let DraftAsk::Commit(mut admitted) = draft else { return Some(draft) };
        let Some(ready) = admitted.ready.take() else { return Some(DraftAsk::Commit(admitted)) };
        let started = self.engine.clock().steady();
        if !self.is_still_ready(&admitted, &ready) {
            admitted.looked_ahead.set_clear_to(ready.clear_to());
            admitted.draft.writes = ready.into_writes();
            return Some(DraftAsk::Commit(admitted));
        }
        if let Some(came) = admitted.came {
            self.engine.stats().queue.record((started.as_nanos() as u64).saturating_sub(came.ns));
        }
        self.engine.stats().check.record(self.engine.nanos_since(started));
        let (draft, answer) = parts_of(admitted);
        let tid = self.next_tid(&answer);
        self.seal_at(tid, draft.key, &draft.note, ready.writes().clone(), answer);
        None
    }

    fn is_still_ready(&self, admitted: &Admitted, ready: &Ready) -> bool {
        ready.is_clear(&self.recent)
            && self.check(admitted, true).reads_hold(admitted)
            && self.condemned.is_empty()
            && self.have_place(ready)
    }

    /// Whether what it writes is of kinds that may be written.
    fn have_place(&self, ready: &Ready) -> bool {
        let kinds = ready.writes().run().map_or(&[][..], |run| run.kinds());
        let mut objects = kinds.iter().filter(|kind| kind.of_object);
        let mut named = kinds.iter().map(|kind| (kind.class.as_str(), kind.version));
        objects.all(|kind| self.engine.keep.gates().lets_pass(&kind.class, kind.version))
            && self.engine.reader().number_kinds(&mut named, true).is_ok()
    }
}

/// What is left of a draft that is sealed: itself, and who is told.
pub(super) fn parts_of(admitted: Admitted) -> (Draft, Answer) {
    let Admitted { draft, came, caller, blobs, .. } = admitted;
    let Caller { client, mark, .. } = caller;
    let origin = Origin { priority: draft.priority, came, client, mark, _blobs: blobs };
    (draft, Answer::Key(origin))
}
