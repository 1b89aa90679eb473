//! Owns `get`, `scan`, `history` and `log`: what is stored, for people and for programs.

use crate::args::{GetArgs, HistoryArgs, LogArgs, ScanArgs};
use crate::output::{Out, Table, count, counted, counted_as, size};
use crate::{moment, place, tame, values};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::time::Duration;
use zeolite_client::collections::api_name;
use zeolite_client::revision::{Listing, LoggedTransaction, PastRevision};
use zeolite_client::{Admin, Cell, Db, Entry, Fault, FaultKind, Note, Range, Record, Revision, Tid, View};

/// People see so many bytes of a record's data; `--raw` and `--json` show all.
const DATA_BYTES_SHOWN: usize = 400;
const DATA_BYTES_IN_LIST: usize = 48;
/// Between two looks at the log.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn get(out: &Out, db: &Db, args: &GetArgs) -> Result<()> {
    let view = view(db, args.at);
    let cell = &args.cell.cell(&view).await?;
    let revision = view.revision(cell).await?;
    let Some(encoded) = &revision.record else {
        let what = if revision.tid == Tid::NONE { "never existed" } else { "is deleted" };
        let then = moment::shown(view.snapshot());
        bail!(Fault::new(FaultKind::NotFound, format!("cell {cell} {what} as of {then}; look at its history")));
    };
    let record = Record::decode(encoded).context("the stored record cannot be decoded; run `zeolite verify`")?;
    if args.raw {
        out.bytes(&record.data);
    } else if out.is_json() {
        out.json(&revision_json(cell, &revision)?)?;
    } else {
        let refs: Vec<String> = record.refs.iter().map(ToString::to_string).collect();
        out.facts(&[
            ("cell", cell.to_string()),
            ("class", class_told(&record)),
            ("written", tid_and_time(revision.tid)),
            ("ended", revision.end.map_or_else(|| "-".into(), tid_and_time)),
            ("refs", if refs.is_empty() { "-".into() } else { refs.join(" ") }),
            ("data", format!("{} bytes", count(record.data.len() as u64))),
        ]);
        match values::told(&record) {
            Some(value) => out.facts(&[("value", value)]),
            None => out.line(preview(&record.data, DATA_BYTES_SHOWN)),
        }
    }
    Ok(())
}

/// With the name that programs use, where it is another one.
fn class_told(record: &Record) -> String {
    let (class, version) = (&record.class, record.version);
    match api_name(class) {
        Some(name) => format!("{class} (version {version}; in programs: {name})"),
        None => format!("{class} (version {version})"),
    }
}

pub(crate) async fn scan(out: &Out, db: &Db, args: &ScanArgs) -> Result<()> {
    let range = match &args.prefix {
        Some(prefix) => Range::prefix(prefix.clone()),
        None => Range::between(args.from.clone().unwrap_or_default(), args.to.clone()),
    };
    let range = if args.reverse { range.reversed() } else { range };
    let range = if args.keys_only { range.keys_only() } else { range };
    // One more than is shown tells whether there are more.
    let limit = (args.limit > 0).then_some(u64::from(args.limit));
    let range = limit.map_or_else(|| range.clone(), |limit| range.clone().limited(limit + 1));
    let view = view(db, args.at);
    let collection = args.collection.collection(&view).await?;
    let mut entries = view.scan(collection, range);
    let mut shown = 0u64;
    while let Some(entry) = entries.next().await? {
        if limit == Some(shown) {
            out.remark(format_args!("{}; there are more: --limit 0 lists all", counted_as(shown, "entry", "entries")));
            return Ok(());
        }
        shown += 1;
        if out.is_json() {
            out.json(&entry_json(&entry, args.keys_only)?)?;
        } else {
            out.line(entry_line(&entry, args.keys_only));
        }
        if out.is_closed() {
            return Ok(());
        }
    }
    if shown == 0 {
        out.remark(format_args!("no entries in {collection} as of {}", moment::shown(view.snapshot())));
    }
    Ok(())
}

