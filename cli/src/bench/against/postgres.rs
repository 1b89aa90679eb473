//! Owns a PostgreSQL server for a measurement: initdb in a directory of its own, pgbench as its client.

use super::{Ends, OF_A_CLIENT, Running, Told, VALUE_BYTES, below, program, run, wait_until};
use crate::bench::latency::Latency;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Its server refuses to run as root.
const USER: &str = "postgres";

pub(super) struct Postgres {
    /// Of its socket and scripts.
    dir: PathBuf,
    pgbench: PathBuf,
    _server: Ends,
}

impl Postgres {
    pub(super) fn start(dir: &Path, clients: usize) -> Result<Postgres> {
        let places = debian();
        let of_server = |name| program(name, &places, "postgresql");
        let (initdb, server, ready) = (of_server("initdb")?, of_server("postgres")?, of_server("pg_isready")?);
        let pgbench = program("pgbench", &places, "postgresql-contrib")?;
        let user = if rustix::process::getuid().is_root() { Some(user()?) } else { None };
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid)).context("giving the directory to PostgreSQL's user")?;
        }
        let data = dir.join("data");
        let mut made = as_user(&initdb, user);
        run(made.args(["--auth=trust", "--username=bench", "--encoding=UTF8", "--locale=C", "-D"]).arg(&data))?;
        let mut server = as_user(&server, user);
        server.arg("-D").arg(&data).stdin(Stdio::null()).stdout(Stdio::null());
        let said = format!("unix_socket_directories={}", dir.display());
        let connections = format!("max_connections={}", clients + 10);
        for setting in ["listen_addresses=", &said, "fsync=on", "synchronous_commit=on", &connections] {
            server.args(["-c", setting]);
        }
        let mut server = Ends(server.spawn().context("postgres does not start")?);
        wait_until("PostgreSQL", &mut server, || {
            let asked = Command::new(&ready).arg("-q").arg("-h").arg(dir).stdin(Stdio::null()).status();
            asked.is_ok_and(|status| status.success())
        })?;
        let postgres = Postgres { dir: below(dir, "scripts")?, pgbench, _server: server };
        postgres.fill(clients)?;
        Ok(postgres)
    }

    fn pgbench(&self) -> Command {
        let mut command = Command::new(&self.pgbench);
        command.args(["-n", "-U", "bench", "-h"]).arg(self.dir.parent().unwrap_or(&self.dir)).arg("-d").arg("postgres");
        command
    }

    fn fill(&self, clients: usize) -> Result<()> {
        let rows = clients * OF_A_CLIENT;
        let script = self.dir.join("fill.sql");
        let text = format!(
            "CREATE TABLE objects (id int PRIMARY KEY, data text);\n\
             INSERT INTO objects SELECT id, '{}' FROM generate_series(0, {}) AS id;\nCHECKPOINT;\n",
            value(),
            rows - 1
        );
        std::fs::write(&script, text)?;
        run(self.pgbench().args(["-t", "1", "-f"]).arg(script)).map(drop)
    }
}

impl Running for Postgres {
    const NAME: &'static str = "PostgreSQL";

    fn commits(&self, clients: usize, time: Duration) -> Result<Told> {
        let script = self.dir.join("update.sql");
        let last = OF_A_CLIENT - 1;
        let text = format!(
            "\\set id :client_id * {OF_A_CLIENT} + random(0, {last})\nUPDATE objects SET data = '{}' WHERE id = :id;\n",
            value()
        );
        std::fs::write(&script, text)?;
        let logs = tempfile::tempdir_in(&self.dir)?;
        let mut command = self.pgbench();
        let (clients, threads) = (clients.to_string(), clients.min(4).to_string());
        let seconds = time.as_secs().max(1);
        command
            .args(["-M", "prepared", "-l", "-c", &clients, "-j", &threads, "-T", &seconds.to_string(), "-f"])
            .arg(script);
        run(command.current_dir(logs.path()))?;
        let mut told = Told { latency: Latency::new(), done: 0, time: Duration::from_secs(seconds) };
        for entry in std::fs::read_dir(logs.path())? {
            // pgbench(1), "Per-Transaction Logging": client_id transaction_no time script_no time_epoch time_us; time in microseconds.
            for line in std::fs::read_to_string(entry?.path())?.lines() {
                let took = line.split(' ').nth(2).and_then(|us| us.parse().ok()).context("a line of pgbench's log")?;
                told.latency.add(Duration::from_micros(took));
                told.done += 1;
            }
        }
        Ok(told)
    }
}

/// Text that is not compressed to nothing.
fn value() -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::with_capacity(VALUE_BYTES);
    while text.len() < VALUE_BYTES {
        let _ = write!(text, "{:016x}", random.u64(..));
    }
    text
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    // A place that it may read.
    command.current_dir("/");
    command
}

/// Numbers of the user and its group (passwd(5)).
fn user() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let line = users.lines().find_map(|line| line.strip_prefix(USER)?.strip_prefix(':'));
    let mut fields =
        line.with_context(|| format!("there is no user {USER}, as whom PostgreSQL would run"))?.split(':').skip(1);
    let mut number = || fields.next().and_then(|text| text.parse().ok()).context("a line of /etc/passwd");
    Ok((number()?, number()?))
}

/// Debian has the programs of each version beside the PATH; the newest first.
fn debian() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path()).collect();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    versions.into_iter().map(|path| path.join("bin")).collect()
}
