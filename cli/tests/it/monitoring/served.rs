//! Owns a served database in a process of its own.

pub(crate) use crate::program::{program, signal, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use zeolite_client::{Cell, Db, Record};

/// A server; its directory goes with it.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: String,
    /// Where its metrics are.
    pub(crate) metrics: Option<String>,
    _directory: tempfile::TempDir,
}

impl Served {
    pub(crate) fn start(options: &[&str]) -> Served {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = program()
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(directory.path().join("data"))
            .args(options)
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("has an output")).read_line(&mut line).expect("reads");
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        let address = text("address").expect("an address");
        Served { child, address, metrics: text("metrics"), _directory: directory }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.args(["--server", &self.address]).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary starts")
    }

    /// Stops the server; gives what it has logged.
    pub(crate) fn stop(mut self) -> String {
        signal(&self.child, "TERM");
        let mut log = String::new();
        self.child.stderr.take().expect("has a log").read_to_string(&mut log).expect("reads");
        assert_eq!(self.child.wait().expect("ends").code(), Some(0), "{log}");
        log
    }

    /// A commit that goes through, over and over, until it is dropped.
    pub(crate) async fn traffic(&self) -> tokio::task::JoinHandle<()> {
        let db = Db::connect(&self.address).await.expect("connects");
        let oid = db.new_oid().await.expect("an oid");
        tokio::spawn(async move {
            loop {
                let tx = db.begin().await.expect("begins");
                tx.put(Cell::object(oid), &Record::new("Thing", 1, "x")).expect("encodes");
                tx.commit().await.expect("commits");
            }
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A server that has stopped already cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
