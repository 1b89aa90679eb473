//! Owns the end of the log: `Appender` writes batches there, makes them durable and publishes them.
//!
//! ```text
//!   append:   check ─ [new segment] ─ encode, one write (of what is large: in pieces) ─ one fdatasync ──> Appended
//!   publish:  overlay ─ published tid                                                       <── Appended
//! ```
//! Two steps, so that the engine can put its own order between durable and published. What happens when the disk fails:
//!
//! - no room: what was written is cut off again, `DiskFull`, and the next append may succeed;
//! - a new segment that cannot be made, for whatever reason (no room, no more files): nothing was appended; refused, and the next
//!   append makes it first;
//! - any other failed write to a segment, a cut that fails, and any failed sync of one: *poisoned*. Nobody knows any more what is
//!   on the disk, and a second fdatasync that succeeds proves nothing, so nothing is appended until the store is opened again.

use crate::clock::{Clock, SystemClock};
use crate::store::disk::DiskFile;
use crate::store::frame::{LOG_FORMAT, Rest, SEGMENT_HEADER_LEN, SegmentHeader, batch_len, encode_in_pieces};
use crate::store::log::Position;
use crate::store::log::ahead_file::AheadFile;
use crate::store::log::handles;
use crate::store::log::room::Room;
use crate::store::log::segments::{self, Segment, segment_path};
use crate::store::overlay::{Prepared, Slots};
use crate::store::state::State;
use crate::store::writes::check_write;
use crate::store::{StoreError, Txn};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::Tid;

// A buffer that one huge record made bigger than this is given back.
const BUFFER_KEPT_BYTES: usize = 4 << 20;
// A larger batch is written in pieces while it is encoded; small ones in tests, so that crashes and full disks meet the seams.
const PIECE_BYTES: usize = if cfg!(test) { 256 } else { 1 << 20 };

/// The one writer of the log; the engine's writer thread owns it.
pub struct Appender {
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    segment: Arc<Segment>,
    // Of the segment, which stays open.
    file: Arc<dyn DiskFile>,
    end: u64,
    room: Room,
    last: Tid,
    // What the next segments are on. The current one is on another when there was no room to begin one.
    timeline: u64,
    // A next segment was begun, and may be there: it must be made before anything is appended to this one.
    half_begun: bool,
    // The end may have been cut, for want of room, and that is perhaps not synced: a crash could bring it back.
    cut_unsynced: bool,
    buffer: Vec<u8>,
    records: Vec<Option<crate::store::frame::RecordAt>>,
}

/// A batch that is durable but not yet published: hand it to [`Appender::publish`], in the order of appending.
#[must_use = "a durable batch must be published, or no reader ever sees it"]
pub struct Appended {
    prepared: Prepared,
    segment: Arc<Segment>,
    end: u64,
    /// Bytes written.
    pub bytes: u64,
    /// How long encoding took, in nanoseconds.
    pub encode_ns: u64,
    /// How long the write took, in nanoseconds; with a new segment, its making too.
    pub write_ns: u64,
    /// How long the fdatasync took, in nanoseconds.
    pub sync_ns: u64,
}

impl Appender {
    /// Recovery knows where the log ends.
    pub(crate) fn new(state: Arc<State>, segment: Arc<Segment>, last: Tid) -> Result<Appender, StoreError> {
        let what = || format!("opening segment {}, which is appended to", segment.header.number);
        let file = segment.file.keep().map_err(|error| handles::failed(what(), error))?;
        // Who was killed after a write or a new segment may not have synced it; what was found is told as durable from here on.
        let synced = file.sync_data().and_then(|()| state.disk.sync_dir(segments::LOG_DIR));
        synced.map_err(|error| handles::failed("syncing the end of the log".to_owned(), error))?;
        let file_end = file.len().map_err(|error| handles::failed(what(), error))?;
        let room = Room::new(state.settings.log_room_bytes, state.settings.segment_bytes_max, file_end);
        let end = segment.end();
        let timeline = state.timelines.now();
        Ok(Appender {
            clock: Arc::new(SystemClock::new()),
            state,
            segment,
            file,
            end,
            room,
            last,
            timeline,
            half_begun: false,
            cut_unsynced: false,
            buffer: Vec::new(),
            records: Vec::new(),
        })
    }

    /// Measures by another clock than the machine's.
    pub fn timed_by(self, clock: Arc<dyn Clock>) -> Appender {
        Appender { clock, ..self }
    }

    /// The newest tid in the log.
    pub fn last_tid(&self) -> Tid {
        self.last
    }

