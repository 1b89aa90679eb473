//! Owns `get`, `scan`, `history` and `log`: what is stored, for people and for programs.

use crate::args::{GetArgs, HistoryArgs, LogArgs, ScanArgs};
use crate::link::Link;
use crate::output::{Out, Table, count, size};
use crate::{moment, place};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use zeolite_proto::wire::v2;
use zeolite_proto::{Cell, Fault, FaultKind, Record};

/// People see so many bytes of a record's data; `--raw` and `--json` show all.
const DATA_BYTES_SHOWN: usize = 400;
const DATA_BYTES_IN_LIST: usize = 48;

pub(crate) async fn get(out: &Out, link: &mut Link, args: &GetArgs) -> Result<()> {
    let cell = &args.cell.0;
    let request = v2::LoadRequest { snapshot: at(args.at), cells: vec![cell.into()], continued_from: 0 };
    let reply = match link.storage.load(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(link.failed(&status)),
    };
    let revision = reply.revisions.into_iter().next().context("the server answered without a revision")?;
    let Some(encoded) = &revision.record else {
        let what = if revision.tid == 0 { "never existed" } else { "is deleted" };
        let then = moment::shown(reply.snapshot);
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
            ("class", format!("{} (version {})", record.class, record.version)),
            ("written", tid_and_time(revision.tid)),
            ("ended", if revision.end == 0 { "-".into() } else { tid_and_time(revision.end) }),
            ("refs", if refs.is_empty() { "-".into() } else { refs.join(" ") }),
            ("data", format!("{} bytes", count(record.data.len() as u64))),
        ]);
        out.line(preview(&record.data, DATA_BYTES_SHOWN));
    }
    Ok(())
}

pub(crate) async fn scan(out: &Out, link: &mut Link, args: &ScanArgs) -> Result<()> {
    let (from, to) = match &args.prefix {
        Some(prefix) => (prefix.clone(), place::prefix_end(prefix)),
        None => (args.from.clone().unwrap_or_default(), args.to.clone().unwrap_or_default()),
    };
    let request = v2::ScanRequest {
        snapshot: at(args.at),
        oid: args.oid.0,
        from,
        to,
        reverse: args.reverse,
        limit: args.limit,
        keys_only: args.keys_only,
    };
    let mut pages = match link.storage.scan(request).await {
        Ok(pages) => pages.into_inner(),
        Err(status) => return Err(link.failed(&status)),
    };
    let mut shown = 0u64;
    let mut more = false;
    while let Some(page) = link.next(&mut pages).await? {
        for entry in &page.entries {
            shown += 1;
            if out.is_json() {
                out.json(&entry_json(entry, args.keys_only)?)?;
            } else {
                out.line(entry_line(entry, args.keys_only));
            }
        }
        more = page.more;
        if out.is_closed() {
            return Ok(());
        }
    }
    if more && args.limit != 0 && shown >= u64::from(args.limit) {
        out.remark(format_args!("{} entries; there are more: --limit 0 lists all", count(shown)));
    }
    Ok(())
}

pub(crate) async fn history(out: &Out, link: &mut Link, args: &HistoryArgs) -> Result<()> {
    let cell = &args.cell.0;
    let request = v2::HistoryRequest {
        cell: Some(cell.into()),
        before: at(args.before),
        limit: args.limit,
        with_records: args.records || out.is_json(),
    };
    let reply = match link.storage.history(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(link.failed(&status)),
    };
    if reply.revisions.is_empty() && args.before.is_none() {
        bail!(Fault::new(FaultKind::NotFound, format!("cell {cell} never existed; check the oid and the key")));
    }
    for (at, revision) in reply.revisions.iter().enumerate() {
        let note = reply.notes.get(at).cloned().unwrap_or_default();
        if out.is_json() {
            let mut value = revision_json(cell, revision)?;
            value["note"] = note_json(&note);
            out.json(&value)?;
            continue;
        }
        out.line(format_args!("{}  {}", out.bold(&tid_and_time(revision.tid)), note_line(&note)));
        if let (true, Some(encoded)) = (args.records, &revision.record) {
            out.line(format_args!("    {}", record_line(encoded)));
        }
    }
    if reply.more {
        out.remark("there are older revisions: ask for more with --limit or --before");
    }
    Ok(())
}

pub(crate) async fn log(out: &Out, link: &mut Link, args: &LogArgs) -> Result<()> {
    let request = v2::LogRequest { from: at(args.from), to: at(args.to), limit: args.limit, with_records: false };
    let mut pages = match link.storage.log(request).await {
        Ok(pages) => pages.into_inner(),
        Err(status) => return Err(link.failed(&status)),
    };
    let mut shown = 0u64;
    let mut open: Option<v2::Transaction> = None;
    while let Some(page) = link.next(&mut pages).await? {
        for transaction in page.transactions {
            match &mut open {
                Some(open) if open.tid == transaction.tid => go_on(open, transaction),
                _ => {
                    shown += u64::from(tell(out, open.replace(transaction).as_ref(), args)?);
                }
            }
        }
        if out.is_closed() {
            return Ok(());
        }
    }
    shown += u64::from(tell(out, open.as_ref(), args)?);
    if args.limit != 0 && shown >= u64::from(args.limit) {
        out.remark(format_args!("{} transactions; go on with --from, or list all with --limit 0", count(shown)));
    }
    Ok(())
}

