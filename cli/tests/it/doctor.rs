//! The real binary looks at a machine that is made wrong in one way at a time: each line says so, with a remedy, and nothing is left behind.

use crate::program::{program, text};
use crate::served::Served;
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// What was found.
struct Found {
    code: Option<i32>,
    lines: Vec<Value>,
}

impl Found {
    fn of(output: &Output) -> Found {
        let lines = text(&output.stdout);
        let lines = lines.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
        Found { code: output.status.code(), lines }
    }

    /// The lines of one name.
    fn lines(&self, what: &str) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(move |line| line["what"] == what)
    }

    /// That one of a name is as bad as this, says it in these words, and has a remedy if anything is to be done.
    fn says(&self, what: &str, state: &str, words: &str) {
        let is = |line: &&Value| line["state"] == state && line["seen"].as_str().expect("text").contains(words);
        let line = self.lines(what).find(is).unwrap_or_else(|| panic!("{what}: {state}: {words}\n{:#?}", self.lines));
        assert_eq!(line["remedy"] == "", state == "OK", "{line}");
        let worst = self
            .lines
            .iter()
            .map(|line| ["OK", "WARNING", "CRITICAL"].iter().position(|state| line["state"] == *state));
        assert_eq!(self.code.and_then(|code| usize::try_from(code).ok()), worst.max().flatten(), "{:#?}", self.lines);
    }
}

fn doctor(data: &Path, args: &[&str]) -> Found {
    Found::of(&command(data, args).output().expect("runs"))
}

fn command(data: &Path, args: &[&str]) -> Command {
    let mut command = program();
    command.args(["--json", "doctor", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(args);
    command.current_dir("/");
    command
}

/// In name spaces of its own, in which anybody may mount: `script` has the program and its arguments as "$@".
fn in_own_mounts(script: &str, data: &Path, args: &[&str]) -> Found {
    let of = command(data, args);
    let mut own = Command::new("unshare");
    own.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"])
        .arg(of.get_program())
        .args(of.get_args());
    let output = own.output().expect("unshare (util-linux) runs");
    let found = Found::of(&output);
    assert!(!found.lines.is_empty(), "{script}: {}", text(&output.stderr));
    found
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("lists").flatten() {
            all.push(entry.path());
            dirs.extend(entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| entry.path()));
        }
    }
    all.sort();
    all
}

#[test]
fn it_looks_at_everything_beside_a_running_server_and_leaves_nothing() {
    let dir = TempDir::new().expect("a directory");
    let data = dir.path().join("data");
    let fresh = doctor(&data, &[]);
    fresh.says("data directory", "OK", "a start makes it");
    fresh.says("server", "OK", "none runs");
    assert!(below(dir.path()).is_empty(), "{:?}", below(dir.path()));
    let served = Served::start(&data);
    let before = below(&data);
    let found = Found::of(&command(&data, &["--server", &served.address]).output().expect("runs"));
    assert_eq!(below(&data), before);
    found.says("data directory", "OK", &format!("in use by process {}", served.pid()));
    found.says("server", "OK", &format!("process {} at {} answers", served.pid(), served.address));
    found.says("settings", "OK", "can be served");
    for what in ["file system", "room", "syncs", "open files", "memory", "clock", "port", "users", "backups"] {
        assert_eq!(found.lines(what).count(), 1, "{what}: {:#?}", found.lines);
    }
    // For people, the same in words.
    let told = program()
        .args(["doctor", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .current_dir("/")
        .output()
        .expect("runs");
    assert!(text(&told.stdout).starts_with("ok       settings"), "{}", text(&told.stdout));
    assert_eq!(served.stop(), Some(0));
}

#[test]
fn a_server_that_does_not_answer_or_wants_a_name_is_told() {
    let dir = TempDir::new().expect("a directory");
    let data = dir.path().join("data");
    let users = dir.path().join("users.toml");
    let made =
        program().args(["user", "--file"]).arg(&users).args(["add", "amy", "--role", "admin"]).output().expect("runs");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let served = Served::start_with(&data, &[&format!("auth.users_file={}", users.display())]);
    let ask =
        |limit: &str| Found::of(&command(&data, &["--server", &served.address, "-t", limit]).output().expect("runs"));
    ask("10").says("server", "WARNING", "answers, and tells nothing");
    signal_pid(served.pid(), "STOP");
    let stopped = ask("1");
    signal_pid(served.pid(), "CONT");
    stopped.says("server", "CRITICAL", "within 1");
    assert_eq!(served.stop(), Some(0));
}

fn signal_pid(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill runs");
    assert!(status.success());
}

#[test]
fn settings_that_cannot_be_served_on_are_critical_and_nonsense_ends_the_look() {
    let dir = TempDir::new().expect("a directory");
    doctor(dir.path(), &["--set", "engine.hop_max=0"]).says("settings", "CRITICAL", "engine.hop_max");
    let nonsense = doctor(dir.path(), &["--set", "no.such=1"]);
    nonsense.says("settings", "CRITICAL", "no.such");
    assert_eq!(nonsense.lines.len(), 1);
    let usage = program().args(["doctor", "--no-such"]).output().expect("runs");
    assert_eq!(usage.status.code(), Some(3), "{}", text(&usage.stdout));
}

#[test]
fn a_directory_that_cannot_be_used_or_is_open_to_all_is_told() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("writes");
    doctor(&file.join("data"), &[]).says("data directory", "CRITICAL", "is no directory");
    doctor(Path::new("/proc/self/data"), &[]).says("data directory", "CRITICAL", "may not write");
    let open = dir.path().join("open");
    std::fs::create_dir(&open).expect("makes");
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&open, mode).expect("sets");
    doctor(&open, &[]).says("data directory", "WARNING", "mode 755");
}

