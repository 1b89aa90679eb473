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
    for (nonsense, words) in [
        ("engine.batch_txns_max=0", "1 to"),
        ("engine.hop_max=1000000000000", "65536"),
        ("follow.primary=db1:7878,nonsense:", "is no address"),
    ] {
        let output = check(&["--set", nonsense]);
        assert_eq!(output.status.code(), Some(1), "{nonsense}");
        assert!(text(&output.stdout).contains(words), "{nonsense}: {}", text(&output.stdout));
    }
    assert_eq!(check(&["--set", "store.cache_bytes=-1"]).status.code(), Some(2), "no number of bytes");
    std::fs::write(&file, "listen = 7").expect("writes");
    assert_eq!(check(&[]).status.code(), Some(2));
}

#[test]
fn a_setting_is_explained() {
    let explain = |args: &[&str]| program().args(["config", "explain"]).args(args).output().expect("runs");
    let output = explain(&["segment_bytes"]);
    let told = text(&output.stdout);
    assert!(
        told.starts_with("store.segment_bytes_max = 268435456 (256.0 MiB); 4096 (4.0 KiB) to 2147483648"),
        "{told}"
    );
    assert_eq!(explain(&["no such word"]).status.code(), Some(2));
}
