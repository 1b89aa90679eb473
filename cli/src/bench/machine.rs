//! Owns the line that says what a measurement ran on.

use rustix::fs::{StatVfs, statvfs};
use std::fs;
use std::path::Path;

/// What matters of the machine and of the directory that was measured.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) filesystem: String,
    /// Of the directory's filesystem.
    pub(crate) free_bytes: u64,
    /// What the kernel says of the device: `true` for a spinning disk; it cannot know for virtual ones.
    pub(crate) rotational: Option<bool>,
    pub(crate) optimized: bool,
}

impl Machine {
    /// Reads it from `/proc` and `/sys`; what is not told there stays empty.
    pub(crate) fn of(dir: &Path) -> Machine {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let mount = Mount::of(dir);
        let room: Option<StatVfs> = statvfs(dir).ok();
        Machine {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            filesystem: mount.as_ref().map(|mount| mount.kind.clone()).unwrap_or_default(),
            free_bytes: room.map_or(0, |room| room.f_bavail * room.f_frsize),
            rotational: mount.and_then(|mount| mount.rotational()),
            optimized: !cfg!(debug_assertions),
        }
    }

    /// The one line.
    pub(crate) fn line(&self) -> String {
        let build = if self.optimized { "" } else { "; DEBUG BUILD, the numbers mean little" };
        let disk = match self.rotational {
            Some(true) => ", device said to be rotational",
            Some(false) => ", device said not to be rotational",
            None => "",
        };
        let memory_gib = self.memory_mib as f64 / 1024.0;
        format!(
            "{} cores of {}, {memory_gib:.0} GiB, Linux {}, {}{disk}, {} free{build}",
            self.cores,
            if self.cpu.is_empty() { "an unknown processor" } else { &self.cpu },
            self.kernel,
            self.filesystem,
            crate::output::size(self.free_bytes),
        )
    }
}

/// The mount that holds a directory.
struct Mount {
    device: String,
    kind: String,
}

impl Mount {
    fn of(dir: &Path) -> Option<Mount> {
        let dir = fs::canonicalize(dir).ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mut best: Option<(usize, Mount)> = None;
        for line in mounts.lines() {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let (device, point) = (left.get(2)?, left.get(4)?);
            let length = point.len();
            if dir.starts_with(point) && best.as_ref().is_none_or(|(longest, _)| length >= *longest) {
                let kind = right.split(' ').next().unwrap_or_default().to_owned();
                best = Some((length, Mount { device: (*device).to_owned(), kind }));
            }
        }
        best.map(|(_, mount)| mount)
    }

    /// A partition has no queue of its own; its parent directory is the device.
    fn rotational(&self) -> Option<bool> {
        let device = fs::canonicalize(format!("/sys/dev/block/{}", self.device)).ok()?;
        let whole = [device.join("queue/rotational"), device.parent()?.join("queue/rotational")];
        let text = whole.iter().find_map(|file| fs::read_to_string(file).ok())?;
        Some(text.trim() == "1")
    }
}
