//! Owns `bench --stages`: where the time of a commit goes under load, and which stage holds the others back.
//!
//! Some stages happen on one thread each: the sequencer's (check, with merge in it) and the writer's (write, fsync,
//! publish). The thread that is busy for the largest part of the time is the bottleneck; the time that drafts spend waiting
//! in the queue is its shadow. Decoding is spread over all cores.
//!
//! The server counts write and fsync once per draft, as what that draft waited for. The writer did them once per batch, so
//! here their mean counts once per batch.

use super::{Setting, commits, traffic};
use crate::output::{Out, Table, count, nanos};
use anyhow::Result;
use serde_json::json;
use std::time::Duration;
use zeolite_client::Stage;

pub(super) async fn measure(out: &Out, setting: &Setting<'_>) -> Result<()> {
    let doing = setting.doing("commits, stage by stage");
    let dir = setting.scratch()?;
    let host = setting.host(dir.path()).await?;
    let clients = traffic::connect(&host.url(), setting.clients).await?;
    let oids = commits::own_objects(&clients[0], setting.clients).await?;
    let before = clients[0].admin().status().await?;
    let seen = commits::disjoint(&clients, setting.time, &oids).await?;
    let after = clients[0].admin().status().await?;
    let (stages, batches) = (since(&before.stages, after.stages), after.batches - before.batches);
    drop((doing, clients));
    host.stop().await?;

    let shares = busy(&stages, batches, seen.time);
    let bottleneck = shares.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or("none", |share| share.0);
    if out.is_json() {
        let shares: serde_json::Map<String, serde_json::Value> =
            shares.iter().map(|(thread, share)| ((*thread).to_owned(), json!(share))).collect();
        return out.json(&json!({
            "clients": setting.clients,
            "commits_per_s": seen.per_second(),
            "stages": stages_json(&stages),
            "busy": shares,
            "bottleneck": bottleneck,
        }));
    }
    out.line(format_args!(
        "{} commits/s by {} clients, p50 {}",
        count(seen.per_second() as u64),
        setting.clients,
        nanos((seen.latency.p50_us() * 1e3) as u64)
    ));
    out.table(&table(&stages, seen.done));
    for (thread, share) in &shares {
        out.line(format_args!("the {thread} is busy {:.0}% of the time", share * 100.0));
    }
    out.line(format_args!(
        "{}",
        out.bold(&format!("the bottleneck is the {bottleneck}{}", advice(bottleneck, &stages)))
    ));
    Ok(())
}

fn stages_json(stages: &[Stage]) -> Vec<serde_json::Value> {
    let one = |stage: &Stage| {
        json!({
            "name": stage.name,
            "count": stage.count,
            "total_ns": stage.total_ns,
            "p50_ns": stage.p50_ns,
            "p99_ns": stage.p99_ns,
        })
    };
    stages.iter().map(one).collect()
}

/// The stages of the measured time alone; the quantiles are the server's, over its whole life.
fn since(before: &[Stage], after: Vec<Stage>) -> Vec<Stage> {
    let started = |name: &str| before.iter().find(|stage| stage.name == name);
    let less = |mut stage: Stage| {
        if let Some(earlier) = started(&stage.name) {
            stage.count = stage.count.saturating_sub(earlier.count);
            stage.total_ns = stage.total_ns.saturating_sub(earlier.total_ns);
        }
        stage
    };
    after.into_iter().map(less).collect()
}

/// The part of the time that each thread was at work.
fn busy(stages: &[Stage], batches: u64, time: Duration) -> [(&'static str, f64); 2] {
    let find = |name: &str| stages.iter().find(|stage| stage.name == name);
    let total = |name: &str| find(name).map_or(0.0, |stage| stage.total_ns as f64);
    let mean = |name: &str| find(name).map_or(0.0, |stage| stage.total_ns as f64 / stage.count.max(1) as f64);
    let ns = time.as_nanos().max(1) as f64;
    let writer = (mean("write") + mean("fsync")) * batches as f64 + total("publish");
    [("sequencer", total("check") / ns), ("writer", writer / ns)]
}

fn table(stages: &[Stage], commits: u64) -> Table {
    let mut table = Table::new(&["stage", ">times", ">p50", ">p99", ">per commit"]);
    for stage in stages {
        let per_commit = stage.total_ns / commits.max(1);
        table.add([
            stage.name.clone(),
            count(stage.count),
            nanos(stage.p50_ns),
            nanos(stage.p99_ns),
            nanos(per_commit),
        ]);
    }
    table
}

/// The writer's largest stage says whether it is the disk.
fn advice(bottleneck: &str, stages: &[Stage]) -> String {
    let of = |name: &str| stages.iter().find(|stage| stage.name == name).map_or(0, |stage| stage.total_ns);
    match bottleneck {
        "writer" if of("fsync") >= of("write") => ": it waits for the disk (fsync)".into(),
        "writer" => ": it encodes and publishes more than it waits for the disk".into(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread_is_named() {
        let stage = |name: &str, count, total_ns| Stage { name: name.into(), count, total_ns, ..Stage::default() };
        // Ten drafts in two batches: each draft waited 3 for the write and 27 for the fsync.
        let stages = [
            stage("queue", 20, 900),
            stage("check", 10, 30),
            stage("write", 10, 30),
            stage("fsync", 10, 270),
            stage("publish", 2, 10),
        ];
        let shares = busy(&stages, 2, Duration::from_nanos(100));
        assert_eq!(shares, [("sequencer", 0.3), ("writer", 0.7)]);
        assert_eq!(advice("writer", &stages), ": it waits for the disk (fsync)");
    }
}
