//! Owns the program under test: the binary, signals to it, what it printed.

use std::fs::{File, TryLockError};
use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command};

/// The binary, whatever the environment says.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeolite"));
    for variable in ["SERVER", "DATABASE", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY", "FAILOVERS", "SEED"] {
        command.env_remove(format!("ZEOLITE_{variable}"));
    }
    command.env("XDG_CONFIG_HOME", "/dev/null");
    command
}

/// The binary, which the system ends with the thread that starts it, also when that is killed: for what would be kept by a server that stays.
pub(crate) fn program_of_this_thread() -> Command {
    let program = program();
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL"]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    bound
}

/// Sends a signal, by its name.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
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
