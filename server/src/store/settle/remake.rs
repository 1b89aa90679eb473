//! Owns making the index ready again after it has failed, beside the traffic: commits go on into the overlay meanwhile.
//!
//! ```text
//!   one write, read or sync of it fails ──> taken down: who needs it is told to come back
//!     the disk failed    opened again, as of its last checkpoint ─┐
//!     it is damaged      removed, begun anew ─────────────────────┴─> the log replayed up to what was settled ──> brought up
//! ```
//! It goes in portions, one a call of [`Settler::settle`], so that a stop need not wait for the end; what is done stays done. What a
//! change-over of a pack has done to the index may be gone with it: then the pack is told, and ends.

use super::{Left, Settler};
use crate::store::index::engines;
use crate::store::index::live::LiveIndex;
use crate::store::index::rows::Covered;
use crate::store::index::writer::{Draft, IndexWriter};
use crate::store::kinds::Kinds;
use crate::store::log::appender::slot;
use crate::store::log::walk::Walk;
use crate::store::open::fresh_writer;
use crate::store::state::State;
use crate::store::{StoreError, TxnWrite};

// One portion: so many revisions, or so much log.
const PORTION_REVISIONS: usize = if cfg!(test) { 8 } else { 50_000 };
const PORTION_BYTES: u64 = 16 << 20;

/// An index on its way.
pub(in crate::store) struct Remake {
    index: LiveIndex,
    writer: IndexWriter,
    walk: Walk,
}

impl Settler {
    /// Whether the index has failed and no other has taken its place.
    pub(super) fn is_index_down(&self) -> bool {
        self.remake.is_some() || self.state.index.failure().is_some()
    }

    /// The next portion; `None`: it is ready again.
    pub(super) fn make_ready(&mut self) -> Result<Option<Left>, StoreError> {
        let failure = self.state.index.failure();
        let why = failure.as_ref().map(|failure| failure.what.clone()).unwrap_or_default();
        if let Some(failure) = failure.filter(|_| self.remake.is_none()) {
            if self.told != failure.what {
                tracing::error!(why = failure.what, "the index has failed; it is made ready again while commits go on");
                self.told.clone_from(&failure.what);
            }
            self.anew |= failure.is_damaged;
            self.state.index.take_down(failure);
        }
        match self.portion() {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(Left { index_down: Some(why), ..self.left() })),
            Err(error) => {
                self.remake = None;
                self.anew |= matches!(error, StoreError::Index(_) | StoreError::Damaged { .. });
                Err(match error {
                    StoreError::DiskFull => StoreError::DiskFull,
                    other => StoreError::IndexDown { why: other.to_string() },
                })
            }
        }
    }

    // Whether that was the last one.
    fn portion(&mut self) -> Result<bool, StoreError> {
        let mut remake = match self.remake.take() {
            Some(remake) => remake,
            None => self.begin()?,
        };
        let (draft, complete) = remake.read(&self.state)?;
        remake.writer.commit(&remake.index, &self.state.kinds, draft, complete)?;
        if !complete {
            self.remake = Some(remake);
            return Ok(false);
        }
        self.state.index.bring_up(remake.index);
        self.writer = remake.writer;
        self.life += 1;
        self.told.clear();
        tracing::info!("the index is ready again");
        Ok(true)
    }

    fn begin(&mut self) -> Result<Remake, StoreError> {
        let state = &self.state;
        let opened = if std::mem::take(&mut self.anew) { None } else { self.open_again()? };
        let (index, writer) = match opened {
            Some(opened) => opened,
            None => {
                engines::remove(state.disk.as_ref(), None)?;
                let mut writer = fresh_writer(state.store_id, &state.segments.current(), &state.settings)?;
                writer.go_on_from(self.writer.covered(), state.packed_to());
                (LiveIndex::new(engines::open(&state.disk, &state.settings)?), writer)
            }
        };
        let from = *writer.covered();
        let segment =
            state.segments.find(from.position.segment, from.position.generation).ok_or_else(not_of_this_log)?;
        Ok(Remake { index, writer, walk: Walk::new(segment, from.position.offset, from.last) })
    }

    // As of its last checkpoint; `None`: it is of no use.
    fn open_again(&self) -> Result<Option<(LiveIndex, IndexWriter)>, StoreError> {
        let state = &self.state;
        let index = LiveIndex::new(engines::open(&state.disk, &state.settings)?);
        // The numbers of its kinds are those in memory.
        let writer = IndexWriter::load(index.view()?.as_ref(), &state.settings, &Kinds::default())?;
        Ok(writer.filter(|writer| fits(state, writer)).map(|writer| (index, writer)))
    }
}

impl Remake {
    // What comes next, and whether the index has with it what it had.
    fn read(&mut self, state: &State) -> Result<(Draft, bool), StoreError> {
        let settled = state.overlay.settled();
        let view = self.index.view()?;
        let mut draft = self.writer.draft();
        while draft.len() < PORTION_REVISIONS && draft.log_bytes() < PORTION_BYTES {
            let Some(batch) = self.walk.next(&state.segments)?.filter(|batch| batch.last <= settled) else {
                return Ok((draft, true));
            };
            let slot = |write: &TxnWrite, place| slot(&state.kinds, &state.settings, write, place);
            self.writer.add_batch(&mut draft, view.as_ref(), &batch, slot)?;
        }
        Ok((draft, false))
    }
}

// Whether what an index says is of the segments as they are now, and no more than was settled.
fn fits(state: &State, writer: &IndexWriter) -> bool {
    let Covered { store_id, position, last, .. } = *writer.covered();
    let named = |number| writer.generations().range((number, 0)..=(number, u16::MAX)).map(|(_, of)| *of);
    let current = state.segments.current();
    let same = current.iter().all(|segment| {
        let (number, generation) = (segment.header.number, segment.header.generation);
        named(number).eq([generation]) || (generation == 0 && named(number).next().is_none())
    });
    let at = current.iter().find(|segment| segment.header.number == position.segment);
    let there = at.is_some_and(|at| at.header.generation == position.generation && at.end() >= position.offset);
    store_id == state.store_id && last <= state.overlay.settled() && same && there
}

fn not_of_this_log() -> StoreError {
    StoreError::Index("it covers a segment that is not there".to_owned())
}
