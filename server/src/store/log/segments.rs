//! Owns the segment files: their names, their creation, and the catalogue through which readers find one.

use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::frame::{BadFrame, LOG_FORMAT, SEGMENT_HEADER_LEN, Salt, SegmentHeader};
use crate::store::log::Place;
use crate::store::log::handles::{self, Handles, LogFile};
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_proto::Tid;

/// The directory of the log.
pub(crate) const LOG_DIR: &str = "log";

/// What a file ends with that is to become a segment: of a pack, or of a large commit before its turn.
pub(crate) const PART: &str = ".part";

/// A segment file, opened when it is read. Whoever holds it can read it, also after pack retired it.
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) salt: Salt,
    pub(crate) file: LogFile,
    // What readers may read: everything before it is durable and published. Only the appender and recovery move it.
    end: AtomicU64,
}

impl Segment {
    /// Whoever made or checked the file says how far it can be read.
    pub(crate) fn new(header: SegmentHeader, file: LogFile, end: u64) -> Segment {
        Segment { header, salt: header.salt(), file, end: AtomicU64::new(end) }
    }

    /// The end of what readers may read.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Moves the end of what readers may read.
    pub(crate) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Up to where history was packed in it, or where what is in it comes from: one that was begun and holds nothing yet says
    /// nothing of that.
    pub(crate) fn packed_to(&self) -> Tid {
        let is_begun = self.header.generation == 0 && self.end() <= SEGMENT_HEADER_LEN as u64;
        if is_begun { Tid::NONE } else { self.header.packed_to }
    }

    /// The same of what was restored alone: a pack of this store keeps the commit keys, one of its source did not bring them.
    pub(crate) fn restored_to(&self) -> Tid {
        if self.header.generation == 0 { self.packed_to() } else { Tid::NONE }
    }

    /// Names damage in this segment.
    pub(crate) fn damaged(&self, offset: u64, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { segment: self.header.number, offset, what: what.into() }
    }

    /// Reads bytes that were written before the end.
    pub(crate) fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), StoreError> {
        match self.file.get().and_then(|file| file.read_exact_at(bytes, at)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(at, "the file ends before what was written here"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(self.damaged(at, format!("the file {} is missing", self.file.path())))
            }
            Err(error) => Err(handles::failed(format!("reading segment {} at {at}", self.header.number), error)),
        }
    }

    /// Reads one record and checks it.
    pub(crate) fn record(&self, place: &Place) -> Result<Bytes, StoreError> {
        let mut bytes = vec![0; place.len as usize];
        self.read(&mut bytes, u64::from(place.offset))?;
        if crc32fast::hash(&bytes) != place.crc {
            return Err(self.damaged(u64::from(place.offset), "a record whose checksum does not fit"));
        }
        Ok(Bytes::from(bytes))
    }
}

/// The path of a segment's file.
pub(crate) fn segment_path(number: u32, generation: u16) -> String {
    format!("{LOG_DIR}/{number:010}.{generation:04}.seg")
}

/// The number and generation in a file name; `None`: not a segment.
pub(crate) fn parse_name(name: &str) -> Option<(u32, u16)> {
    let (number, generation) = name.strip_suffix(".seg")?.split_once('.')?;
    let parsed = (number.parse().ok()?, generation.parse().ok()?);
    (segment_path(parsed.0, parsed.1).strip_prefix("log/") == Some(name)).then_some(parsed)
}

/// Makes a segment file with its header, durable in every respect before it is returned; it stays open.
///
/// When it fails the file may be left behind; the next try begins it anew, and opening the store removes it.
pub(crate) fn create(handles: &Arc<Handles>, header: SegmentHeader) -> io::Result<Segment> {
    let path = segment_path(header.number, header.generation);
    let file = handles.open(&path, true)?;
    file.set_len(0)?;
    file.write_all_at(&header.encode(), 0)?;
    file.sync_data()?;
    handles.disk().sync_dir(LOG_DIR)?;
    Ok(Segment::new(header, handles.kept(path, file), SEGMENT_HEADER_LEN as u64))
}

