//! Owns what settings that leave a number open ask of the machine: how much memory there is, for this process.
//!
//! Linux tells it in files: what the machine has, and what a control group (a container, a unit of systemd) may use. Where neither can be read nobody
//! knows, and the least is taken.

use crate::storage::INDEX_CACHE_BYTES;
use std::fs;

/// Of the memory, for the pages of the indexes of all databases.
const INDEX_CACHE_PART: u64 = 10;

/// Memory for the pages of indexes where the settings leave it open.
pub(super) fn index_cache_bytes() -> usize {
    share_of(memory_bytes())
}

fn share_of(memory: Option<u64>) -> usize {
    let (least, most) = INDEX_CACHE_BYTES;
    let share = memory.unwrap_or(0) / INDEX_CACHE_PART;
    usize::try_from(share).unwrap_or(usize::MAX).clamp(least, most)
}

fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    machine.into_iter().chain(limits).min()
}

/// Of `/proc/meminfo`, in bytes.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_tenth_within_its_bounds() {
        let text = "MemTotal:       24632544 kB\nMemFree:         1 kB\n";
        assert_eq!((total(text), total("MemFree: 1 kB")), (Some(24_632_544 << 10), None));
        let mib = |mib: u64| share_of(Some(mib << 20)) >> 20;
        assert_eq!([mib(100), mib(1000), mib(5000), mib(100_000), share_of(None) >> 20], [64, 100, 500, 1024, 64]);
    }
}
