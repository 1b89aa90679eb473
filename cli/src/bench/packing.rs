//! Owns the measurement of live traffic beside a pack.

use super::report::{Aim, Report, Row};
use super::{Setting, commits, fill, traffic};
use crate::host::Host;
use anyhow::{Context, Result};
use std::time::Instant;
use zeolite_client::Db;
use zeolite_client::PackOptions;
use zeolite_proto::Registry;

const CLIENTS: usize = 8;
/// Before the pack, every object is written so often: what the pack removes.
const REWRITES: usize = 2;

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("filling for pack");
    let dir = setting.scratch()?;
    // All history but the newest may go, also that of the last minute: so the pack has much to do.
    let host = Host::start(dir.path(), Registry::built_in(), |settings| settings.engine.history_min_s = 0).await?;
    let clients = traffic::connect(&host.url(), CLIENTS).await?;
    let oids = fill::objects(&clients[0], setting.objects, |_| ()).await?;
    for _ in 0..REWRITES {
        rewrite(&clients[0], &oids).await?;
    }
    let own = commits::own_objects(&clients[0], CLIENTS).await?;
    drop(doing);
    let _doing = setting.doing("live traffic beside a pack");
    let alone = commits::disjoint(&clients, setting.time, &own).await?;

    let begun = Instant::now();
    let admin = clients[0].admin();
    let pack = tokio::spawn(async move {
        let mut messages = admin.pack(PackOptions::default()).await?;
        let mut end = None;
        while let Some(progress) = messages.next().await? {
            end = Some(progress).filter(|progress| progress.done);
        }
        Ok::<_, zeolite_client::Error>((end, begun.elapsed()))
    });
    let mut beside = commits::disjoint(&clients, setting.time, &own).await?;
    while !pack.is_finished() {
        let more = commits::disjoint(&clients, setting.time, &own).await?;
        beside.take_in(&more);
    }
    let (end, took) = pack.await.context("the pack")??;
    let end = end.context("the pack ended without its result")?;

    report.add(
        Row::new(setting.name("commit p99 beside a pack"), beside.latency.p99_us(), "µs")
            .against("alone", alone.latency.p99_us())
            .aim(Aim::RatioAtMost(2.0)),
    );
    report.add(
        Row::new(setting.name("commits beside a pack"), beside.per_second(), "commits/s")
            .against("alone", alone.per_second()),
    );
    report.add(Row::new(setting.name("pack, time"), took.as_secs_f64(), "s"));
    report.add(Row::new(setting.name("pack, revisions removed"), end.revisions_removed as f64, ""));
    let (before, after) = (end.bytes_before as f64 / 1e6, end.bytes_after as f64 / 1e6);
    report.add(Row::new(setting.name("pack, log afterwards"), after, "MB").against("before", before));
    drop(clients);
    host.stop().await
}

async fn rewrite(db: &Db, oids: &[zeolite_proto::Oid]) -> Result<()> {
    let record = fill::record().encode()?;
    for part in oids.chunks(1000) {
        let tx = db.begin().await?;
        for oid in part {
            tx.put_encoded(zeolite_proto::Cell::object(*oid), record.clone())?;
        }
        tx.commit().await?;
    }
    Ok(())
}