    /// Why nothing is appended any more, if so.
    pub fn poison(&self) -> Option<&str> {
        self.state.poison.get().map(String::as_str)
    }

    /// What is published and not yet in the index: its memory, and what of it counts against the limit. At `overlay_bytes_max` `append`
    /// refuses: an engine that holds its committers back before that never sees it.
    pub fn unsettled(&self) -> (u64, u64) {
        (self.state.overlay.bytes(), self.state.overlay.weight())
    }

    /// Makes a batch durable: when this returns `Ok`, it survives everything but the loss of the disk.
    ///
    /// The tids increase and are newer than everything in the log; a transaction writes a cell at most once; every
    /// record has a readable header. On `Refused`, `Behind` and `DiskFull` nothing was written.
    pub fn append(&mut self, txns: &[Txn]) -> Result<Appended, StoreError> {
        if let Some(reason) = self.poison() {
            return Err(StoreError::Poisoned { reason: reason.to_owned() });
        }
        if self.state.is_half_packed() {
            return Err(StoreError::DiskFull);
        }
        let len = self.check(txns)?;
        if let [txn] = txns
            && let Some(ahead) = txn.writes.take_ahead().filter(|ahead| ahead.is_of(txn))
        {
            match self.append_ahead(txn, ahead, len)? {
                Some(appended) => return Ok(appended),
                None => tracing::warn!("what was written ahead cannot be made durable; it is written once more"),
            }
        }
        // Beside others it is written once more.
        txns.iter().for_each(|txn| txn.writes.give_up_ahead());
        let start = self.clock.steady();
        self.make_room(len)?;
        let roomed = self.clock.steady();
        let written_ns = self.write(txns, len)?;
        let written = self.clock.steady();
        if let Err(error) = self.file.sync_data() {
            return Err(self.poisoned("syncing the log", &error));
        }
        self.cut_unsynced = false;
        let synced = self.clock.steady();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        let encode_ns = nanos(written - roomed).saturating_sub(written_ns);
        Ok(self.appended(txns, len, (encode_ns, nanos(roomed - start) + written_ns, nanos(synced - written))))
    }

    // The batch is behind what was there.
    fn appended(&mut self, txns: &[Txn], len: u64, (encode_ns, write_ns, sync_ns): (u64, u64, u64)) -> Appended {
        let header = &self.segment.header;
        let position = Position { segment: header.number, generation: header.generation, offset: self.end };
        let slots = Slots { kinds: &self.state.kinds, settings: &self.state.settings };
        let prepared = Prepared::new(position, len, txns, &self.records, &slots);
        self.end += len;
        self.last = prepared.last();
        Appended { prepared, segment: self.segment.clone(), end: self.end, bytes: len, encode_ns, write_ns, sync_ns }
    }

    // What was written ahead becomes the next segment; `None`: it cannot be completed, and is no part of the log.
    fn append_ahead(&mut self, txn: &Txn, mut ahead: AheadFile, len: u64) -> Result<Option<Appended>, StoreError> {
        let start = self.clock.steady();
        let header = self.next_header(Tid::NONE)?;
        if ahead.complete(&header, txn).is_err() {
            return Ok(None);
        }
        let synced = self.clock.steady();
        let path = segment_path(header.number, 0);
        if let Err(error) = ahead.name(&path) {
            // Whether the next start finds it nobody can tell, unless it is surely gone.
            return Err(match is_full(&error) && self.remove_durably(&path) {
                true => StoreError::DiskFull,
                false => self.poisoned("naming a segment", &error),
            });
        }
        let file = ahead.file.clone();
        let segment = Segment::new(header, self.state.handles.kept(path, file.clone()), SEGMENT_HEADER_LEN as u64);
        self.begun(segment, file);
        self.room.cut(self.end + len);
        self.records.clear();
        let named = self.clock.steady();
        Ok(Some(self.appended(std::slice::from_ref(txn), len, (0, nanos(named - synced), nanos(synced - start)))))
    }

    fn remove_durably(&self, path: &str) -> bool {
        let disk = &self.state.disk;
        disk.remove(path).and_then(|()| disk.sync_dir(segments::LOG_DIR)).is_ok()
    }

    /// Lets readers see a durable batch.
    pub fn publish(&mut self, appended: Appended) {
        let last = appended.prepared.last();
        appended.segment.set_end(appended.end);
        self.state.set_packed_to(appended.segment.packed_to());
        self.state.set_restored_to(appended.segment.restored_to());
        self.state.overlay.publish(appended.prepared, || self.state.set_published(last));
    }