pub(crate) async fn history(out: &Out, db: &Db, args: &HistoryArgs) -> Result<()> {
    let cell = &args.cell.cell(&db.now()).await?;
    let with_records = args.records || out.is_json();
    let Listing { items: revisions, more, .. } = db.history(cell, at(args.before), args.limit, with_records).await?;
    if revisions.is_empty() && args.before.is_none() {
        bail!(Fault::new(FaultKind::NotFound, format!("cell {cell} never existed; check the oid and the key")));
    }
    for PastRevision { revision, note, .. } in &revisions {
        if out.is_json() {
            let mut value = revision_json(cell, revision)?;
            value["note"] = note_json(note);
            out.json(&value)?;
            continue;
        }
        out.line(format_args!("{}  {}", out.bold(&tid_and_time(revision.tid)), note_line(note)));
        if let (true, Some(encoded)) = (args.records, &revision.record) {
            out.line(format_args!("    {}", record_line(encoded)));
        }
    }
    if more {
        out.remark("there are older revisions: ask for more with --limit or --before");
    }
    Ok(())
}

pub(crate) async fn log(out: &Out, admin: &Admin, args: &LogArgs) -> Result<()> {
    if args.follow {
        return follow(out, admin, args).await;
    }
    let limit = Some(args.limit.unwrap_or(100)).filter(|limit| *limit > 0);
    let (from, to) = (at(args.from), at(args.to));
    let mut pages = match args.oldest_first {
        true => admin.log_left(from, to, limit, false).await?,
        false => admin.log_back(from, to, limit, false).await?,
    };
    let mut shown = 0u64;
    while let Some(page) = pages.next().await? {
        for transaction in page {
            shown += 1;
            tell_transaction(out, &transaction, args.cells)?;
        }
        if out.is_closed() {
            return Ok(());
        }
    }
    if limit.is_some_and(|limit| shown >= u64::from(limit)) {
        let bound = if args.oldest_first { "--from" } else { "--to" };
        out.remark(format_args!("{}; go on with {bound}, or list all with --limit 0", counted(shown, "transaction")));
    }
    Ok(())
}

