//! Owns `status`: how the server is, on one screen.

use crate::args::StatusArgs;
use crate::exit::ProblemFound;
use crate::link::Link;
use crate::moment;
use crate::output::{Out, Table, count, nanos, size};
use anyhow::Result;
use serde_json::{Value, json};
use zeolite_proto::Mode;
use zeolite_proto::wire::v2;

pub(crate) async fn status(out: &Out, link: &mut Link, args: &StatusArgs) -> Result<()> {
    let status = link.status().await?;
    let kinds = match link.storage.kinds(v2::KindsRequest {}).await {
        Ok(reply) => reply.into_inner().kinds,
        Err(status) => return Err(link.failed(&status)),
    };
    let resolvers = match link.admin.resolvers(v2::ResolversRequest {}).await {
        Ok(reply) => reply.into_inner().resolvers,
        Err(status) => return Err(link.failed(&status)),
    };
    if out.is_json() {
        out.json(&status_json(&status, &kinds, &resolvers))?;
    } else {
        out.facts(&facts(out, &status));
        out.line("");
        out.table(&stages(&status.stages));
        if args.all {
            show_all(out, &kinds, &resolvers);
        }
    }
    if status.poisoned.is_empty() {
        return Ok(());
    }
    Err(ProblemFound(format!("the store is poisoned: {}; check the disk, then restart the server", status.poisoned))
        .into())
}

fn facts(out: &Out, status: &v2::StatusReply) -> Vec<(&'static str, String)> {
    let healthy = status.poisoned.is_empty();
    let lookups = status.cache_hits + status.cache_misses;
    let hits = (status.cache_hits * 100).checked_div(lookups).map_or("-".into(), |percent| format!("{percent}%"));
    let pins = match status.pins {
        0 => "none".into(),
        pins => format!(
            "{pins}, the oldest at {}; they keep up to {} from pack",
            moment::shown(status.oldest_pin),
            size(status.pinned_bytes)
        ),
    };
    vec![
        ("server", format!("zeolite {}, up {}", status.version, moment::duration(status.uptime_ms))),
        ("health", out.verdict(healthy, if healthy { "good" } else { &status.poisoned })),
        ("mode", crate::mode::shown(&status.mode.clone().map(Mode::from).unwrap_or_default())),
        ("store", format!("{:016x}", status.store_id)),
        ("newest", format!("{:016x} {}", status.visible, moment::shown(status.visible))),
        ("packed to", moment::shown(status.packed_to)),
        ("objects", count(status.objects)),
        (
            "log",
            format!(
                "{} in {} segments, {} not yet in the index",
                size(status.log_bytes),
                status.segments,
                size(status.unsettled_bytes)
            ),
        ),
        ("index", format!("{}, {}", status.index, size(status.index_bytes))),
        ("free", size(status.free_bytes)),
        ("sessions", format!("{}, {} drafts prepared", status.sessions, status.prepared)),
        ("pins", pins),
        (
            "commits",
            format!(
                "{} in {} batches, {} conflicts, {} cells merged",
                count(status.commits),
                count(status.batches),
                count(status.conflicts),
                count(status.merges)
            ),
        ),
        ("waiting", format!("{} live, {} batch", status.queue_live, status.queue_batch)),
        ("loads", format!("{}, cache {} with {hits} hits", count(status.loads), size(status.cache_bytes))),
        ("pack", status.pack.clone()),
    ]
}

/// Where the time of commits goes, since the server started.
fn stages(stages: &[v2::Stage]) -> Table {
    let mut table = Table::new(&["stage", ">count", ">p50", ">p99", ">total"]);
    for stage in stages {
        table.add([
            stage.name.clone(),
            count(stage.count),
            nanos(stage.p50_ns),
            nanos(stage.p99_ns),
            nanos(stage.total_ns),
        ]);
    }
    table
}

fn show_all(out: &Out, kinds: &[v2::Kind], resolvers: &[v2::ResolverInfo]) {
    let mut table = Table::new(&["class", ">version", ">objects"]);
    for kind in kinds {
        table.add([kind.class.clone(), kind.version.to_string(), count(kind.objects)]);
    }
    out.line("");
    out.table(&table);
    let mut table = Table::new(&["resolver of class", "", ""]);
    for resolver in resolvers {
        let applies = if resolver.applies { "applies" } else { "" };
        table.add([resolver.class.as_str(), resolver.description.as_str(), applies]);
    }
    out.line("");
    out.table(&table);
}

fn status_json(status: &v2::StatusReply, kinds: &[v2::Kind], resolvers: &[v2::ResolverInfo]) -> Value {
    let kinds: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({ "class": kind.class, "version": kind.version, "objects": kind.objects }))
        .collect();
    let resolvers: Vec<Value> = resolvers
        .iter()
        .map(|r| json!({ "class": r.class, "description": r.description, "applies": r.applies, "expensive": r.expensive }))
        .collect();
    let mut value = json!({
        "version": status.version,
        "store_id": format!("{:016x}", status.store_id),
        "visible": format!("{:016x}", status.visible),
        "packed_to": format!("{:016x}", status.packed_to),
        "uptime_ms": status.uptime_ms,
        "poisoned": status.poisoned,
        "index": status.index,
        "pack": status.pack,
        "oldest_pin": format!("{:016x}", status.oldest_pin),
        "stages": stages_json(&status.stages),
        "kinds": kinds,
        "resolvers": resolvers,
        "mode": crate::mode::mode_json(&status.mode.clone().map(Mode::from).unwrap_or_default()),
        "pressure": pressure_json(&status.pressure.unwrap_or_default()),
        "classes": classes_json(&status.classes),
    });
    let numbers = [
        ("objects", status.objects),
        ("log_bytes", status.log_bytes),
        ("index_bytes", status.index_bytes),
        ("segments", status.segments),
        ("free_bytes", status.free_bytes),
        ("unsettled_bytes", status.unsettled_bytes),
        ("sessions", status.sessions),
        ("pins", status.pins),
        ("prepared", status.prepared),
        ("commits", status.commits),
        ("batches", status.batches),
        ("conflicts", status.conflicts),
        ("merges", status.merges),
        ("loads", status.loads),
        ("queue_live", status.queue_live),
        ("queue_batch", status.queue_batch),
        ("cache_bytes", status.cache_bytes),
        ("cache_hits", status.cache_hits),
        ("cache_misses", status.cache_misses),
        ("pinned_bytes", status.pinned_bytes),
        ("disk_bytes", status.disk_bytes),
    ];
    numbers.into_iter().for_each(|(name, number)| value[name] = number.into());
    value
}

fn pressure_json(pressure: &v2::Pressure) -> Value {
    json!({
        "live_p50_us": pressure.live_p50_us,
        "live_p99_us": pressure.live_p99_us,
        "live_commits": pressure.live_commits,
        "window_ms": pressure.window_ms,
        "quiet_p99_us": pressure.quiet_p99_us,
        "fsync_p99_us": pressure.fsync_p99_us,
    })
}

fn classes_json(classes: &[v2::ClassCounts]) -> Vec<Value> {
    let class =
        |class: &v2::ClassCounts| json!({ "class": class.class, "conflicts": class.conflicts, "merges": class.merges });
    classes.iter().map(class).collect()
}

fn stages_json(stages: &[v2::Stage]) -> Vec<Value> {
    let stage = |stage: &v2::Stage| {
        json!({
            "name": stage.name,
            "count": stage.count,
            "total_ns": stage.total_ns,
            "p50_ns": stage.p50_ns,
            "p99_ns": stage.p99_ns,
        })
    };
    stages.iter().map(stage).collect()
}
