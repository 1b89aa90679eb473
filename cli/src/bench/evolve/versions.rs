//! Owns the evolves of the measurements: each raises the schema version of all objects by one, in a process of its own.
//!
//! Only a step that costs processor time runs in this process: no command has one.

use super::{CLASS, LIVE_RATIO_MAX};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use zeolite_client::Db;
use zeolite_client::evolve::{self, Phase, Plan};
use zeolite_proto::Record;

/// Keeps each object, whether it is asked with a line for each or in lists.
const KEEP: &str = r#"
import json, sys
keep = lambda asked: {"oid": asked["oid"], "keep": True}
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps([keep(one) for one in asked] if isinstance(asked, list) else keep(asked)), flush=True)
"#;

/// Whether steps in Python can be measured.
pub(super) async fn has_python() -> bool {
    let tried = tokio::process::Command::new("python3").arg("--version").output().await;
    tried.is_ok_and(|output| output.status.success())
}

/// Evolves, each to the next schema version.
pub(in crate::bench) struct Versions<'a> {
    worker: &'a Db,
    url: &'a str,
    next: u32,
}

/// How an evolve is to be done.
#[derive(Clone, Copy, Default)]
pub(in crate::bench) struct How {
    /// Tasks of the worker; 0: one.
    pub(super) tasks: usize,
    /// All in one commit.
    pub(super) whole: bool,
    /// Rounds of a checksum: what a step costs.
    pub(super) rounds: usize,
}

impl<'a> Versions<'a> {
    pub(in crate::bench) fn new(worker: &'a Db, url: &'a str) -> Versions<'a> {
        Versions { worker, url, next: 2 }
    }

    /// Plans the next one.
    async fn plan(&mut self, how: How, plan: impl FnOnce(u32) -> Plan) -> Result<(evolve::Job, u32)> {
        let version = self.next;
        self.next += 1;
        let mut job = evolve::NewJob::new(format!("to-{version}"), plan(version));
        job.settings = evolve::Settings::default()
            .workers(how.tasks.max(1) as u32)
            .atomic(how.whole)
            // What is measured is the work, not this disk's fill.
            .disk_pause_percent(0.0)
            .disk_stop_percent(0.0)
            // As tight as the aim.
            .live_ratio_max(LIVE_RATIO_MAX);
        Ok((evolve::plan(self.worker, job).await?, version))
    }

    /// Plans and runs one; gives how long the running took, and the objects that were stepped again.
    pub(in crate::bench) async fn evolve(&mut self, how: How) -> Result<(Duration, u64)> {
        let (job, version) = self.plan(how, |version| Plan::below(CLASS, version)).await?;
        let (took, again) = match how.rounds {
            0 => {
                let told = self.run(version, &["--bump", &version.to_string()]).await?;
                (took(&told)?, told["worker"]["stepped_again"].as_u64().unwrap_or(0))
            }
            rounds => {
                let begun = Instant::now();
                let step = evolve::map("bench", move |old| Ok(stepped(old, version, rounds)));
                let report = evolve::Worker::new(&job).tasks(how.tasks.max(1)).run(step).await?;
                (begun.elapsed(), report.counts.stepped_again)
            }
        };
        let record = job.record().await?;
        ensure!(record.phase == Phase::Done, "the evolve ended as {} ({})", record.phase.text(), record.reason);
        let old = self.worker.admin().kinds().await?.below(CLASS, version);
        ensure!(old == 0, "{old} objects are still of an older version");
        Ok((took, again))
    }

    /// Runs one for the most memory, in bytes, that its worker has had.
    pub(super) async fn memory(&mut self, plan: impl FnOnce(u32) -> Plan) -> Result<f64> {
        let (_, version) = self.plan(How::default(), plan).await?;
        self.run(version, &["--bump", &version.to_string()]).await?["memory_bytes_max"]
            .as_f64()
            .context("the worker did not tell its memory")
    }

    /// A program looks at all objects and keeps them as they are; gives how long that took.
    pub(super) async fn keep(&mut self, list: Option<u32>) -> Result<Duration> {
        let (_, version) = self.plan(How::default(), |_| Plan::class(CLASS)).await?;
        let batch = list.map(|most| most.to_string());
        let batch: Vec<&str> = batch.iter().flat_map(|most| ["--batch", most]).collect();
        took(&self.run(version, &[&batch[..], &["--exec", "python3", "-c", KEEP]].concat()).await?)
    }

    /// Runs a planned one in a process of its own, as on a site.
    async fn run(&self, version: u32, step: &[&str]) -> Result<serde_json::Value> {
        let program = std::env::current_exe().context("this program's own file")?;
        let output = tokio::process::Command::new(program)
            .args(["--json", "--server", self.url, "evolve", "run", &format!("to-{version}")])
            .args(step)
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(output.status.success(), "a worker in a process of its own failed; its message is above");
        let last = output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
        Ok(serde_json::from_slice(last)?)
    }
}

/// How long a worker's work took.
fn took(told: &serde_json::Value) -> Result<Duration> {
    let took = told["took_ms"].as_f64().context("the worker did not tell its time")?;
    Ok(Duration::from_secs_f64(took / 1e3))
}

fn stepped(mut record: Record, version: u32, rounds: usize) -> Record {
    let mut sum = 0u64;
    for round in 0..rounds {
        sum = record.data.iter().fold(sum ^ round as u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
    }
    // The sum is used, so that it is computed; the data stays.
    record.version = version.max(u32::from(sum == 1));
    record
}
