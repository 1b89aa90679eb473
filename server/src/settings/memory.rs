//! Owns the figure of the memory that a server with these settings may need: what bounds each part of it, and the sum.
//!
//! It is for planning, and for the tests that let hostile clients loose: a part that is not here has no bound. What a part is made of is
//! counted where it is kept, in bytes; what is counted in numbers has a size here, measured once and rounded up.

use super::Settings;
use crate::storage::INDEX_CACHE_BYTES;
use zeolite_proto::interest::SIZES;

const ENTRY_BYTES: u64 = 150;
const KEY_BYTES: u64 = 80;
const KIND_BYTES: u64 = 640;
const RECENT_CELL_BYTES: u64 = 256;
/// So many times its bounds the sequencer's memory is while a draft is out.
const RECENT_TIMES: u64 = 4;
/// What each connection has of its own, beside what all share.
const OWN_BYTES: u64 = 64 << 10;
/// A table of what 64 sessions may hold, with the smaller ones that it has grown from.
const INTEREST_BYTES: u64 = ((1 << SIZES[0]) + (1 << SIZES[1]) + (1 << SIZES[2])) * 8;
/// What a stream of HTTP/2 takes with a small message on its way in and a piece of an answer on its way out.
const STREAM_BYTES: u64 = 32 << 10;

/// A part of the memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// What it is.
    pub what: &'static str,
    /// What bounds it: settings, and what they are multiplied by.
    pub bound: &'static str,
    /// How much that is.
    pub bytes: u64,
}

impl Settings {
    /// What the memory of a server with one database is made of, at most.
    pub fn memory(&self) -> Vec<Part> {
        let Settings { store, engine, limits, sessions, .. } = self;
        let part = |what, bound, bytes| Part { what, bound, bytes };
        let draft = limits.draft_bytes_max as u64;
        let batch = draft.max(engine.batch_bytes_max as u64);
        let recent = engine.recent_bytes_max as u64 + engine.recent_cells_max as u64 * RECENT_CELL_BYTES;
        let index_cache = if store.index_cache_bytes == 0 { INDEX_CACHE_BYTES.1 } else { store.index_cache_bytes };
        let connections = sessions.connections_max as u64;
        let streams = connections * u64::from(sessions.streams_max);
        vec![
            part("records read lately", "`store.cache_bytes`", store.cache_bytes),
            part("pages of the index", "`store.index_cache_bytes`; left open at most 1 GiB", index_cache as u64),
            part(
                "what waits for the index",
                "`store.overlay_bytes_max` and two largest drafts",
                store.overlay_bytes_max + 2 * batch,
            ),
            part(
                "entries written lately",
                "`store.recent_entries_max` × 150 B",
                store.recent_entries_max as u64 * ENTRY_BYTES,
            ),
            part("commit keys", "`store.keys_count_max` × 80 B", store.keys_count_max * KEY_BYTES),
            part("kinds", "`store.kinds_max` × 640 B", store.kinds_max as u64 * KIND_BYTES),
            part(
                "the sequencer's memory of writes",
                "4 × (`engine.recent_bytes_max` + `engine.recent_cells_max` × 256 B)",
                RECENT_TIMES * recent,
            ),
            part(
                "prepared drafts",
                "`engine.prepared_bytes_max` and a largest draft",
                engine.prepared_bytes_max as u64 + draft,
            ),
            part("the batch that is written", "a largest draft", batch),
            part(
                "requests and answers",
                "2 × (`sessions.requests_bytes_max` + `sessions.connections_max` × 64 KiB): encoded and decoded side by side",
                2 * (sessions.requests_bytes_max as u64 + connections * OWN_BYTES),
            ),
            part(
                "what long calls read at the moment",
                "`sessions.long_calls_max` × `limits.draft_bytes_max`: the log is read in whole transactions",
                sessions.long_calls_max as u64 * draft,
            ),
            part(
                "feeds",
                "`sessions.feed_queue_bytes_max` and a largest draft: kept once for all sessions",
                sessions.feed_queue_bytes_max as u64 + batch,
            ),
            part(
                "what sessions may hold",
                "`sessions.sessions_max` / 64 × 10.3 MiB: as large as that after many thousands of cells for one of them",
                sessions.sessions_max.div_ceil(64) as u64 * INTEREST_BYTES,
            ),
            part(
                "what clients send ahead",
                "`sessions.connections_max` × `sessions.window_bytes`",
                connections * u64::from(sessions.window_bytes),
            ),
            part("streams", "`sessions.connections_max` × `sessions.streams_max` × 32 KiB", streams * STREAM_BYTES),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytesize::ByteSize;

    #[test]
    fn the_page_of_operations_has_these_figures() {
        let page = include_str!("../../../docs/operations.md");
        let parts = Settings::default().memory();
        let mut missing = Vec::new();
        for Part { what, bound, bytes } in &parts {
            missing.push(format!("| {what} | {bound} | {} |", ByteSize::b(*bytes)));
        }
        let sum = ByteSize::b(parts.iter().map(|part| part.bytes).sum());
        missing.push(format!("| **all** | | **{sum}** |"));
        missing.retain(|line| !page.contains(line));
        assert!(missing.is_empty(), "docs/operations.md, Memory, lacks:\n{}", missing.join("\n"));
    }
}
