//! Owns what the system knows about this process: memory, processor time, open files.
//!
//! The names are those that Prometheus' own clients use. What the system does not tell is left out, not told as zero.

use super::families::Families;
use std::fmt::Error;

/// The process, at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    open_files: Option<u64>,
}

impl Process {
    /// Asks the system.
    pub(crate) fn now() -> Process {
        let read = |path| std::fs::read_to_string(path).ok();
        Process {
            resident_bytes: read("/proc/self/status").as_deref().and_then(resident_bytes),
            cpu_seconds: read("/proc/self/stat")
                .as_deref()
                .and_then(cpu_ticks)
                .map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
            open_files: std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
        }
    }

    pub(super) fn write(self, to: &mut Families<'_>) -> Result<(), Error> {
        if let Some(bytes) = self.resident_bytes {
            to.gauge("process_resident_memory_bytes", "Memory of the server's process", bytes)?;
        }
        if let Some(seconds) = self.cpu_seconds {
            to.counter("process_cpu_seconds", "Processor time of the server's process, user and system", seconds)?;
        }
        if let Some(files) = self.open_files {
            to.gauge("process_open_fds", "Open files and connections of the server's process", files)?;
        }
        Ok(())
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// User and system time. The name of the program, in brackets, may hold anything, so the fields are counted behind it.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
    Some(field(11)? + field(12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_texts_are_read() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1024 kB\nThreads: 3\n"), Some(1 << 20));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20";
        assert_eq!(cpu_ticks(stat), Some(175));
        assert_eq!(cpu_ticks("garbage"), None);
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::now();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 16), "{process:?}");
        assert!(process.open_files.is_some_and(|files| files > 2), "{process:?}");
        assert!(process.cpu_seconds.is_some(), "{process:?}");
    }
}
