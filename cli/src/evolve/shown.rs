//! Owns how a job is told: its state in one word with the reason, facts and tables for people, JSON for programs.

use crate::moment;
use crate::output::{Out, Table, count};
use serde_json::{Value, json};
use std::time::Duration;
use zeolite_client::evolve::{
    Bad, Certificate, Counts, JobRecord, OWED_MAX, Part, Phase, Progress, RangeRecord, Target,
};
use zeolite_client::{Oid, Tid};

/// The state of a job: one word, and what there is to say about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    /// planned, running, throttled, paused, catching-up, verifying, done, failed, cancelled, undoing, undone
    pub(crate) word: &'static str,
    /// Why; empty: nothing to say.
    pub(crate) why: String,
    /// When a pause ends by itself, in milliseconds since 1970.
    pub(crate) until_unix_ms: Option<u64>,
}

impl Line {
    pub(crate) fn of(progress: &Progress) -> Line {
        let until_unix_ms = Some(progress.until_unix_ms).filter(|until| *until > 0);
        Line { word: progress.word.text(), why: progress.why.clone(), until_unix_ms }
    }

    pub(crate) fn text(&self) -> String {
        let until =
            self.until_unix_ms.map(|until| format!(" until {}", moment::shown_unix_ms(until))).unwrap_or_default();
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        format!("{}{until}{why}", self.word)
    }
}

