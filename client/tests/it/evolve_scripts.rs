//! Golden scripts for evolves: each `*.txt` beside this file is run against a real server with real workers.
//!
//! `ZEOLITE_BLESS=1` rewrites the files with what came out; then read the difference, because it is the behaviour that has
//! changed. `ZEOLITE_SCRIPT=word` runs only those whose names have the word in them.

mod lane;
mod live;
mod names;
mod operator;
mod script;
mod stage;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Scripts that run at once: most of them mostly wait for an fsync or a lease.
const AT_ONCE: usize = 4;

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/evolve_scripts");
    let entries = std::fs::read_dir(dir).expect("the scripts are beside this file");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "txt"));
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().expect("a script has a name").to_string_lossy().into_owned()
}

/// Runs one script; gives what does not fit.
async fn golden(path: PathBuf, bless: bool) -> Option<String> {
    let text = std::fs::read_to_string(&path).expect("a script can be read");
    let found = script::run(&text).await;
    let failed = found.contains("BAD COMMAND") || found.contains("STUCK") || (found != text && !bless);
    if bless && found != text {
        std::fs::write(&path, &found).expect("a script can be rewritten");
    }
    failed.then(|| format!("{}: {}", name(&path), script::first_difference(&text, &found)))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_script_prints_what_its_file_says() {
    let bless = std::env::var_os("ZEOLITE_BLESS").is_some();
    let only = std::env::var("ZEOLITE_SCRIPT").unwrap_or_default();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for path in scripts().into_iter().filter(|path| name(path).contains(&only)) {
        let places = places.clone();
        running.spawn(async move {
            let _place = places.acquire().await.expect("never closed");
            golden(path, bless).await
        });
    }
    let (mut failures, mut ran) = (Vec::new(), 0);
    while let Some(failed) = running.join_next().await {
        ran += 1;
        failures.extend(failed.expect("no panic"));
    }
    failures.sort();
    assert!(ran > 0, "no script was run");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
