//! Owns the fleet: servers of the real binary, one the primary and the others its followers, each with a data directory of its own.

use crate::program::{listening, program};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;
use zeolite_client::{Admin, Error, Options, Replication, Seat, Status};

/// Nothing here takes this long: a test that hangs fails instead.
pub(crate) const GUARD: Duration = Duration::from_secs(120);

/// One server.
pub(crate) struct Node {
    process: Option<(Child, BufReader<ChildStdout>)>,
    pub(crate) address: SocketAddr,
    dir: tempfile::TempDir,
    settings: Vec<String>,
}

impl Node {
    /// A primary, on a port that the system chooses.
    pub(crate) fn primary(settings: &[&str]) -> Node {
        Node::start(&["serve"], settings)
    }

    /// A follower of these.
    pub(crate) fn follower(of: &[SocketAddr], settings: &[&str]) -> Node {
        Node::start(&["follow", &list(of)], settings)
    }

    /// A follower of these, on a data directory that is there.
    pub(crate) fn follower_in(dir: tempfile::TempDir, of: &[SocketAddr]) -> Node {
        Node::start_in(dir, &["follow", &list(of)], &[])
    }

    /// One that does not run yet, with a port of its own.
    pub(crate) fn idle(settings: &[&str]) -> Node {
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Node { process: None, address: free(), dir: tempfile::tempdir().expect("a temporary directory"), settings }
    }

    fn start(command: &[&str], settings: &[&str]) -> Node {
        Node::start_in(tempfile::tempdir().expect("a temporary directory"), command, settings)
    }

    fn start_in(dir: tempfile::TempDir, command: &[&str], settings: &[&str]) -> Node {
        let address = "127.0.0.1:0".parse().expect("an address");
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut node = Node { process: None, address, dir, settings };
        node.start_as(command);
        node
    }

    /// Starts it again on the same directory and port, as this.
    pub(crate) fn start_as(&mut self, command: &[&str]) {
        self.begin(command);
        let (_, lines) = self.process.as_mut().expect("it has begun");
        let (address, _) = listening(lines);
        self.address = address.parse().expect("an address");
    }

    /// The same, and does not wait until it is open.
    pub(crate) fn begin(&mut self, command: &[&str]) {
        assert!(self.process.is_none(), "it runs");
        let mut child = program()
            .arg("--json")
            .args(command)
            .args(["--log", "error", "--listen", &self.address.to_string()])
            // Small segments and checkpoints, so that kills fall into their changes too; pack goes up to what is newest.
            .args(["--set", "store.segment_bytes_max=65536", "--set", "store.checkpoint_log_bytes=30000"])
            .args([
                "--set",
                "engine.history_min_s=0",
                "--set",
                "engine.pin_grace_s=0",
                "--set",
                "store.log_room_bytes=0",
            ])
            .args(self.settings.iter().flat_map(|setting| ["--set", setting]))
            .arg("--data")
            .arg(self.dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        self.process = Some((child, lines));
    }

    /// Starts it again as a follower.
    pub(crate) fn follow(&mut self, of: &[SocketAddr], more: &[&str]) {
        let peers = list(of);
        self.start_as(&[&["follow", peers.as_str()], more].concat());
    }

    /// Starts it again as this, which it refuses.
    pub(crate) fn fails(&mut self, command: &[&str]) {
        self.begin(command);
        let (child, lines) = self.process.as_mut().expect("it has begun");
        let mut said = String::new();
        // One that starts all the same says where it listens.
        assert_eq!(lines.read_line(&mut said).expect("reads"), 0, "{said}");
        assert!(!child.wait().expect("it can be waited for").success());
        self.process = None;
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some((mut child, _)) = self.process.take() {
            child.kill().expect("kills");
            child.wait().expect("it can be waited for");
        }
    }

    /// Asks it to stop, and waits.
    pub(crate) fn stop(&mut self) {
        let (mut child, mut lines) = self.process.take().expect("it runs");
        crate::program::signal(&child, "TERM");
        let mut rest = String::new();
        while lines.read_line(&mut rest).expect("reads") > 0 {}
        assert!(child.wait().expect("it can be waited for").success());
    }

    /// The most that its process has had in memory.
    pub(crate) fn most_memory(&self) -> u64 {
        let (child, _) = self.process.as_ref().expect("it runs");
        crate::program::most_memory(child.id()).expect("it runs")
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Its data directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// An operator's calls.
    pub(crate) async fn admin(&self) -> Result<Admin, Error> {
        Admin::connect(self.address.to_string(), &Options::new().request_timeout(GUARD)).await
    }

    /// How it is.
    pub(crate) async fn status(&self) -> Status {
        within(async || self.admin().await?.status().await).await
    }

    /// Waits until its place among the copies is like this.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Replication) -> bool) -> Replication {
        let waited = async {
            loop {
                let now = self.status().await.replication;
                if is(&now) {
                    return now;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(GUARD, waited).await {
            Ok(now) => now,
            Err(_) => panic!("{} is not {what}: {:?}", self.address, self.status().await.replication),
        }
    }

    /// Waits until it follows this one.
    pub(crate) async fn until_follows(&self, primary: SocketAddr) -> Replication {
        let primary = primary.to_string();
        self.until("a follower of the primary", |now| now.connected && now.primary == primary).await
    }

    /// Waits until it follows, and has everything that its primary has now: what it was told of that may be older.
    pub(crate) async fn until_whole(&self) -> Replication {
        let follows = |now: &Replication| now.seat == Seat::Follower && now.connected;
        let primary = self.until("a follower", follows).await.primary;
        let newest = within(async || {
            let admin = Admin::connect(primary.as_str(), &Options::new().request_timeout(GUARD)).await?;
            Ok(admin.status().await?.replication.newest)
        });
        let newest = newest.await;
        let whole = |now: &Replication| follows(now) && now.behind.transactions == 0 && now.newest >= newest;
        self.until("whole", whole).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.process {
            // One that has ended already cannot be killed, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a server answers that may not be there yet.
async fn within<T>(ask: impl AsyncFn() -> Result<T, Error>) -> T {
    let asked = async {
        loop {
            if let Ok(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(GUARD, asked).await.expect("it answers")
}

/// A copy of the data directory of one that does not run.
pub(crate) fn copied(node: &Node) -> tempfile::TempDir {
    assert!(!node.runs(), "a copy of what changes is none");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let copied = std::process::Command::new("cp").arg("-a").arg(node.dir().join(".")).arg(dir.path()).status();
    assert!(copied.expect("runs").success());
    dir
}

/// A port at which nobody listens.
pub(crate) fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// Addresses as an option takes them.
pub(crate) fn list(of: &[SocketAddr]) -> String {
    of.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
}

/// The addresses of all but one.
pub(crate) fn others(nodes: &[Node], but: usize) -> Vec<SocketAddr> {
    nodes.iter().enumerate().filter(|(at, _)| *at != but).map(|(_, node)| node.address).collect()
}