#[test]
fn memory_and_layers_are_no_disks_and_a_small_one_has_no_room() {
    let dir = TempDir::new().expect("a directory");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("makes");
    let at = data.display();
    let small = in_own_mounts(&format!("mount -t tmpfs -o size=64m doctor {at}; exec \"$@\""), &data, &[]);
    small.says("file system", "WARNING", "tmpfs: in memory");
    small.says("room", "CRITICAL", "takes no writes");
    small.says("syncs", "OK", "nothing to sync");
    let used = format!("mount -t tmpfs -o size=64m doctor {at}; head -c 60000000 /dev/zero > {at}/zeros; exec \"$@\"");
    let few = in_own_mounts(&used, &data, &["--set", "engine.read_only_below_free_bytes=1MiB"]);
    few.says("room", "WARNING", "free_percent is");
    let full = format!("mount -t tmpfs -o size=64m,nr_inodes=2 doctor {at}; touch {at}/last; exec \"$@\"");
    in_own_mounts(&full, &data, &["--set", "engine.read_only_below_free_bytes=1MiB"])
        .says("room", "CRITICAL", "inodes");
    let layers = format!(
        "mount -t tmpfs doctor {at}; cd {at}; mkdir low up work; mount -t overlay doctor -o lowerdir=low,upperdir=up,workdir=work {at}; exec \"$@\""
    );
    in_own_mounts(&layers, &data, &[]).says("file system", "WARNING", "overlayfs");
    let read_only = format!("mount -t tmpfs -o ro doctor {at}; exec \"$@\"");
    let read_only = in_own_mounts(&read_only, &data, &[]);
    read_only.says("data directory", "CRITICAL", "may not write");
    read_only.says("syncs", "CRITICAL", "could not be written");
}

#[test]
fn few_open_files_and_little_memory_are_told() {
    let dir = TempDir::new().expect("a directory");
    let of = command(dir.path(), &[]);
    let limited = Command::new("sh")
        .args(["-c", "ulimit -n 300 && exec \"$0\" \"$@\""])
        .arg(of.get_program())
        .args(of.get_args())
        .output()
        .expect("runs");
    Found::of(&limited).says("open files", "WARNING", "may have 300");
    doctor(dir.path(), &["--set", "store.cache_bytes=1000GiB"]).says("memory", "CRITICAL", "the caches alone");
}

