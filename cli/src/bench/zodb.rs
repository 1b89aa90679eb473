//! Owns `bench zodb`: the benchmark of ZODB on Zeolite, beside ZEO and RelStorage, which is a Python program since ZODB is one.
//!
//! It is part of the package `zeolite` for Python; here the interpreter that has it is found, and told which program's server is measured.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Python package's module.
const MODULE: &str = "zeolite_bench";
/// What lies in the directory where it is called is not the package.
const NOT_HERE: (&str, &str) = ("PYTHONSAFEPATH", "1");

#[derive(Args)]
pub(crate) struct ZodbArgs {
    /// The interpreter that has the package [default: that of the virtual environment that is active, else python3]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// What to measure (speeds, pain) and its options: `zeolite bench zodb -- --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl ZodbArgs {
    /// The speeds, beside whatever is installed.
    pub(super) fn speeds() -> ZodbArgs {
        ZodbArgs { python: None, arguments: vec!["speeds".into()] }
    }
}

/// Becomes it; it tells for itself.
pub(super) fn measure(args: &ZodbArgs) -> Result<()> {
    let python = interpreter(args.python.as_deref(), std::env::var_os("VIRTUAL_ENV").as_deref());
    has_the_package(&python)?;
    let mut command = Command::new(&python);
    command.args(["-m", MODULE]).args(&args.arguments).env(NOT_HERE.0, NOT_HERE.1);
    if std::env::var_os("ZEOLITE_PROGRAM").is_none() {
        command.env("ZEOLITE_PROGRAM", std::env::current_exe().context("this program's own file is not known")?);
    }
    // In this process's place: who ends it ends the benchmark, and that its servers.
    Err(command.exec()).with_context(|| format!("{} cannot be run", python.display()))
}

fn interpreter(named: Option<&Path>, environment: Option<&OsStr>) -> PathBuf {
    match (named, environment) {
        (Some(named), _) => named.to_owned(),
        (None, Some(environment)) => Path::new(environment).join("bin/python"),
        (None, None) => PathBuf::from("python3"),
    }
}

fn has_the_package(python: &Path) -> Result<()> {
    let asked = format!("import ZODB, zeolite.zodb, {MODULE}");
    let mut command = Command::new(python);
    let output = command.args(["-c", &asked]).env(NOT_HERE.0, NOT_HERE.1).stdin(Stdio::null()).output();
    let output =
        output.with_context(|| format!("{} cannot be run; name an interpreter with --python", python.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let why = told.lines().next_back().unwrap_or("it says nothing");
    let python = python.display();
    bail!(
        "{python} does not have what is needed ({why}): install it there, {python} -m pip install 'zeolite[bench]', or name another interpreter with --python"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_the_one_that_was_named_or_is_active() {
        let active = Some(OsStr::new("/site"));
        assert_eq!(interpreter(Some(Path::new("/opt/python")), active), Path::new("/opt/python"));
        assert_eq!(interpreter(None, active), Path::new("/site/bin/python"));
        assert_eq!(interpreter(None, None), Path::new("python3"));
    }
}
