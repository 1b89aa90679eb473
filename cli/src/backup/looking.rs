//! Owns `backup list` and `backup verify`: looking at backups where they lie.

use crate::exit::ProblemFound;
use crate::moment;
use crate::output::{Out, Table, count, size};
use crate::progress::Progress;
use anyhow::Result;
use serde_json::json;
use zeolite_backup::{Chain, Extent, Place, Shelf, databases, verify as verify_all};

/// `zeolite backup list`.
pub(super) async fn list(out: &Out, place: &Place) -> Result<()> {
    let mut there = 0;
    let mut table =
        Table::new(&["database", "backup", "", "made", "restores from", "up to", "transactions", "blobs", "bytes"]);
    for database in databases(place).await? {
        let shelf = Shelf::look(place, &database).await?;
        for chain in &shelf.chains {
            rows(out, &database, chain, &mut table)?;
            there += 1;
        }
    }
    if !out.is_json() {
        out.table(&table);
    }
    if there == 0 {
        out.remark(format!("there is no backup in {}: is it the right place, and its disk mounted?", place.shown()));
    }
    Ok(())
}

fn rows(out: &Out, database: &str, chain: &Chain, table: &mut Table) -> Result<()> {
    for backup in &chain.backups {
        let it = &backup.manifest;
        let name = format!("{}/{:04}", chain.name, it.number);
        if out.is_json() {
            out.json(&json!({
                "database": database,
                "backup": name,
                "full": it.extent == Extent::Full,
                "why": it.why,
                "made_unix_ms": it.done_unix_ms,
                "since": chain.since(),
                "newest": it.to,
                "covers": it.covers,
                "transactions": it.transactions,
                "revisions": it.revisions,
                "blobs": it.blobs,
                "blob_bytes": it.blob_bytes,
                "stored_bytes": it.stored_bytes,
            }))?;
            continue;
        }
        let extent = if it.extent == Extent::Full { "full" } else { "since then" };
        table.add([
            database.to_owned(),
            name,
            extent.to_owned(),
            moment::shown_unix_ms(it.done_unix_ms),
            moment::shown(chain.since()),
            moment::shown(it.covers),
            count(it.transactions),
            count(it.blobs),
            size(it.stored_bytes),
        ]);
    }
    match &chain.broken {
        Some(broken) => {
            out.complain(format_args!("{}: what follows does not count: {broken}", chain.name));
            Ok(())
        }
        None => Ok(()),
    }
}

/// `zeolite backup verify`.
pub(super) async fn verify(out: &Out, place: &Place, database: &str) -> Result<()> {
    let shelf = Shelf::look(place, database).await?;
    let all = shelf.chains.iter().flat_map(|chain| &chain.backups).map(|backup| backup.manifest.stored_bytes).sum();
    let progress = Progress::new(out);
    let bar = progress.bar("verify", "bytes", all);
    let found = verify_all(place, &shelf, &mut |bytes| bar.set(bytes, all)).await?;
    bar.whole();
    if out.is_json() {
        out.json(&json!({
            "good": found.problems_total == 0 && found.backups > 0,
            "backups": found.backups,
            "transactions": found.transactions,
            "blobs": found.blobs,
            "bytes": found.bytes,
            "problems": found.problems,
            "problems_total": found.problems_total,
        }))?;
    } else {
        found.problems.iter().for_each(|problem| out.line(out.verdict(false, problem)));
        let (backups, transactions, blobs) = (count(found.backups), count(found.transactions), count(found.blobs));
        let verdict = if found.problems_total == 0 { "every checksum is right" } else { "not all is well" };
        out.line(format_args!(
            "{backups} backups, {transactions} transactions, {blobs} blobs, {}: {}",
            size(found.bytes),
            out.verdict(found.problems_total == 0, verdict)
        ));
    }
    if found.problems_total > 0 {
        let total = count(found.problems_total);
        return Err(ProblemFound(format!("{total} problems; take a full backup (--full), and look at the disk")).into());
    }
    if found.backups == 0 {
        return Err(none(place, database));
    }
    Ok(())
}

/// Nothing is there that could be verified or tried.
pub(super) fn none(place: &Place, database: &str) -> anyhow::Error {
    let place = place.shown();
    ProblemFound(format!(
        "there is no whole backup of {database} in {place}; `zeolite backup list {place}` shows what there is"
    ))
    .into()
}