/// Reads the header of a segment file; `Ok(None)`: it is shorter than a header or its only content is a torn one.
pub(crate) fn find(handles: &Arc<Handles>, number: u32, generation: u16) -> Result<Option<Segment>, StoreError> {
    let path = segment_path(number, generation);
    let io = |error| handles::failed(format!("opening {path}"), error);
    let file = handles.open(&path, false).map_err(io)?;
    let len = file.len().map_err(io)?;
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    if len < SEGMENT_HEADER_LEN as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let damaged = |what: String| StoreError::Damaged { segment: number, offset: 0, what };
    match SegmentHeader::parse(&bytes) {
        Ok(header) if (header.number, header.generation) == (number, generation) => {
            Ok(Some(Segment::new(header, handles.lazy(path), len)))
        }
        Ok(header) => Err(damaged(format!("the header of {}.{}", header.number, header.generation))),
        Err(BadFrame::Torn(_)) if len == SEGMENT_HEADER_LEN as u64 => Ok(None),
        Err(BadFrame::Format(found)) => Err(StoreError::Format { what: path, found, known: LOG_FORMAT }),
        Err(BadFrame::Flags(what)) => Err(StoreError::Unreadable { file: path, what }),
        Err(bad) => Err(damaged(bad.what())),
    }
}

/// The segments, shared by appender and readers.
///
/// Each number is stood for by one *current* segment: that is what reading in order follows. Pack registers a new generation
/// beside it (or beside several), lets the index point there, makes it current and then retires the old ones; until then all
/// are found.
pub(crate) struct Segments {
    catalogue: RwLock<Catalogue>,
}

#[derive(Default)]
struct Catalogue {
    files: BTreeMap<(u32, u16), Arc<Segment>>,
    current: BTreeMap<u32, u16>,
}

impl Segments {
    /// A catalogue of these, all current.
    pub(crate) fn new(segments: impl IntoIterator<Item = Arc<Segment>>) -> Segments {
        let all = Segments { catalogue: RwLock::new(Catalogue::default()) };
        for segment in segments {
            let header = segment.header;
            all.register(segment);
            all.make_current(&header);
        }
        all
    }

    /// Lets readers find a segment by the places in it.
    pub(crate) fn register(&self, segment: Arc<Segment>) {
        let id = (segment.header.number, segment.header.generation);
        self.catalogue.write().files.insert(id, segment);
    }

    /// Lets reading in order go through this one from now on, for all numbers that it stands for.
    pub(crate) fn make_current(&self, header: &SegmentHeader) {
        let current = &mut self.catalogue.write().current;
        current.retain(|number, _| !header.numbers().contains(number));
        current.insert(header.number, header.generation);
    }

    /// Lets readers find a generation no longer, and removes the name of its file, durably; those who have it go on reading, and it is
    /// gone with the last of them: gives it to the caller, who may be that. When that fails the file is left over: the next start removes it.
    pub(crate) fn retire(&self, disk: &dyn Disk, number: u32, generation: u16) -> Option<Arc<Segment>> {
        let segment = self.catalogue.write().files.remove(&(number, generation))?;
        let path = segment.file.path();
        // Who has it must have it open before its name is gone.
        let removed = segment.file.keep().and_then(|_| disk.remove(path)).and_then(|()| disk.sync_dir(LOG_DIR));
        match removed {
            Ok(()) => Some(segment),
            Err(error) => {
                tracing::warn!(path, %error, "a replaced segment is left over; the next start removes it");
                None
            }
        }
    }

    /// A generation of a segment; `None`: never there, or retired.
    pub(crate) fn find(&self, number: u32, generation: u16) -> Option<Arc<Segment>> {
        self.catalogue.read().files.get(&(number, generation)).cloned()
    }

    /// The current segment that stands for this number, or the first one behind it.
    pub(crate) fn current_from(&self, number: u32) -> Option<Arc<Segment>> {
        let catalogue = self.catalogue.read();
        let (number, generation) = catalogue.current.range(number..).next()?;
        catalogue.files.get(&(*number, *generation)).cloned()
    }

    /// All current segments, in order.
    pub(crate) fn current(&self) -> Vec<Arc<Segment>> {
        let catalogue = self.catalogue.read();
        let found = catalogue
            .current
            .iter()
            .filter_map(|(number, generation)| catalogue.files.get(&(*number, *generation)).cloned());
        found.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_would_give_are_segments() {
        assert_eq!(parse_name("0000000012.0003.seg"), Some((12, 3)));
        assert_eq!(parse_name("0000000012.65535.seg"), Some((12, 65535)));
        for name in ["12.3.seg", "0000000012.0003.seg.tmp", "0000000012.seg", "+000000012.0003.seg", "x"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
