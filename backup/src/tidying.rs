//! Owns what is removed: chains that are too old, and what cut runs have left.
//!
//! Of a chain that goes the manifests go first, the last one before the others: wherever that is cut, what is left is a chain, or
//! leavings. Leavings are what no manifest names, in directories whose names this program makes; they go when a backup was made after
//! them and nothing was written to them for an hour, since a run that lives may be between two writes.

use crate::errors::Result;
use crate::manifest::LogObject;
use crate::place::Place;
use crate::retention::{Keep, Times, to_remove};
use crate::shelf::{Chain, Shelf, manifest_name};
use std::collections::HashSet;

/// A run that has written nothing for so long is dead.
const DEAD_AFTER_MS: u64 = 3_600_000;

/// What was removed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tidied {
    /// Chains that were too old.
    pub chains: Vec<String>,
    /// Backups in these.
    pub backups: u64,
    /// Leavings of cut runs.
    pub runs: Vec<String>,
    /// Bytes of all of it.
    pub bytes: u64,
    /// Leavings that stay for now.
    pub left: Vec<String>,
}

/// Removes what may go, after a backup was taken; `now_unix_ms` is the machine's clock.
pub async fn tidy(place: &Place, database: &str, keep: Keep, now_unix_ms: u64) -> Result<Tidied> {
    let shelf = Shelf::look(place, database).await?;
    let mut tidied = Tidied::default();
    let times: Vec<Times> = shelf.chains.iter().map(times).collect();
    let going: HashSet<usize> = to_remove(&times, keep, now_unix_ms).into_iter().collect();
    let newest = times.iter().rposition(|times| !times.is_empty());
    for (at, chain) in shelf.chains.iter().enumerate() {
        if going.contains(&at) {
            remove_chain(place, chain, &mut tidied).await?;
        } else if chain.broken.is_none() {
            // Of what is damaged nothing is removed: somebody will want to look at it.
            sweep(place, chain, newest.is_some_and(|newest| at < newest), now_unix_ms, &mut tidied).await?;
        }
    }
    Ok(tidied)
}

fn times(chain: &Chain) -> Times {
    chain.backups.iter().map(|backup| backup.manifest.done_unix_ms).collect()
}

async fn remove_chain(place: &Place, chain: &Chain, tidied: &mut Tidied) -> Result<()> {
    for backup in chain.backups.iter().rev() {
        place.remove(&format!("{}/{}", chain.dir, manifest_name(backup.manifest.number))).await?;
    }
    let (_, bytes) = place.remove_below(&chain.dir).await?;
    remove_staged(place, &chain.dir);
    tidied.chains.push(chain.name.clone());
    tidied.backups += chain.backups.len() as u64;
    tidied.bytes += bytes;
    Ok(())
}

/// Removes the runs of a chain that no manifest names, and what is left of a chain that never became one.
async fn sweep(place: &Place, chain: &Chain, is_passed: bool, now_unix_ms: u64, tidied: &mut Tidied) -> Result<()> {
    let mut named: HashSet<String> = HashSet::new();
    let unnamed = |named: &HashSet<String>| chain.runs.iter().any(|run| !named.contains(run));
    for backup in &chain.backups {
        if let Some(list) = &backup.manifest.objects {
            named.extend(run_of(&list.name));
        }
    }
    // A backup that was gone on with has objects of the run before: whose, its list says.
    if unnamed(&named) {
        for backup in &chain.backups {
            let objects: Vec<LogObject> = backup.manifest.objects(place, &chain.dir).await?;
            named.extend(objects.iter().filter_map(|object| run_of(&object.stored.name)));
        }
    }
    let reached = chain.backups.len() as u32;
    for run in chain.runs.iter().filter(|run| !named.contains(*run)) {
        let Some(number) = run.split_once('-').and_then(|(number, _)| number.parse::<u32>().ok()) else { continue };
        let dir = format!("{}/{run}", chain.dir);
        // What has the next number may be gone on with.
        let is_over = number <= reached || is_passed;
        let written = place.newest_below(&dir).await?;
        if !is_over || written + DEAD_AFTER_MS > now_unix_ms {
            tidied.left.push(dir);
            continue;
        }
        place.remove(&format!("{}/{run}.progress", chain.dir)).await?;
        tidied.bytes += place.remove_below(&dir).await?.1;
        remove_staged(place, &dir);
        tidied.runs.push(dir);
    }
    Ok(())
}

fn run_of(name: &str) -> Option<String> {
    name.split_once('/').map(|(run, _)| run.to_owned())
}

/// Files `NAME#NUMBER` in a directory: what was being written when a run was cut. The store does not list them.
fn remove_staged(place: &Place, dir: &str) {
    let Some(root) = place.dir() else { return };
    let mut dirs = vec![root.join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_staged = name.to_str().and_then(|name| name.rsplit_once('#')).is_some_and(|(before, number)| {
                before.starts_with(|letter: char| letter.is_ascii_digit() || letter == 'o')
                    && number.bytes().all(|byte| byte.is_ascii_digit())
            });
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(_) if is_staged => drop(std::fs::remove_file(entry.path())),
                _ => {}
            }
        }
        // Only an empty one goes.
        drop(std::fs::remove_dir(&dir));
    }
}