    // The length of the batch, if it may be appended.
    fn check(&self, txns: &[Txn]) -> Result<u64, StoreError> {
        let refused = |what: String| Err(StoreError::Refused { what });
        if txns.is_empty() {
            return refused("a batch without transactions".to_owned());
        }
        let mut last = self.last;
        for txn in txns {
            if txn.tid <= last {
                return refused(format!("transaction {} is not newer than {last}", txn.tid));
            }
            last = txn.tid;
            match txn.writes.run() {
                Some(run) if run.note_len() != txn.note.len() => {
                    return refused(format!(
                        "transaction {} has another note than its writes were made ready for",
                        txn.tid
                    ));
                }
                // They were checked then.
                Some(_) => {}
                None => txn.writes.iter().try_for_each(check_write)?,
            }
        }
        let (unsettled_bytes, bytes_max) = (self.unsettled().1, self.state.settings.overlay_bytes_max);
        if unsettled_bytes >= bytes_max {
            return Err(StoreError::Behind { unsettled_bytes, bytes_max });
        }
        batch_len(txns)
    }

    /// Begins a new life of the store: from here on it is told apart from every copy of what was before. When the disk has
    /// no room for the segment that says so, the next commit makes it. `packed_to`: history up to there was packed where what
    /// follows comes from ([`Tid::NONE`]: nothing was), which takes force with the first of that; without room for the segment it is
    /// refused, since it must be kept.
    pub fn begin_timeline(&mut self, timeline: u64, packed_to: Tid) -> Result<(), StoreError> {
        if let Some(reason) = self.poison() {
            return Err(StoreError::Poisoned { reason: reason.to_owned() });
        }
        let before = std::mem::replace(&mut self.timeline, timeline);
        match self.begin_segment_packed(packed_to) {
            Err(StoreError::DiskFull | StoreError::NoSegment { .. }) if packed_to == Tid::NONE => {}
            Err(error) => {
                self.timeline = before;
                return Err(error);
            }
            Ok(()) => {}
        }
        self.state.timelines.begin(timeline, self.last);
        Ok(())
    }

    /// The same for what is restored: a life in which nothing was written yet goes on, if it says the same.
    pub fn begin_restored(&mut self, timeline: u64, packed_to: Tid) -> Result<(), StoreError> {
        let header = &self.segment.header;
        let is_empty = self.end == SEGMENT_HEADER_LEN as u64 && self.state.timelines.base() == self.last;
        let same = (header.timeline, header.packed_to) == (self.timeline, packed_to);
        if is_empty && same && !self.half_begun { Ok(()) } else { self.begin_timeline(timeline, packed_to) }
    }

    /// Begins a new segment, unless the current one has nothing in it: pack rewrites only what is not appended to.
    /// Everything appended must be published.
    pub fn roll(&mut self) -> Result<(), StoreError> {
        match self.poison() {
            Some(reason) => Err(StoreError::Poisoned { reason: reason.to_owned() }),
            None if self.end == SEGMENT_HEADER_LEN as u64 => Ok(()),
            None => self.begin_segment(),
        }
    }

    /// Whether a batch is appended to the current segment.
    pub fn fits(&self, txns: &[Txn]) -> bool {
        let is_ahead = txns.iter().any(|txn| txn.writes.is_ahead());
        !is_ahead && batch_len(txns).is_ok_and(|len| !self.begins_segment(len))
    }

    fn begins_segment(&self, len: u64) -> bool {
        let header = &self.segment.header;
        if header.format != LOG_FORMAT || header.timeline != self.timeline || self.half_begun {
            return true;
        }
        let empty = self.end == SEGMENT_HEADER_LEN as u64;
        let fits = self.end < self.state.settings.segment_bytes_max && self.end + len <= u64::from(u32::MAX);
        !empty && !fits
    }

    // Begins a new segment when the current one is full, of the older format or of another life.
    fn make_room(&mut self, len: u64) -> Result<(), StoreError> {
        if self.begins_segment(len) { self.begin_segment() } else { Ok(()) }
    }

    fn begin_segment(&mut self) -> Result<(), StoreError> {
        self.begin_segment_packed(Tid::NONE)
    }

