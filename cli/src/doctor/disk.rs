//! Owns what `doctor` says of the disk under each data directory: whether it can be used, what it is, its room, how quickly it syncs.
//!
//! A disk of magnetism turns some hundred times a second at most, and an honest sync waits for a turn; flash without a protected cache
//! takes a tenth of a millisecond or more. What answers much sooner has a cache that outlives a loss of power, or none of it is true: both
//! look the same from here.

use super::Finding;
use crate::output::{nanos, size};
use rustix::fs::{StatVfs, major, minor, statfs, statvfs};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::holder::Holder;

const BLOCK_BYTES: usize = 4096;
const SYNCS_MAX: usize = 300;
const SYNCS_WITHIN: Duration = Duration::from_secs(1);
/// More syncs a second than any disk that turns can do.
const TURNING_MAX: f64 = 300.0;
/// More than flash without a protected cache does.
const FLASH_MAX: f64 = 20_000.0;
const SLOW: Duration = Duration::from_millis(50);

/// Each directory of a database, and the disk under it; a disk is measured once.
pub(super) fn directories(settings: &Settings, holder: Option<Holder>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut devices = Vec::new();
    for (name, dir) in settings.data_dirs() {
        findings.push(directory(name, &dir, holder.filter(|_| name == "main")));
        let there = there(&dir);
        let device = there.metadata().map(|data| data.dev()).unwrap_or(0);
        if devices.contains(&device) || !there.is_dir() {
            continue;
        }
        devices.push(device);
        let kind = Kind::of(&there);
        findings.push(file_system(&there, &kind));
        findings.push(room(&there, settings));
        findings.push(syncs(&there, &kind));
    }
    findings
}

/// The directory, or the nearest above it that there is.
pub(super) fn there(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    // A link that leads nowhere, or to itself, is there: nothing can be made in its place.
    dir.ancestors().find(|dir| dir.symlink_metadata().is_ok()).unwrap_or(Path::new("/")).to_owned()
}

fn directory(name: &str, dir: &Path, holder: Option<Holder>) -> Finding {
    const WHAT: &str = "data directory";
    let shown = format!("{name}: {}", std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).display());
    let there = there(dir);
    if !there.is_dir() {
        return Finding::critical(
            WHAT,
            format!("{shown}: {} is no directory", there.display()),
            "name another directory (data_dir)",
        );
    }
    if let Err(error) = rustix::fs::access(&there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        let seen = format!("{shown}: this user may not write in {}: {error}", there.display());
        return Finding::critical(
            WHAT,
            seen,
            "run it as the user of the server, or give that one the directory (chown)",
        );
    }
    if there != std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()) {
        return Finding::ok(WHAT, format!("{shown} is not there yet; a start makes it in {}", there.display()));
    }
    let mode = there.metadata().map(|data| data.permissions().mode()).unwrap_or(0);
    if mode & 0o007 != 0 {
        let seen = format!("{shown}: every user of this machine may look into it (mode {:o})", mode & 0o777);
        return Finding::warning(WHAT, seen, format!("chmod o= {}", there.display()));
    }
    match holder {
        Some(holder) => Finding::ok(WHAT, format!("{shown}, in use by process {}", holder.pid)),
        None => Finding::ok(WHAT, format!("{shown}, free")),
    }
}

