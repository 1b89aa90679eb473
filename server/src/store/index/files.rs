//! Owns the names of the index's files in the data directory.

use crate::store::StoreError;
use crate::store::disk::Disk;

/// The one file of the redb index.
pub(crate) const REDB_FILE: &str = "index.redb";
/// The checksums of its pages.
pub(crate) const SUMS_FILE: &str = "index.sums";
/// The directory of the sled index.
pub(crate) const SLED_DIR: &str = "index-sled";
/// Where sled keeps long values.
pub(crate) const SLED_BLOBS: &str = "index-sled/blobs";

/// The files in a directory; none when there is no such directory.
pub(crate) fn list(disk: &dyn Disk, dir: &str) -> Result<Vec<String>, StoreError> {
    disk.list(dir).map_err(|error| StoreError::Io { what: "listing the data directory".to_owned(), error })
}
