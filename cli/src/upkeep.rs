//! Owns `undo`, `pack` and `verify` through a server: what an operator does to a running database.

use crate::args::{PackArgs, UndoArgs};
use crate::exit::ProblemFound;
use crate::moment;
use crate::output::{Out, count, size};
use crate::progress::Progress;
use anyhow::{Context, Result};
use serde_json::json;
use zeolite_client::{Admin, Db, Note, PackOptions};

pub(crate) async fn undo(out: &Out, db: &Db, args: &UndoArgs) -> Result<()> {
    let description = match args.message.as_str() {
        "" => format!("undo {}", args.tid),
        message => message.to_owned(),
    };
    let receipt = db.undo(args.tid, Note::new(&args.user, description)).await?;
    if out.is_json() {
        return out.json(&json!({
            "undone": args.tid.to_string(),
            "tid": receipt.tid.to_string(),
            "merged": receipt.merged.len(),
        }));
    }
    let merged = match receipt.merged.len() {
        0 => String::new(),
        cells => format!("; {cells} cells were merged with later writes"),
    };
    out.line(format_args!("{} is undone by {}{merged}", args.tid, receipt.tid));
    Ok(())
}

pub(crate) async fn pack(out: &Out, admin: &Admin, args: &PackArgs) -> Result<()> {
    let to = args.to.map(|at| at.0);
    let options = PackOptions { to, keep_garbage: args.keep_garbage, dry_run: args.dry_run };
    let mut messages = admin.pack(options).await?;
    let progress = Progress::new(out);
    let bar = progress.bar("pack", "", 0);
    let mut last = None;
    while let Some(message) = messages.next().await? {
        bar.set(message.done_units, message.total_units);
        bar.remark(message.stage.clone());
        last = Some(message);
    }
    bar.clear();
    let end =
        last.filter(|message| message.done).context("the server ended the pack without its result; see its log")?;
    if out.is_json() {
        return out.json(&json!({
            "dry_run": args.dry_run,
            "packed_to": end.packed_to.to_string(),
            "revisions_removed": end.revisions_removed,
            "objects_removed": end.objects_removed,
            "bytes_before": end.bytes_before,
            "bytes_after": end.bytes_after,
            "held_back": end.held_back,
        }));
    }
    let would = if args.dry_run { "would be " } else { "" };
    out.facts(&[
        ("packed to", format!("{} {}", end.packed_to, moment::shown(end.packed_to))),
        ("revisions", format!("{} {would}removed", count(end.revisions_removed))),
        ("objects", format!("{} {would}removed as unreachable", count(end.objects_removed))),
        ("log", format!("{} before, {} after", size(end.bytes_before), size(end.bytes_after))),
    ]);
    if let Some(why) = end.held_back {
        out.remark(format_args!("packed less far than asked: {why}"));
    }
    Ok(())
}

pub(crate) async fn verify(out: &Out, admin: &Admin) -> Result<()> {
    let mut messages = admin.verify().await?;
    let progress = Progress::new(out);
    let bar = progress.bar("verify", "", 0);
    let mut last = None;
    while let Some(message) = messages.next().await? {
        bar.set(message.done_units, message.total_units);
        bar.remark(message.stage.clone());
        last = Some(message);
    }
    bar.clear();
    let end = last.filter(|message| message.done).context("the server ended without a result; see its log")?;
    Verdict {
        transactions: end.transactions,
        revisions: end.revisions,
        objects: end.objects,
        problems: end.problems,
        problems_total: end.problems_total,
        remarks: Vec::new(),
    }
    .tell(out)
}

/// What a verification found, by a server or offline.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) transactions: u64,
    pub(crate) revisions: u64,
    pub(crate) objects: u64,
    pub(crate) problems: Vec<String>,
    pub(crate) problems_total: u64,
    pub(crate) remarks: Vec<String>,
}

impl Verdict {
    /// Prints it; problems are an error with the exit code for problems.
    pub(crate) fn tell(&self, out: &Out) -> Result<()> {
        let good = self.problems.is_empty() && self.problems_total == 0;
        if out.is_json() {
            out.json(&json!({
                "good": good,
                "transactions": self.transactions,
                "revisions": self.revisions,
                "objects": self.objects,
                "problems": self.problems,
                "problems_total": self.problems_total,
                "remarks": self.remarks,
            }))?;
        } else {
            self.remarks.iter().for_each(|remark| out.line(format_args!("note: {remark}")));
            self.problems.iter().for_each(|problem| out.line(out.verdict(false, problem)));
            let read = format!(
                "{} transactions, {} revisions, {} objects",
                count(self.transactions),
                count(self.revisions),
                count(self.objects)
            );
            let verdict = if good { "every checksum and reference is right" } else { "not all is well" };
            out.line(format_args!("{read}: {}", out.verdict(good, verdict)));
        }
        if good {
            return Ok(());
        }
        let total = self.problems_total.max(self.problems.len() as u64);
        Err(ProblemFound(format!("{total} problems; keep a copy of the data directory before repairing anything"))
            .into())
    }
}
