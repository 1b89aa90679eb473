//! Owns measurements of a directory's disk without Zeolite: fsync, random reads, and the raw log that Zeolite is held against.
//!
//! The raw log is the least that durability can cost: one positioned write and one fdatasync per batch, of the same bytes
//! that the engine is asked to keep.

use super::Setting;
use super::latency::Latency;
use super::report::{Report, Row};
use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const READ_FILE_BYTES: u64 = 256 << 20;
const READ_BYTES: usize = 4096;
/// A head that has to move takes longer than this; flash takes much less.
const SPINNING_READ_US: f64 = 1500.0;
/// Nothing that has to ask a device is as fast as this.
const MEMORY_READ_US: f64 = 10.0;

/// fsync and random reads of a directory, and whether that is an SSD.
pub(super) fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let _doing = setting.doing("the disk");
    let sync = syncs(setting.dir, setting.time, 4096)?;
    let (reads, cold) = random_reads(setting.dir, setting.time)?;
    report.add(Row::new(setting.name("write 4 KiB + fdatasync, p50"), sync.p50_us(), "µs"));
    report.add(Row::new(setting.name("write 4 KiB + fdatasync, p99"), sync.p99_us(), "µs"));
    report.add(Row::new(setting.name("random read of 4 KiB, p50"), reads.p50_us(), "µs"));
    report.add(Row::new(setting.name("random read of 4 KiB, p99"), reads.p99_us(), "µs"));
    let kind = match reads.p50_us() {
        us if us >= SPINNING_READ_US => "a spinning disk",
        us if us < MEMORY_READ_US => "memory, or the page cache could not be emptied",
        _ => "an SSD",
    };
    let doubt = if cold { "" } else { " (the reads may have come from the page cache: not sure)" };
    report.remark(format!("{} behaves like {kind}{doubt}", setting.dir.display()));
    Ok(())
}

/// The time of write + fdatasync of so many bytes, one after the other.
pub(crate) fn syncs(dir: &Path, time: Duration, bytes: usize) -> Result<Latency> {
    let file = tempfile::tempfile_in(dir).with_context(|| format!("a file in {} cannot be made", dir.display()))?;
    let data = noise(bytes, 1);
    let mut latency = Latency::new();
    let start = Instant::now();
    let mut offset = 0;
    while start.elapsed() < time {
        let one = Instant::now();
        file.write_all_at(&data, offset)?;
        file.sync_data()?;
        latency.add(one.elapsed());
        offset += data.len() as u64;
    }
    Ok(latency)
}

/// Reads at random places of a file that was dropped from the page cache. The flag: the cache was really cold.
fn random_reads(dir: &Path, time: Duration) -> Result<(Latency, bool)> {
    let file = tempfile::tempfile_in(dir).with_context(|| format!("a file in {} cannot be made", dir.display()))?;
    let chunk = noise(1 << 20, 2);
    for at in (0..READ_FILE_BYTES).step_by(chunk.len()) {
        file.write_all_at(&chunk, at)?;
    }
    file.sync_all()?;
    let cold = drop_cache(&file).is_ok();
    let mut random = fastrand::Rng::with_seed(3);
    let mut latency = Latency::new();
    let mut buffer = [0u8; READ_BYTES];
    let start = Instant::now();
    while start.elapsed() < time {
        let place = random.u64(0..READ_FILE_BYTES / READ_BYTES as u64) * READ_BYTES as u64;
        let one = Instant::now();
        file.read_exact_at(&mut buffer, place)?;
        latency.add(one.elapsed());
        // Enough reads to judge by; more of them only meet pages that were read before.
        if latency.count() * 8 >= READ_FILE_BYTES / READ_BYTES as u64 {
            break;
        }
    }
    Ok((latency, cold))
}

fn drop_cache(file: &File) -> rustix::io::Result<()> {
    // Random first: it also switches off reading ahead.
    fadvise(file, 0, None, Advice::Random)?;
    fadvise(file, 0, None, Advice::DontNeed)
}

/// A log that only writes and syncs.
pub(crate) struct RawLog {
    file: File,
    batch: Vec<u8>,
    offset: u64,
}

impl RawLog {
    /// Batches of so many bytes, in a file that vanishes.
    pub(crate) fn new(dir: &Path, batch_bytes: usize) -> Result<RawLog> {
        let file = tempfile::tempfile_in(dir).with_context(|| format!("a file in {} cannot be made", dir.display()))?;
        Ok(RawLog { file, batch: noise(batch_bytes, 4), offset: 0 })
    }

    /// Batches per second over a time.
    pub(crate) fn run(&mut self, time: Duration) -> Result<f64> {
        let start = Instant::now();
        let mut batches = 0u64;
        while start.elapsed() < time {
            self.file.write_all_at(&self.batch, self.offset)?;
            self.file.sync_data()?;
            self.offset += self.batch.len() as u64;
            batches += 1;
        }
        Ok(batches as f64 / start.elapsed().as_secs_f64())
    }
}

/// Bytes that do not compress.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Bytes that this process has sent towards its disks so far, as the kernel counts them.
pub(crate) fn written_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io").context("/proc/self/io is not readable")?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).context("/proc/self/io has no write_bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_can_be_measured() {
        let dir = tempfile::tempdir().expect("makes a directory");
        let latency = syncs(dir.path(), Duration::from_millis(20), 4096).expect("syncs");
        assert!(latency.count() > 0 && latency.p50_us() > 0.0);
        let rate = RawLog::new(dir.path(), 4096).and_then(|mut log| log.run(Duration::from_millis(20))).expect("runs");
        assert!(rate > 0.0);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0, "nothing is left behind");
    }
}
