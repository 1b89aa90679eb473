//! Owns the measurement of opening after kill -9, and of the memory that a filled server takes.

use super::child::Server;
use super::report::{Aim, Report, Row};
use super::{Setting, fill, traffic};
use anyhow::{Result, ensure};
use zeolite_client::Db;
use zeolite_proto::Cell;

/// Beside the memory of its caches.
const RESIDENT_MIB_MAX: f64 = 300.0;

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("filling for kill -9");
    let dir = setting.scratch()?;
    let server = Server::start(dir.path()).await?;
    let empty_s = server.opened_in.as_secs_f64();
    let db = Db::connect(&*server.url).await?;
    let oids = fill::objects(&db, setting.objects, |_| ()).await?;
    drop(doing);
    let _doing = setting.doing("kill -9 under traffic");
    let clients = traffic::connect(&server.url, 8).await?;
    let record = fill::record().encode()?;
    let few: Vec<_> = oids.iter().copied().take(8).collect();
    traffic::run(&clients, setting.time, move |db: Db, number| {
        let (cell, record) = (Cell::object(few[number % few.len()]), record.clone());
        async move {
            let tx = db.begin().await?;
            tx.put_encoded(cell, record)?;
            tx.commit().await.map(drop)
        }
    })
    .await?;
    let cache_mib = db.admin().status().await?.cache_bytes as f64 / f64::from(1 << 20);
    let resident_mib = server.resident_bytes()? as f64 / f64::from(1 << 20);
    drop((clients, db));
    server.kill().await?;

    let server = Server::start(dir.path()).await?;
    let db = Db::connect(&*server.url).await?;
    let last = oids.last().copied().unwrap_or_default();
    ensure!(db.begin().await?.get(&Cell::object(last)).await?.is_some(), "object {last} was lost by kill -9");
    let name = format!("open after kill -9, {} objects", setting.objects);
    let row = Row::new(setting.name(&name), server.opened_in.as_secs_f64(), "s");
    report.add(row.against("an empty one", empty_s).aim(Aim::AtMost(1.0)));
    let beside = (resident_mib - cache_mib).max(0.0);
    let row = Row::new(setting.name("resident memory beside the cache"), beside, "MiB");
    report.add(row.aim(Aim::AtMost(RESIDENT_MIB_MAX)));
    drop(db);
    server.kill().await
}
