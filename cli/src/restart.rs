//! Owns `restart`: a new process takes the place of the server that has a data directory, and this waits until it has.
//!
//! It asks by a signal and not over the network: who restarts a server starts a program on its machine. Which process it is the lock file
//! of the data directory says, and whether there is one the lock itself.

use crate::exit::Usage;
use crate::output::Out;
use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use zeolite_server::store::disk::holder::Holder;

/// The new process is there within this, or is not coming: it has 30 seconds to become ready.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Args)]
#[command(after_help = "\
The new process is started by the old one: the same program file as it is now, with the same arguments and environment; settings, certificates \
and users are read anew. If it cannot become ready, the old one serves on, and its log says why. Clients wait for a moment \
and lose nothing. The same without this command: kill -USR2 PID, or `systemctl reload` where the unit says so.")]
pub(crate) struct RestartArgs {
    /// The data directory of the server [default: as `serve` would find it]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The settings file that names it [default: zeolite.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "ZEOLITE_CONFIG")]
    config: Option<PathBuf>,
}

/// `zeolite restart`.
pub(crate) async fn restart(out: &Out, args: &RestartArgs, within: Option<Duration>) -> Result<()> {
    let dir = match &args.data {
        Some(dir) => dir.clone(),
        None => crate::serve::data_dir(args.config.as_deref())?,
    };
    let asked_of = Holder::of(&dir)?.filter(|holder| holder.serves);
    let Holder { pid: old, not_followed, .. } =
        asked_of.ok_or_else(|| Usage(format!("no server serves the data directory {}; start one", dir.display())))?;
    let process = i32::try_from(old).ok().and_then(Pid::from_raw).context("the lock file names no process")?;
    kill_process(process, Signal::USR2).with_context(|| format!("process {old} cannot be told"))?;
    let (asked, within) = (Instant::now(), within.unwrap_or(WITHIN));
    loop {
        match Holder::of(&dir)? {
            Some(now) if now.pid == old && now.not_followed > not_followed => {
                bail!("the new process did not become ready, and {old} serves on; its log says why")
            }
            Some(Holder { pid, serves: true, .. }) if pid != old => {
                match out.is_json() {
                    true => out.json(&json!({ "old_pid": old, "pid": pid }))?,
                    false => out.line(format_args!("process {pid} has taken the place of {old}")),
                }
                return Ok(());
            }
            _ if asked.elapsed() < within => tokio::time::sleep(LOOK_EVERY).await,
            Some(now) if now.pid == old => bail!(
                "process {old} still serves, and its log does not say yet what becomes of the new one; look at it"
            ),
            Some(_) => bail!("a new process has the data directory and does not serve yet; its log says why"),
            None => bail!("nobody serves {} any more; the log of the server says why: start it again", dir.display()),
        }
    }
}