    // The header of the segment that comes behind this one, which has its last byte then.
    fn next_header(&mut self, packed_to: Tid) -> Result<SegmentHeader, StoreError> {
        let Some(number) = self.segment.header.number.checked_add(1) else {
            return Err(StoreError::Refused { what: "the log has 2^32 segments".to_owned() });
        };
        // Behind a next segment a torn end would be damage, and so would room.
        if self.room.is_behind(self.end) {
            self.cut()?;
        }
        if std::mem::take(&mut self.cut_unsynced)
            && let Err(error) = self.file.sync_data()
        {
            return Err(self.poisoned("syncing the log", &error));
        }
        let header = self.segment.header.next(number, (self.end, self.last), self.timeline);
        Ok(SegmentHeader { packed_to, ..header })
    }

    // It is there, with its header.
    fn begun(&mut self, segment: Segment, file: Arc<dyn DiskFile>) {
        self.half_begun = false;
        let before = std::mem::replace(&mut self.segment, Arc::new(segment));
        self.file = file;
        before.file.let_go();
        self.end = SEGMENT_HEADER_LEN as u64;
        self.room.cut(self.end);
        self.state.segments.register(self.segment.clone());
        self.state.segments.make_current(&self.segment.header);
    }

    fn begin_segment_packed(&mut self, packed_to: Tid) -> Result<(), StoreError> {
        let header = self.next_header(packed_to)?;
        match self.create(header) {
            Ok((segment, file)) => {
                self.begun(segment, file);
                Ok(())
            }
            Err(error) => {
                // A leftover says which tid is before it: it must go, or be made good, before anything is appended here.
                self.half_begun = !self.remove_durably(&segment_path(header.number, 0));
                Err(no_segment(error))
            }
        }
    }

    fn create(&self, header: SegmentHeader) -> io::Result<(Segment, Arc<dyn DiskFile>)> {
        let segment = segments::create(&self.state.handles, header)?;
        let file = segment.file.get()?;
        Ok((segment, file))
    }

    // Encodes and writes a batch, and room behind it: without, when there is not so much. Gives how long the writing took.
    fn write(&mut self, txns: &[Txn], len: u64) -> Result<u64, StoreError> {
        let mut took = Duration::ZERO;
        match self.write_pieces(txns, len, &mut took) {
            Ok(file_end) => {
                self.room.grew(file_end);
                Ok(nanos(took))
            }
            Err(error) if is_full(&error) => self.cut().and(Err(StoreError::DiskFull)),
            Err(error) => Err(self.poisoned("writing the log", &error)),
        }
    }

    // The header of what is written in pieces comes last: nothing of it counts before it is whole. Gives where the file ends now.
    fn write_pieces(&mut self, txns: &[Txn], len: u64, took: &mut Duration) -> io::Result<u64> {
        let (file, begin, clock) = (&self.file, self.end, &self.clock);
        let mut put = |at: u64, bytes: &[u8]| {
            let start = clock.steady();
            let written = file.write_all_at(bytes, begin + at);
            *took += clock.steady() - start;
            written
        };
        let (out, salt) = ((&mut self.buffer, PIECE_BYTES), self.segment.salt);
        let rest = encode_in_pieces(out, (salt, len), txns, &mut self.records, &mut put)?;
        let (bytes, zeros) = (self.buffer.len(), self.room.behind(begin, len) as usize);
        let at = if let Rest::From(at, _) = &rest { *at } else { 0 };
        if at + bytes as u64 != len {
            return Err(io::Error::other("a batch has another length than was counted; report this"));
        }
        self.buffer.resize(bytes + zeros, 0);
        let rest_written = if self.buffer.is_empty() { Ok(()) } else { put(at, &self.buffer) };
        match rest_written {
            Err(error) if zeros > 0 && is_full(&error) => {
                file.set_len(begin + at)?;
                self.buffer.truncate(bytes);
                put(at, &self.buffer)?;
            }
            written => written?,
        }
        if let Rest::From(_, header) = &rest {
            put(0, header)?;
        }
        Ok(begin + at + self.buffer.len() as u64)
    }

    // Cuts off what lies behind the end.
    fn cut(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.file.set_len(self.end) {
            return Err(self.poisoned("cutting the log", &error));
        }
        self.room.cut(self.end);
        self.cut_unsynced = true;
        Ok(())
    }

    fn poisoned(&self, what: &str, error: &io::Error) -> StoreError {
        let reason = self.state.poison.get_or_init(|| format!("{what}: {error}"));
        tracing::error!(%reason, "the store is poisoned");
        StoreError::Poisoned { reason: reason.clone() }
    }
}

fn no_segment(error: io::Error) -> StoreError {
    match is_full(&error) {
        true => StoreError::DiskFull,
        false => StoreError::NoSegment { why: error.to_string() },
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// Whether an error means that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
