//! A served database through the binary: every administrative command, for people and for programs.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use zeolite_client::{Cell, Db, Oid, Record};
use zeolite_proto::resolvers::{class, collection, entry};

struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(dir: &Path) -> Served {
        let mut child = program()
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("has an output")).read_line(&mut line).expect("reads");
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let address = told["address"].as_str().expect("an address").to_owned();
        Served { child, address }
    }

    fn run(&self, args: &[&str]) -> Output {
        program().args(["--server", &self.address]).args(args).output().expect("the binary starts")
    }

    /// The JSON lines of a command that must succeed.
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["--json"], args].concat());
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("json")).collect()
    }

    fn code(&self, args: &[&str]) -> Option<i32> {
        self.run(args).status.code()
    }

    fn stop(mut self) -> Option<i32> {
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

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeolite"));
    command.env_remove("ZEOLITE_SERVER");
    command
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A collection of three entries under the root, and one object that was written twice.
async fn fill(address: &str) -> (Oid, Oid) {
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

#[tokio::test(flavor = "multi_thread")]
async fn every_command_shows_what_is_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let (map, object) = fill(&served.address).await;
    let (map, object) = (map.to_string(), object.to_string());

    let status = &served.json(&["status"])[0];
    assert!(status["commits"].as_u64().is_some_and(|commits| commits >= 2), "{status}");
    assert_eq!(status["poisoned"], "");
    assert!(
        status["kinds"].as_array().expect("kinds").iter().any(|kind| kind["class"] == "Thing" && kind["version"] == 2)
    );
    assert_eq!(served.code(&["status", "--all"]), Some(0));

    let got = &served.json(&["get", &object])[0];
    assert_eq!(
        (&got["record"]["version"], &got["record"]["data_hex"]),
        (&Value::from(2), &Value::from("7365636f6e64"))
    );
    assert_eq!(text(&served.run(&["get", &object, "--raw"]).stdout), "second");
    assert_eq!(served.code(&["get", "deadbeef"]), Some(4), "not found is a fault");

    let keys = |args: &[&str]| -> Vec<String> {
        let entries = served.json(&[&["scan", &map], args].concat());
        entries.iter().map(|entry| entry["key"].as_str().expect("a key").to_owned()).collect()
    };
    assert_eq!(keys(&[]), ["a", "b\\n", "c"]);
    assert_eq!(keys(&["--reverse", "-n", "2"]), ["c", "b\\n"]);
    assert_eq!(keys(&["--prefix", "b\\n", "--keys-only"]), ["b\\n"]);
    assert_eq!(keys(&["--from", "b"]), ["b\\n", "c"]);
    assert_eq!(served.code(&["get", &format!("{map}/b\\n")]), Some(0), "a key can be given back as it was printed");

    let history = served.json(&["history", &object]);
    assert_eq!(history.len(), 2);
    assert_eq!(history[0]["note"]["description"], "second");
    let log = served.json(&["log"]);
    let writes = |tid: &Value| {
        let transaction = log.iter().find(|transaction| transaction["tid"] == *tid).expect("the log has it");
        transaction["writes"].as_array().expect("writes").len()
    };
    assert_eq!((writes(&history[0]["tid"]), writes(&history[1]["tid"])), (1, 7));

    let first = history[1]["tid"].as_str().expect("a tid");
    let then = &served.json(&["get", &object, "--at", first])[0];
    assert_eq!(then["record"]["version"], 1);
    assert_eq!(served.stop(), Some(0));
}

#[test]
fn settings_come_from_file_environment_and_flags() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("zeolite.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\"\n[store]\ncache_bytes = 1000000\n").expect("writes");
    let check = |args: &[&str]| {
        let mut command = program();
        command.args(["--json", "config", "check"]).args(args).current_dir(dir.path());
        command.env("ZEOLITE_STORE_CACHE_BYTES", "2000000").output().expect("runs")
    };
    let output = check(&["--listen", "127.0.0.1:2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(told["settings"]["listen"], "127.0.0.1:2");
    assert_eq!(told["settings"]["store"]["cache_bytes"], 2_000_000);

    assert_eq!(check(&["--listen", "0.0.0.0:7878"]).status.code(), Some(1), "public without saying so");
    assert_eq!(check(&["--listen", "0.0.0.0:7878", "--listen-publicly"]).status.code(), Some(0));
    assert_eq!(check(&["--set", "store.cash_bytes=1"]).status.code(), Some(2), "no such setting");
    std::fs::write(&file, "listen = 7").expect("writes");
    assert_eq!(check(&[]).status.code(), Some(2));
}
