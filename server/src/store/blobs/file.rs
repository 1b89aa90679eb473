//! Owns the file of a blob: frames with a checksum each, so that any range is read checked without reading the rest, and what a crash
//! left of an upload is known by itself.
//!
//! ```text
//!   header 32 │ frame: 65536 bytes, crc 4 │ frame │ ... │ last frame: the rest, crc 4 │ trailer 24: length, checksum of all
//! ```
//! An upload writes whole frames, behind each other; the last one and the trailer come at its end. So a file without a trailer is an
//! upload that goes on behind its last good frame. The numbers are in docs/format.md.

use crate::store::StoreError;
use crate::store::disk::DiskFile;
use crate::store::log::appender::is_full;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc32fast::Hasher;
use std::io;
use std::sync::Arc;
use zeolite_proto::BlobId;

/// The format number of a blob's file.
const FORMAT: u32 = 1;
const MAGIC: &[u8; 4] = b"ZBLB";
const END_MAGIC: &[u8; 4] = b"ZBEN";
const HEADER_LEN: u64 = 32;
const TRAILER_LEN: u64 = 24;
/// Content bytes of a frame.
pub(crate) const FRAME_BYTES: u64 = 64 << 10;
const CRC_LEN: u64 = 4;
/// At most so many content bytes are read at once.
pub(crate) const READ_BYTES_MAX: u64 = 16 * FRAME_BYTES;

/// Where a frame begins.
fn frame_at(number: u64) -> u64 {
    HEADER_LEN + number * (FRAME_BYTES + CRC_LEN)
}

/// How long the file of so many content bytes is; `None`: too long to be one.
pub(super) fn file_len(content: u64) -> Option<u64> {
    content.div_ceil(FRAME_BYTES).checked_mul(CRC_LEN)?.checked_add(content)?.checked_add(HEADER_LEN + TRAILER_LEN)
}

/// A checksum that fits in one place of one blob only.
fn crc_of(id: BlobId, place: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&id.0);
    hasher.update(&place.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

// The places of header and trailer, behind those of all frames.
const AT_HEADER: u64 = u64::MAX;
const AT_TRAILER: u64 = u64::MAX - 1;

fn header_of(id: BlobId) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN as usize);
    out.put_slice(MAGIC);
    out.put_u32_le(FORMAT);
    out.put_slice(&id.0);
    out.put_u32_le(0);
    out.put_u32_le(crc_of(id, AT_HEADER, &out));
    out
}

/// What is wrong with a header, if something is.
fn check_header(id: BlobId, header: &[u8]) -> Result<(), String> {
    if header == header_of(id) {
        return Ok(());
    }
    let format = header.get(4..8).map_or(0, |mut word| word.get_u32_le());
    match header.starts_with(MAGIC) && format != FORMAT {
        true => Err(format!("its format is {format}, this program knows {FORMAT}; use a newer zeolite")),
        false => Err("its header is not that of this blob".to_owned()),
    }
}

/// A whole blob.
pub(crate) struct WholeFile {
    file: Arc<dyn DiskFile>,
    path: String,
    id: BlobId,
    len: u64,
    crc: u32,
}

impl WholeFile {
    /// Reads header and trailer.
    pub(crate) fn open(file: Arc<dyn DiskFile>, path: String, id: BlobId) -> Result<WholeFile, StoreError> {
        let damaged = |what: String| Err(StoreError::DamagedBlob { path: path.clone(), what });
        let on_disk = file.len().map_err(|error| failed("measuring", &path, error))?;
        if on_disk < HEADER_LEN + TRAILER_LEN {
            return damaged(format!("it has {on_disk} bytes, less than any blob's file"));
        }
        let (mut header, mut trailer) = ([0; HEADER_LEN as usize], [0; TRAILER_LEN as usize]);
        let read = file.read_exact_at(&mut header, 0);
        read.and_then(|()| file.read_exact_at(&mut trailer, on_disk - TRAILER_LEN))
            .map_err(|error| failed("reading", &path, error))?;
        if let Err(what) = check_header(id, &header) {
            return damaged(what);
        }
        let (said, mut words) = (&trailer[..20], &trailer[4..]);
        let (len, crc, _, own) = (words.get_u64_le(), words.get_u32_le(), words.get_u32_le(), words.get_u32_le());
        if !trailer.starts_with(END_MAGIC) || own != crc_of(id, AT_TRAILER, said) {
            return damaged("its end is not that of this blob".to_owned());
        }
        if file_len(len) != Some(on_disk) {
            return damaged(format!("it has {on_disk} bytes, and says that the blob has {len}"));
        }
        Ok(WholeFile { file, path, id, len, crc })
    }

