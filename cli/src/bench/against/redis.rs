//! Owns a Redis server for a measurement: its append-only file synced for every commit, redis-benchmark as its client.

use super::{Ends, OF_A_CLIENT, Running, Told, VALUE_BYTES, program, run, wait_until};
use crate::bench::latency::Latency;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(super) struct Redis {
    socket: PathBuf,
    benchmark: PathBuf,
    _server: Ends,
}

impl Redis {
    pub(super) fn start(dir: &Path) -> Result<Redis> {
        let benchmark = program("redis-benchmark", &[], "redis-tools")?;
        let socket = dir.join("socket");
        let mut server = Command::new(program("redis-server", &[], "redis-server")?);
        server.args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--unixsocket"]);
        server.arg(&socket).arg("--dir").arg(dir).stdin(Stdio::null()).stdout(Stdio::null());
        let mut server = Ends(server.spawn().context("redis-server does not start")?);
        wait_until("Redis", &mut server, || std::os::unix::net::UnixStream::connect(&socket).is_ok())?;
        Ok(Redis { socket, benchmark, _server: server })
    }

    fn sets(&self, clients: usize, count: u64) -> Result<String> {
        let (clients, count, keys) = (clients.to_string(), count.to_string(), (clients * OF_A_CLIENT).to_string());
        let mut command = Command::new(&self.benchmark);
        let bytes = VALUE_BYTES.to_string();
        command
            .args(["-t", "set", "--csv", "-c", &clients, "-n", &count, "-d", &bytes, "-r", &keys, "-s"])
            .arg(&self.socket);
        run(&mut command)
    }
}

impl Running for Redis {
    const NAME: &'static str = "Redis";

    /// It counts commits, not time: a first, short stretch tells how many make the time.
    fn commits(&self, clients: usize, time: Duration) -> Result<Told> {
        let few = 50 * clients as u64;
        let begun = Instant::now();
        self.sets(clients, few)?;
        let rate = few as f64 / begun.elapsed().as_secs_f64();
        let count = ((rate * time.as_secs_f64()) as u64).max(few);
        let begun = Instant::now();
        let text = self.sets(clients, count)?;
        let took = begun.elapsed();
        // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
        let line = text.lines().find(|line| line.starts_with("\"SET\"")).context("redis-benchmark told no result")?;
        let fields: Vec<f64> =
            line.split(',').skip(1).map(|field| field.trim_matches('"').parse().unwrap_or(0.0)).collect();
        let [rate, _, least, p50, p95, p99, most] = fields[..] else { anyhow::bail!("redis-benchmark told {line:?}") };
        let mut latency = Latency::new();
        // Of its distribution it tells some points only: the others are taken to lie at the next one.
        for (share, ms) in [(1.0, least), (49.0, p50), (45.0, p95), (4.0, p99), (1.0, most)] {
            let add = (count as f64 * share / 100.0) as u64;
            (0..add).for_each(|_| latency.add(Duration::from_secs_f64(ms / 1e3)));
        }
        let time = if rate > 0.0 { Duration::from_secs_f64(count as f64 / rate) } else { took };
        Ok(Told { latency, done: count, time })
    }
}
