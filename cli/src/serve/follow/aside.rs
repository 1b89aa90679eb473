//! Owns the moving aside of a data directory's content, for a copy that begins anew: nothing is deleted.
//!
//! ```text
//!   DATA/{log,index,blobs,seat,...}  ──>  DATA/aside-20260501T120000Z/{log,index,...}
//! ```

use anyhow::{Context, Result};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use zeolite_server::store::disk::RealDisk;
use zeolite_server::store::disk::holder::LOCK_FILE;

const NAME: &str = "aside-";

/// Moves everything that is there into a directory of its own in it; none: nothing was there.
pub(in crate::serve) fn move_aside(dir: &Path) -> Result<Option<PathBuf>> {
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
