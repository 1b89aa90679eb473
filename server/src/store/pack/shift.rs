//! Owns the change-over of the index from one generation of a segment to the next, or from several neighbours to the one that
//! stands for all of them: what moved points there, what went is taken out.
//!
//! ```text
//!   old   txn 1: a b c   txn 2: a d   txn 3: c        both files read side by side, in order:
//!   new   txn 1:   b                  txn 3: c        a/1 gone · b/1 moved · c/1 gone · a/2 gone · d/2 gone · c/3 moved
//! ```
//! What changes follows from the files alone. So a change-over needs no plan on the disk: the index only names the old ones and
//! the new one while it goes on, and whoever finds that (the next pack, or opening after a crash) does it again from the
//! beginning; a row that is right already stays as it is.
//!
//! Once begun it goes on to its end, also when the caller wants the pack to stop: what is half gone must not be committed to
//! again. A failure can leave it half-way; then the index names all of them, and whoever runs the pack keeps the
//! garbage from being named until it has been done again.
//!
//! It is done in portions, each one commit of the index under the settler's lock. Between two of them readers find records in the old files and in the
//! new one. The last portion is durable (which goes to the disk in slices); after that nothing points to the old files, and
//! they are removed.

use super::give_back::give_back;
use super::{Stage, Stepper};
use crate::store::StoreError;
use crate::store::frame::{ParsedTxn, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::store::log::batches::Batches;
use crate::store::log::segments::Segment;
use crate::store::log::{Place, Position};
use crate::store::settle::Settler;
use crate::store::state::State;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use zeolite_proto::{Cell, Tid};

// One portion: so many writes that its commit, and bringing that to the disk, takes a millisecond or some; few in tests, so that they see the seams.
const PORTION_WRITES: usize = if cfg!(test) { 4 } else { 1024 };
// Batches of the new file get a row in `Places` when they are this far from the last one that has.
const PLACE_EVERY_BYTES: u64 = 64 << 10;

/// The change-over to one segment.
pub(crate) struct Shift {
    olds: Vec<Arc<Segment>>,
    new: Arc<Segment>,
    from: Stream,
    to: Stream,
    // The old files are worked off up to here.
    done: Tid,
    place: Option<u64>,
    began: bool,
    // Of the index that has the portions before.
    life: Option<u64>,
}

/// What one commit of the index changes.
pub(crate) struct Portion {
    /// The old segments, by number and generation.
    pub(crate) olds: Vec<(u32, u16)>,
    /// The new one.
    pub(crate) new: SegmentHeader,
    /// Set in the first one.
    pub(crate) first: bool,
    /// Set in the last one.
    pub(crate) last: bool,
    /// The tids it covers: behind the first, up to the second.
    pub(crate) tids: (Tid, Tid),
    pub(crate) places: Vec<(Tid, Position)>,
    pub(crate) moved: Vec<(Cell, Tid, Place)>,
    pub(crate) gone: Vec<(Cell, Tid)>,
}

/// The transactions of some neighbours, one after the other, with where their batch begins.
struct Stream {
    segment: Arc<Segment>,
    batches: Batches,
    rest: VecDeque<Arc<Segment>>,
    ready: VecDeque<(Position, ParsedTxn)>,
    // Bytes of those that were read to their end.
    before: u64,
}

impl Stream {
    // `None`: there are none.
    fn new(segments: &[Arc<Segment>]) -> Option<Stream> {
        let (segment, rest) = segments.split_first()?;
        let batches = Stream::batches(segment);
        let rest = rest.iter().cloned().collect();
        Some(Stream { segment: segment.clone(), batches, rest, ready: VecDeque::new(), before: 0 })
    }

    fn batches(segment: &Arc<Segment>) -> Batches {
        Batches::new(segment.clone(), SEGMENT_HEADER_LEN as u64, segment.header.base)
    }

    fn at(&self) -> u64 {
        self.before + self.batches.at()
    }

    fn peek(&mut self) -> Result<Option<Tid>, StoreError> {
        while self.ready.is_empty() {
            if let Some(batch) = self.batches.next().map_err(|stop| stop.damage(&self.segment))? {
                self.ready.extend(batch.txns.into_iter().map(|parsed| (batch.position, parsed)));
            } else if let Some(next) = self.rest.pop_front() {
                self.before += self.segment.end();
                self.batches = Stream::batches(&next);
                self.segment = next;
            } else {
                break;
            }
        }
        Ok(self.ready.front().map(|(_, parsed)| parsed.txn.tid))
    }

    // The next transaction if it has this tid.
    fn take(&mut self, tid: Tid) -> Result<Option<(Position, ParsedTxn)>, StoreError> {
        Ok(if self.peek()? == Some(tid) { self.ready.pop_front() } else { None })
    }
}

impl Shift {
    /// A change-over from its beginning. All files are complete; the index may be anywhere between them. `None`: there are no old
    /// ones.
    pub(crate) fn new(olds: Vec<Arc<Segment>>, new: Arc<Segment>) -> Option<Shift> {
        let (from, to) = (Stream::new(&olds)?, Stream::new(std::slice::from_ref(&new))?);
        let done = new.header.base;
        Some(Shift { olds, new, from, to, done, place: None, began: false, life: None })
    }

    /// Does all of it, and tells how many revisions were gone. When `step` wants to stop, that is told at the end. On any other
    /// error the index may name old and new ones: all can be read, and it may be begun again.
    pub(crate) fn run(
        mut self,
        state: &State,
        settler: &Mutex<Settler>,
        step: &mut Stepper<'_>,
    ) -> Result<u64, StoreError> {
        state.segments.register(self.new.clone());
        let all = self.olds.iter().map(|old| old.end()).sum();
        let (mut gone, mut wanted) = (0, Ok(()));
        loop {
            let portion = self.portion()?;
            self.commit(settler, &portion)?;
            gone += portion.gone.len() as u64;
            if portion.last {
                break;
            }
            if wanted.is_ok() {
                wanted = step(Stage::Shift, self.from.at(), all);
            }
        }
        let retired = self.retire(state);
        wanted.and_then(|()| give_back(retired, step)).map(|()| gone)
    }

    // Removes the old ones. What was read of them is dropped: who else has one keeps its room.
    fn retire(self, state: &State) -> Vec<Arc<Segment>> {
        let retire =
            |old: &Arc<Segment>| state.segments.retire(state.disk.as_ref(), old.header.number, old.header.generation);
        self.olds.iter().filter_map(retire).collect()
    }

    fn commit(&mut self, settler: &Mutex<Settler>, portion: &Portion) -> Result<(), StoreError> {
        let mut settler = settler.lock();
        if *self.life.get_or_insert(settler.life()) != settler.life() {
            let why = "another index took the place of the one that was half changed; pack again".to_owned();
            return Err(StoreError::IndexDown { why });
        }
        settler.shift(portion)
    }

    // The next portion, read from the files.
    fn portion(&mut self) -> Result<Portion, StoreError> {
        let mut portion = Portion {
            olds: self.olds.iter().map(|old| (old.header.number, old.header.generation)).collect(),
            new: self.new.header,
            first: !std::mem::replace(&mut self.began, true),
            last: false,
            tids: (self.done, self.done),
            places: Vec::new(),
            moved: Vec::new(),
            gone: Vec::new(),
        };
        while portion.moved.len() + portion.gone.len() < PORTION_WRITES {
            let Some(tid) = self.from.peek()? else {
                if self.to.peek()?.is_some() {
                    return Err(self.new.damaged(0, "it has transactions that what it was made of does not have"));
                }
                portion.last = true;
                break;
            };
            let Some((_, old)) = self.from.take(tid)? else { break };
            let new = self.to.take(tid)?;
            self.compare(&mut portion, old, new);
            self.done = tid;
        }
        portion.tids.1 = self.done;
        Ok(portion)
    }

    fn compare(&mut self, portion: &mut Portion, old: ParsedTxn, new: Option<(Position, ParsedTxn)>) {
        let tid = old.txn.tid;
        let (position, kept) = match new {
            None => (None, Vec::new()),
            Some((position, parsed)) => {
                (Some(position), parsed.txn.writes.into_iter().zip(parsed.records).collect::<Vec<_>>())
            }
        };
        if let Some(position) = position
            && self.place.is_none_or(|last| position.offset >= last + PLACE_EVERY_BYTES)
        {
            self.place = Some(position.offset);
            portion.places.push((tid, position));
        }
        let mut kept = kept.into_iter().peekable();
        for write in old.txn.writes {
            match (kept.next_if(|(left, _)| left.cell == write.cell), position) {
                (Some((_, Some(record))), Some(position)) => {
                    portion.moved.push((write.cell, tid, Place::of(position, record)));
                }
                // A deletion has no place.
                (Some(_), _) => {}
                (None, _) => portion.gone.push((write.cell, tid)),
            }
        }
    }
}

impl Settler {
    /// Says durably that history before a tid is going.
    pub(crate) fn pack_to(&mut self, tid: Tid) -> Result<(), StoreError> {
        let mut draft = self.writer.draft();
        draft.pack_to(tid);
        self.writer.commit(&self.state.index, &self.state.kinds, draft, true)
    }

    /// The segments of which the index names two generations: number, older, newer.
    pub(crate) fn begun_shifts(&self) -> Vec<(u32, u16, u16)> {
        let named: Vec<_> = self.writer.generations().iter().copied().collect();
        let pairs = named.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        pairs.map(|pair| (pair[0].0, pair[0].1, pair[1].1)).collect()
    }

    /// The segments that a begun change-over to this one is from: those that the index names for the same numbers.
    pub(crate) fn shifted_from(&self, new: &SegmentHeader) -> Vec<(u32, u16)> {
        let all = self.writer.generations().range((new.from, 0)..(new.number, new.generation));
        all.copied().collect()
    }

    /// Whether a change-over is half-way: then what it takes must not be named by a commit.
    pub fn is_half_packed(&self) -> bool {
        !self.begun_shifts().is_empty()
    }

    /// Whether the index names a generation of a segment.
    pub(crate) fn names(&self, number: u32, generation: u16) -> bool {
        self.writer.generations().contains(&(number, generation))
    }

    /// Commits one portion of a change-over.
    pub(crate) fn shift(&mut self, portion: &Portion) -> Result<(), StoreError> {
        let state = &self.state;
        let mut draft = self.writer.draft();
        let view = state.index.view()?;
        if portion.first {
            draft.begin_shift(&self.writer, &portion.olds, &portion.new, behind(state, &portion.new)?);
        }
        draft.replace_places(view.as_ref(), portion.tids.0, portion.tids.1, &portion.places)?;
        for (cell, tid) in &portion.gone {
            draft.drop_revision(view.as_ref(), cell, *tid)?;
        }
        for (cell, tid, place) in &portion.moved {
            draft.move_record(view.as_ref(), cell, *tid, *place)?;
        }
        if portion.last {
            draft.end_shift(&self.writer, &portion.new);
        }
        drop(view);
        self.writer.commit(&state.index, &state.kinds, draft, portion.last)?;
        if portion.last {
            // Before anybody may make the index anew: that follows what is current.
            state.segments.make_current(&portion.new);
        }
        for (cell, _) in &portion.gone {
            state.cache.settled(cell, None);
        }
        Ok(())
    }
}

// Where the segment behind another one begins.
fn behind(state: &State, header: &SegmentHeader) -> Result<Position, StoreError> {
    let number = header.number;
    let next = state.segments.current_from(number.saturating_add(1)).filter(|next| next.header.number > number);
    let next = next.ok_or_else(|| StoreError::Refused {
        what: format!("segment {number} is still appended to; it cannot be packed"),
    })?;
    Ok(Position { segment: next.header.number, generation: next.header.generation, offset: SEGMENT_HEADER_LEN as u64 })
}
