//! Two releases side by side, as docs/upgrading.md says they may be: up and back in one data directory, by a hand-over too, a follower and its
//! primary, a command line and a server, backups that one goes on with and the other restores.
//!
//! `ZEOLITE_OTHER_RELEASE=/path/to/zeolite` names the program of the other release. Without it both are the program under test, so that what is
//! done here is known to work where nothing is mixed.

mod site;

use crate::backups::scene::log;
use crate::evolve::scene::{ADD_ONE, CLASS};
use crate::program::{FILE, ended_with_its_thread, signal_to, text, told, wait_until_free};
use crate::served::Served;
use site::Site;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use zeolite_client::{Cell, Db, Options, Record};

/// Nothing here takes this long.
const GUARD: Duration = Duration::from_secs(120);

/// A program of one of the two.
#[derive(Clone)]
struct Release(PathBuf);

/// Each of the two beside the other: who is first has begun.
fn pairs() -> Vec<[Release; 2]> {
    let this = Release(FILE.into());
    match std::env::var_os("ZEOLITE_OTHER_RELEASE") {
        Some(other) => {
            let other = Release(other.into());
            vec![[other.clone(), this.clone()], [this, other]]
        }
        None => vec![[this.clone(), this]],
    }
}

impl Release {
    fn command(&self) -> Command {
        let mut command = ended_with_its_thread(&self.0);
        command.env_remove("ZEOLITE_OTHER_RELEASE").env("XDG_CONFIG_HOME", "/dev/null");
        command
    }

    fn serve(&self, data: &Path, settings: &[&str]) -> Served {
        Served::start_by(self.command(), data, "127.0.0.1:0", settings)
    }

