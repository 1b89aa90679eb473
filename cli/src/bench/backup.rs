//! Owns the measurement of backups: what paced live clients feel beside one, how fast it is, and how fast it is restored.
//!
//! The backup and the restore are commands of this program, in processes of their own, as an operator has them.

use super::bulk::{beside, told_beside};
use super::child::Server;
use super::report::{Aim, Report, Row};
use super::{Setting, commits, fill, traffic};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use zeolite_client::Db;

const CLIENTS: usize = 4;
/// How much longer live commits may take beside a backup, at the 99th percentile.
const LIVE_RATIO_MAX: f64 = 1.2;
const RESTORE_MB_MIN: f64 = 200.0;

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let dir = setting.scratch()?;
    let server = Server::start(setting, &dir.path().join("data")).await?;
    let doing = setting.doing("filling the database");
    let db = Db::connect(&*server.url).await?;
    fill::objects_of(&db, setting.objects, setting.bytes, |_| ()).await?;
    drop((db, doing));
    let clients = traffic::connect(&server.url, CLIENTS).await?;
    let oids = commits::own_objects(&clients[0], CLIENTS).await?;
    let time = setting.time.max(Duration::from_secs(10));
    let doing = setting.doing("live clients alone");
    let pause = async {
        tokio::time::sleep(time).await;
        Ok(time)
    };
    let quiet = beside(dir.path(), &clients, &oids, Box::pin(pause)).await?.0;
    drop(doing);
    let doing = setting.doing("live clients beside a backup");
    let to = dir.path().join("backup");
    let args = ["backup", path(&to)?];
    let taking = command(&server.url, &args);
    let (felt, took) = beside(dir.path(), &clients, &oids, Box::pin(taking)).await?;
    told_beside(setting, "backup", LIVE_RATIO_MAX, (&quiet, &felt), report);
    let megabytes = (setting.objects * setting.bytes as u64) as f64 / 1e6;
    report.add(Row::new(setting.name("backup beside them"), megabytes / took.as_secs_f64(), "MB/s"));
    drop((clients, doing));
    let _doing = setting.doing("a backup alone, and its restore");
    let again = dir.path().join("again");
    let took = command(&server.url, &["backup", path(&again)?]).await?;
    report.add(Row::new(setting.name("backup alone"), megabytes / took.as_secs_f64(), "MB/s"));
    server.kill().await?;
    let took = command("nobody:1", &["restore", path(&again)?, "--into", path(&dir.path().join("restored"))?]).await?;
    let row = Row::new(setting.name("restore"), megabytes / took.as_secs_f64(), "MB/s");
    report.add(row.aim(Aim::AtLeast(RESTORE_MB_MIN)));
    Ok(())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8; use another directory")
}

/// Runs a command of this program; gives how long it took.
async fn command(url: &str, args: &[&str]) -> Result<Duration> {
    let begun = Instant::now();
    let program = std::env::current_exe().context("this program's file")?;
    let mut command = tokio::process::Command::new(program);
    command.args(["--server", url]).args(args).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = command.status().await.context("this program, once more")?;
    anyhow::ensure!(status.success(), "{} has failed: {status}", args.join(" "));
    Ok(begun.elapsed())
}
