//! Owns a server at the other end of a wire.

use super::wire::{THERE, Wire};
use crate::program::{program, text};
use crate::served::Served;
use serde_json::Value;
use std::process::Output;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use zeolite_client::{Cell, CommitKey, Db, Error, Options, Record, Tid};

/// A server notices within this who has vanished, and no slow machine has.
pub(super) const SIGNS_OF_LIFE: [&str; 2] =
    ["sessions.keepalive_interval_ms=500", "sessions.keepalive_timeout_ms=2000"];
/// After so long an impatient client gives a call up, and a connection.
const IMPATIENT: Duration = Duration::from_secs(2);
/// Nothing here takes this long.
pub(super) const GUARD: Duration = Duration::from_secs(120);

/// A server at the other end of the wire.
pub(super) struct Far {
    pub(super) wire: Wire,
    pub(super) served: Served,
    pub(super) dir: TempDir,
}

impl Far {
    pub(super) fn start(wire: Wire, settings: &[&str]) -> Far {
        let dir = TempDir::new().expect("a directory");
        let settings = [&SIGNS_OF_LIFE[..], &["listen_publicly=true"], settings].concat();
        let served =
            Served::start_by(wire.there(&program()), &dir.path().join("data"), &format!("{THERE}:0"), &settings);
        Far { wire, served, dir }
    }

    /// For all that is not cut.
    pub(super) async fn connect(&self) -> Db {
        Db::connect_with(&self.served.address, options()).await.expect("connects")
    }

    /// For what is cut, and shall be told soon.
    pub(super) async fn connect_impatient(&self) -> Db {
        let options = options().request_timeout(IMPATIENT).connect_timeout(IMPATIENT);
        Db::connect_with(&self.served.address, options).await.expect("connects")
    }

    /// How many commits there have been since the server's start.
    pub(super) fn commits(&self) -> u64 {
        self.status()["commits"].as_u64().expect("a number")
    }

    /// A command on it at its own end, where no wire is between.
    pub(super) fn there(&self, args: &[&str]) -> Output {
        self.wire.there(&program()).args(["--server", &self.served.address]).args(args).output().expect("runs")
    }

    pub(super) fn status(&self) -> Value {
        let told = self.there(&["--json", "status"]);
        assert!(told.status.success(), "{}", text(&told.stderr));
        serde_json::from_slice(&told.stdout).expect("json")
    }

    pub(super) fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(begun.elapsed() < GUARD, "not {what}: {status}");
        }
    }

    pub(super) fn history(&self, cell: &Cell) -> usize {
        let told = self.there(&["--json", "history", &cell.oid.to_string(), "-n", "0"]);
        text(&told.stdout).lines().count()
    }

    pub(super) fn verify(&self) {
        let told = self.there(&["verify"]);
        assert!(told.status.success(), "{}{}", text(&told.stdout), text(&told.stderr));
    }
}

pub(super) fn options() -> Options {
    Options::new()
        .request_timeout(GUARD)
        .connect_timeout(GUARD)
        .backoff_min(Duration::from_millis(1))
        .backoff_max(Duration::from_millis(20))
        .cache_bytes(0)
}

/// Asks until it is answered.
pub(super) async fn again<T>(call: impl AsyncFn() -> Result<T, Error>) -> T {
    let begun = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < GUARD, "{error}"),
        }
    }
}

/// Writes a cell under a key until it is answered.
pub(super) async fn under_key(db: &Db, cell: &Cell, data: &[u8], (key, since): (CommitKey, Tid)) {
    let put = async || {
        let tx = db.transaction().fresh().begin().await?;
        tx.put(cell.clone(), &thing(data.to_vec()))?;
        tx.commit_as(key, since).await
    };
    again(put).await;
}

/// So many mebibytes, where what is cut has to be more than what is on its way at once.
pub(super) const MANY: u8 = 60;

pub(super) fn thing(data: impl Into<bytes::Bytes>) -> Record {
    Record::new("Thing", 1, data)
}
