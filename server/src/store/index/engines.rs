//! Owns which index engine a data directory has: finding, opening and removing their files.
//!
//! A store has one index. When the setting names the other engine, its index is made from the log, and then the old one
//! goes: it would only grow stale.

use super::Index;
use super::files::{REDB_FILE, SLED_BLOBS, SLED_DIR, SUMS_FILE, list};
use super::redb::RedbIndex;
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::settings::{IndexKind, StoreSettings};
use std::sync::Arc;

const ALL: [IndexKind; 2] = [IndexKind::Redb, IndexKind::Sled];

/// Opens the engine that the settings name, or makes it.
pub(crate) fn open(disk: &Arc<dyn Disk>, settings: &StoreSettings) -> Result<Arc<dyn Index>, StoreError> {
    match settings.index {
        IndexKind::Redb => Ok(Arc::new(RedbIndex::open(disk.clone(), settings.index_cache_bytes())?)),
        #[cfg(feature = "sled")]
        IndexKind::Sled => Ok(Arc::new(super::sled::SledIndex::open(disk.clone(), settings.index_cache_bytes())?)),
        #[cfg(not(feature = "sled"))]
        IndexKind::Sled => Err(StoreError::Refused {
            what: "this build has no sled: set index = \"redb\", or build with the cargo feature sled".to_owned(),
        }),
    }
}

/// Whether there are files of an engine.
pub(crate) fn exists(disk: &dyn Disk, kind: IndexKind) -> Result<bool, StoreError> {
    match kind {
        IndexKind::Redb => Ok(list(disk, "")?.iter().any(|name| name == REDB_FILE)),
        IndexKind::Sled => Ok(!list(disk, SLED_DIR)?.is_empty()),
    }
}

/// Whether there are files of any engine.
pub(crate) fn any_exists(disk: &dyn Disk) -> Result<bool, StoreError> {
    Ok(exists(disk, ALL[0])? || exists(disk, ALL[1])?)
}

/// Removes the files of all engines but one that is to stay.
pub(crate) fn remove(disk: &dyn Disk, but: Option<IndexKind>) -> Result<(), StoreError> {
    for kind in ALL.into_iter().filter(|kind| Some(*kind) != but) {
        if exists(disk, kind)? {
            match kind {
                IndexKind::Redb => remove_files(disk, "", &[REDB_FILE.to_owned(), SUMS_FILE.to_owned()])?,
                IndexKind::Sled => {
                    for dir in [SLED_BLOBS, SLED_DIR] {
                        remove_files(disk, dir, &list(disk, dir)?)?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn remove_files(disk: &dyn Disk, dir: &str, names: &[String]) -> Result<(), StoreError> {
    for name in names {
        let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
        disk.remove(&path).map_err(|error| StoreError::Io { what: format!("removing {path}"), error })?;
    }
    if names.is_empty() {
        return Ok(());
    }
    disk.sync_dir(dir).map_err(|error| StoreError::Io { what: "removing the index".to_owned(), error })
}
