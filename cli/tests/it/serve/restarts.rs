//! A server whose process is another one a moment later: by a signal, by `restart`, and by a service manager that keeps its socket.

use crate::program::{FILE, ended_with_its_thread, listening, program, text, wait_until_free};
use crate::served::fill;
use serde_json::Value;
use std::io::BufReader;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use zeolite_client::{Cell, Db, Oid, Record};

/// Nothing here takes this long.
const GUARD: Duration = Duration::from_secs(60);

/// A server in a process that ends when others have taken its place.
struct Serving {
    child: Child,
    pid: u32,
    lines: BufReader<ChildStdout>,
    address: String,
}

fn serving(mut command: Command, dir: &Path) -> Serving {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log.txt")).expect("a log");
    let child = command
        .args(["--json", "serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.join("data"))
        .args(["--config"])
        .arg(dir.join("zeolite.toml"))
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn();
    let mut child = child.expect("the binary starts");
    let lines = BufReader::new(child.stdout.take().expect("has an output"));
    let mut served = Serving { pid: child.id(), child, lines, address: String::new() };
    served.address = served.next_life();
    served
}

impl Serving {
    /// Where the process listens that is there now.
    fn next_life(&mut self) -> String {
        let (address, pid) = listening(&mut self.lines);
        self.pid = pid;
        address
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.pid.to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as good.
        let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn restart(dir: &Path, timeout: &str) -> Output {
    let mut command = program();
    command.args(["--json", "--timeout", timeout, "restart", "--data"]).arg(dir.join("data"));
    command.output().expect("the binary starts")
}

fn settings(dir: &Path, text: &str) {
    std::fs::write(dir.join("zeolite.toml"), text).expect("written");
}

/// A commit, however long it has to wait.
async fn commit(db: &Db, oid: Oid) {
    let commit = db.run(async |tx| tx.put(Cell::object(oid), &Record::new("Marked", 1, "x")));
    tokio::time::timeout(GUARD, commit).await.expect("in time").expect("commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_brings_a_new_process_and_one_that_is_not_ready_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    settings(dir.path(), "");
    let none = restart(dir.path(), "5");
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));
    let mut served = serving(program(), dir.path());
    let (_, object) = fill(&served.address).await;
    let db = Db::connect(&served.address).await.expect("connects");
    let before = served.pid;
    settings(dir.path(), "metrics.listen = '127.0.0.1:0'");
    let output = restart(dir.path(), "60");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(served.next_life(), served.address, "on the same socket");
    assert_eq!((&told["old_pid"], &told["pid"]), (&before.into(), &served.pid.into()));
    assert!(served.child.wait().expect("ends").success());
    commit(&db, object).await;

    for _ in 0..6 {
        let output = restart(dir.path(), "60");
        assert_eq!(output.status.code(), Some(0), "one right behind the other: {}", text(&output.stderr));
        served.next_life();
        commit(&db, object).await;
    }

    let pid = served.pid;
    let other = TcpListener::bind("127.0.0.1:0").expect("binds");
    let taken = format!("metrics.listen = '{}'", other.local_addr().expect("has one"));
    for wrong in ["tls.cert = 'no-such.pem'\ntls.key = 'no-such.key'", "nonsense = 1", &taken] {
        settings(dir.path(), wrong);
        let refused = restart(dir.path(), "60");
        let said = text(&refused.stderr);
        assert!(refused.status.code() == Some(5) && said.contains("serves on"), "{wrong}: {said}");
        let log = std::fs::read_to_string(dir.path().join("log.txt")).expect("a log");
        assert!(log.contains("this process serves on"), "{log}");
        commit(&db, object).await;
    }
    settings(dir.path(), "");
    served.send("USR2");
    served.next_life();
    assert_ne!(served.pid, pid);
    commit(&db, object).await;
}

/// Which file a process runs.
fn file_of(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).expect("it is there")
}

fn parent_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("has a parent");
    line.trim().parse().expect("a number")
}

/// The first process keeps the name by which it was started, and so does each behind it.
#[test]
fn each_new_process_is_of_the_release_that_a_link_leads_to_then() {
    let dir = tempfile::tempdir().expect("a directory");
    settings(dir.path(), "");
    let (current, releases) = (dir.path().join("current"), ["r1", "r2", "r3"].map(|name| dir.path().join(name)));
    let lead_to = |release: &Path| {
        drop(std::fs::remove_file(&current));
        std::os::unix::fs::symlink(release, &current).expect("a link");
    };
    for release in &releases {
        std::fs::create_dir(release).expect("made");
        std::fs::copy(FILE, release.join("zeolite")).expect("copied");
    }
    lead_to(&releases[0]);
    let mut served = serving(ended_with_its_thread(current.join("zeolite")), dir.path());
    for release in &releases[1..] {
        lead_to(release);
        let restarted = restart(dir.path(), "60");
        assert_eq!(restarted.status.code(), Some(0), "{}", text(&restarted.stderr));
        served.next_life();
        assert_eq!(file_of(served.pid), release.join("zeolite").canonicalize().expect("is there"));
    }
    std::fs::remove_file(&current).expect("removed");
    let refused = restart(dir.path(), "60");
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused.stderr));
    let log = std::fs::read_to_string(dir.path().join("log.txt")).expect("a log");
    assert!(log.contains("/current/zeolite cannot be started") && log.contains("was not started"), "{log}");
}