/// A transaction too large for one message goes on in the next; a record that was cut there names its cell again.
fn go_on(open: &mut v2::Transaction, more: v2::Transaction) {
    for write in more.writes {
        if open.writes.last().is_none_or(|last| last.cell != write.cell) {
            open.writes.push(write);
        }
    }
}

/// Prints a transaction, if there is one.
fn tell(out: &Out, transaction: Option<&v2::Transaction>, args: &LogArgs) -> Result<bool> {
    let Some(transaction) = transaction else { return Ok(false) };
    if out.is_json() {
        out.json(&transaction_json(transaction))?;
    } else {
        show_transaction(out, transaction, args.cells);
    }
    Ok(true)
}

fn show_transaction(out: &Out, transaction: &v2::Transaction, cells: bool) {
    let bytes: u64 = transaction.writes.iter().map(|write| write.record_bytes).sum();
    let note = transaction.note.clone().unwrap_or_default();
    let writes = format!("{} cells, {}", count(transaction.writes.len() as u64), size(bytes));
    out.line(format_args!("{}  {writes}  {}", out.bold(&tid_and_time(transaction.tid)), note_line(&note)));
    if !cells {
        return;
    }
    let mut table = Table::new(&["", "", ">", ""]);
    for write in &transaction.writes {
        let how = if write.deleted { "deleted" } else { "" };
        let merged = if write.merged { "merged" } else { "" };
        let cell: Cell = write.cell.clone().unwrap_or_default().into();
        table.add(["   ".to_owned(), cell.to_string(), size(write.record_bytes), format!("{how}{merged}")]);
    }
    out.table(&table);
}

fn at(at: Option<moment::At>) -> u64 {
    at.map_or(0, |at| at.0.0)
}

fn tid_and_time(tid: u64) -> String {
    format!("{tid:016x} {}", moment::shown(tid))
}

fn note_line(note: &v2::Note) -> String {
    match (note.user.is_empty(), note.description.is_empty()) {
        (true, _) => note.description.clone(),
        (false, true) => note.user.clone(),
        (false, false) => format!("{}: {}", note.user, note.description),
    }
}

fn entry_line(entry: &v2::Entry, keys_only: bool) -> String {
    let key = place::shown(&entry.key);
    if keys_only { key } else { format!("{key}  {}", record_line(&entry.record)) }
}

fn record_line(encoded: &Bytes) -> String {
    match Record::decode(encoded) {
        Err(error) => format!("({error})"),
        Ok(record) => {
            let refs: String = record.refs.iter().map(|oid| format!(" ->{oid}")).collect();
            format!("{} v{}{refs}  {}", record.class, record.version, preview(&record.data, DATA_BYTES_IN_LIST))
        }
    }
}

fn preview(data: &[u8], bytes_max: usize) -> String {
    let shown = data[..data.len().min(bytes_max)].escape_ascii();
    if data.len() > bytes_max { format!("{shown} …") } else { shown.to_string() }
}

fn revision_json(cell: &Cell, revision: &v2::Revision) -> Result<Value> {
    let mut value = json!({
        "cell": cell.to_string(),
        "tid": format!("{:016x}", revision.tid),
        "time": moment::shown(revision.tid),
        "end": (revision.end != 0).then(|| format!("{:016x}", revision.end)),
        "deleted": revision.record.is_none(),
    });
    if let Some(encoded) = &revision.record {
        value["record"] = record_json(encoded)?;
    }
    Ok(value)
}

fn entry_json(entry: &v2::Entry, keys_only: bool) -> Result<Value> {
    let mut value = json!({ "key": place::shown(&entry.key), "tid": format!("{:016x}", entry.tid) });
    if !keys_only {
        value["record"] = record_json(&entry.record)?;
    }
    Ok(value)
}

fn record_json(encoded: &Bytes) -> Result<Value> {
    let record = Record::decode(encoded).context("a stored record cannot be decoded; run `zeolite verify`")?;
    let hex: String = record.data.iter().map(|byte| format!("{byte:02x}")).collect();
    let refs: Vec<String> = record.refs.iter().map(ToString::to_string).collect();
    Ok(json!({ "class": record.class, "version": record.version, "refs": refs, "data_hex": hex }))
}

fn note_json(note: &v2::Note) -> Value {
    json!({ "user": note.user, "description": note.description })
}

fn transaction_json(transaction: &v2::Transaction) -> Value {
    let writes: Vec<Value> = transaction
        .writes
        .iter()
        .map(|write| {
            let cell: Cell = write.cell.clone().unwrap_or_default().into();
            json!({
                "cell": cell.to_string(),
                "record_bytes": write.record_bytes,
                "merged": write.merged,
                "deleted": write.deleted,
            })
        })
        .collect();
    json!({
        "tid": format!("{:016x}", transaction.tid),
        "time": moment::shown(transaction.tid),
        "note": note_json(&transaction.note.clone().unwrap_or_default()),
        "writes": writes,
    })
}
