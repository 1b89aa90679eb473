//! Owns the moving aside of a data directory's content, for a copy that begins anew: nothing is deleted, and nothing
//! is moved before a primary of the same store is there, from which the copy can be made.
//!
//! ```text
//!   DATA/{log,index,blobs,seat,...}  ──>  DATA/aside-20260501T120000Z/{log,index,...}
//! ```

use super::Peers;
use crate::exit::Usage;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeolite_client::Seat;
use zeolite_server::settings::Settings;
use zeolite_server::store::Store;
use zeolite_server::store::disk::RealDisk;
use zeolite_server::store::disk::holder::LOCK_FILE;

const NAME: &str = "aside-";

/// Moves aside what is in the data directories, also of the databases that lie elsewhere; all of them, or none.
pub(in crate::serve) async fn discard_own(settings: &Settings) -> Result<()> {
    let main = (String::from("main"), settings.data_dir.clone());
    let others = settings.databases.iter().map(|(name, one)| (name.clone(), one.data_dir(name, &settings.data_dir)));
    let all: Vec<_> = std::iter::once(main).chain(others).collect();
    let listens = settings.listen_addr().map_err(Usage)?;
    for (name, dir) in &all {
        if dir.join("log").exists() {
            check(&Peers::new(settings, listens, name), name, dir).await?;
        }
    }
    for (_, dir) in all {
        if let Some(aside) = move_aside(&dir)? {
            tracing::warn!(aside = %aside.display(), "what was in the data directory was moved aside; remove it when you need it no more");
        }
    }
    Ok(())
}

/// Refuses unless a primary is there that has the same store.
async fn check(peers: &Peers, name: &str, dir: &Path) -> Result<()> {
    let disk = RealDisk::open(dir)?;
    // A log whose id cannot be read is as good as that of any store.
    let ours = Store::id_in(Arc::new(disk)).unwrap_or_else(|error| {
        tracing::warn!(%error, dir = %dir.display(), "of which store this is cannot be read");
        None
    });
    let mut why = Vec::new();
    for (at, asked) in peers.ask(ours.unwrap_or(0)).await {
        match asked {
            Ok(peer) if peer.standing.seat != Seat::Primary => why.push(format!("{at} is {}", peer.standing.seat)),
            Ok(peer) if ours.is_some_and(|ours| ours != peer.standing.store_id) => why.push(format!(
                "{at} is the primary of another store ({:016x}) than this ({:016x}); if that is what you want, begin with an empty directory",
                peer.standing.store_id,
                ours.unwrap_or(0)
            )),
            Ok(_) => return Ok(()),
            Err(error) => why.push(format!("{at}: {error:#}")),
        }
    }
    bail!(
        "no primary is there from which the database {name} could be copied anew, so nothing was moved aside: {}",
        why.join("; ")
    )
}

/// Moves everything that is there into a directory of its own in it; none: nothing was there.
fn move_aside(dir: &Path) -> Result<Option<PathBuf>> {
    if !dir.exists() {
        return Ok(None);
    }
    // Held until it is moved: no server has it.
    let disk = RealDisk::open(dir)?;
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if name != LOCK_FILE && !name.to_string_lossy().starts_with(NAME) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    let aside = dir.join(format!("{NAME}{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    std::fs::create_dir(&aside).with_context(|| format!("{} cannot be made", aside.display()))?;
    for name in names {
        let (from, to) = (dir.join(&name), aside.join(&name));
        std::fs::rename(&from, &to)
            .with_context(|| format!("{} cannot be moved to {}", from.display(), to.display()))?;
    }
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| dir.display().to_string())?;
    drop(disk);
    Ok(Some(aside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_aside_is_all_there_and_what_was_moved_before_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(move_aside(&dir.path().join("none")).expect("nothing to do"), None);
        std::fs::create_dir_all(dir.path().join("log")).expect("made");
        std::fs::write(dir.path().join("log/1"), "one").expect("written");
        std::fs::create_dir(dir.path().join("aside-before")).expect("made");
        let aside = move_aside(dir.path()).expect("moves").expect("something was there");
        assert_eq!(std::fs::read(aside.join("log/1")).expect("there"), b"one");
        assert!(dir.path().join("aside-before").exists() && !dir.path().join("log").exists());
        assert_eq!(move_aside(dir.path()).expect("nothing to do"), None);
    }
}
