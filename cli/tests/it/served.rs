//! Owns the served database: the real binary on a data directory, and what the commands say about it.

use crate::program::told;
pub(crate) use crate::program::{program, signal, text};
use serde_json::Value;
use std::io::BufReader;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use zeolite_client::{Cell, Db, Oid, Record};
use zeolite_proto::resolvers::{class, collection, entry};

/// A running `zeolite serve`.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: String,
    /// Where its numbers are, if a setting asks for them.
    pub(crate) metrics: Option<String>,
}

impl Served {
    /// On a data directory, and a port that the system chooses.
    pub(crate) fn start(dir: &Path) -> Served {
        Served::start_at(dir, "127.0.0.1:0")
    }

    /// With settings of the test's own.
    pub(crate) fn start_with(dir: &Path, settings: &[&str]) -> Served {
        Served::start_as(dir, "127.0.0.1:0", settings)
    }

    /// In a process that may have so many open files (as `ulimit` takes it), with settings of the test's own.
    pub(crate) fn start_with_files(dir: &Path, limit: &str, settings: &[&str]) -> Served {
        let limited = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        let program = program();
        command.arg("-c").arg(limited).arg(program.get_program()).args(program.get_args());
        Served::start_by(command, dir, "127.0.0.1:0", settings)
    }

    /// Of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// On an address.
    pub(crate) fn start_at(dir: &Path, address: &str) -> Served {
        Served::start_as(dir, address, &[])
    }

    fn start_as(dir: &Path, address: &str, settings: &[&str]) -> Served {
        Served::start_by(program(), dir, address, settings)
    }

    /// By a command that ends in the program, and takes its arguments.
    pub(crate) fn start_by(mut command: Command, dir: &Path, address: &str, settings: &[&str]) -> Served {
        let mut child = command
            .args(["--json", "serve", "--listen", address, "--log", "warn"])
            // Pack may go up to now.
            .args(["--set", "engine.history_min_s=0", "--set", "engine.pin_grace_s=0", "--data"])
            .arg(dir)
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("has an output");
        let told = told(&mut BufReader::new(stdout));
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        Served { child, address: text("address").expect("an address"), metrics: text("metrics") }
    }

    /// A command on it.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        program().args(["--server", &self.address]).args(args).output().expect("the binary starts")
    }

    /// The JSON lines of a command that must succeed.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["--json"], args].concat());
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("json")).collect()
    }

    /// The exit code of a command.
    pub(crate) fn code(&self, args: &[&str]) -> Option<i32> {
        self.run(args).status.code()
    }

    /// Ends it without a word.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("ends");
    }

    /// Asks it to stop; its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        signal(&self.child, "TERM");
        self.child.wait().expect("ends").code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A server that has stopped already cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A collection of three entries under the root, and one object that was written twice.
pub(crate) async fn fill(address: &str) -> (Oid, Oid) {
    let db = Db::connect(address).await.expect("connects");
    let (map, object) = (db.new_oid().await.expect("an oid"), db.new_oid().await.expect("an oid"));
    let tx = db.begin().await.expect("begins");
    let put = |cell: Cell, record: &Record| tx.put(cell, record).expect("encodes");
    put(Cell::object(Oid::ROOT), &collection::record(class::MAP));
    put(Cell::entry(Oid::ROOT, "things"), &entry::record(b"", vec![map, object]));
    put(Cell::object(map), &collection::record(class::MAP));
    for key in ["a", "b\n", "c"] {
        put(Cell::entry(map, key), &entry::record(key.as_bytes(), Vec::new()));
    }
    put(Cell::object(object), &Record::new("Thing", 1, "first"));
    tx.commit().await.expect("commits");
    let tx = db.transaction().note("amy", "second").begin().await.expect("begins");
    tx.put(Cell::object(object), &Record::new("Thing", 2, "second")).expect("encodes");
    tx.commit().await.expect("commits");
    (map, object)
}
