//! Owns what the demo tells at its end.

use super::check::{self, Finding};
use super::live::Window;
use super::{DemoArgs, Migration};
use crate::bench::latency::Latency;
use crate::evolve::{certificate_facts, certificate_json, counted, counts_json};
use crate::moment;
use crate::output::{Out, Table, count};
use anyhow::Result;
use serde_json::{Value, json};
use zeolite_client::evolve::DryRun;

/// Prints the measurements and the invariants.
pub(crate) fn tell(
    out: &Out,
    args: &DemoArgs,
    before: &Window,
    migration: Option<&Migration>,
    findings: &[Finding],
) -> Result<()> {
    if out.is_json() {
        let migration = migration.map(|made| json!({ "live": window(&made.during), "worker": work(made) }));
        let findings: Vec<Value> = findings.iter().map(Finding::json).collect();
        return out.json(&json!({ "clients": args.clients, "before": window(before), "migration": migration, "invariants": findings }));
    }
    out.line("");
    let mut table = Table::new(&["live clients", ">before", ">during", ">ratio"]);
    let during = migration.map(|migration| &migration.during);
    row(&mut table, "commits/s", before, during, Window::per_second);
    row(&mut table, "commit p50, µs", before, during, |window| window.commit.p50_us());
    row(&mut table, "commit p99, µs", before, during, |window| window.commit.p99_us());
    row(&mut table, "transaction p50, µs", before, during, |window| window.transaction.p50_us());
    row(&mut table, "transaction p99, µs", before, during, |window| window.transaction.p99_us());
    row(&mut table, "longest commit, µs", before, during, |window| window.commit.max_us());
    row(&mut table, "commits", before, during, |window| window.commits as f64);
    row(&mut table, "merged with another commit", before, during, |window| window.merges as f64);
    row(&mut table, "conflicts seen", before, during, |window| window.conflicts as f64);
    out.table(&table);
    if let Some(migration) = migration {
        out.line("");
        worker(out, migration);
    }
    out.line("");
    check::tell(out, findings);
    Ok(())
}

fn row(table: &mut Table, what: &str, before: &Window, during: Option<&Window>, number: impl Fn(&Window) -> f64) {
    let before = number(before);
    let during = during.map(number);
    let shown = |number: f64| count(number.round() as u64);
    let ratio = during.filter(|_| before > 0.0).map(|during| format!("{:.2}", during / before));
    table.add([what.to_owned(), shown(before), during.map(shown).unwrap_or_default(), ratio.unwrap_or_default()]);
}

fn worker(out: &Out, made: &Migration) {
    let (counts, time) = (made.report.counts, made.during.time);
    let per_second = count((counts.done as f64 / time.as_secs_f64().max(1e-9)) as u64);
    let throttled = match made.throttled.why.as_str() {
        "" => "never: live commits stayed within the budget".to_owned(),
        why => {
            format!("{} of the time, lastly because {why}", moment::duration(made.throttled.time.as_millis() as u64))
        }
    };
    out.facts(&[
        ("migrated", format!("{} synsets in {:.1} s, {per_second} per second", count(counts.done), time.as_secs_f64())),
        ("synsets", counted(counts)),
        ("throttled", throttled),
    ]);
    if let Some(certificate) = &made.job.certificate {
        out.line("");
        out.facts(&certificate_facts(&made.job, certificate));
    }
}

/// What the dry run has found.
pub(crate) fn tell_dry_run(out: &Out, found: &DryRun) {
    let predicted = moment::duration(found.predicted.as_millis() as u64);
    out.remark(format_args!(
        "dry run of {} of {} synsets, nothing written: {} would change with {} index entries and counters, {} would fail; \
         about {predicted} in all without live traffic",
        count(found.stepped),
        count(found.total),
        count(found.changed),
        count(found.other_writes),
        count(found.bad),
    ));
}

fn window(window: &Window) -> Value {
    let latency = |latency: &Latency| json!({ "p50_us": latency.p50_us(), "p99_us": latency.p99_us(), "max_us": latency.max_us() });
    json!({
        "commits": window.commits,
        "commits_per_s": window.per_second(),
        "commit": latency(&window.commit),
        "transaction": latency(&window.transaction),
        "merges": window.merges,
        "conflicts": window.conflicts,
        "time_s": window.time.as_secs_f64(),
    })
}

fn work(made: &Migration) -> Value {
    let counts = made.report.counts;
    json!({
        "counts": counts_json(counts),
        "objects_per_s": counts.done as f64 / made.during.time.as_secs_f64().max(1e-9),
        "throttled_ms": made.throttled.time.as_millis() as u64,
        "throttled_why": made.throttled.why,
        "dry_run": made.dry_run.as_ref().map(|found| {
            json!({ "stepped": found.stepped, "changed": found.changed, "failed": found.bad })
        }),
        "certificate": made.job.certificate.as_ref().map(|certificate| certificate_json(&made.job, certificate)),
    })
}
