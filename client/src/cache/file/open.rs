//! Owns the opening of the file: which one of a directory, whether it is one, and what is in it.
//!
//! Processes with one directory take a file each, the first whose lock is free: `main-1.zeocache`, `main-2.zeocache` and so on, named by the
//! database. The lock is held by whoever has the file open, and goes with him however he ends. A file that is not a cache, of another format, or
//! not this user's alone is left as it is, and the next one taken; none is ever removed. A disk that fails costs the cache and not the start.
//!
//! ```text
//!   chunk's sequence at least the header's first?   no: void
//!   entry whole, live, not newer than the position? its place to its shard; the cell is one that the client may hold
//!   not whole?                                      the chunk ends here, and is made to
//! ```

use super::CacheFile;
use super::layout::{
    BYTES_MAX, BYTES_MIN, CHUNKS_AT, ENTRY_HEADER_BYTES, FIRST_ENTRY, FORMAT, Found, HEADER_BYTES, Header, Shape, Turn,
    chunk_turn, decode_entry, place,
};
use rustix::fs::OFlags;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::Ordering;
use zeolite_proto::{Cell, Tid};

/// Processes that share a directory; more go without a file.
const FILES_MAX: usize = 64;

/// What a file says of itself that can be gone on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub(crate) store_id: u64,
    pub(crate) timeline: u64,
    pub(crate) position: Tid,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scanned {
    pub(crate) header: Header,
    /// The chunk that was filled last, and the highest sequence.
    pub(crate) chunk: usize,
    pub(crate) sequence: u64,
}

impl Scanned {
    /// None: nothing can be gone on with.
    pub(crate) fn kept(&self) -> Option<Kept> {
        let Header { store_id, timeline, position, .. } = self.header;
        (position != Tid::NONE).then_some(Kept { store_id, timeline, position })
    }
}

/// Opens a file of the directory for the clients of a database; none: there is none to be had, as the log says. An error is of the options, and says
/// what to do.
pub(crate) fn open(dir: &Path, database: &str, bytes: u64) -> Result<Option<(CacheFile, Header)>, String> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        return Err(format!("cache_file_bytes is {bytes}; give {BYTES_MIN} to {BYTES_MAX}, or leave cache_dir out"));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        let dir = dir.display();
        format!("{dir}: {error}; make it readable and writable for this user, give another cache_dir, or leave it out")
    })?;
    let database = if database.is_empty() { "main" } else { database };
    let name: String = database.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let shape = Shape::of(bytes);
    for number in 1..=FILES_MAX {
        let path = dir.join(format!("{name}-{number}.zeocache"));
        match one(&path, shape) {
            Ok(Some((file, header))) => return Ok(Some((CacheFile::new(file, path, shape), header))),
            Ok(None) => {}
            Err(Refused::Is(what)) => {
                let path = path.display();
                tracing::warn!(%path, "{what}: it is left as it is, and the next one is taken; move it away");
            }
            // Of the next one the same would be said.
            Err(Refused::Io(error)) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the file of the cache cannot be used; the client goes on with its memory");
                return Ok(None);
            }
        }
    }
    tracing::warn!(dir = %dir.display(), "all files of the cache are in use by other clients; this one goes without");
    Ok(None)
}

#[derive(Debug)]
pub(super) enum Refused {
    Io(io::Error),
    /// It is something that this client may not use.
    Is(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::Io(error)
    }
}

/// Opens one file, locks it and takes it; none: another process has it.
fn one(path: &Path, shape: Shape) -> Result<Option<(File, Header)>, Refused> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    // A link that somebody else has put there would lead anywhere; a pipe would wait.
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if is_of_others(&error) => return Err(Refused::Is(format!("not this user's file ({error})"))),
        Err(error) => return Err(error.into()),
    };
    is_own(&file)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let header = claim(&file, shape)?;
    Ok(Some((file, header)))
}

fn is_of_others(error: &io::Error) -> bool {
    let loops = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    loops || matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory)
}