/// The last ones of the past, then each as it is committed.
async fn follow(out: &Out, admin: &Admin, args: &LogArgs) -> Result<()> {
    let from_then_on = if args.from.is_some() { 0 } else { 10 };
    let limit = Some(args.limit.unwrap_or(from_then_on)).filter(|limit| *limit > 0);
    let mut past = Vec::new();
    // Without a limit they come in their order below.
    if limit.is_some() {
        let mut pages = admin.log_back(at(args.from), None, limit, false).await?;
        while let Some(page) = pages.next().await? {
            past.extend(page);
        }
    }
    let mut next = past.first().map(|newest| newest.tid.next()).or(at(args.from));
    for transaction in past.iter().rev() {
        tell_transaction(out, transaction, args.cells)?;
    }
    let mut away = false;
    while !out.is_closed() {
        match go_on(out, admin, &mut next, args.cells).await {
            Ok(()) => away = false,
            Err(error) if is_away(&error) => {
                if !std::mem::replace(&mut away, true) {
                    out.remark(format_args!("{error}; it goes on when the server is back (Ctrl-C ends it)"));
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
    Ok(())
}

/// What was committed meanwhile. Cut off in the middle, the next time goes on behind what was told.
async fn go_on(out: &Out, admin: &Admin, next: &mut Option<Tid>, cells: bool) -> Result<()> {
    let mut pages = admin.log_left(*next, None, None, false).await?;
    while let Some(page) = pages.next().await? {
        for transaction in page {
            *next = Some(transaction.tid.next());
            tell_transaction(out, &transaction, cells)?;
        }
        if out.is_closed() {
            break;
        }
    }
    Ok(())
}

/// Whether the server is restarted, or cannot be reached for now.
fn is_away(error: &anyhow::Error) -> bool {
    let is_shutting = |fault: &Fault| matches!(fault.kind, FaultKind::ShuttingDown | FaultKind::Busy);
    match error.downcast_ref::<zeolite_client::Error>() {
        Some(zeolite_client::Error::Fault(fault)) => is_shutting(fault),
        _ => crate::exit::number(error) == 3,
    }
}

fn tell_transaction(out: &Out, transaction: &LoggedTransaction, cells: bool) -> Result<()> {
    if out.is_json() {
        return out.json(&transaction_json(transaction));
    }
    show_transaction(out, transaction, cells);
    Ok(())
}

fn show_transaction(out: &Out, transaction: &LoggedTransaction, cells: bool) {
    let bytes: u64 = transaction.writes.iter().map(|write| write.record_bytes).sum();
    let writes = format!("{}, {}", counted(transaction.writes.len() as u64, "cell"), size(bytes));
    out.line(format_args!("{}  {writes}  {}", out.bold(&tid_and_time(transaction.tid)), note_line(&transaction.note)));
    if !cells {
        return;
    }
    let mut table = Table::new(&["", "", ">", ""]);
    for write in &transaction.writes {
        let how = if write.deleted { "deleted" } else { "" };
        let merged = if write.merged { "merged" } else { "" };
        table.add(["   ".to_owned(), write.cell.to_string(), size(write.record_bytes), format!("{how}{merged}")]);
    }
    out.table(&table);
}

fn view(db: &Db, at: Option<moment::At>) -> View {
    at.map_or_else(|| db.now(), |at| db.at(at.0))
}

fn at(at: Option<moment::At>) -> Option<Tid> {
    at.map(|at| at.0)
}

fn tid_and_time(tid: Tid) -> String {
    format!("{tid} {}", moment::shown(tid))
}

fn note_line(note: &Note) -> String {
    let (user, description) = (tame::value(&note.user_text()), tame::value(&note.description_text()));
    match (user.is_empty(), description.is_empty()) {
        (true, _) => description,
        (false, true) => user,
        (false, false) => format!("{user}: {description}"),
    }
}

fn entry_line(entry: &Entry, keys_only: bool) -> String {
    let key = place::shown(&entry.key);
    if keys_only { key } else { format!("{key}  {}", record_line(&entry.record)) }
}

fn record_line(encoded: &Bytes) -> String {
    match Record::decode(encoded) {
        Err(error) => format!("({error})"),
        Ok(record) => {
            let refs: String = record.refs.iter().map(|oid| format!(" ->{oid}")).collect();
            let value = values::told(&record).unwrap_or_else(|| preview(&record.data, DATA_BYTES_IN_LIST));
            // A reference alone is said once.
            let value = Some(value).filter(|value| *value != refs.trim_start()).unwrap_or_default();
            format!("{} v{}{refs}  {value}", tame::value(&record.class), record.version).trim_end().to_owned()
        }
    }
}

fn preview(data: &[u8], bytes_max: usize) -> String {
    let shown = data[..data.len().min(bytes_max)].escape_ascii();
    if data.len() > bytes_max { format!("{shown} …") } else { shown.to_string() }
}

fn revision_json(cell: &Cell, revision: &Revision) -> Result<Value> {
    let mut value = json!({
        "cell": cell.to_string(),
        "tid": revision.tid.to_string(),
        "time": moment::shown(revision.tid),
        "end": revision.end.map(|end| end.to_string()),
        "deleted": revision.record.is_none(),
    });
    if let Some(encoded) = &revision.record {
        value["record"] = record_json(encoded)?;
    }
    Ok(value)
}

fn entry_json(entry: &Entry, keys_only: bool) -> Result<Value> {
    let mut value = json!({ "key": place::shown(&entry.key), "tid": entry.tid.to_string() });
    if !keys_only {
        value["record"] = record_json(&entry.record)?;
    }
    Ok(value)
}

fn record_json(encoded: &Bytes) -> Result<Value> {
    let record = Record::decode(encoded).context("a stored record cannot be decoded; run `zeolite verify`")?;
    let refs: Vec<String> = record.refs.iter().map(ToString::to_string).collect();
    let mut told =
        json!({ "class": record.class, "version": record.version, "refs": refs, "data_hex": hex(&record.data) });
    if let Some(value) = values::json(&record) {
        told["value"] = value;
    }
    Ok(told)
}

/// A part that is no UTF-8 is told as hex under another name: `user_hex`, `description_hex`.
fn note_json(note: &Note) -> Value {
    let parts = [("user", &note.user), ("description", &note.description)];
    let named = parts.map(|(name, part)| match std::str::from_utf8(part) {
        Ok(text) => (name.to_owned(), Value::from(text)),
        Err(_) => (format!("{name}_hex"), Value::from(hex(part))),
    });
    named.into_iter().collect::<Map<String, Value>>().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn transaction_json(transaction: &LoggedTransaction) -> Value {
    let writes: Vec<Value> = transaction
        .writes
        .iter()
        .map(|write| {
            json!({
                "cell": write.cell.to_string(),
                "record_bytes": write.record_bytes,
                "merged": write.merged,
                "deleted": write.deleted,
            })
        })
        .collect();
    json!({
        "tid": transaction.tid.to_string(),
        "time": moment::shown(transaction.tid),
        "note": note_json(&transaction.note),
        "writes": writes,
    })
}
