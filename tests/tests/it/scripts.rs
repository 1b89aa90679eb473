//! Runs every golden script of `scripts/`; `ZEOLITE_BLESS=1` rewrites them.

use std::path::{Path, PathBuf};
use zeolite_tests::script;

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let entries = std::fs::read_dir(dir).expect("the scripts are beside this crate");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "txt"));
    paths.sort();
    paths
}

#[test]
fn every_script_prints_what_its_file_says() {
    let bless = std::env::var_os("ZEOLITE_BLESS").is_some();
    let only = std::env::var("ZEOLITE_SCRIPT").unwrap_or_default();
    let mut failures = Vec::new();
    let mut ran = 0;
    for path in scripts() {
        let name = path.file_name().expect("a script has a name").to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        ran += 1;
        let text = std::fs::read_to_string(&path).expect("a script can be read");
        let found = script::run(&text, usize::MAX);
        let small_ones = script::run(&text, 1);
        // While a draft is ready more is remembered: a script about what is forgotten shows that.
        if small_ones != found && !text.contains("set recent_") {
            failures.push(format!("{name}, ready before: {}", script::first_difference(&found, &small_ones)));
        }
        if found.contains("BAD COMMAND") || (found != text && !bless) {
            failures.push(format!("{name}: {}", script::first_difference(&text, &found)));
        }
        if bless && found != text {
            std::fs::write(&path, found).expect("a script can be rewritten");
        }
    }
    assert!(ran > 0, "no script was run");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
