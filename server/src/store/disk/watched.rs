//! Owns the watched disk: it stands before another one and tells of each call before and after it is made. Who watches may
//! refuse the call, take its time, or take a picture of the disk.

use super::sim::SimOp;
use super::{Disk, DiskFile};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A call that changes something, or reads. An `open` that may create is told as one that does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call<'a> {
    /// What is done.
    pub op: SimOp,
    /// To which file or directory; of a rename, the new name.
    pub path: &'a str,
    /// From where in the file, or to which length it is cut.
    pub offset: u64,
    /// How many bytes.
    pub len: usize,
}

/// Who watches.
pub trait Watch: Send + Sync + 'static {
    /// A call is about to be made; with an error it is not, and that is its answer.
    fn before(&self, call: Call<'_>) -> io::Result<()>;
    /// It was made and succeeded.
    fn after(&self, _call: Call<'_>) {}
    /// It was made and failed.
    fn failed(&self, _call: Call<'_>, _error: &io::Error) {}
}

impl<F: Fn(Call<'_>) -> io::Result<()> + Send + Sync + 'static> Watch for F {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        self(call)
    }
}

/// A disk with a watch before it.
pub struct WatchedDisk {
    disk: Arc<dyn Disk>,
    watch: Arc<dyn Watch>,
}

impl WatchedDisk {
    /// The watch hears of every call from now on.
    pub fn new(disk: Arc<dyn Disk>, watch: impl Watch) -> WatchedDisk {
        WatchedDisk { disk, watch: Arc::new(watch) }
    }
}

fn told<T>(watch: &dyn Watch, call: Call<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    watch.before(call)?;
    let made = make();
    match &made {
        Ok(_) => watch.after(call),
        Err(error) => watch.failed(call, error),
    }
    made
}

fn of(op: SimOp, path: &str) -> Call<'_> {
    Call { op, path, offset: 0, len: 0 }
}

impl Disk for WatchedDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let open = || self.disk.open(path, create);
        let file = if create { told(self.watch.as_ref(), of(SimOp::Create, path), open)? } else { open()? };
        Ok(Arc::new(WatchedFile { file, path: path.to_owned(), watch: self.watch.clone() }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.make_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        told(self.watch.as_ref(), of(SimOp::Rename, to), || self.disk.rename(from, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        told(self.watch.as_ref(), of(SimOp::Remove, path), || self.disk.remove(path))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        told(self.watch.as_ref(), of(SimOp::SyncDir, dir), || self.disk.sync_dir(dir))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.disk.size_bytes()
    }

    fn real_path(&self, path: &str) -> Option<PathBuf> {
        self.disk.real_path(path)
    }
}

struct WatchedFile {
    file: Arc<dyn DiskFile>,
    path: String,
    watch: Arc<dyn Watch>,
}

impl WatchedFile {
    fn told<T>(&self, op: SimOp, (offset, len): (u64, usize), make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        told(self.watch.as_ref(), Call { op, path: &self.path, offset, len }, make)
    }
}

impl DiskFile for WatchedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let len = buffer.len();
        self.told(SimOp::Read, (offset, len), || self.file.read_exact_at(buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.told(SimOp::Write, (offset, bytes.len()), || self.file.write_all_at(bytes, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn occupied_bytes(&self) -> io::Result<u64> {
        self.file.occupied_bytes()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.told(SimOp::SetLen, (len, 0), || self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.told(SimOp::Sync, (0, 0), || self.file.sync_data())
    }
}

#[cfg(test)]
mod tests {
    use super::super::SimDisk;
    use super::*;
    use parking_lot::Mutex;

    #[test]
    fn each_call_is_told_and_a_refused_one_is_not_made() {
        let (disk, calls) = (SimDisk::new(), Arc::new(Mutex::new(Vec::new())));
        let heard = calls.clone();
        let watched = WatchedDisk::new(Arc::new(disk.clone()), move |call: Call<'_>| {
            heard.lock().push((call.op, call.path.to_owned(), call.offset, call.len));
            if call.op == SimOp::Sync { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        });
        let file = watched.open("a", true).expect("opens");
        file.write_all_at(b"xyz", 2).expect("writes");
        file.sync_data().expect_err("refused");
        watched.remove("b").expect("removes");
        let wanted = [
            (SimOp::Create, "a", 0, 0),
            (SimOp::Write, "a", 2, 3),
            (SimOp::Sync, "a", 0, 0),
            (SimOp::Remove, "b", 0, 0),
        ];
        let told = calls.lock().iter().map(|(op, path, at, len)| (*op, path.clone(), *at, *len)).collect::<Vec<_>>();
        assert_eq!(told, wanted.map(|(op, path, at, len)| (op, path.to_owned(), at, len)));
        assert_eq!((disk.bytes("a").expect("there").len(), disk.syncs()), (5, 0));
    }
}