/// What sort of file system it is, as far as that matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Local(&'static str),
    Memory(&'static str),
    Layers,
    Network(&'static str),
    Unknown(i128),
}

impl Kind {
    fn of(dir: &Path) -> Kind {
        statfs(dir).map_or(Kind::Unknown(0), |told| Kind::by_magic(i128::from(told.f_type)))
    }

    // statfs(2) and the kernel's linux/magic.h have the numbers.
    fn by_magic(magic: i128) -> Kind {
        match magic {
            0xEF53 => Kind::Local("ext4"),
            0x5846_5342 => Kind::Local("xfs"),
            0x9123_683E => Kind::Local("btrfs"),
            0x2FC1_2FC1 => Kind::Local("zfs"),
            0xF2F5_2010 => Kind::Local("f2fs"),
            0xCA45_1A4E => Kind::Local("bcachefs"),
            0x0102_1994 => Kind::Memory("tmpfs"),
            0x8584_58F6 => Kind::Memory("ramfs"),
            0x794C_7630 => Kind::Layers,
            0x6969 => Kind::Network("nfs"),
            0xFF53_4D42 | 0xFE53_4D42 | 0x517B => Kind::Network("smb"),
            0x00C3_6400 => Kind::Network("ceph"),
            0x0102_1997 => Kind::Network("9p"),
            0x6573_5546 => Kind::Network("fuse"),
            other => Kind::Unknown(other),
        }
    }
}

fn file_system(dir: &Path, kind: &Kind) -> Finding {
    const WHAT: &str = "file system";
    let dir = dir.display();
    match kind {
        Kind::Local(name) => Finding::ok(WHAT, format!("{dir} is on {name}")),
        Kind::Memory(name) => Finding::warning(
            WHAT,
            format!("{dir} is on {name}: in memory, and gone with the machine's next start"),
            "fit for tests alone; name a directory on a disk (data_dir)",
        ),
        Kind::Layers => Finding::warning(
            WHAT,
            format!("{dir} is on overlayfs: as it is in a container, and gone with the container"),
            "mount a volume there",
        ),
        Kind::Network(name) => Finding::warning(
            WHAT,
            format!("{dir} is on {name}: whether a sync is kept, and a lock counts, is up to the other side"),
            "use a disk of this machine, or a block device over the network (iSCSI, a cloud's volume)",
        ),
        Kind::Unknown(magic) => {
            Finding::ok(WHAT, format!("{dir} is on one whose kind is not known here (0x{magic:x})"))
        }
    }
}

fn room(dir: &Path, settings: &Settings) -> Finding {
    const WHAT: &str = "room";
    let stat = match statvfs(dir) {
        Ok(stat) => stat,
        Err(error) => return Finding::critical(WHAT, format!("{}: {error}", dir.display()), "look at the disk"),
    };
    let StatVfs { f_bavail, f_blocks, f_frsize, f_files, f_favail, .. } = stat;
    let (free, all) = (f_bavail.saturating_mul(f_frsize), f_blocks.saturating_mul(f_frsize).max(1));
    let percent = free as f64 * 100.0 / all as f64;
    let seen = format!("{} free of {} ({percent:.0} %) at {}", size(free), size(all), dir.display());
    let least = settings.engine.read_only_below_free_bytes;
    if free < least {
        return Finding::critical(
            WHAT,
            format!("{seen}; below {} the server takes no writes (engine.read_only_below_free_bytes)", size(least)),
            "free some, or use a larger disk",
        );
    }
    if f_files > 0 && f_favail == 0 {
        return Finding::critical(
            WHAT,
            format!("{seen}, and not one more file (inodes)"),
            "remove files, or make the file system anew with more",
        );
    }
    match crate::check::standing("free_percent", percent) {
        None => Finding::ok(WHAT, seen),
        Some((state, why)) => Finding {
            what: WHAT,
            state,
            seen: format!("{seen}; {why}, and evolves pause, or stop, for room"),
            remedy: "free some, or use a larger disk".to_owned(),
        },
    }
}

/// What the kernel says of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Hints {
    rotational: Option<bool>,
    /// Whether the kernel tells the device to empty its cache at a sync.
    write_back: Option<bool>,
}

impl Hints {
    fn of(dir: &Path) -> Hints {
        let Ok(data) = dir.metadata() else { return Hints::default() };
        let block = PathBuf::from(format!("/sys/dev/block/{}:{}", major(data.dev()), minor(data.dev())));
        // Of a partition the queue is that of its disk.
        let queues = [block.join("queue"), block.join("../queue")];
        let read = |name: &str| queues.iter().find_map(|queue| std::fs::read_to_string(queue.join(name)).ok());
        Hints {
            rotational: read("rotational").map(|said| said.trim() == "1"),
            write_back: read("write_cache").map(|said| said.trim() == "write back"),
        }
    }