    /// Content bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The checksum of the content, as the uploader said it.
    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }

    /// Content from an offset, checked: at most as many bytes as asked for and as are read at once; none at the end.
    pub(crate) fn read(&self, offset: u64, len: u64) -> Result<Bytes, StoreError> {
        let end = offset.saturating_add(len.min(READ_BYTES_MAX - FRAME_BYTES)).min(self.len);
        if offset >= end {
            return Ok(Bytes::new());
        }
        let (first, last) = (offset / FRAME_BYTES, (end - 1) / FRAME_BYTES);
        let frame_len = |number: u64| FRAME_BYTES.min(self.len - number * FRAME_BYTES);
        let stretch = frame_at(last) + frame_len(last) + CRC_LEN - frame_at(first);
        let mut buffer = vec![0; stretch as usize];
        let read = self.file.read_exact_at(&mut buffer, frame_at(first));
        read.map_err(|error| failed("reading", &self.path, error))?;
        let (mut content, mut rest) = (BytesMut::with_capacity(buffer.len()), &buffer[..]);
        for number in first..=last {
            let (frame, tail) = rest.split_at(frame_len(number) as usize);
            let mut tail = tail;
            if tail.get_u32_le() != crc_of(self.id, number, frame) {
                let what = format!("the checksum of its bytes from {} on does not fit", number * FRAME_BYTES);
                return Err(StoreError::DamagedBlob { path: self.path.clone(), what });
            }
            content.extend_from_slice(frame);
            rest = tail;
        }
        let from = (offset - first * FRAME_BYTES) as usize;
        Ok(content.freeze().slice(from..from + (end - offset) as usize))
    }

    /// Reads everything. `step` is told how many bytes were read.
    pub(crate) fn verify(&self, step: &mut dyn FnMut(u64) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let (mut at, mut hasher) = (0, Hasher::new());
        while at < self.len {
            let piece = self.read(at, READ_BYTES_MAX)?;
            hasher.update(&piece);
            at += piece.len() as u64;
            step(piece.len() as u64)?;
        }
        if hasher.finalize() != self.crc {
            let what = "the checksum of its content does not fit".to_owned();
            return Err(StoreError::DamagedBlob { path: self.path.clone(), what });
        }
        Ok(())
    }
}

/// An upload on its way.
pub(crate) struct PartFile {
    // Closed while nobody goes on with it.
    file: Option<Arc<dyn DiskFile>>,
    path: String,
    id: BlobId,
    /// Whole frames that are written.
    frames: u64,
    /// Of what is in them.
    hasher: Hasher,
    /// What came and is no whole frame yet.
    tail: Vec<u8>,
    synced_at: u64,
}

// So much is written at most before it is synced: an upload that was cut by a crash lacks no more.
const SYNC_BYTES: u64 = 64 << 20;

/// Why an upload did not go on.
pub(crate) enum Stopped {
    /// A write failed; nothing is owed to anybody.
    Write(io::Error),
    /// A sync failed: nobody knows what is on the disk.
    Sync(io::Error),
    /// There is no room; what was there is still.
    Full,
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        if is_full(&error) { Stopped::Full } else { Stopped::Write(error) }
    }
}

