//! Owns what is removed: chains that are too old, and what cut runs have left.
//!
//! Of a chain that goes the manifests go first, the last one before the others: wherever that is cut, what is left is a chain, or
//! leavings. Leavings are what no manifest names, in directories whose names this program makes; they go when a backup was made after
//! them and nothing was written to them for an hour, since a run that lives may be between two writes.
//!
//! Only files go whose names this program makes, and directories that are empty then. Of a chain with damage nothing goes: somebody will
//! want to look at it.

use crate::errors::Result;
use crate::manifest::LogObject;
use crate::place::Place;
use crate::retention::{Keep, Kept, to_remove};
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
    let kept: Vec<Kept> = shelf.chains.iter().map(kept).collect();
    let going: HashSet<usize> = to_remove(&kept, keep, now_unix_ms).into_iter().collect();
    let newest = shelf.chains.iter().rposition(|chain| !chain.backups.is_empty());
    for (at, chain) in shelf.chains.iter().enumerate() {
        if going.contains(&at) {
            remove_chain(place, chain, &mut tidied).await?;
        } else if chain.broken.is_none() {
            sweep(place, chain, newest.is_some_and(|newest| at < newest), now_unix_ms, &mut tidied).await?;
        }
    }
    Ok(tidied)
}

/// What is damaged stays, and does not count as something that is kept.
fn kept(chain: &Chain) -> Kept {
    let whole = chain.backups.iter().filter(|_| chain.broken.is_none());
    Kept { life: chain.life().unwrap_or_default(), times: whole.map(|backup| backup.manifest.done_unix_ms).collect() }
}

async fn remove_chain(place: &Place, chain: &Chain, tidied: &mut Tidied) -> Result<()> {
    for backup in chain.backups.iter().rev() {
        place.remove(&format!("{}/{}", chain.dir, manifest_name(backup.manifest.number))).await?;
    }
    let bytes = place.remove_below(&chain.dir, |name| is_ours(chain, name)).await?;
    remove_staged(place, chain, &chain.dir);
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
    for run in chain.runs.iter().filter(|run| is_run(run) && !named.contains(*run)) {
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
        tidied.bytes += place.remove_below(&dir, |name| is_ours(chain, name)).await?;
        remove_staged(place, chain, &dir);
        tidied.runs.push(dir);
    }
    Ok(())
}

fn run_of(name: &str) -> Option<String> {
    name.split_once('/').map(|(run, _)| run.to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a run could be called this: its number, and eight digits.
fn is_run(name: &str) -> bool {
    name.split_once('-').is_some_and(|(number, digits)| number.len() >= 4 && is_number(number) && is_hex(digits, 8))
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether this program writes files of such a name in a chain.
fn is_ours(chain: &Chain, name: &str) -> bool {
    let Some(below) = name.strip_prefix(&chain.dir).and_then(|below| below.strip_prefix('/')) else { return false };
    let numbered = |file: &str, ending: &str| file.strip_suffix(ending).is_some_and(is_number);
    match below.split('/').collect::<Vec<_>>()[..] {
        [file] => numbered(file, ".manifest") || file.strip_suffix(".progress").is_some_and(is_run),
        [run, file] if is_run(run) => {
            numbered(file, ".log") || numbered(file, ".blobs") || file.strip_prefix("objects-").is_some_and(is_number)
        }
        [run, "blobs", id, part] if is_run(run) => is_hex(id, 32) && is_number(part),
        _ => false,
    }
}

/// Files `NAME#NUMBER` in a directory: what was being written when a run was cut. The store does not list them.
fn remove_staged(place: &Place, chain: &Chain, dir: &str) {
    let Some(root) = place.dir() else { return };
    let (mut dirs, mut seen) = (vec![dir.to_owned()], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(root.join(&dir)).into_iter().flatten().flatten() {
            let Some(name) = entry.file_name().to_str().map(|name| format!("{dir}/{name}")) else { continue };
            let staged = name.rsplit_once('#').filter(|(_, number)| is_number(number));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(name),
                Ok(_) if staged.is_some_and(|(name, _)| is_ours(chain, name)) => {
                    drop(std::fs::remove_file(entry.path()))
                }
                _ => {}
            }
        }
        seen.push(dir);
    }
    // The innermost first; only an empty one goes.
    seen.iter().rev().for_each(|dir| drop(std::fs::remove_dir(root.join(dir))));
}