#[test]
fn a_log_of_the_future_says_that_the_clock_was_set() {
    let dir = TempDir::new().expect("a directory");
    assert_eq!(Served::start(dir.path()).stop(), Some(0));
    doctor(dir.path(), &[]).says("clock", "OK", "it says");
    let segment = below(&dir.path().join("log")).remove(0);
    let tomorrow = SystemTime::UNIX_EPOCH + Duration::from_secs(now_s() + 86_400);
    std::fs::File::options().write(true).open(&segment).and_then(|file| file.set_modified(tomorrow)).expect("sets");
    doctor(dir.path(), &[]).says("clock", "WARNING", "it was ahead then");
}

fn now_s() -> u64 {
    let dir = TempDir::new().expect("a directory");
    let made = dir.path().metadata().and_then(|data| data.modified()).expect("told");
    made.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn a_link_that_leads_nowhere_is_no_directory_and_odd_names_are_shown_as_they_are_written() {
    let dir = TempDir::new().expect("a directory");
    let (circle, nowhere) = (dir.path().join("circle"), dir.path().join("nowhere"));
    symlink(&circle, &circle).expect("links");
    symlink(dir.path().join("gone"), &nowhere).expect("links");
    for wrong in [&circle, &nowhere, &circle.join("below")] {
        doctor(wrong, &[]).says("data directory", "CRITICAL", "is no directory");
    }
    let told = |data: &str| {
        let mut told = program();
        let told = told.args(["doctor", "--listen", "127.0.0.1:0", "--data", data]).current_dir("/").output();
        text(&told.expect("runs").stdout).to_owned()
    };
    let odd = told(&format!("{}/a\nok       x\x1b[2J", dir.path().display()));
    assert!(odd.contains("a\\nok       x\\u{1b}[2J") && !odd.contains('\x1b'), "{odd}");
    let none = told("");
    assert!(none.contains("see zeolite doctor --help"), "{none}");
}

#[test]
fn what_cannot_be_written_is_told_and_is_not_well() {
    let dir = TempDir::new().expect("a directory");
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let explained = program().args(["config", "explain"]).stdout(full()).output().expect("runs");
    assert_eq!(explained.status.code(), Some(5));
    assert!(text(&explained.stderr).contains("standard output cannot be written"), "{}", text(&explained.stderr));
    let looked = command(dir.path(), &[]).stdout(full()).output().expect("runs");
    assert_eq!(looked.status.code(), Some(3));
}

#[test]
fn ports_that_cannot_be_had_are_told() {
    let dir = TempDir::new().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("told").to_string();
    let found = doctor(dir.path(), &["--metrics", &address]);
    found.says("port", "CRITICAL", &format!("metrics.listen = {address}"));
    doctor(dir.path(), &["--set", "metrics.listen=203.0.113.1:9464", "--set", "metrics.listen_publicly=true"]).says(
        "port",
        "CRITICAL",
        "203.0.113.1",
    );
}

#[test]
fn certificates_and_users_that_no_server_would_start_with_are_told() {
    let dir = TempDir::new().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.to_str().expect("plain").to_owned()
    };
    let made = |days: i64| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let ends = Duration::from_secs(now_s().saturating_add_signed(days * 86_400));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + ends;
        (params.self_signed(&key).expect("signs").pem(), key.serialize_pem())
    };
    let with = |cert: &str, key: &str| {
        doctor(&dir.path().join("data"), &["--set", &format!("tls.cert={cert}"), "--set", &format!("tls.key={key}")])
    };
    let (good, key) = made(90);
    let (cert, key) = (write("cert", &good), write("key", &key));
    with(&cert, &key).says("certificate", "OK", "it ends in 8");
    let (other, _) = made(90);
    with(&write("other", &other), &key).says("certificate", "CRITICAL", "do not go together");
    with(&write("half", &good[..200]), &key).says("certificate", "CRITICAL", "no certificate");
    with(&dir.path().join("gone").display().to_string(), &key).says("certificate", "CRITICAL", "cannot be read");
    for (days, state) in [(10, "WARNING"), (2, "CRITICAL"), (-2, "CRITICAL")] {
        let (soon, key) = made(days);
        with(&write("soon", &soon), &write("soon.key", &key)).says(
            "certificate",
            state,
            if days < 0 { "has ended" } else { "it ends" },
        );
    }
    let users = |path: &str| doctor(&dir.path().join("data"), &["--set", &format!("auth.users_file={path}")]);
    users(&write("users", "format = 1\n[end]\n")).says("users", "WARNING", "none");
    users(&write("cut", "format = 1\n")).says("users", "CRITICAL", "end");
    users("/no/such/users").says("users", "CRITICAL", "/no/such/users");
}