/// A name as a shell takes it.
pub(super) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=".contains(c);
    if name.chars().all(plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

/// How long a job still takes.
pub(crate) fn left(left: Option<Duration>) -> String {
    left.map_or("-".into(), |left| moment::duration(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
}

/// `1,234 of 5,678 (21 %)`.
pub(super) fn done(progress: &Progress) -> String {
    let percent = (progress.done * 100).checked_div(progress.total).unwrap_or(100);
    let (what, owed) = match is_taken_back(progress) {
        true => (" commits taken back", String::new()),
        false => ("", owed(progress).map(|owed| format!(", {owed} owed")).unwrap_or_default()),
    };
    format!("{} of {}{what} ({percent} %){owed}", count(progress.done), count(progress.total))
}

/// How many steps it owes; none: it owes nothing.
pub(super) fn owed(progress: &Progress) -> Option<String> {
    let more = if progress.owed >= OWED_MAX { " or more" } else { "" };
    (progress.owed > 0).then(|| format!("{}{more}", count(progress.owed)))
}

/// What its steps have yielded to live writers.
pub(super) fn yielded(progress: &Progress) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(owed) = owed(progress) {
        let then = match progress.job.phase {
            Phase::Done => "run its workers again",
            Phase::Undoing | Phase::Undone => "they stay as live writers made them",
            _ => "they are made anew at its end",
        };
        facts.push(("owes", format!("{owed} steps, over which live transactions were committed: {then}")));
    }
    if progress.taken_back > 0 {
        let theirs = "which live writers have brought to the new shape themselves: their steps were taken back";
        facts.push(("yielded", format!("{} of the changed, {theirs}", count(progress.taken_back))));
    }
    facts
}

/// Its progress is that of the undo.
pub(super) fn is_taken_back(progress: &Progress) -> bool {
    progress.undo.is_some() && matches!(progress.job.phase, Phase::Undoing | Phase::Undone)
}

/// Objects a second.
pub(super) fn rate(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}/s") } else { format!("{}/s", count(rate.round() as u64)) }
}

/// One line for the list of jobs.
pub(super) fn row(progress: &Progress) -> [String; 6] {
    let running = !progress.job.phase.is_over();
    [
        progress.job.name.clone(),
        Line::of(progress).text(),
        done(progress),
        if running && progress.silent.is_none() { rate(progress.rate) } else { String::new() },
        if running { left(progress.left) } else { String::new() },
        progress.job.plan.text(),
    ]
}

/// Names and values.
pub(super) fn facts(progress: &Progress, pinned: &str) -> Vec<(&'static str, String)> {
    let job = &progress.job;
    let mut facts = vec![
        ("job", job.name.clone()),
        ("state", Line::of(progress).text()),
        ("plan", format!("{}, {} objects at {}", job.plan.text(), count(job.total), moment::shown(Tid(job.planned)))),
        ("progress", done(progress)),
    ];
    if !job.phase.is_over() && progress.silent.is_none() {
        facts.push(("rate", format!("{}, {} left", rate(progress.rate), left(progress.left))));
    }
    if !job.step.is_empty() {
        facts.push(("step", job.step.clone()));
    }
    if job.target.is_some() {
        facts.push(("old shape", now(progress)));
    }
    facts.push(("objects", counted(progress.counts)));
    facts.extend(yielded(progress));
    if !job.phase.is_over() {
        facts.push(("snapshot", format!("{}; {pinned}", moment::shown(Tid(job.snapshot)))));
    }
    if let Some(undo) = &progress.undo {
        let (back, left) = (count(undo.counts.changed), count(undo.counts.bad));
        let merged = match undo.counts.kept {
            0 => String::new(),
            merged => format!("; {} objects in another shape than before", count(merged)),
        };
        facts.push(("taken back", format!("{back} groups of steps, {left} left as they are{merged}")));
    }
    facts
}

/// How it is with the old shape now, and with the gate.
pub(super) fn now(progress: &Progress) -> String {
    let (Some(target), Some(old)) = (&progress.job.target, progress.old) else {
        return "nothing is counted: the job has no version to reach".to_owned();
    };
    let gate = match &progress.gate {
        Some(gate) if gate.min_version >= target.version => {
            format!(", the gate is closed below version {}", gate.min_version)
        }
        _ if !target.gate => String::new(),
        _ if progress.job.phase.is_over() || progress.job.phase == Phase::Undoing => ", the gate is open".to_owned(),
        _ => ", then the gate closes".to_owned(),
    };
    let as_of =
        if progress.job.phase.is_over() { format!(" at {}", moment::shown(progress.as_of)) } else { String::new() };
    format!("{} objects below version {}{as_of}{gate}", count(old), target.version)
}

/// The same for programs.
pub(super) fn now_json(progress: &Progress) -> Value {
    let gate = progress.gate.as_ref();
    json!({
        "tid": progress.as_of.to_string(),
        "old": progress.old,
        "gate_min_version": gate.map(|gate| gate.min_version),
        "gate_job": gate.map(|gate| gate.job.clone()),
    })
}

/// What became of objects.
pub(crate) fn counted(counts: Counts) -> String {
    let mut text = format!("{} changed, {} kept", count(counts.changed), count(counts.kept));
    for (number, what) in [
        (counts.found_done, "found done"),
        (counts.bad_now(), "in the quarantine"),
        (counts.put_off, "put off"),
        (counts.stepped_again, "stepped again"),
    ] {
        if number > 0 {
            text += &format!(", {} {what}", count(number));
        }
    }
    format!("{text}; {} chunks", count(counts.chunks))
}

/// The ranges that somebody holds: one line per worker.
pub(super) fn workers(progress: &Progress) -> Table {
    let mut table = Table::new(&["worker", "range", ">done", ">of", ">rate", "waits for"]);
    let ranges = progress.ranges.iter().enumerate().map(|(number, range)| (format!("{number}: "), range));
    let undo = progress.undo.iter().map(|undo| (String::new(), undo));
    for (number, range) in ranges.chain(undo).filter(|(_, range)| !range.holder.is_empty()) {
        table.add([
            range.holder.clone(),
            number + &part(&range.part),
            count(range.counts.done),
            count(range.total),
            rate(range.rate),
            range.waits_for.clone(),
        ]);
    }
    table
}

/// All ranges.
pub(super) fn ranges(progress: &Progress) -> Table {
    let mut table = Table::new(&["range", "", ">done", ">of", "state"]);
    for (number, range) in progress.ranges.iter().enumerate() {
        let state = match (range.finished, range.holder.as_str()) {
            (true, _) => "finished".to_owned(),
            (false, "") => "free".to_owned(),
            (false, holder) => format!("held by {holder}"),
        };
        table.add([number.to_string(), part(&range.part), count(range.counts.done), count(range.total), state]);
    }
    table
}

fn part(part: &Part) -> String {
    match part {
        Part::Objects { after, last } => format!("objects {} to {}", Oid(after.saturating_add(1)), Oid(*last)),
        Part::Entries { from, to } => {
            format!("entries {:?} to {:?}", crate::place::shown(from), crate::place::shown(to))
        }
        Part::Lists { first, end } => format!("lists {first} to {end}"),
        Part::Finish => "the end of the job".to_owned(),
        Part::Undo => "undo".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The quarantine; the lines of an error, as those of a traceback, stand below each other.
pub(super) fn quarantine(bad: &[Bad]) -> Table {
    let mut table = Table::new(&["in the quarantine", "class", ">version", "error"]);
    for bad in bad {
        let mut lines = bad.error.lines();
        let first = lines.next().unwrap_or_default();
        table.add([&bad.cell().to_string(), &bad.class, &bad.version.to_string(), first]);
        lines.for_each(|line| table.add(["", "", "", line]));
    }
    table
}

/// What nobody can promise of a job that closes no gate.
pub(super) fn without_a_gate(target: &Target) -> String {
    format!(
        "older code may still write versions below {}, and leave entries in indexes that it does not know; --gate ends that",
        target.version
    )
}

/// The certificate, line by line: what was so when it was made.
pub(crate) fn certificate_facts(job: &JobRecord, certificate: &Certificate) -> Vec<(&'static str, String)> {
    // What the index has counted nobody has looked at.
    let how = if job.target.is_some() { "counted" } else { "looked at" };
    let mut facts = vec![
        ("certificate", format!("evolve {:?} was done", job.name)),
        ("as of", format!("{:016x} {}", certificate.tid, moment::shown(Tid(certificate.tid)))),
        ("objects", format!("{} {how}, {} changed", count(certificate.objects), count(certificate.changed))),
        ("duration", moment::duration(certificate.duration_ms)),
    ];
    if certificate.gate_tid != 0 {
        let closed = format!("closed by {:016x}: older versions are refused until it is opened", certificate.gate_tid);
        facts.push(("gate", closed));
    }
    facts
}

/// The certificate for programs.
pub(crate) fn certificate_json(job: &JobRecord, certificate: &Certificate) -> Value {
    let is_counted = job.target.is_some();

    json!({
        "tid": format!("{:016x}", certificate.tid),
        "time": moment::shown(Tid(certificate.tid)),
        "gate_tid": (certificate.gate_tid != 0).then(|| format!("{:016x}", certificate.gate_tid)),
        "objects": certificate.objects,
        "changed": certificate.changed,
        "counted": is_counted.then_some(certificate.objects),
        "looked_at": (!is_counted).then_some(certificate.objects),
        "duration_ms": certificate.duration_ms,
    })
}

/// A job for programs.
pub(super) fn progress_json(progress: &Progress) -> Value {
    let (job, line) = (&progress.job, Line::of(progress));
    let tid = |tid: u64| (tid != 0).then(|| format!("{tid:016x}"));
    let workers = progress.ranges.iter().enumerate().filter(|(_, range)| !range.holder.is_empty());
    json!({
        "job": job.name,
        "state": line.word,
        "phase": job.phase.text(),
        "reason": line.why,
        "until_unix_ms": line.until_unix_ms,
        "plan": job.plan.text(),
        "step": (!job.step.is_empty()).then_some(&job.step),
        "target": job.target.as_ref().map(|t| json!({ "class": t.class, "version": t.version, "gate": t.gate })),
        "done": progress.done,
        "total": progress.total,
        "rate": progress.rate,
        "left_ms": progress.left.map(|left| left.as_millis() as u64),
        "old": progress.old,
        "now": now_json(progress),
        "counts": counts_json(progress.counts),
        "owed": progress.owed,
        "taken_back": progress.taken_back,
        "silent_ms": progress.silent.map(|silent| silent.as_millis() as u64),
        "workers": workers.map(|(number, range)| worker_json(number, range)).collect::<Vec<_>>(),
        "undo": progress.undo.as_ref().map(|undo| counts_json(undo.counts)),
        "snapshot": tid(job.snapshot),
        "planned": tid(job.planned),
        "started": tid(job.started),
        "ended": tid(job.ended),
        "certificate": job.certificate.as_ref().map(|made| certificate_json(job, made)),
    })
}

fn worker_json(number: usize, range: &RangeRecord) -> Value {
    json!({
        "worker": range.holder,
        "range": number,
        "done": range.counts.done,
        "total": range.total,
        "rate": range.rate,
        "waits_for": range.waits_for,
    })
}

pub(crate) fn counts_json(counts: Counts) -> Value {
    json!({
        "done": counts.done,
        "changed": counts.changed,
        "kept": counts.kept,
        "found_done": counts.found_done,
        "quarantined": counts.bad_now(),
        "put_off": counts.put_off,
        "stepped_again": counts.stepped_again,
        "chunks": counts.chunks,
    })
}

pub(super) fn bad_json(bad: &Bad) -> Value {
    json!({
        "cell": bad.cell().to_string(),
        "class": bad.class,
        "version": bad.version,
        "tid": format!("{:016x}", bad.tid),
        "error": bad.error,
    })
}

/// Prints a job: everything that `show` shows but ranges and settings.
pub(super) fn tell(out: &Out, progress: &Progress, pinned: &str) {
    out.facts(&facts(progress, pinned));
    if progress.ranges.iter().any(|range| !range.holder.is_empty()) {
        out.line("");
        out.table(&workers(progress));
    }
    if let Some(certificate) = &progress.job.certificate {
        out.line("");
        out.facts(&certificate_facts(&progress.job, certificate));
    }
}