    /// A command; its exit code has to be this.
    fn run(&self, code: i32, args: &[&str]) -> Output {
        let output = self.command().arg("--json").args(args).output().expect("runs");
        let said = || format!("{} {args:?}: {}{}", self.0.display(), text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{}", said());
        output
    }

    /// A command at a server, which has to succeed.
    fn ask(&self, server: &str, args: &[&str]) -> String {
        text(&self.run(0, &[&["--server", server], args].concat()).stdout)
    }
}

async fn connect(address: &str) -> Db {
    Db::connect_with(address, Options::new().request_timeout(GUARD)).await.expect("connects")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_goes_to_another_release_and_back() {
    for [first, second] in pairs() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, mut site) = (dir.path().join("data"), Site::default());
        for (round, release) in [&first, &second, &first, &second, &first].into_iter().enumerate() {
            let served = release.serve(&data, &["store.segment_bytes_max=4MiB"]);
            let db = connect(&served.address).await;
            site.is_in(&db).await;
            site.grows(&db).await;
            release.ask(&served.address, &["verify"]);
            drop(db);
            // In order, or killed.
            match round % 2 {
                0 => served.kill(),
                _ => assert_eq!(served.stop(), Some(0)),
            }
            for other in [&first, &second] {
                other.run(0, &["verify", "--data", data.to_str().expect("plain")]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_hands_over_to_another_release_and_that_one_back() {
    for [first, second] in pairs() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, current) = (dir.path().join("data"), dir.path().join("current"));
        let lead_to = |release: &Release| {
            drop(std::fs::remove_file(&current));
            std::os::unix::fs::symlink(&release.0, &current).expect("a link");
        };
        lead_to(&first);
        let mut child = Release(current.clone())
            .command()
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"])
            .arg(&data)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("has an output"));
        let begun = told(&mut lines);
        let mut last = Last(begun["pid"].as_u64().expect("a pid"));
        let db = connect(begun["address"].as_str().expect("an address")).await;
        let mut site = Site::default();
        site.grows(&db).await;
        for next in [&second, &first, &second] {
            lead_to(next);
            next.run(0, &["--timeout", "60", "restart", "--data", data.to_str().expect("plain")]);
            last.0 = told(&mut lines)["pid"].as_u64().expect("a pid");
            let file = std::fs::read_link(format!("/proc/{}/exe", last.0)).expect("it is there");
            assert_eq!(file, next.0.canonicalize().expect("is there"));
            site.is_in(&db).await;
            site.grows(&db).await;
        }
        child.wait().expect("ends");
        drop(db);
        signal_to(last.0, "TERM");
        wait_until_free(&data);
        first.run(0, &["verify", "--data", data.to_str().expect("plain")]);
    }
}

/// The process that there is in the end, which is nobody's child here.
struct Last(u64);

impl Drop for Last {
    fn drop(&mut self) {
        signal_to(self.0, "KILL");
    }
}

/// Of the older one's primary and the newer one's follower docs/upgrading.md promises it; the other way round it is seen here.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_one_release_copies_a_primary_of_another_and_takes_over() {
    for [first, second] in pairs() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut site, [old, new]) = (Site::default(), ["old", "new"].map(|name| dir.path().join(name)));
        let primary = first.serve(&old, &["replication.sync=1", "replication.wait_ms=60000"]);
        let follows = format!("follow.primary={}", primary.address);
        let follower = second.serve(&new, &[&follows]);
        let db = connect(&primary.address).await;
        site.grows(&db).await;
        // From the disk, and as it comes.
        drop(follower);
        let growing = site.grows_without_word(&db);
        let (follower, ()) = tokio::join!(async { second.serve(&new, &[&follows]) }, growing);
        site.grows(&db).await;
        let copy = connect(&follower.address).await;
        let newest = db.newest().await.expect("told");
        let begun = Instant::now();
        while copy.newest().await.expect("told") < newest {
            assert!(begun.elapsed() < GUARD, "it does not come");
        }
        site.is_in(&copy).await;
        second.ask(&follower.address, &["promote", "--hand-over"]);
        drop((db, primary));
        let db = connect(&follower.address).await;
        site.grows(&db).await;
        // The one that was the primary follows now.
        let follows = format!("follow.primary={}", follower.address);
        let back = first.serve(&old, &[&follows]);
        let (copy, newest) = (connect(&back.address).await, db.newest().await.expect("told"));
        while copy.newest().await.expect("told") < newest {
            assert!(begun.elapsed() < GUARD, "it does not come back");
        }
        site.is_in(&copy).await;
        assert_eq!(log(&copy, None).await, log(&db, None).await);
        drop((copy, db));
        assert_eq!((back.stop(), follower.stop()), (Some(0), Some(0)));
        for dir in [&old, &new] {
            first.run(0, &["verify", "--data", dir.to_str().expect("plain")]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_of_one_release_asks_a_server_of_another() {
    for [first, second] in pairs() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).to_str().expect("plain").to_owned();
        let served = first.serve(&dir.path().join("data"), &[]);
        let (server, db) = (served.address.as_str(), connect(&served.address).await);
        let mut site = Site::default();
        site.grows(&db).await;
        let numbers = numbers(&db).await;
        let ask = |args: &[&str]| second.ask(server, args);
        for asked in ["status", "sessions list", "log", "prepared list", "gate list", "evolve list", "verify"] {
            ask(&asked.split(' ').collect::<Vec<_>>());
        }
        assert!(ask(&["get", &numbers[0].oid.to_string()]).contains(CLASS));
        ask(&["history", &numbers[0].oid.to_string()]);
        // A busy machine is warned of.
        let check = ["--json", "--server", server, "check", "--warn", "free_percent=", "--crit", "free_percent="];
        let checked = second.command().args(check).output().expect("runs");
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{}{}", text(&checked.stdout), text(&checked.stderr));
        assert!(ask(&["mode", "read-only"]).contains("read-only"));
        ask(&["mode", "normal"]);

        // A job that one has planned and the other does.
        let step = dir.path().join("add_one.sh");
        std::fs::write(&step, ADD_ONE).expect("written");
        let step = step.to_str().expect("plain");
        first.ask(server, &["evolve", "plan", "numbers", "--class", CLASS, "--below", "2", "--gate"]);
        ask(&["evolve", "run", "numbers", "--exec", "sh", step]);
        first.ask(server, &["evolve", "ensure", "numbers"]);
        ask(&["evolve", "undo", "numbers"]);
        first.ask(server, &["evolve", "forget", "numbers"]);

        // A backup that one has begun and the other goes on with, and each restores.
        let to = path("backup");
        first.ask(server, &["backup", &to]);
        site.grows(&db).await;
        assert!(ask(&["backup", &to]).contains("\"full\":false"));
        ask(&["pack"]);
        site.is_in(&db).await;
        for release in [&first, &second] {
            release.run(0, &["backup", "verify", &to]);
            let into = path(if std::ptr::eq(release, &first) { "by the first" } else { "by the second" });
            release.run(0, &["restore", &to, "--into", &into]);
            let restored = release.serve(Path::new(&into), &[]);
            site.is_in(&connect(&restored.address).await).await;
        }
    }
}

/// Objects that a step knows.
async fn numbers(db: &Db) -> Vec<Cell> {
    let mut cells = Vec::new();
    for _ in 0..50 {
        cells.push(Cell::object(db.new_oid().await.expect("an oid")));
    }
    let tx = db.begin().await.expect("begins");
    for cell in &cells {
        tx.put(cell.clone(), &Record::new(CLASS, 1, "0")).expect("encodes");
        site::kept(&tx, cell);
    }
    tx.commit().await.expect("commits");
    cells
}
