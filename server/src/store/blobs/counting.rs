//! Owns the counting of the blobs that were named: once in a life, beside the traffic.

use super::Blobs;
use super::file::failed;
use crate::store::StoreError;
use zeolite_proto::BlobId;

impl Blobs {
    /// Whether those of earlier lives are counted.
    pub(super) fn is_counted(&self) -> bool {
        self.registry.lock().is_counted
    }

    /// Counts what was named in earlier lives; nothing may be moved or removed meanwhile.
    pub(super) fn count_kept(&self) -> Result<(), StoreError> {
        let (mut count, mut bytes) = (0, 0);
        for shard in 0..=255_u8 {
            for id in self.kept_in(shard)? {
                let path = super::kept_path(id);
                let length = self.disk.open(&path, false).and_then(|file| file.len());
                bytes += length.map_err(|error| failed("measuring", &path, error))?;
                count += 1;
            }
        }
        let mut registry = self.registry.lock();
        (registry.kept, registry.is_counted) = ((count, bytes), true);
        Ok(())
    }

    /// What was named once and begins with this byte; files with other names are nobody's here.
    pub(super) fn kept_in(&self, shard: u8) -> Result<Vec<BlobId>, StoreError> {
        let dir = format!("blobs/{shard:02x}");
        let names = self.disk.list(&dir).map_err(|error| failed("listing", &dir, error))?;
        Ok(names.iter().filter_map(|name| name.parse::<BlobId>().ok()).filter(|id| id.0[0] == shard).collect())
    }
}
