//! Owns the pages of the manual: one for the program and one for each of its commands, made of the same words as `--help`.

use crate::examples;
use anyhow::{Context, Result};
use std::path::Path;

/// `zeolite man DIR`: writes them there, `zeolite.1`, `zeolite-serve.1` and so on.
pub(crate) fn man(dir: &Path) -> Result<()> {
    let failed = || format!("writing pages of the manual into {}", dir.display());
    std::fs::create_dir_all(dir).with_context(failed)?;
    clap_mangen::generate_to(examples::command(), dir).with_context(failed)
}
