//! Owns `undo`, `pack` and `verify` through a server: what an operator does to a running database.

use crate::args::{PackArgs, UndoArgs};
use crate::exit::ProblemFound;
use crate::moment;
use crate::output::{Out, count, size};
use crate::progress::Progress;
use anyhow::{Context, Result};
use serde_json::json;
use zeolite_client::{Admin, Db, Note, PackOptions, PackProgress, Reference};

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
    let options = PackOptions::new().to(to).keep_garbage(args.keep_garbage).dry_run(args.dry_run);
    let mut messages = admin.pack(options).await?;
    let progress = Progress::new(out);
    let bar = progress.bar("pack", "", 0);
    let mut last = None;
    while let Some(message) = messages.next().await? {
        // The last one is the result, and no step.
        if !message.done {
            bar.remark(message.stage.clone());
            bar.set(message.done_units, message.total_units);
        }
        last = Some(message);
    }
    let end =
        last.filter(|message| message.done).context("the server ended the pack without its result; see its log")?;
    bar.whole();
    if out.is_json() {
        return out.json(&json!({
            "dry_run": args.dry_run,
            "packed_to": end.packed_to.to_string(),
            "revisions_removed": end.revisions_removed,
            "objects_removed": end.objects_removed,
            "bytes_before": end.bytes_before,
            "bytes_after": end.bytes_after,
            "blobs_removed": end.blobs_removed,
            "blob_bytes_removed": end.blob_bytes_removed,
            "held_back": end.held_back,
        }));
    }
    let would = if args.dry_run { "would be " } else { "" };
    out.facts(&[
        ("packed to", format!("{} {}", end.packed_to, moment::shown(end.packed_to))),
        ("revisions", format!("{} {would}removed", count(end.revisions_removed))),
        ("objects", format!("{} {would}removed as unreachable", count(end.objects_removed))),
        ("log", format!("{} before, {} after", size(end.bytes_before), size(end.bytes_after))),
        ("blobs", blobs_removed(&end, args.dry_run)),
    ]);
    if let Some(why) = end.held_back {
        let what = if to.is_some() { "packed less far than asked" } else { "some history is left" };
        out.remark(format_args!("{what}: {why}"));
    }
    Ok(())
}

fn blobs_removed(end: &PackProgress, dry_run: bool) -> String {
    match dry_run {
        true => "not looked at without packing".into(),
        false => format!("{} removed, {}", count(end.blobs_removed), size(end.blob_bytes_removed)),
    }
}

pub(crate) async fn verify(out: &Out, admin: &Admin, is_strict: bool) -> Result<()> {
    let mut messages = admin.verify().await?;
    let progress = Progress::new(out);
    let bar = progress.bar("verify", "", 0);
    let mut last = None;
    while let Some(message) = messages.next().await? {
        // The last one is the result, and no step.
        if !message.done {
            bar.remark(message.stage.clone());
            bar.set(message.done_units, message.total_units);
        }
        last = Some(message);
    }
    let end = last.filter(|message| message.done).context("the server ended without a result; see its log")?;
    bar.whole();
    Verdict {
        transactions: end.transactions,
        revisions: end.revisions,
        objects: end.objects,
        blobs: end.blobs,
        problems: end.problems,
        problems_total: end.problems_total,
        dangling: end.dangling,
        dangling_total: end.dangling_total,
        remarks: Vec::new(),
        is_strict,
    }
    .tell(out)
}

/// So many dangling references are shown one by one.
const DANGLING_SHOWN: usize = 10;

/// What a verification found, by a server or offline.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) transactions: u64,
    pub(crate) revisions: u64,
    pub(crate) objects: u64,
    pub(crate) blobs: u64,
    pub(crate) problems: Vec<String>,
    pub(crate) problems_total: u64,
    pub(crate) dangling: Vec<Reference>,
    pub(crate) dangling_total: u64,
    pub(crate) remarks: Vec<String>,
    /// Dangling references are problems as well.
    pub(crate) is_strict: bool,
}

impl Verdict {
    /// Prints it; problems are an error with the exit code for problems.
    pub(crate) fn tell(&self, out: &Out) -> Result<()> {
        let is_whole = self.problems.is_empty() && self.problems_total == 0;
        let good = is_whole && !(self.is_strict && self.dangling_total > 0);
        if out.is_json() {
            out.json(&json!({
                "good": good,
                "transactions": self.transactions,
                "revisions": self.revisions,
                "objects": self.objects,
                "blobs": self.blobs,
                "problems": self.problems,
                "problems_total": self.problems_total,
                "dangling": self.dangling,
                "dangling_total": self.dangling_total,
                "remarks": self.remarks,
            }))?;
        } else {
            self.remarks.iter().for_each(|remark| out.line(format_args!("note: {remark}")));
            self.problems.iter().for_each(|problem| out.line(out.verdict(false, problem)));
            let read = format!(
                "{} transactions, {} revisions, {} objects, {} blobs",
                count(self.transactions),
                count(self.revisions),
                count(self.objects),
                count(self.blobs)
            );
            self.tell_dangling(out);
            let verdict = match (is_whole, self.dangling_total) {
                (true, 0) => "every checksum and reference is right",
                (true, _) => "every checksum is right, some references dangle",
                (false, _) => "not all is well",
            };
            out.line(format_args!("{read}: {}", out.verdict(good, verdict)));
        }
        if good {
            return Ok(());
        }
        if is_whole {
            let total = self.dangling_total;
            return Err(ProblemFound(format!("{total} references dangle, and --strict calls that a problem")).into());
        }
        let total = self.problems_total.max(self.problems.len() as u64);
        Err(ProblemFound(format!("{total} problems; keep a copy of the data directory before repairing anything"))
            .into())
    }

    fn tell_dangling(&self, out: &Out) {
        for Reference { from, to } in self.dangling.iter().take(DANGLING_SHOWN) {
            out.line(format_args!("note: object {from} refers to object {to}, which does not exist"));
        }
        let more = self.dangling_total.saturating_sub(self.dangling.len().min(DANGLING_SHOWN) as u64);
        if more > 0 {
            out.line(format_args!("note: {} more such references", count(more)));
        }
    }
}