impl PartFile {
    /// Goes on with a file, or begins one that is empty: behind its last good frame.
    pub(crate) fn resume(file: Arc<dyn DiskFile>, path: String, id: BlobId) -> Result<PartFile, Stopped> {
        let on_disk = file.len()?;
        let (hasher, tail) = (Hasher::new(), Vec::new());
        let mut part = PartFile { file: Some(file.clone()), path, id, frames: 0, hasher, tail, synced_at: 0 };
        let mut header = [0; HEADER_LEN as usize];
        if on_disk < HEADER_LEN || file.read_exact_at(&mut header, 0).is_err() || check_header(id, &header).is_err() {
            file.set_len(0)?;
            file.write_all_at(&header_of(id), 0)?;
            return Ok(part);
        }
        let mut frame = vec![0; (FRAME_BYTES + CRC_LEN) as usize];
        while frame_at(part.frames + 1) <= on_disk {
            file.read_exact_at(&mut frame, frame_at(part.frames))?;
            let (content, mut crc) = frame.split_at(FRAME_BYTES as usize);
            if crc.get_u32_le() != crc_of(id, part.frames, content) {
                break;
            }
            part.hasher.update(content);
            part.frames += 1;
        }
        // What lies behind would come before what is written next.
        part.cut(&file)?;
        Ok(part)
    }

    /// Nobody goes on with it now: its file is closed, and what is no whole frame forgotten, to be sent again.
    pub(crate) fn rest(&mut self) {
        self.file = None;
        self.tail.clear();
    }

    /// Goes on with the file as it was left.
    pub(crate) fn wake(&mut self, file: Arc<dyn DiskFile>) -> Result<(), Stopped> {
        self.cut(&file)?;
        self.tail.clear();
        self.file = Some(file);
        Ok(())
    }

    fn open(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.file.clone().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// So many bytes are written; an upload goes on from here.
    pub(crate) fn at(&self) -> u64 {
        self.frames * FRAME_BYTES
    }

    /// So many came.
    pub(crate) fn len(&self) -> u64 {
        self.at() + self.tail.len() as u64
    }

    fn cut(&self, file: &Arc<dyn DiskFile>) -> io::Result<()> {
        file.set_len(frame_at(self.frames))
    }

    /// Takes the next bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.tail.extend_from_slice(bytes);
        if self.tail.len() < FRAME_BYTES as usize {
            return Ok(());
        }
        let whole = self.tail.len() / FRAME_BYTES as usize * FRAME_BYTES as usize;
        let mut buffer = Vec::with_capacity(whole + whole / 1024);
        for (frame, number) in self.tail[..whole].chunks(FRAME_BYTES as usize).zip(self.frames..) {
            buffer.put_slice(frame);
            buffer.put_u32_le(crc_of(self.id, number, frame));
        }
        let file = self.open()?;
        if let Err(error) = file.write_all_at(&buffer, frame_at(self.frames)) {
            self.cut(&file)?;
            return Err(error.into());
        }
        self.hasher.update(&self.tail[..whole]);
        self.tail.drain(..whole);
        self.frames += (whole as u64) / FRAME_BYTES;
        if self.at() >= self.synced_at + SYNC_BYTES {
            file.sync_data().map_err(Stopped::Sync)?;
            self.synced_at = self.at();
        }
        Ok(())
    }

    /// Whether what came is what the uploader has sent.
    pub(crate) fn matches(&self, len: u64, crc: u32) -> bool {
        self.len() == len && self.crc() == crc
    }

    fn crc(&self) -> u32 {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.tail);
        hasher.finalize()
    }

    /// Writes the end and makes all of it durable.
    pub(crate) fn finish(&mut self) -> Result<(), Stopped> {
        let (len, crc) = (self.len(), self.crc());
        let mut end = std::mem::take(&mut self.tail);
        if !end.is_empty() {
            let own = crc_of(self.id, self.frames, &end);
            end.put_u32_le(own);
        }
        let mut trailer = Vec::with_capacity(TRAILER_LEN as usize);
        trailer.put_slice(END_MAGIC);
        trailer.put_u64_le(len);
        trailer.put_u32_le(crc);
        trailer.put_u32_le(0);
        trailer.put_u32_le(crc_of(self.id, AT_TRAILER, &trailer));
        end.put_slice(&trailer);
        let file = self.open()?;
        if let Err(error) = file.write_all_at(&end, frame_at(self.frames)) {
            self.cut(&file)?;
            return Err(error.into());
        }
        file.sync_data().map_err(Stopped::Sync)
    }

    /// Its name.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// The error of a call on a blob's file.
pub(crate) fn failed(what: &str, path: &str, error: io::Error) -> StoreError {
    crate::store::log::handles::failed(format!("{what} {path}"), error)
}
