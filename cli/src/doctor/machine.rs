//! Owns what `doctor` says of the machine: open files, memory, the clock.
//!
//! Whether a clock is held right by a time service is seen by what those leave under /run; the kernel would know it (adjtimex), and no
//! library that is safe to call asks it.

use super::Finding;
use crate::backup::now_unix_ms;
use crate::moment;
use crate::output::size;
use std::path::Path;
use std::time::{Instant, UNIX_EPOCH};
use zeolite_server::server::Server;
use zeolite_server::settings::{Settings, machine_memory_bytes};

/// 2026-01-01: before it this program was not made.
const EARLIEST_UNIX_MS: u64 = 1_767_225_600_000;
const AHEAD_MS: u64 = 60_000;
/// What a time service may do within the moments of a look.
const MOVED_MS: u64 = 50;
const TIME_SERVICES: [(&str, &str); 4] = [
    ("/run/systemd/timesync/synchronized", "systemd-timesyncd has set it"),
    ("/run/chrony/chronyd.pid", "chronyd runs"),
    ("/run/ntpd.pid", "ntpd runs"),
    ("/run/ntpsec/ntpd.pid", "ntpd runs"),
];

pub(super) fn open_files(settings: &Settings) -> Finding {
    const WHAT: &str = "open files";
    let (needed, limit) = match Server::open_files(settings) {
        Ok(told) => told,
        Err(why) => return Finding::warning(WHAT, why, "put the settings right"),
    };
    match limit {
        Some(limit) if limit < needed => Finding::warning(
            WHAT,
            format!(
                "this process may have {limit}, and with sessions.connections_max = {} it may want {needed}: fewer connections are accepted",
                settings.sessions.connections_max
            ),
            format!("LimitNOFILE={needed} in the unit, `ulimit -n {needed}`, or fewer connections"),
        ),
        Some(limit) => Finding::ok(WHAT, format!("{needed} may be wanted, {limit} may be had")),
        None => Finding::ok(WHAT, format!("{needed} may be wanted, there is no limit")),
    }
}

pub(super) fn memory(settings: &Settings) -> Finding {
    const WHAT: &str = "memory";
    let parts = settings.memory();
    let bound: u64 = parts.iter().map(|part| part.bytes).sum();
    // What fills up in any case, and stays.
    let caches =
        settings.store.cache_bytes + settings.store.index_cache_bytes as u64 + settings.store.overlay_bytes_max;
    let Some(machine) = machine_memory_bytes() else {
        return Finding::ok(WHAT, format!("how much there is cannot be read; at most {} are used", size(bound)));
    };
    let seen = format!("{} for this process", size(machine));
    if caches > machine / 4 * 3 {
        return Finding::critical(
            WHAT,
            format!("{seen}, and the caches alone are to fill {}", size(caches)),
            "lower store.cache_bytes, store.index_cache_bytes, store.overlay_bytes_max",
        );
    }
    if bound > machine {
        // Clients can do that, usual ones do not: no reason to wake anybody.
        return Finding::ok(
            WHAT,
            format!(
                "{seen}, caches of {}; clients that do their worst could make it {} (docs/operations.md, Memory, bounds each part)",
                size(caches),
                size(bound)
            ),
        );
    }
    Finding::ok(WHAT, format!("{seen}, of which at most {} are used", size(bound)))
}

/// A moment by both clocks.
pub(super) struct Watch {
    steady: Instant,
    unix_ms: u64,
}

impl Watch {
    pub(super) fn begin() -> Watch {
        Watch { steady: Instant::now(), unix_ms: now_unix_ms() }
    }

    /// By how much the clock has moved otherwise than time has.
    fn moved_ms(&self) -> i64 {
        let (steady, wall) = (self.steady.elapsed().as_millis(), now_unix_ms());
        wall as i64 - self.unix_ms as i64 - steady as i64
    }
}

pub(super) fn clock(settings: &Settings, watch: &Watch) -> Finding {
    const WHAT: &str = "clock";
    let now = now_unix_ms();
    let (says, remedy) =
        (moment::shown_unix_ms(now), "set it right, and let a time service hold it (chrony, systemd-timesyncd)");
    if now < EARLIEST_UNIX_MS {
        return Finding::critical(WHAT, format!("it says {says}, before this program was made"), remedy);
    }
    let moved = watch.moved_ms();
    if moved.unsigned_abs() > MOVED_MS {
        return Finding::warning(
            WHAT,
            format!("it moved by {moved} ms while it was looked at: something sets it now"),
            remedy,
        );
    }
    let ahead = newest_written_unix_ms(&settings.data_dir.join("log")).saturating_sub(now);
    if ahead > AHEAD_MS {
        return Finding::warning(
            WHAT,
            format!(
                "it says {says}, and the log was written {} later: it was ahead then, or is behind now. Commits go on, and have no true time until it has caught up",
                moment::duration(ahead)
            ),
            remedy,
        );
    }
    let held = TIME_SERVICES.iter().find(|(mark, _)| Path::new(mark).exists()).map(|(_, seen)| *seen);
    Finding::ok(
        WHAT,
        format!("it says {says}; {}", held.unwrap_or("no time service is seen here (of a container it is the host's)")),
    )
}

fn newest_written_unix_ms(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let written = files.filter_map(|file| file.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    written.max().map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(0))
}
