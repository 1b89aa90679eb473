//! Owns the commands that look at jobs: list, show, ensure, verify.

use super::args::{EnsureArgs, ShowArgs, VerifyArgs};
use super::{left, shown};
use crate::exit::ProblemFound;
use crate::moment;
use crate::output::{Out, Table, count, size};
use anyhow::Result;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::collections::BTreeMap;
use zeolite_client::evolve::{self, Check};
use zeolite_client::{Cell, Db, Error, Oid, Range, Record, View};

/// What an undo has left is counted up to here.
const LEFT_MAX: u64 = 100_000;
/// Names in the root that are looked at, for what collections are called.
const NAMES_MAX: u64 = 10_000;

pub(super) async fn list(out: &Out, db: &Db) -> Result<()> {
    let mut table = Table::new(&["job", "state", ">progress", ">rate", ">left", "plan"]);
    let jobs = evolve::list(db).await?;
    for job in &jobs {
        match job.show().await {
            Ok(progress) if out.is_json() => out.json(&shown::progress_json(&progress))?,
            Ok(progress) => table.add(shown::row(&progress)),
            // A newer program has written it, or its records are gone: the others are told all the same.
            Err(error @ (Error::NotFound { .. } | Error::Decode { .. } | Error::WrongClass { .. })) => {
                let told = format!("cannot be read: {error}");
                match out.is_json() {
                    true => out.json(&json!({ "job": job.name(), "state": "unreadable", "reason": told }))?,
                    false => table.add([job.name(), &told, "", "", "", ""].map(str::to_owned)),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    if jobs.is_empty() {
        out.remark("there are no evolves; `zeolite evolve plan` makes one");
    } else if !out.is_json() {
        out.table(&table);
    }
    Ok(())
}

pub(super) async fn show(out: &Out, db: &Db, args: &ShowArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    let progress = job.show().await?;
    let limit = if args.quarantine == 0 { u64::MAX } else { args.quarantine };
    let (bad, not_undone) = (job.quarantine(limit).await?, job.not_undone(LEFT_MAX).await?);
    let pinned_bytes = db.admin().status().await?.pinned_bytes;
    if out.is_json() {
        let mut value = shown::progress_json(&progress);
        value["quarantine"] = bad.iter().map(shown::bad_json).collect();
        value["not_undone"] = not_undone.iter().take(usize::try_from(limit)?).map(left::json).collect();
        value["pinned_bytes"] = pinned_bytes.into();
        value["settings"] = progress.job.settings.list().into_iter().collect();
        return out.json(&value);
    }
    shown::tell(out, &progress, &format!("all pins together keep up to {} from pack", size(pinned_bytes)));
    if !bad.is_empty() {
        out.line("");
        out.table(&shown::quarantine(&bad));
        if progress.counts.bad_now() > bad.len() as u64 {
            out.remark("there are more: --quarantine 0 shows all");
        }
    }
    if !not_undone.is_empty() {
        out.line("");
        let named = if args.quarantine == 0 { LEFT_MAX as usize } else { 0 };
        out.table(&left::table(&not_undone, &collections(db).await?, named));
    }
    if args.all {
        out.line("");
        out.table(&shown::ranges(&progress));
        out.line("");
        out.table(&settings(&progress.job.settings));
    }
    Ok(())
}

/// What collections are called in the root.
async fn collections(db: &Db) -> Result<BTreeMap<u64, String>> {
    let view = db.now();
    let names = view.roots().limit(NAMES_MAX).collect().await?;
    Ok(names.into_iter().map(|(name, named)| (named.oid().0, name)).collect())
}

/// All settings with their values.
pub(super) fn settings(settings: &evolve::Settings) -> Table {
    let mut table = Table::new(&["setting", ">value"]);
    for (name, value) in settings.list() {
        table.add([name.to_owned(), value]);
    }
    table
}

pub(super) async fn ensure(out: &Out, db: &Db, args: &EnsureArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    let progress = job.show().await?;
    if let Some(version) = args.none_above {
        none_above(db, &progress.job, version).await?;
    }
    let problem = match (&progress.job.certificate, progress.missing()) {
        (Some(certificate), missing) if missing.is_empty() => {
            if out.is_json() {
                let mut value = shown::certificate_json(&progress.job, certificate);
                value["job"] = args.name.clone().into();
                value["now"] = shown::now_json(&progress);
                return out.json(&value);
            }
            out.facts(&shown::certificate_facts(&progress.job, certificate));
            out.facts(&[("now", shown::now(&progress))]);
            if let Some(target) = progress.job.target.as_ref().filter(|target| !target.gate) {
                out.facts(&[("no gate", shown::without_a_gate(target))]);
            }
            return Ok(());
        }
        (Some(_), missing) if progress.job.phase == evolve::Phase::Done => {
            format!("was done, and is not now: {}; {}", missing.join("; "), shown::now(&progress))
        }
        _ => format!("is not done: {}; {}", shown::Line::of(&progress).text(), shown::done(&progress)),
    };
    Err(ProblemFound(format!("evolve {:?} {problem}", args.name)).into())
}

/// Refuses while there are objects of a job's class above a version: it was to bring them down.
async fn none_above(db: &Db, job: &evolve::JobRecord, version: u32) -> Result<()> {
    let evolve::Plan::Objects { class, .. } = &job.plan else {
        anyhow::bail!("evolve {:?} is over {}, and no class; leave --none-above out", job.name, job.plan.text());
    };
    match db.admin().kinds().await?.above(class, version) {
        0 => Ok(()),
        left => {
            let left = count(left);
            let problem = format!("evolve {:?}: {left} objects of class {class} are above version {version}", job.name);
            Err(ProblemFound(format!("{problem}; stop the code that writes them, and plan the step back anew under another name (this job is done)")).into())
        }
    }
}

pub(super) async fn verify(out: &Out, db: &Db, args: &VerifyArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    let indexes: Vec<EntriesLead> = args.index.iter().map(|oid| EntriesLead { collection: *oid }).collect();
    let checks: Vec<&dyn Check> = indexes.iter().map(|index| index as &dyn Check).collect();
    let verified = job.verify(&checks).await?;
    let record = job.record().await?;
    let good = verified.problems_total == 0;
    if out.is_json() {
        out.json(&json!({
            "job": args.name,
            "tid": verified.tid.to_string(),
            "good": good,
            "objects": verified.objects,
            "problems": verified.problems,
            "problems_total": verified.problems_total,
            "certificate": record.certificate.as_ref().map(|made| shown::certificate_json(&record, made)),
        }))?;
    } else {
        out.facts(&[
            ("verified", format!("{} objects as of {}", count(verified.objects), moment::shown(verified.tid))),
            ("problems", out.verdict(good, &count(verified.problems_total))),
        ]);
        verified.problems.iter().for_each(|problem| out.line(format_args!("  {problem}")));
        if let Some(certificate) = &record.certificate {
            out.line("");
            out.facts(&shown::certificate_facts(&record, certificate));
        }
    }
    match verified.problems_total {
        0 => Ok(()),
        total => Err(ProblemFound(format!("{} problems in the result of evolve {:?}", count(total), args.name)).into()),
    }
}

/// Whatever an entry of the collection refers to exists. That every object has its entry only the application can check,
/// which knows the keys.
struct EntriesLead {
    collection: Oid,
}

impl EntriesLead {
    async fn walk(&self, view: &View, problem: &mut (dyn FnMut(String) + Send)) -> Result<(), Error> {
        let mut scan = view.scan(self.collection, Range::all());
        while let Some(page) = scan.next_page().await? {
            let mut refs = Vec::new();
            for entry in page {
                let cell = Cell::entry(self.collection, entry.key.clone());
                match Record::decode(&entry.record) {
                    Ok(record) => refs.extend(record.refs.into_iter().map(|oid| (cell.clone(), Cell::object(oid)))),
                    Err(error) => problem(format!("entry {cell} cannot be decoded: {error}")),
                }
            }
            let targets: Vec<Cell> = refs.iter().map(|(_, target)| target.clone()).collect();
            for ((cell, target), record) in refs.into_iter().zip(view.get_many(&targets).await?) {
                if record.is_none() {
                    problem(format!("entry {cell} leads to {target}, which does not exist"));
                }
            }
        }
        Ok(())
    }
}

impl Check for EntriesLead {
    fn object<'a>(&'a self, _: &'a View, _: &'a Cell, _: &'a Bytes) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn whole<'a>(
        &'a self,
        view: &'a View,
        problem: &'a mut (dyn FnMut(String) + Send),
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.walk(view, problem).boxed()
    }
}
