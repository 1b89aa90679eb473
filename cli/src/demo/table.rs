//! Owns what the demo tells at its end.

use super::DemoArgs;
use super::check::{self, Finding};
use super::evolve::Worked;
use super::live::Window;
use crate::bench::latency::Latency;
use crate::output::{Out, Table, count};
use anyhow::Result;
use serde_json::{Value, json};

/// Prints the measurements and the invariants.
pub(crate) fn tell(
    out: &Out,
    args: &DemoArgs,
    before: &Window,
    migration: Option<&(Window, Worked)>,
    findings: &[Finding],
) -> Result<()> {
    if out.is_json() {
        let migration =
            migration.map(|(during, worked)| json!({ "live": window(during), "worker": work(worked, during) }));
        let findings: Vec<Value> = findings.iter().map(Finding::json).collect();
        return out.json(&json!({ "clients": args.clients, "before": window(before), "migration": migration, "invariants": findings }));
    }
    out.line("");
    let mut table = Table::new(&["live clients", ">before", ">during", ">ratio"]);
    let during = migration.map(|(during, _)| during);
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
    if let Some((during, worked)) = migration {
        out.line("");
        worker(out, worked, during);
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

fn worker(out: &Out, worked: &Worked, during: &Window) {
    let per_second = worked.objects as f64 / during.time.as_secs_f64().max(1e-9);
    out.facts(&[
        (
            "migrated",
            format!(
                "{} synsets in {:.1} s, {} per second",
                count(worked.objects),
                during.time.as_secs_f64(),
                count(per_second as u64)
            ),
        ),
        ("chunks", format!("{}, the last of {} synsets", count(worked.chunks), worked.last_size)),
        ("refused", format!("{} commits of the worker, because a live client was faster", count(worked.refused))),
        ("stepped again", format!("{} synsets on a newer revision", count(worked.stepped_again))),
        (
            "found done",
            format!("{} synsets that a live client had brought to the new version", count(worked.found_new)),
        ),
    ]);
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

fn work(worked: &Worked, during: &Window) -> Value {
    json!({
        "objects": worked.objects,
        "objects_per_s": worked.objects as f64 / during.time.as_secs_f64().max(1e-9),
        "chunks": worked.chunks,
        "refused": worked.refused,
        "stepped_again": worked.stepped_again,
        "found_new": worked.found_new,
    })
}
