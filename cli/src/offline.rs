//! Owns `reindex` and `verify --data`: work on a data directory that no server has open.
//!
//! Both take the directory's lock, so that a running server and these commands exclude each other; `verify` shares it with
//! others who only look, and changes nothing.

use crate::args::ReindexArgs;
use crate::output::{Out, count, size};
use crate::progress::Progress;
use crate::upkeep::Verdict;
use anyhow::Result;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use zeolite_client::Reference;
use zeolite_server::engine::verify_offline;
use zeolite_server::store::disk::real::RealDisk;
use zeolite_server::store::{Opened, Store, StoreError};

/// `zeolite reindex`.
pub(crate) fn reindex(out: &Out, args: &ReindexArgs) -> Result<()> {
    existing(&args.data)?;
    let settings = crate::serve::offline(&args.data)?;
    let begun = Instant::now();
    let disk = Arc::new(RealDisk::open(&args.data)?);
    Store::remove_index(disk.as_ref())?;
    let progress = Progress::new(out);
    let bar = progress.bar("reindex", "bytes of log", 0);
    let opened = Store::open(disk, settings.store, zeolite_server::server::seed()?, &mut |step| {
        bar.set(step.done_bytes, step.all_bytes)
    })?;
    let Opened { appender, reader, mut settler, recovered } = opened;
    drop(appender);
    settler.close()?;
    bar.whole();
    let stats = reader.stats();
    let objects = reader.kinds()?.iter().map(|kind| kind.objects).sum::<u64>();
    if out.is_json() {
        return out.json(&json!({
            "log_bytes": recovered.replayed_bytes,
            "index_bytes": stats.index_bytes,
            "objects": objects,
            "last_tid": recovered.last_tid.to_string(),
            "torn_bytes_cut": recovered.torn_bytes_cut,
            "time_s": begun.elapsed().as_secs_f64(),
        }));
    }
    out.line(format_args!(
        "{} objects from {} of log, index of {}, in {:.1} s",
        count(objects),
        size(recovered.replayed_bytes),
        size(stats.index_bytes),
        begun.elapsed().as_secs_f64()
    ));
    if recovered.torn_bytes_cut > 0 {
        out.remark(format_args!("{} of an unfinished batch were cut off", size(recovered.torn_bytes_cut)));
    }
    Ok(())
}

/// `zeolite verify --data`: also of a directory that cannot be written, and of a copy of its log alone.
pub(crate) fn verify(out: &Out, dir: &Path, is_strict: bool) -> Result<()> {
    existing(dir)?;
    let settings = crate::serve::offline(dir)?;
    let scratch = std::env::temp_dir();
    anyhow::ensure!(
        scratch.is_dir(),
        crate::exit::Usage(format!(
            "{} is no directory; set TMPDIR to one, for an index made of the log",
            scratch.display()
        ))
    );
    let disk = Arc::new(RealDisk::look(dir)?);
    let progress = Progress::new(out);
    let bar = progress.bar("verify", "", 0);
    let verified = verify_offline(disk, settings.store, zeolite_server::server::seed()?, &mut |step| {
        bar.remark(step.stage);
        bar.set(step.done_units, step.total_units);
        true
    });
    match &verified {
        Ok(_) => bar.whole(),
        Err(_) => bar.clear(),
    }
    match verified {
        Ok(report) => Verdict {
            transactions: report.transactions,
            revisions: report.revisions,
            objects: report.objects,
            blobs: report.blobs,
            problems: report.problems,
            problems_total: report.problems_total,
            dangling: report.dangling.into_iter().map(|(from, to)| Reference { from, to }).collect(),
            dangling_total: report.dangling_total,
            remarks: report.remarks,
            is_strict,
        }
        .tell(out),
        // So damaged that it does not open: nothing else could be looked at.
        Err(damage @ StoreError::Damaged { .. }) => {
            Verdict { problems: vec![damage.to_string()], problems_total: 1, ..Verdict::default() }.tell(out)
        }
        Err(StoreError::DiskFull) => {
            let dir = std::env::temp_dir();
            anyhow::bail!("{} has no room for an index made of the log; set TMPDIR to a place that has", dir.display())
        }
        Err(error) => Err(error.into()),
    }
}

/// A directory with a log: opening any other would begin an empty database there.
fn existing(dir: &Path) -> Result<()> {
    let files = std::fs::read_dir(dir.join("log")).into_iter().flatten().flatten();
    let has_log = files.into_iter().any(|file| file.path().extension().is_some_and(|extension| extension == "seg"));
    // Of one that has lost its log, opening says so.
    let has_index = ["index.redb", "index-sled"].iter().any(|name| dir.join("log").is_dir() && dir.join(name).exists());
    anyhow::ensure!(
        has_log || has_index,
        crate::exit::Usage(format!("there is no database in {}; name its directory", dir.display()))
    );
    Ok(())
}
