//! Owns the bounds of every number in the settings, so that none of them makes a server that starts and then stands still.
//!
//! One list instead of a check beside each field: a test holds that no number is without its bounds.

use super::units::Unit;
use serde::Serialize;
use toml::{Table, Value};

/// The least and the greatest value of each number.
const BOUNDS: &[(&str, u64, u64)] = &[
    ("store.segment_bytes_max", 4096, 2 << 30),
    ("store.log_room_bytes", 0, 16 << 20),
    ("store.ahead_bytes_min", 1, 1 << 40),
    ("store.open_files_max", 1, 16_384),
    ("store.pack_garbage_min_percent", 0, 90),
    ("store.cache_bytes", 0, 1 << 44),
    ("store.index_cache_bytes", 0, 1 << 44),
    ("store.inline_bytes_max", 0, 1 << 20),
    ("store.inline_object_bytes_max", 0, 1 << 20),
    ("store.kept_bytes_max", 0, 1 << 30),
    ("store.checkpoint_log_bytes", 1, 1 << 40),
    ("store.settle_cells_max", 1, 1 << 24),
    ("store.checkpoint_revisions", 1, 1 << 40),
    ("store.overlay_bytes_max", 1 << 10, 1 << 40),
    ("store.recent_entries_max", 0, 100_000_000),
    ("store.kinds_max", 16, 1 << 24),
    ("store.keys_count_max", 1, 1_000_000_000),
    ("store.staged_bytes_max", 1 << 20, 1 << 50),
    ("store.staged_blobs_max", 1, 1 << 20),
    ("store.staged_keep_s", 60, 366 * 86_400),
    ("store.open_blobs_max", 1, 1 << 16),
    ("store.keys_age_s", 1, 30 * 86_400),
    ("engine.live_queue_max", 1, 1 << 20),
    ("engine.batch_queue_max", 1, 1 << 20),
    ("engine.queue_bytes_max", 64 << 10, 1 << 40),
    ("engine.live_per_batch", 1, 1 << 20),
    ("engine.hop_max", 1, 1 << 16),
    ("engine.batch_txns_max", 1, 1 << 20),
    ("engine.batch_bytes_max", 1, 1 << 30),
    ("engine.recent_cells_max", 1, 100_000_000),
    ("engine.ready_writes_min", 1, 100_000_000),
    ("engine.recent_bytes_max", 0, 1 << 40),
    ("engine.settle_txns_max", 1, 1 << 20),
    ("engine.prepared_bytes_max", 1, 1 << 40),
    ("engine.pins_max", 1, 1 << 20),
    ("engine.pin_grace_s", 0, 86_400),
    ("engine.mergers", 1, 64),
    ("engine.history_min_s", 0, 10 * 366 * 86_400),
    ("engine.slow_commit_ms", 0, 3_600_000),
    ("engine.restore_ahead_max_s", 0, 10 * 366 * 86_400),
    ("engine.read_only_below_free_bytes", 0, 1 << 50),
    ("limits.message_bytes_max", 64 << 10, 1 << 30),
    ("limits.record_bytes_max", 1 << 10, 1 << 30),
    ("limits.draft_bytes_max", 1 << 10, 1 << 30),
    ("limits.draft_writes_max", 1, 100_000_000),
    ("limits.key_bytes_max", 16, 16 << 10),
    ("limits.load_cells_max", 1, 1 << 17),
    ("limits.scan_entries_max", 2, 1_000_000),
    ("limits.oids_max", 1, 1 << 30),
    ("limits.pin_ms_max", 1000, 30 * 86_400_000),
    ("limits.prepare_ms_max", 100, 86_400_000),
    ("limits.blob_bytes_max", 0, 1 << 50),
    ("limits.reply_bytes_aim", 16 << 10, 64 << 20),
    ("sessions.connections_max", 1, 1_000_000),
    ("sessions.streams_max", 2, 1_000_000),
    ("sessions.sessions_max", 1, 1_000_000),
    ("sessions.connection_share_percent", 1, 100),
    ("sessions.log_streams_max", 1, 1024),
    ("sessions.in_flight_max", 1, 1_000_000),
    ("sessions.reply_queue_bytes_max", 1 << 10, 1 << 32),
    ("sessions.feed_queue_bytes_max", 1 << 10, 1 << 32),
    ("sessions.feed_queue_batches_max", 1, 1 << 24),
    ("sessions.feed_delay_ms", 0, 1000),
    ("sessions.cut_linger_ms", 1, 3_600_000),
    ("sessions.hello_timeout_ms", 1, 3_600_000),
    ("sessions.replay_cost_factor", 0, 1000),
    ("sessions.inline_cells_max", 0, 10_000),
    ("sessions.long_calls_max", 1, 256),
    ("sessions.open_drafts_max", 1, 1000),
    ("sessions.requests_bytes_max", 64 << 10, 1 << 44),
    ("sessions.connection_bytes_max", 64 << 10, 1 << 44),
    ("sessions.window_bytes", 256 << 10, 1 << 30),
    ("sessions.keepalive_interval_ms", 100, 3_600_000),
    ("sessions.keepalive_timeout_ms", 100, 3_600_000),
    ("sessions.shutdown_grace_ms", 0, 600_000),
    ("backup.every_s", 0, 366 * 86_400),
    ("backup.full_every_s", 0, 10 * 366 * 86_400),
    ("pack.every_s", 0, 366 * 86_400),
    ("pack.keep_s", 0, 10 * 366 * 86_400),
    ("replication.sync", 0, 16),
    ("replication.wait_ms", 10, 600_000),
    ("replication.held_bytes_max", 1 << 20, 4 << 30),
    ("replication.tail_bytes_max", 1 << 20, 4 << 30),
    ("replication.keep_s", 0, 366 * 86_400),
    ("metrics.connections_max", 1, 1000),
    ("metrics.header_bytes_max", 8 << 10, 1 << 20),
    ("metrics.request_timeout_ms", 10, 600_000),
    ("metrics.viewers_max", 0, 1000),
    ("metrics.history_s", 10, 86_400),
    ("metrics.login_s", 10, 30 * 86_400),
    ("traces.one_in", 0, 1 << 40),
    ("traces.queue_max", 1, 1 << 20),
    ("traces.timeout_ms", 10, 60_000),
];