/// What somebody else can write to is not read: records are what a program believes, and pickles are programs.
fn is_own(file: &File) -> Result<(), Refused> {
    let about = file.metadata()?;
    if !about.is_file() || about.uid() != rustix::process::geteuid().as_raw() || about.nlink() != 1 {
        return Err(Refused::Is("not a file of this user's alone".to_owned()));
    }
    if about.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Its header; one that is new, of another size, or without a whole header is made anew.
pub(super) fn claim(file: &File, shape: Shape) -> Result<Header, Refused> {
    let length = file.metadata()?.len();
    let (mut newest, mut is_cache): (Option<Header>, bool) = (None, length == 0);
    for at in [0, HEADER_BYTES] {
        let mut there = vec![0; length.saturating_sub(at).min(HEADER_BYTES) as usize];
        file.read_exact_at(&mut there, at)?;
        match Header::decode(&there) {
            Found::Header(header) if newest.is_none_or(|newest| newest.turn < header.turn) => newest = Some(header),
            Found::Format(format) => {
                return Err(Refused::Is(format!("a cache of format {format}, and this client knows format {FORMAT}")));
            }
            // A loss of power may leave either of them out.
            Found::Nothing | Found::Foreign => continue,
            Found::Header(_) | Found::Torn => {}
        }
        is_cache = true;
    }
    // Zeros: made, and no more, when its process or its machine ended.
    let is_ours = is_cache || length <= BYTES_MAX && is_zero(file, length)?;
    if !is_ours {
        return Err(Refused::Is("no cache of a Zeolite client".to_owned()));
    }
    if let Some(header) = newest.filter(|header| header.shape == shape) {
        file.set_len(shape.bytes)?;
        return Ok(header);
    }
    file.set_len(0)?;
    file.set_len(shape.bytes)?;
    let header = Header { turn: 2, shape, first: 1, store_id: 0, timeline: 0, position: Tid::NONE };
    file.write_all_at(&header.encode(), header.at())?;
    Ok(header)
}

/// Whether there is nothing but zeros.
fn is_zero(file: &File, length: u64) -> io::Result<bool> {
    let mut bytes = vec![0; 64 << 10];
    let mut at = 0;
    while at < length {
        let part = (length - at).min(bytes.len() as u64) as usize;
        file.read_exact_at(&mut bytes[..part], at)?;
        if bytes[..part].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += part as u64;
    }
    Ok(true)
}

impl CacheFile {
    /// Reads all chunks, and gives each live entry's cell with its place.
    pub(crate) fn scan(&self, header: Header, mut each: impl FnMut(Cell, u32)) -> io::Result<Scanned> {
        let mut scanned = Scanned { header, chunk: self.shape.chunks() - 1, sequence: header.first - 1 };
        let mut bytes = vec![0; self.shape.chunk_bytes as usize];
        for chunk in 0..self.shape.chunks() {
            let from = self.shape.chunk_at(chunk);
            // Most of a file that was never filled.
            self.file.read_exact_at(&mut bytes[..FIRST_ENTRY as usize], from)?;
            let Some(Turn { sequence, salt }) = chunk_turn(chunk, &bytes) else { continue };
            if sequence > scanned.sequence {
                (scanned.chunk, scanned.sequence) = (chunk, sequence);
            }
            // What nothing is said of is emptied by the first session, since it cannot resume.
            if sequence < header.first || header.position == Tid::NONE {
                continue;
            }
            self.file.read_exact_at(&mut bytes, from)?;
            self.salts[chunk].store(salt, Ordering::Release);
            let mut at = FIRST_ENTRY;
            while let Some(entry) = decode_entry(&bytes[at as usize..], salt, place(from + at)) {
                let at_place = place(from + at);
                match entry.is_live {
                    // What is newer than the position may be of a life of the store that nobody goes on with: the server is asked about the
                    // position alone.
                    true if entry.tid > header.position => self.queue.dead(at_place),
                    true => each(entry.cell(), at_place),
                    false => {}
                }
                at = (at + entry.bytes()).min(self.shape.chunk_bytes);
            }
            self.used[chunk].store(at, Ordering::Relaxed);
            self.end_chunk(&bytes[at as usize..], from + at)?;
        }
        Ok(scanned)
    }

    /// What was not read now is never read: nobody would mark it when it ends.
    fn end_chunk(&self, rest: &[u8], at: u64) -> io::Result<()> {
        let end = &rest[..rest.len().min(ENTRY_HEADER_BYTES)];
        if end.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.write(&vec![0; end.len()], at)
    }
}

const _: () = assert!(CHUNKS_AT > HEADER_BYTES && BYTES_MIN > 2 * CHUNKS_AT);
