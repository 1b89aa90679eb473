//! Owns `backup drill`: one command that proves a backup by restoring it, for a timer.
//!
//! ```text
//!   newest backup ──> temporary directory, a server inside of this process ──> stopped ──> verified ──> counts compared ──> verdict
//! ```

use super::scratch::{self, Scratch};
use crate::exit::ProblemFound;
use crate::moment;
use crate::output::{Out, count, size};
use crate::restore::into_dir;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use zeolite_backup::{Chosen, Place, Restored, Shelf, choose};
use zeolite_server::engine::{VerifyReport, verify_offline};
use zeolite_server::store::disk::real::RealDisk;

/// `zeolite backup drill`.
pub(super) async fn drill(out: &Out, place: &Place, database: &str, scratch: Option<&Path>) -> Result<()> {
    let begun = Instant::now();
    let shelf = Shelf::look(place, database).await?;
    if shelf.newest().is_none() {
        return Err(super::looking::none(place, database));
    }
    let chosen = choose(&shelf, None)?;
    let within = scratch.map_or_else(std::env::temp_dir, Path::to_owned);
    for left in scratch::sweep(&within) {
        out.complain(format_args!("{} was left by a drill that was killed, and is removed", left.display()));
    }
    let scratch = Scratch::make(&within)?;
    let dir = scratch.data();
    let restored = into_dir(out, place, &chosen, &dir, false).await?;
    let settings = crate::serve::offline(&dir)?;
    let disk = Arc::new(RealDisk::look(&dir)?);
    let report = verify_offline(disk, settings.store, zeolite_server::server::seed()?, &mut |_| true)?;
    let problems = problems(&chosen, &restored, &report);
    let newest = &chosen.chain.backups.last().context("a chosen chain has backups")?.manifest;
    let seconds = begun.elapsed().as_secs_f64();
    if out.is_json() {
        out.json(&json!({
            "good": problems.is_empty(),
            "backup": format!("{}/{:04}", chosen.chain.name, newest.number),
            "newest": restored.newest,
            "transactions": restored.transactions,
            "objects": report.objects,
            "blobs": report.blobs,
            "bytes": restored.bytes,
            "time_s": seconds,
            "problems": problems,
        }))?;
    } else {
        problems.iter().for_each(|problem| out.line(out.verdict(false, problem)));
        let verdict = if problems.is_empty() { "it can be restored" } else { "it is not what it should be" };
        out.line(format_args!(
            "{}/{:04}, made {}: {} transactions up to {}, {} objects, {} blobs, {} in {seconds:.1} s: {}",
            chosen.chain.name,
            newest.number,
            moment::shown_unix_ms(newest.done_unix_ms),
            count(restored.transactions),
            moment::shown(restored.newest),
            count(report.objects),
            count(report.blobs),
            size(restored.bytes),
            out.verdict(problems.is_empty(), verdict)
        ));
    }
    match problems.len() {
        0 => Ok(()),
        wrong => Err(ProblemFound(format!("{wrong} problems; take a full backup (--full) and try that one")).into()),
    }
}

fn problems(chosen: &Chosen, restored: &Restored, report: &VerifyReport) -> Vec<String> {
    let damaged = chosen.damage.iter().map(|damage| format!("something newer may be lost to damage: {damage}"));
    let mut problems: Vec<String> = damaged.chain(report.problems.iter().cloned()).collect();
    let transactions: u64 = chosen.chain.backups.iter().map(|backup| backup.manifest.transactions).sum();
    let newest = chosen.chain.backups.last().map(|backup| backup.manifest.to).unwrap_or_default();
    if (restored.transactions, report.transactions) != (transactions, transactions) {
        let (came, there) = (restored.transactions, report.transactions);
        problems
            .push(format!("the backup says that it has {transactions} transactions; {came} came, {there} are there"));
    }
    if restored.newest != newest {
        problems.push(format!("the backup says that its newest transaction is {newest}; it is {}", restored.newest));
    }
    problems
}
