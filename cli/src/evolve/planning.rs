//! Owns `evolve plan`: a new job from the command line, or the dry run of its step.

use super::args::{PlanArgs, WhatArgs};
use super::{shown, steering, step};
use crate::exit::{ProblemFound, Usage};
use crate::moment;
use crate::output::{Out, Table, count, size};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use zeolite_client::evolve::{self, DryRun, DryRunOptions, NewJob, Plan, Sample};
use zeolite_client::{Db, Oid, Record};

/// How much of an object's data a sample shows.
const DATA_BYTES: usize = 60;

pub(super) async fn plan(out: &Out, db: &Db, args: &PlanArgs) -> Result<()> {
    let mut new = NewJob::new(&args.name, covered(args)?);
    (new.gate, new.allow_empty, new.beside) = (args.gate, args.allow_empty, args.beside);
    for (name, value) in steering::pairs(&args.settings)? {
        new.settings.set(&name, &value)?;
    }
    if args.dry_run {
        return dry_run(out, db, args, &new).await;
    }
    if !args.step.exec.is_empty() || args.step.delete || args.step.bump.is_some() {
        let wrong = "a plan does not keep the step: try it with --dry-run, and give it to `evolve run`";
        return Err(Usage(wrong.into()).into());
    }
    let job = evolve::plan(db, new).await?;
    let progress = job.show().await?;
    if out.is_json() {
        return out.json(&shown::progress_json(&progress));
    }
    let (total, ranges) = (count(progress.job.total), progress.job.ranges);
    out.line(format_args!(
        "evolve {:?} is planned: {total} {} in {ranges} ranges",
        args.name,
        progress.job.plan.text()
    ));
    out.remark(format_args!(
        "start it with `zeolite evolve run {}` and a step (--exec, --bump or --delete), or with the application's own workers",
        shown::quoted(&args.name)
    ));
    Ok(())
}

fn covered(args: &PlanArgs) -> Result<Plan> {
    let bytes = |key: &Option<bytes::Bytes>| key.as_ref().map(|key| key.to_vec()).unwrap_or_default();
    Ok(match &args.what {
        WhatArgs { class: Some(class), .. } => Plan::below(class, args.below.unwrap_or(0)),
        WhatArgs { collection: Some(oid), .. } => {
            Plan::Collection { oid: oid.0, from: bytes(&args.from), to: bytes(&args.to) }
        }
        WhatArgs { reachable: Some(oid), .. } => Plan::reachable(*oid),
        WhatArgs { oids, .. } => Plan::oids(listed(oids.as_deref().unwrap_or(Path::new("-")))?),
    })
}

/// Oids from a file, one per line; empty lines are nothing.
fn listed(path: &Path) -> Result<Vec<Oid>> {
    if path == Path::new("-") {
        return read(std::io::stdin().lock(), "standard input");
    }
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| Usage(format!("{name} cannot be read: {error}")))?;
    read(BufReader::new(file), &name)
}

fn read(lines: impl BufRead, name: &str) -> Result<Vec<Oid>> {
    let mut oids = Vec::new();
    for (number, line) in (1..).zip(lines.lines()) {
        let line = line.with_context(|| format!("reading {name}"))?;
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |error| Usage(format!("{name}, line {number}: {line:?} is no oid in hexadecimal: {error}"));
        oids.push(line.trim().parse().map_err(wrong)?);
    }
    Ok(oids)
}

async fn dry_run(out: &Out, db: &Db, args: &PlanArgs, new: &NewJob) -> Result<()> {
    step::fits(&args.step, args.below)?;
    let chosen = step::chosen(out, &args.step, &args.name, 1)?;
    let options = DryRunOptions::new().objects_max(args.limit).samples(args.samples);
    let found = evolve::dry_run(db, new, &*chosen.step, &options).await;
    chosen.end().await;
    let found = found.map_err(step::told).context("the dry run")?;
    if out.is_json() {
        out.json(&dry_json(&args.name, new, &found))?;
    } else {
        tell(out, new, &found);
    }
    match found.bad {
        0 => Ok(()),
        bad => Err(ProblemFound(format!("the step fails on {} objects", count(bad))).into()),
    }
}