    fn shown(self) -> String {
        let turns = match self.rotational {
            Some(true) => "says that it turns (virtual ones say so without turning)",
            Some(false) => "does not turn",
            None => "is not known to the kernel by a queue of its own",
        };
        let cache = match self.write_back {
            Some(true) => ", has a cache that the kernel empties at a sync",
            Some(false) => ", says that it has no cache to be emptied, so a sync sends it nothing",
            None => "",
        };
        format!("the device {turns}{cache}")
    }
}

fn syncs(dir: &Path, kind: &Kind) -> Finding {
    const WHAT: &str = "syncs";
    match measured(dir) {
        Ok(took) => judged(&took, kind, Hints::of(dir)),
        Err(error) => Finding::critical(
            WHAT,
            format!("a file could not be written and synced in {}: {error}", dir.display()),
            "look at the disk and its rights",
        ),
    }
}

// As the log does it: over bytes that the file has already.
fn measured(dir: &Path) -> io::Result<Vec<Duration>> {
    const BLOCKS: usize = 16;
    let mut file = tempfile::tempfile_in(dir)?;
    file.write_all(&[0; BLOCK_BYTES * BLOCKS])?;
    file.sync_all()?;
    let (begun, mut took) = (Instant::now(), Vec::new());
    while took.len() < SYNCS_MAX && begun.elapsed() < SYNCS_WITHIN {
        file.seek(SeekFrom::Start((took.len() % BLOCKS * BLOCK_BYTES) as u64))?;
        file.write_all(&[took.len() as u8; BLOCK_BYTES])?;
        let since = Instant::now();
        file.sync_data()?;
        took.push(since.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

/// `took` in order.
fn judged(took: &[Duration], kind: &Kind, hints: Hints) -> Finding {
    const WHAT: &str = "syncs";
    let part = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    let (p50, p99) = (part(50), part(99));
    let rate = 1.0 / p50.as_secs_f64().max(1e-9);
    let shown = |time: Duration| nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let seen = format!("{} of 4 KiB: half of them within {}, 99 % within {}", took.len(), shown(p50), shown(p99));
    if matches!(kind, Kind::Memory(_)) {
        return Finding::ok(WHAT, format!("{seen}; in memory there is nothing to sync"));
    }
    let seen = format!("{seen}; {}", hints.shown());
    if p50 > SLOW {
        return Finding::warning(
            WHAT,
            format!("{seen}. A commit takes at least that long"),
            "a quicker disk; many commits share one sync",
        );
    }
    let is_doubted = rate > FLASH_MAX || (hints.rotational == Some(true) && rate > TURNING_MAX);
    if is_doubted {
        return Finding::warning(
            WHAT,
            format!(
                "{seen}. About {rate:.0} a second is more than a bare disk of that kind does: a cache answers. It may be one that outlives a loss of power, \
                     which cannot be seen from here, and if it is not, the last commits are lost with the power"
            ),
            "find out what the disk, its controller or the host does with a flush (cache with battery or capacitors, host's cache mode), and pull the plug once before it counts",
        );
    }
    Finding::ok(WHAT, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::State;

    #[test]
    fn what_answers_sooner_than_its_kind_can_is_doubted_and_nothing_is_claimed_of_memory() {
        let of = |micros: u64, rotational, kind| {
            let hints = Hints { rotational: Some(rotational), write_back: Some(true) };
            judged(&[Duration::from_micros(micros); 100], &kind, hints).state
        };
        let disk = Kind::Local("ext4");
        assert_eq!([of(8000, true, disk), of(400, false, disk)], [State::Ok; 2]);
        assert_eq!([of(400, true, disk), of(20, false, disk), of(80_000, true, disk)], [State::Warning; 3]);
        assert_eq!(of(1, true, Kind::Memory("tmpfs")), State::Ok);
    }

    #[test]
    fn what_is_not_a_disk_of_this_machine_is_told() {
        let state = |magic| file_system(Path::new("/x"), &Kind::by_magic(magic)).state;
        assert_eq!([0xEF53, 0x5846_5342, 0x1234].map(state), [State::Ok; 3]);
        assert_eq!([0x0102_1994, 0x794C_7630, 0x6969, 0xFF53_4D42, 0x6573_5546].map(state), [State::Warning; 5]);
    }
}
