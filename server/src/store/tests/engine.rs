//! Owns which index engine the store's tests run on: redb, or with `ZEOLITE_TEST_INDEX=sled`, in builds with it, sled, so
//! that both pass all of them.
//!
//! sled has real files, and the tests have simulated disks, which lose power. So sled's directory is a temporary one, and
//! what is synced there is copied onto the simulated disk: that is what the next opening finds. A store that is dropped as it
//! stands leaves the names of its other files there too, as a kill does; that counts as no call of the disk.

use crate::store::IndexKind;
use crate::store::disk::{Disk, SimDisk};
use crate::store::index::files::{REDB_FILE, SLED_BLOBS, SLED_DIR, SUMS_FILE};
use std::sync::Arc;

/// The engine of this run.
pub(crate) fn kind() -> IndexKind {
    match std::env::var("ZEOLITE_TEST_INDEX").as_deref() {
        Ok("sled") => IndexKind::Sled,
        Ok("redb") | Err(_) => IndexKind::Redb,
        Ok(other) => panic!("ZEOLITE_TEST_INDEX={other:?} is no index; use redb or sled"),
    }
}

/// The files of the index, whichever it is.
pub(crate) fn files(disk: &SimDisk) -> Vec<String> {
    let in_dir = |dir: &str| {
        let names = disk.list(dir).expect("lists").into_iter();
        names.map(|name| format!("{dir}/{name}")).collect::<Vec<_>>()
    };
    let redb = disk.list("").expect("lists").into_iter().filter(|name| name == REDB_FILE || name == SUMS_FILE);
    redb.chain([SLED_DIR, SLED_BLOBS].into_iter().flat_map(in_dir)).collect()
}

/// A simulated disk on which that engine can live.
pub(crate) fn on(disk: &SimDisk) -> Arc<dyn Disk> {
    match kind() {
        IndexKind::Redb => Arc::new(disk.clone()),
        #[cfg(feature = "sled")]
        IndexKind::Sled => half_real::on(disk),
        #[cfg(not(feature = "sled"))]
        IndexKind::Sled => panic!("this build has no sled; build with the cargo feature sled"),
    }
}

#[cfg(feature = "sled")]
mod half_real {
    use crate::store::disk::{Disk, DiskFile, SimDisk};
    use crate::store::index::files::{SLED_BLOBS, SLED_DIR};
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;
    use std::sync::Arc;
    use tempfile::TempDir;

    pub(crate) fn on(disk: &SimDisk) -> Arc<dyn Disk> {
        let real = TempDir::new().expect("temporary directory");
        for dir in [SLED_DIR, SLED_BLOBS] {
            for name in disk.list(dir).expect("lists") {
                let path = format!("{dir}/{name}");
                fs::create_dir_all(real.path().join(dir)).expect("makes");
                fs::write(real.path().join(&path), disk.bytes(&path).expect("there")).expect("writes");
            }
        }
        Arc::new(HalfReal { sim: disk.clone(), real })
    }

    struct HalfReal {
        sim: SimDisk,
        real: TempDir,
    }

    impl HalfReal {
        fn real(&self, path: &str) -> Option<PathBuf> {
            path.starts_with(SLED_DIR).then(|| self.real.path().join(path))
        }
    }

    impl Drop for HalfReal {
        // Empty ones are enough: what sled has not closed is never opened again.
        fn drop(&mut self) {
            for dir in [SLED_DIR, SLED_BLOBS] {
                let names = self.list(dir).unwrap_or_default().into_iter().map(|name| format!("{dir}/{name}"));
                names.filter(|path| self.sim.bytes(path).is_none()).for_each(|path| self.sim.put(&path, Vec::new()));
            }
        }
    }

    impl Disk for HalfReal {
        fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
            let Some(real) = self.real(path) else { return self.sim.open(path, create) };
            let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(real)?;
            Ok(Arc::new(HalfRealFile { sim: self.sim.clone(), path: path.to_owned(), file }))
        }

        fn list(&self, dir: &str) -> io::Result<Vec<String>> {
            let Some(real) = self.real(dir) else { return self.sim.list(dir) };
            let Ok(entries) = fs::read_dir(real) else { return Ok(Vec::new()) };
            let files =
                entries.map_while(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
            let mut names: Vec<_> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            names.sort();
            Ok(names)
        }

        fn make_dir(&self, dir: &str) -> io::Result<()> {
            self.real(dir).map_or(Ok(()), fs::create_dir_all)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.sim.rename(from, to)?;
            self.real(from).zip(self.real(to)).map_or(Ok(()), |(from, to)| fs::rename(from, to))
        }

        fn remove(&self, path: &str) -> io::Result<()> {
            self.sim.remove(path)?;
            self.real(path).filter(|path| path.exists()).map_or(Ok(()), fs::remove_file)
        }

        fn sync_dir(&self, dir: &str) -> io::Result<()> {
            self.sim.sync_dir(dir)
        }

        fn free_bytes(&self) -> io::Result<u64> {
            self.sim.free_bytes()
        }

        fn size_bytes(&self) -> io::Result<u64> {
            self.sim.size_bytes()
        }

        fn real_path(&self, path: &str) -> Option<PathBuf> {
            self.real(path)
        }
    }

    struct HalfRealFile {
        sim: SimDisk,
        path: String,
        file: File,
    }

    impl DiskFile for HalfRealFile {
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.file.read_exact_at(buffer, offset)
        }

        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.file.write_all_at(bytes, offset)
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.file.metadata()?.len())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            let mut bytes = vec![0; usize::try_from(self.len()?).expect("small")];
            self.file.read_exact_at(&mut bytes, 0)?;
            let copy = self.sim.open(&self.path, true)?;
            copy.set_len(0)?;
            copy.write_all_at(&bytes, 0)?;
            copy.sync_data()
        }
    }
}
