//! Owns what settings that leave a number open ask of the machine: how much memory there is, for this process.
//!
//! Linux tells it in files: what the machine has, and what a control group (a container, a unit of systemd) may use. Where neither can be read nobody
//! knows, and the least is taken.

use crate::storage::INDEX_CACHE_BYTES;
use std::fs;
use std::path::{Path, PathBuf};

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

/// The memory that this process may use, of the machine or of its control groups; none: nobody knows.
pub fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limits(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    machine.into_iter().chain(limits).min()
}

/// The files of the limits on a process, by what `/proc/self/cgroup` says (cgroups(7)): of its own group and of all those above it, of both versions.
fn limits(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            named if named.split(',').any(|one| one == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| Path::new(base).join(group).join(file)));
    }
    files
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
    fn the_limits_of_a_unit_and_of_what_is_above_it_are_looked_at() {
        let of = |text| limits(text).iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        let unit = ["/sys/fs/cgroup/system.slice/zeolite.service/memory.max", "/sys/fs/cgroup/system.slice/memory.max"];
        assert_eq!(of("0::/system.slice/zeolite.service\n"), [unit[0], unit[1], "/sys/fs/cgroup/memory.max"]);
        assert_eq!(of("0::/\n"), ["/sys/fs/cgroup/memory.max"], "in a container");
        let old = ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        assert_eq!(of("3:cpuset:/\n4:cpu,memory:/a\n"), old);
        assert!(of("").is_empty());
    }

    #[test]
    fn it_is_a_tenth_within_its_bounds() {
        let text = "MemTotal:       24632544 kB\nMemFree:         1 kB\n";
        assert_eq!((total(text), total("MemFree: 1 kB")), (Some(24_632_544 << 10), None));
        let mib = |mib: u64| share_of(Some(mib << 20)) >> 20;
        assert_eq!([mib(100), mib(1000), mib(5000), mib(100_000), share_of(None) >> 20], [64, 100, 500, 1024, 64]);
    }
}