/// Where it may be neither seen nor made who process 1 is, this is left out, and says so.
#[test]
fn what_process_1_of_a_container_waits_for_says_that_it_cannot_be_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    settings(dir.path(), "");
    let script = r#"
        cd "$1"; "$0" --json serve --listen 127.0.0.1:0 --data data --config zeolite.toml > out 2> log &
        until [ -s out ] || ! kill -0 $!; do sleep 0.02; done
        "$0" restart --data data 2>&1; echo "code $?"
        kill $!; wait; cat log"#;
    let container = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let may = Command::new("unshare").args(container).arg("true").output();
    if !may.is_ok_and(|may| may.status.success()) {
        eprintln!("left out: no name space of processes can be made here");
        return;
    }
    let mut command = ended_with_its_thread("unshare");
    command.args(container).args(["sh", "-c", script]).arg(FILE).arg(dir.path());
    let output = command.output().expect("runs");
    let said = text(&output.stdout);
    assert!(said.contains("code 5") && said.contains("process 1 of this container has started this one"), "{said}");
}

#[test]
fn the_units_of_systemd_call_commands_that_there_are() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let unit = std::fs::read_to_string(units.join("zeolite.service")).expect("the unit");
    let calls: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("Exec")?.split_once("/usr/bin/zeolite "))
        .map(|(_, call)| call)
        .collect();
    assert_eq!(calls.len(), 2, "a start and a reload");
    for call in calls {
        let output = program().args(call.split_whitespace()).arg("--help").output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(0), "{call}: {}", text(&output.stderr));
    }
}

/// What a service manager hears. It takes everything at once: who tells it something when ten messages wait would wait too.
fn heard(manager: UnixDatagram) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = manager.recv(&mut message) {
            if tell.send(text(&message[..length])).is_err() {
                return;
            }
        }
    });
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_keeps_the_socket_and_hears_how_the_server_stands() {
    let dir = tempfile::tempdir().expect("a directory");
    settings(dir.path(), "");
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("binds");
    manager.set_read_timeout(Some(GUARD)).expect("takes it");
    let heard = heard(manager);
    let kept = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = kept.local_addr().expect("has one").to_string();
    let start = || {
        let mut command = ended_with_its_thread("sh");
        command
            .args(["-c", "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ WATCHDOG_PID=$$ exec \"$0\" \"$@\""])
            .arg(FILE);
        command.stdin(Stdio::from(OwnedFd::from(kept.try_clone().expect("another one"))));
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "30000");
        serving(command, dir.path())
    };
    let mut served = start();
    assert_eq!(served.address, address);
    let until = |what: &str| loop {
        let message = heard.recv_timeout(GUARD).expect("it is told");
        if message.contains(what) {
            return message;
        }
    };
    let ready = until("READY=1");
    assert!(ready.contains(&format!("MAINPID={}", served.pid)), "{ready}");
    until("WATCHDOG=1");
    served.send("HUP");
    until("RELOADING=1");
    until("READY=1");

    let (_, object) = fill(&address).await;
    let db = Db::connect(&address).await.expect("connects");
    served.send("USR2");
    let old = served.pid;
    let next = served.next_life();
    assert_eq!(next, address);
    until(&format!("MAINPID={}", served.pid));
    assert_ne!(parent_of(served.pid), old, "a manager waits for nobody but its own child");
    until("READY=1");
    // The old one has ended: this is of the new one.
    assert!(served.child.wait().expect("ends").success());
    while heard.try_recv().is_ok() {}
    until("WATCHDOG=1");
    commit(&db, object).await;
    served.send("TERM");
    until("STOPPING=1");
    wait_until_free(&dir.path().join("data"));
    // The old one has ended, and who commits waits in the queue of the socket until there is another.
    let first = served.child.wait().expect("ends");
    assert!(first.success());
    let commits = tokio::spawn({
        let db = db.clone();
        async move { commit(&db, object).await }
    });
    drop(served);
    let again = start();
    commits.await.expect("commits");
    assert_eq!(again.address, address);
}
