//! Owns a server at the other end of a wire.

use super::wire::{THERE, Wire};
use crate::program::{program, text};
use crate::served::Served;
use serde_json::Value;
use std::process::Output;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use zeolite_client::{Cell, Db, Error, Options, Record};

/// A server notices within this who has vanished, and clients give a call up after so long.
pub(super) const SIGNS_OF_LIFE: [&str; 2] = ["sessions.keepalive_interval_ms=200", "sessions.keepalive_timeout_ms=200"];
pub(super) const REQUEST: Duration = Duration::from_millis(800);
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

    pub(super) async fn connect(&self) -> Db {
        Db::connect_with(&self.served.address, options()).await.expect("connects")
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
        .request_timeout(REQUEST)
        .connect_timeout(REQUEST)
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

/// So many mebibytes, where what is cut has to be more than what is on its way at once.
pub(super) const MANY: u8 = 60;

pub(super) fn thing(data: impl Into<bytes::Bytes>) -> Record {
    Record::new("Thing", 1, data)
}
