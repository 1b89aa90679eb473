//! Owns the measurement of the engine without a network, against the raw log of the same bytes in the same run.
//!
//! Both do the same work in turns, so that a disk that is slow for a while is slow for both. The engine gets twice as many
//! drafts in flight as a batch may hold: one batch syncs while the next is put in order.

use super::Setting;
use super::TURNS;
use super::disk::{RawLog, noise, written_bytes};
use super::report::{Aim, Report, Row};
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use zeolite_proto::{
    Cell, Change, CommitKey, Draft, Fault, Limits, Note, Oid, Priority, Receipt, Record, Registry, Tid, Write,
};
use zeolite_server::engine::clock::SystemClock;
use zeolite_server::engine::{Engine, EngineSettings, Leaving, Running};
use zeolite_server::store::StoreSettings;
use zeolite_server::store::disk::real::RealDisk;

const RECORDS: u64 = 4;
const RECORD_BYTES: usize = 1024;
/// What a log needs beside the records: cell, lengths, checksums.
const FRAME_BYTES: usize = 160;
const OIDS_AT_ONCE: u32 = 100_000;

/// Batches of 1, 8 and 64.
pub(super) fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    for batch in [1, 8, 64] {
        let _doing = setting.doing(&format!("engine against raw log, batches of {batch}"));
        let dir = setting.scratch()?;
        let mut raw = RawLog::new(dir.path(), batch * (RECORDS as usize * RECORD_BYTES + FRAME_BYTES))?;
        let mut engine = Bench::open(&dir.path().join("data"), batch)?;
        let turn = setting.time / TURNS;
        let (mut raw_rate, mut engine_rate, mut written, mut commits) = (0.0, 0.0, 0, 0);
        for _ in 0..TURNS {
            raw_rate += raw.run(turn)? * batch as f64 / f64::from(TURNS);
            let before = written_bytes()?;
            let (done, time) = engine.run(turn, batch * 2)?;
            written += written_bytes()? - before;
            commits += done;
            engine_rate += done as f64 / time.as_secs_f64() / f64::from(TURNS);
        }
        let before = written_bytes()?;
        engine.close()?;
        written += written_bytes()? - before;
        let name = setting.name(&format!("engine, batches of {batch}, tx of 4 x 1 KiB"));
        report.add(Row::new(name, engine_rate, "tx/s").against("raw log", raw_rate).aim(Aim::RatioAtLeast(0.6)));
        let logical = (commits * RECORDS) as f64 * RECORD_BYTES as f64;
        let row = Row::new(
            setting.name(&format!("engine, batches of {batch}, bytes written per byte")),
            written as f64 / logical,
            "B/B",
        );
        report.add(if batch == 8 { row.aim(Aim::AtMost(1.6)) } else { row });
    }
    Ok(())
}

struct Bench {
    engine: Arc<Engine>,
    running: Running,
    oids: std::ops::Range<u64>,
    keys: u64,
    record: Bytes,
}

impl Bench {
    fn open(dir: &Path, batch: usize) -> Result<Bench> {
        let disk = Arc::new(RealDisk::open(dir)?);
        let settings = EngineSettings { batch_txns_max: batch, ..EngineSettings::default() };
        let (store, limits) = (StoreSettings::default(), Limits::default());
        let clock = Arc::new(SystemClock::new());
        let (engine, loops) = Engine::open(disk, clock, store, settings, limits, Registry::built_in(), 1, &mut |_| {})?;
        let record = Record::new("Bench", 1, noise(RECORD_BYTES, 5)).encode()?;
        Ok(Bench { engine, running: loops.spawn(|_| {}), oids: 0..0, keys: 0, record })
    }

    /// Keeps so many drafts in flight; gives the commits and the time until the last one was answered.
    fn run(&mut self, time: Duration, in_flight: usize) -> Result<(u64, Duration)> {
        let (answer, answers) = mpsc::channel::<Result<Receipt, Fault>>();
        let start = Instant::now();
        let (mut sent, mut done) = (0u64, 0u64);
        while sent < in_flight as u64 {
            self.send(&answer)?;
            sent += 1;
        }
        while done < sent {
            answers.recv().context("the engine ended")??;
            done += 1;
            if start.elapsed() < time {
                self.send(&answer)?;
                sent += 1;
            }
        }
        Ok((done, start.elapsed()))
    }

    fn send(&mut self, answer: &mpsc::Sender<Result<Receipt, Fault>>) -> Result<()> {
        let mut writes = Vec::with_capacity(RECORDS as usize);
        for _ in 0..RECORDS {
            let change = Change::Put(self.record.clone());
            writes.push(Write { cell: Cell::object(self.oid()?), base: Tid::NONE, change, stamped: false });
        }
        self.keys += 1;
        let draft = Draft {
            key: CommitKey(u128::from(self.keys).to_le_bytes()),
            key_since: Tid::MAX,
            priority: Priority::Live,
            read_cells: Vec::new(),
            read_ranges: Vec::new(),
            writes,
            note: Note::default(),
        };
        let answer = answer.clone();
        // Nobody listens any more only when the run was given up because of another error.
        self.engine.commit(draft, Box::new(move |outcome| drop(answer.send(outcome))));
        Ok(())
    }

    fn oid(&mut self) -> Result<Oid> {
        if let Some(oid) = self.oids.next() {
            return Ok(Oid(oid));
        }
        let (answer, answers) = mpsc::channel();
        self.engine.new_oids(OIDS_AT_ONCE, Box::new(move |first| drop(answer.send(first))));
        let first = answers.recv().context("the engine ended")??;
        self.oids = first.0..first.0 + u64::from(OIDS_AT_ONCE);
        self.oids.next().map(Oid).ok_or_else(|| anyhow!("the engine gave no oids"))
    }

    fn close(self) -> Result<()> {
        self.engine.shut_down();
        Ok(self.running.join(Leaving::Settled)?)
    }
}
