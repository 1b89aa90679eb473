//! Owns `status`: how the server is, on one screen.

use crate::args::StatusArgs;
use crate::exit::ProblemFound;
use crate::moment;
use crate::output::{Out, Table, count, counted, nanos, size};
use anyhow::Result;
use serde::Serialize;
use zeolite_client::{Admin, Error, Fault, Kind, ResolverInfo, Schedule, Stage, Status};

/// All of it, as programs read it.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    status: Status,
    /// None: they cannot be counted now.
    kinds: Option<Vec<Kind>>,
    resolvers: Vec<ResolverInfo>,
}

pub(crate) async fn status(out: &Out, admin: &Admin, args: &StatusArgs) -> Result<()> {
    let (status, resolvers) = (admin.status().await?, admin.resolvers().await?);
    // They are counted in the index: when that is down, all else can be told.
    let kinds = match admin.kinds().await {
        Ok(kinds) => Ok(kinds.kinds),
        Err(Error::Fault(fault)) => Err(fault),
        Err(error) => return Err(error.into()),
    };
    let poisoned = status.poisoned.clone();
    if out.is_json() {
        out.json(&Report { status, kinds: kinds.ok(), resolvers })?;
    } else {
        out.facts(&facts(out, &status));
        out.line("");
        out.table(&stages(&status.stages));
        if args.all {
            show_all(out, &kinds, &resolvers);
        }
    }
    match poisoned {
        None => Ok(()),
        Some(why) => {
            Err(ProblemFound(format!("the store is poisoned: {why}; check the disk, then restart the server")).into())
        }
    }
}

fn facts(out: &Out, status: &Status) -> Vec<(&'static str, String)> {
    let lookups = status.cache_hits + status.cache_misses;
    let hits = (status.cache_hits * 100).checked_div(lookups).map_or("-".into(), |percent| format!("{percent}%"));
    vec![
        ("server", format!("zeolite {}, up {}", status.version, moment::duration(status.uptime_ms))),
        ("health", out.verdict(status.poisoned.is_none(), status.poisoned.as_deref().unwrap_or("good"))),
        ("mode", crate::mode::shown(&status.mode)),
        ("copies", crate::copies::shown(out, status)),
        ("store", format!("{:016x}, life {:016x}", status.store_id, status.timeline)),
        ("newest", format!("{} {}{}", status.visible, moment::shown(status.visible), ahead(status))),
        ("security", security(out, status)),
        ("packed to", moment::shown(status.packed_to)),
        ("objects", count(status.objects)),
        (
            "log",
            format!(
                "{} in {} segments, {} not yet in the index{}",
                size(status.log_bytes),
                status.segments,
                size(status.unsettled_bytes),
                match status.torn {
                    0 => String::new(),
                    torn => format!(", {torn} cut ends are kept"),
                }
            ),
        ),
        (
            "index",
            match &status.index_down {
                None => format!("{}, {}", status.index, size(status.index_bytes)),
                Some(why) => format!("{}, being made ready again: {why}", status.index),
            },
        ),
        ("blobs", blobs(status)),
        ("free", size(status.free_bytes)),
        ("disk", out.verdict(status.disk_error.is_none(), status.disk_error.as_deref().unwrap_or("good"))),
        ("sessions", count(status.sessions)),
        ("prepared", prepared(status)),
        ("pins", pins(status)),
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
        ("schedules", schedules(out, status)),
        ("pack", status.pack.clone().unwrap_or_else(|| "idle".into())),
    ]
}

fn pins(status: &Status) -> String {
    match status.pins {
        0 => "none".into(),
        pins => format!(
            "{pins}, the oldest at {}; they keep up to {} from pack",
            status.oldest_pin.map_or_else(|| "-".into(), moment::shown),
            size(status.pinned_bytes)
        ),
    }
}

fn security(out: &Out, status: &Status) -> String {
    let left_ms = status.certificate_expires_unix_ms.saturating_sub(status.unix_ms);
    let tls = match status.certificate_expires_unix_ms {
        0 => "not encrypted".to_owned(),
        expires if expires <= status.unix_ms => out.verdict(false, "the certificate has expired"),
        _ => format!("TLS, the certificate ends in {} days", left_ms / 86_400_000),
    };
    let users = match (status.users, status.anonymous_role) {
        (None, None) => "client certificates".to_owned(),
        (None, Some(role)) => format!("no users: everybody is {role}"),
        (Some(users), None) => counted(users, "user"),
        (Some(users), Some(role)) => format!("{}, whoever proves nothing is {role}", counted(users, "user")),
    };
    match &status.security_problem {
        None => format!("{tls}, {users}"),
        Some(why) => format!("{tls}, {users}; {}", out.verdict(false, why)),
    }
}

fn schedules(out: &Out, status: &Status) -> String {
    let one = |schedule: &Schedule| {
        let done = match schedule.done_unix_ms {
            0 => "never yet".to_owned(),
            done => format!("{} ago", moment::duration(status.unix_ms.saturating_sub(done))),
        };
        let every = moment::duration(schedule.every_ms);
        let failed = match schedule.has_failed() {
            true => format!(", {}", out.verdict(false, &format!("failed: {}", schedule.error))),
            false => String::new(),
        };
        let now = if schedule.running { ", at it now" } else { "" };
        format!("{} every {every}: {done}{now}{failed}", schedule.work)
    };
    match status.schedules.is_empty() {
        true => "none".to_owned(),
        false => status.schedules.iter().map(one).collect::<Vec<_>>().join("; "),
    }
}

fn ahead(status: &Status) -> String {
    match status.ahead_ms {
        0..1000 => String::new(),
        ahead => format!(", {} ahead of the server's clock", moment::duration(ahead)),
    }
}

fn prepared(status: &Status) -> String {
    match status.prepared {
        0 => "nothing".into(),
        prepared => {
            let oldest = moment::duration(status.oldest_prepared_ms);
            format!("{prepared} drafts, {} of them durable, the oldest for {oldest}", status.prepared_durable)
        }
    }
}

/// Where the time of commits goes, since the server started.
fn stages(stages: &[Stage]) -> Table {
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

fn blobs(status: &Status) -> String {
    format!(
        "{}, {}; {} uploads not named yet, {}",
        count(status.blobs),
        size(status.blob_bytes),
        count(status.staged_blobs),
        size(status.staged_bytes)
    )
}

fn show_all(out: &Out, kinds: &Result<Vec<Kind>, Fault>, resolvers: &[ResolverInfo]) {
    let mut table = Table::new(&["class", ">version", ">objects"]);
    for kind in kinds.iter().flatten() {
        table.add([kind.class.clone(), kind.version.to_string(), count(kind.objects)]);
    }
    out.line("");
    match kinds {
        Ok(_) => out.table(&table),
        Err(fault) => out.line(format_args!("objects by class: {fault}")),
    }
    let mut table = Table::new(&["resolver of class", "", ""]);
    for resolver in resolvers {
        let applies = if resolver.applies { "applies" } else { "" };
        table.add([resolver.class.as_str(), resolver.description.as_str(), applies]);
    }
    out.line("");
    out.table(&table);
}