fn tell(out: &Out, new: &NewJob, found: &DryRun) {
    let per_second = count(found.rate.round() as u64);
    let predicted = moment::duration(u64::try_from(found.predicted.as_millis()).unwrap_or(u64::MAX));
    out.facts(&[
        ("dry run", format!("{}, nothing is written", new.plan.text())),
        ("stepped", format!("{} of {} objects, {per_second} per second", count(found.stepped), count(found.total))),
        ("would change", count(found.changed)),
        ("would delete", count(found.deleted)),
        ("would stay", format!("{}, and {} need nothing", count(found.kept), count(found.found_done))),
        ("would fail", out.verdict(found.bad == 0, &count(found.bad))),
        (
            "writes",
            format!("{} in objects, {} others (entries, counters)", size(found.bytes), count(found.other_writes)),
        ),
        ("predicted", format!("{predicted} for one worker beside no live traffic")),
    ]);
    if !found.errors.is_empty() {
        let mut table = Table::new(&[">objects", "class", "error", "first"]);
        for kind in &found.errors {
            table.add([count(kind.objects), kind.class.clone(), kind.error.clone(), kind.first.to_string()]);
        }
        out.line("");
        out.table(&table);
    }
    found.samples.iter().for_each(|sample| show_sample(out, sample));
}

fn show_sample(out: &Out, sample: &Sample) {
    out.line("");
    out.line(out.bold(&sample.cell.to_string()));
    out.line(format_args!("  old  {}", sample.old.as_ref().map_or("-".into(), record_line)));
    out.line(format_args!("  new  {}", sample.new.as_ref().map_or("(deleted)".into(), record_line)));
}

fn record_line(record: &Record) -> String {
    let refs: String = record.refs.iter().map(|oid| format!(" ->{oid}")).collect();
    let shown = record.data[..record.data.len().min(DATA_BYTES)].escape_ascii();
    let more = if record.data.len() > DATA_BYTES { " …" } else { "" };
    format!("{} v{}{refs}  {} B  {shown}{more}", record.class, record.version, record.data.len())
}

fn dry_json(name: &str, new: &NewJob, found: &DryRun) -> Value {
    let record = |record: &Record| {
        let hex: String = record.data.iter().map(|byte| format!("{byte:02x}")).collect();
        let refs: Vec<String> = record.refs.iter().map(ToString::to_string).collect();
        json!({ "class": record.class, "version": record.version, "refs": refs, "data_hex": hex })
    };
    let errors = found.errors.iter().map(|kind| {
        let first = kind.first.to_string();
        json!({ "class": kind.class, "error": kind.error, "objects": kind.objects, "first": first })
    });
    let samples = found.samples.iter().map(|sample| {
        let (old, new) = (sample.old.as_ref().map(record), sample.new.as_ref().map(record));
        json!({ "cell": sample.cell.to_string(), "old": old, "new": new })
    });
    json!({
        "job": name,
        "dry_run": true,
        "plan": new.plan.text(),
        "total": found.total,
        "stepped": found.stepped,
        "changed": found.changed,
        "deleted": found.deleted,
        "kept": found.kept,
        "found_done": found.found_done,
        "failed": found.bad,
        "other_writes": found.other_writes,
        "bytes": found.bytes,
        "rate": found.rate,
        "predicted_ms": found.predicted.as_millis() as u64,
        "errors": errors.collect::<Vec<_>>(),
        "samples": samples.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_oids_are_read_and_a_wrong_line_is_named() {
        assert_eq!(read("2a\n\n 0x2b \n".as_bytes(), "list").expect("reads"), [Oid(0x2a), Oid(0x2b)]);
        let refused = read("2a\nhello\n".as_bytes(), "list").expect_err("no oid");
        assert!(refused.to_string().starts_with("list, line 2: \"hello\""), "{refused}");
    }
}