/// The least and the greatest value of a setting, by its dotted name; `None`: it is no number.
pub fn bounds(name: &str) -> Option<(u64, u64)> {
    BOUNDS.iter().find(|(bounded, ..)| *bounded == name).map(|(_, least, most)| (*least, *most))
}

/// Every number of a section that is out of its bounds, in words.
pub(super) fn check(section: &str, settings: &impl Serialize, problems: &mut Vec<String>) {
    let table = match Table::try_from(settings) {
        Ok(table) => table,
        Err(error) => return problems.push(format!("{section}: {error}")),
    };
    for (name, value) in &table {
        let name = format!("{section}.{name}");
        let (Value::Integer(value), Some((least, most))) = (value, bounds(&name)) else { continue };
        if u64::try_from(*value).is_ok_and(|value| (least..=most).contains(&value)) {
            continue;
        }
        let (least, most) = (shown(&name, least), shown(&name, most));
        problems.push(format!("{name} = {value} is out of range; use {least} to {most}"));
    }
}

/// A number of a setting with its unit.
pub fn shown(name: &str, number: u64) -> String {
    Unit::of(name).map_or(number.to_string(), |unit| unit.shown(number))
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[test]
    fn no_number_is_without_its_bounds_and_each_default_is_within() {
        let settings = Table::try_from(Settings::default()).expect("plain data");
        let mut numbers = Vec::new();
        for (section, value) in &settings {
            assert!(!value.is_integer(), "a number outside of the sections: {section}");
            for (name, value) in value.as_table().into_iter().flatten().filter(|(_, value)| value.is_integer()) {
                let name = format!("{section}.{name}");
                let (least, most) = bounds(&name).unwrap_or_else(|| panic!("{name} has no bounds"));
                let value = u64::try_from(value.as_integer().expect("a number")).expect("not negative");
                assert!(least <= value && value <= most, "{name} = {value}");
                numbers.push(name);
            }
        }
        assert_eq!(numbers.len(), BOUNDS.len(), "bounds of what is no setting");
    }

    #[test]
    fn what_is_out_of_its_bounds_is_named_with_them() {
        let table: Table = toml::from_str("hop_max = 0\nqueue_bytes_max = -1\nmergers = 100000\n").expect("toml");
        let mut problems = Vec::new();
        check("engine", &table, &mut problems);
        let expected = ["hop_max = 0 ", "mergers = 100000 ", "65536 (64.0 KiB)"];
        for word in expected {
            assert_eq!(problems.iter().filter(|problem| problem.contains(word)).count(), 1, "{word}: {problems:?}");
        }
        assert_eq!(problems.len(), 3);
    }
}
