//! Owns the taking of samples: once a second, of each open database, of numbers that are in memory already.

use super::Site;
use super::history::Sample;
use crate::databases::Database;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use zeolite_proto::Pressure;

const EVERY: Duration = Duration::from_secs(1);

/// Counters as they were, and when.
struct Former {
    at: Duration,
    counts: [u64; 4],
}

/// Samples until it is dropped.
pub(super) async fn run(site: Arc<Site>) {
    let mut former: HashMap<Arc<str>, Former> = HashMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        for database in site.shown.databases.all() {
            let now = Former { at: site.shown.clock.steady(), counts: counts(database) };
            // The first says only where the others count from.
            if let Some(former) = former.get(database.name()) {
                site.histories.add(database.name(), sample(&site, database, former, &now));
            }
            former.insert(database.name().clone(), now);
        }
        site.histories.round();
    }
}

fn counts(database: &Database) -> [u64; 4] {
    let stats = database.engine().stats();
    [stats.commits.get(), stats.loads.get(), stats.conflicts.get(), stats.merges.get()]
}

fn sample(site: &Site, database: &Database, former: &Former, now: &Former) -> Sample {
    let pressure: Pressure = database.engine().pressure();
    let seconds = now.at.saturating_sub(former.at).as_secs_f64().max(1e-3);
    let rate = |at: usize| (now.counts[at] - former.counts[at]) as f64 / seconds;
    let ms = |us: u64| (us > 0).then_some(us as f64 / 1e3);
    Sample {
        at: site.shown.clock.unix_nanos() as f64 / 1e9,
        commits: rate(0),
        loads: rate(1),
        conflicts: rate(2),
        merges: rate(3),
        live_p99_ms: ms(pressure.live_p99_us),
        quiet_p99_ms: ms(pressure.quiet_p99_us),
        fsync_p99_ms: ms(pressure.fsync_p99_us),
        feed_batches: site.shown.rpc.session_load(database).feed_batches_longest,
        free_percent: pressure.free_percent(),
    }
}
