//! Owns a served database on a disk that can be made to fail, and under a clock that can be set.

use crate::served::{Served, program, text};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;
use zeolite_client::{Cell, Db, Error, Fault, FaultKind, Options, Record, Tid};

/// Errors as the system numbers them.
pub(super) const EIO: i32 = 5;
pub(super) const ENOSPC: i32 = 28;

/// What can fail; shim.c has the same order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Read,
    Write,
    Sync,
    Create,
    Cut,
}

/// What fails in processes that have been given it.
pub(super) struct Faults {
    file: File,
    path: PathBuf,
}

impl Faults {
    pub(super) fn new(dir: &Path) -> Faults {
        let path = dir.join("faults");
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("makes");
        file.set_len(4096).expect("a page");
        Faults { file, path }
    }

    /// A command that they are in force for.
    pub(super) fn in_force<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("LD_PRELOAD", shim()).env("FAULTS_OF_THE_TEST", &self.path)
    }

    /// From now on these calls fail, on files whose path has this in it.
    pub(super) fn fail(&self, ops: &[Op], path: &str, error: i32) {
        let mut named = [0; 192];
        named[..path.len()].copy_from_slice(path.as_bytes());
        self.file.write_all_at(&named, 64).expect("writes");
        self.file.write_all_at(&0_u32.to_ne_bytes(), 256).expect("writes");
        ops.iter().for_each(|op| self.set(*op, error));
    }

    pub(super) fn heal(&self) {
        [Op::Read, Op::Write, Op::Sync, Op::Create, Op::Cut].iter().for_each(|op| self.set(*op, 0));
    }

    fn set(&self, op: Op, error: i32) {
        self.file.write_all_at(&error.to_ne_bytes(), 8 + 4 * op as u64).expect("writes");
    }

    /// How often something has failed since `fail`.
    pub(super) fn hits(&self) -> u32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, 256).expect("reads");
        u32::from_ne_bytes(bytes)
    }

    /// Sets the wall clock so far ahead of the machine's, or behind it.
    pub(super) fn set_clock(&self, ahead_s: i64) {
        self.file.write_all_at(&ahead_s.to_ne_bytes(), 0).expect("writes");
    }
}

/// The library that stands before the program's calls, compiled once.
fn shim() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults/shim.c");
        let made = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O1", "-o"])
            .arg(&to)
            .arg(source)
            .arg("-ldl")
            .output()
            .expect("a C compiler, as the build needs for linking");
        assert!(made.status.success(), "{}", text(&made.stderr));
        to
    })
}

/// A server, its faults, a client.
pub(super) struct Scene {
    pub(super) dir: TempDir,
    pub(super) faults: Faults,
    served: Option<Served>,
    pub(super) db: Db,
    settings: Vec<String>,
}

impl Scene {
    pub(super) async fn start(settings: &[&str]) -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let faults = Faults::new(dir.path());
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let served = serve(&faults, dir.path(), &settings);
        let db = connect(&served).await;
        Scene { dir, faults, served: Some(served), db, settings }
    }

    pub(super) fn served(&self) -> &Served {
        self.served.as_ref().expect("it runs")
    }

    /// Kills the server and starts it again on what is there.
    pub(super) async fn kill_and_start(&mut self) {
        self.served.take().expect("it runs").kill();
        self.start_again().await;
    }

    async fn start_again(&mut self) {
        let served = serve(&self.faults, self.dir.path(), &self.settings);
        self.db = connect(&served).await;
        self.served = Some(served);
    }

    pub(super) async fn cell(&self) -> Cell {
        Cell::object(self.db.new_oid().await.expect("an oid"))
    }

    pub(super) async fn put(&self, cell: &Cell, data: &[u8]) -> Result<Tid, Error> {
        put(&self.db, cell, data).await
    }

    pub(super) async fn read(&self, cell: &Cell) -> Result<Option<Vec<u8>>, Error> {
        let view = self.db.transaction().fresh().begin().await?;
        Ok(view.get(cell).await?.map(|record| record.data.to_vec()))
    }

    /// `zeolite check`: its exit code, and its line.
    pub(super) fn check(&self) -> (Option<i32>, String) {
        let output = self.served().run(&[
            "check",
            "--warn",
            "free_percent=",
            "--crit",
            "free_percent=",
            "--warn",
            "live_p99_ms=",
        ]);
        (output.status.code(), text(&output.stdout))
    }

    pub(super) fn status(&self) -> Value {
        self.served().json(&["status"]).remove(0)
    }

    /// Asks until the status is so.
    pub(super) fn until(&self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
        }
    }

    /// A number of the metrics.
    pub(super) fn number(&self, name: &str) -> f64 {
        let numbers = get(self.served(), "/metrics");
        let line = numbers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{numbers}")).parse().expect("a number")
    }

    /// Whether `/healthz` says that all is well.
    pub(super) fn is_healthy(&self) -> bool {
        get(self.served(), "/healthz").starts_with("HTTP/1.1 200")
    }

    /// What the server has logged, each line without its time.
    pub(super) fn logged(&self) -> Vec<String> {
        let lines = std::fs::read_to_string(log(self.dir.path())).expect("a log");
        lines.lines().map(|line| line.split_once(' ').map_or(line, |(_, what)| what).trim().to_owned()).collect()
    }

    /// Every checksum and reference, on the running server.
    pub(super) fn verify(&self) {
        let output = self.served().run(&["verify"]);
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

impl Drop for Scene {
    #[expect(clippy::print_stderr, reason = "of a test that fails")]
    fn drop(&mut self) {
        // Nothing here may panic a second time.
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(log(self.dir.path())).unwrap_or_default());
        }
    }
}

/// A server of this directory.
fn serve(faults: &Faults, dir: &Path, settings: &[String]) -> Served {
    let mut command = program();
    faults.in_force(&mut command);
    command.stderr(File::options().append(true).create(true).open(log(dir)).expect("a log"));
    let settings: Vec<&str> = settings.iter().map(String::as_str).chain(["metrics.listen=127.0.0.1:0"]).collect();
    Served::start_by(command, &dir.join("data"), "127.0.0.1:0", &settings)
}

fn log(dir: &Path) -> PathBuf {
    dir.join("stderr")
}

async fn connect(served: &Served) -> Db {
    Db::connect_with(&served.address, Options::new().cache_bytes(0)).await.expect("connects")
}

/// One commit, and no second try.
pub(super) async fn put(db: &Db, cell: &Cell, data: &[u8]) -> Result<Tid, Error> {
    let tx = db.transaction().fresh().begin().await?;
    tx.put(cell.clone(), &Record::new("Thing", 1, data.to_vec()))?;
    Ok(tx.commit().await?.tid)
}

/// The fault that an error is.
pub(super) fn fault(error: Error) -> Fault {
    match error {
        Error::Fault(fault) => fault,
        other => panic!("no fault: {other}"),
    }
}

/// Of what kind a refusal is.
pub(super) fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> FaultKind {
    fault(result.expect_err("it is refused")).kind
}

fn get(served: &Served, path: &str) -> String {
    let address = served.metrics.as_deref().expect("it has an address");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    answer
}