#[test]
fn the_place_of_backups_is_reached_apart_from_the_data_and_used() {
    let dir = TempDir::new().expect("a directory");
    let data = dir.path().join("data");
    let with = |to: &str, more: &[&str]| doctor(&data, &[&["--set", &format!("backup.to={to}")], more].concat());
    let place = dir.path().join("backup");
    let at = place.to_str().expect("plain");
    with(at, &[]).says("backups", "CRITICAL", "no such directory");
    with(at, &[]).says("settings", "CRITICAL", "backup.to");
    std::fs::create_dir(&place).expect("makes");
    with(at, &[]).says("backups", "WARNING", "the same file system");
    with(at, &["--set", "backup.key_file=/no/such/key"]).says("backups", "CRITICAL", "/no/such/key");
    with(data.join("backup").to_str().expect("plain"), &[]).says("settings", "CRITICAL", "lies in the data directory");
    with("ftp://x/y", &[]).says("settings", "CRITICAL", "no place that is known");
    // Nobody listens there.
    with("s3://bucket/x", &["--set", "backup.endpoint=http://127.0.0.1:1"]).says("backups", "CRITICAL", "s3://bucket");
    let elsewhere = TempDir::new_in("/dev/shm").expect("memory of the machine");
    with(elsewhere.path().to_str().expect("plain"), &[]).says("backups", "OK", "has no backup of main yet");
}

/// The place is on the disk of the data, which is told; and that the newest backup is too old, too, as `check` would tell it.
#[test]
fn a_backup_that_is_overdue_is_told_whatever_else_is() {
    let dir = TempDir::new().expect("a directory");
    let (data, place) = (dir.path().join("data"), dir.path().join("backup"));
    let served = Served::start(&data);
    served.json(&["backup", place.to_str().expect("plain")]);
    let to = format!("backup.to={}", place.display());
    let look = |every_s: u32| doctor(&data, &["--set", &to, "--set", &format!("backup.every_s={every_s}")]);
    let fresh = look(86_400);
    fresh.says("backups", "WARNING", "the same file system");
    fresh.says("backups", "OK", "has one of main");
    let old = loop {
        let found = look(1);
        if found.lines("backups").any(|line| line["seen"].as_str().expect("text").contains("backup_intervals")) {
            break found;
        }
    };
    old.says("backups", "WARNING", "the same file system");
    let state = old.lines("backups").filter(|line| line["state"] != "OK").count();
    assert_eq!(state, 2, "both: {:#?}", old.lines);
    // Then it is critical, at the same number of intervals as for `check`.
    while !look(1).lines("backups").any(|line| line["state"] == "CRITICAL") {}
}

#[test]
fn a_look_that_is_killed_leaves_no_file() {
    let dir = TempDir::new().expect("a directory");
    // Until one is met at it: it may be over before anybody looks.
    loop {
        let mut child = command(dir.path(), &[]).stdout(Stdio::null()).spawn().expect("starts");
        let open = format!("/proc/{}/fd", child.id());
        let is_at_it = || {
            let files = std::fs::read_dir(&open).into_iter().flatten().flatten();
            files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file.starts_with(dir.path()))
        };
        let mut met = false;
        while !met && child.try_wait().expect("asked").is_none() {
            met = is_at_it();
        }
        if met {
            // One that has ended meanwhile cannot be killed, and is not reaped before it is waited for.
            child.kill().expect("it is a child");
            child.wait().expect("ends");
            break;
        }
    }
    assert!(below(dir.path()).is_empty(), "{:?}", below(dir.path()));
}
