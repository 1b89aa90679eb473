//! Owns the program under test: the binary, signals to it, what it printed.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The binary, whatever the environment says. The system ends it with the thread that starts it, also when that is killed: no server stays that
/// nobody ends.
pub(crate) fn program() -> Command {
    let mut command = ended_with_its_thread(FILE);
    for variable in [
        "SERVER",
        "DATABASE",
        "TOKEN",
        "TOKEN_FILE",
        "CA",
        "CERT",
        "KEY",
        "FAILOVERS",
        "SEED",
        "OTHER_RELEASE",
        "BLOB_MIB",
        "BULK",
    ] {
        command.env_remove(format!("ZEOLITE_{variable}"));
    }
    command.env("XDG_CONFIG_HOME", "/dev/null");
    command
}

/// Where the binary is.
pub(crate) const FILE: &str = env!("CARGO_BIN_EXE_zeolite");

/// Another program, ended like that. (What it starts itself is its own: a server that has handed over ends with its test alone.)
pub(crate) fn ended_with_its_thread(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Sends a signal, by its name.
pub(crate) fn signal(child: &Child, name: &str) {
    assert!(signal_to(child.id().into(), name));
}

/// The same to a process that is not our child; whether it is there.
pub(crate) fn signal_to(pid: u64, name: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status().expect("kill runs").success()
}

/// The most that a process has had in memory, so far; of one that has ended, nothing.
pub(crate) fn most_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

/// Where a server says that it listens, as JSON, and its process: the line of the next one, if several print there.
pub(crate) fn listening(lines: &mut impl BufRead) -> (String, u32) {
    let told = told(lines);
    (told["address"].as_str().expect("an address").to_owned(), told["pid"].as_u64().expect("a pid") as u32)
}

/// All that a server says when it listens.
pub(crate) fn told(lines: &mut impl BufRead) -> serde_json::Value {
    let mut line = String::new();
    lines.read_line(&mut line).expect("it says where it listens");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// Waits until nobody has a data directory: a process that is not our child is not ours to wait for.
pub(crate) fn wait_until_free(dir: &Path) {
    let lock = File::open(dir.join("lock")).expect("a server has made it");
    while matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        std::thread::yield_now();
    }
}

/// What a command printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
