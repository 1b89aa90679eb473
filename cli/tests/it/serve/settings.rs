//! Where settings come from, and which are refused.

use crate::served::{program, text};
use serde_json::Value;

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
