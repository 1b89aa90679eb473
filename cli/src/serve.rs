//! Owns the settings of a server, from file, environment and flags: for `serve`, whose life is told in `life`, and `config check`.

mod follow;
mod handover;
mod life;
mod schedules;
mod steering;
mod systemd;

use crate::exit::{ProblemFound, Usage};
use crate::output::Out;
use crate::settings_page;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeolite_backup::{Keep, Key, Place, Reach, real_path};
use zeolite_proto::Registry;
use zeolite_server::settings::{BackupSettings, Settings, ZodbSettings};
use zeolite_zodb::Rules;
use zeolite_zodb::replay::Replay;

pub(crate) use life::{follow, serve};

/// Read when it is in the current directory and no other file is named.
const FILE: &str = "zeolite.toml";

#[derive(Args)]
#[command(after_help = "\
Settings come from zeolite.toml, then from the environment, then from flags; the later wins. Every setting can be given \
in each of the three: `[store] cache_bytes = '1 GiB'`, ZEOLITE_STORE_CACHE_BYTES=1GiB, --set store.cache_bytes=1GiB. \
`zeolite config check` shows all settings with their values, `zeolite config explain` what they mean.")]
pub(crate) struct ServeArgs {
    /// The settings file [default: zeolite.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "ZEOLITE_CONFIG")]
    config: Option<PathBuf>,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port to listen on; port 0 lets the system choose
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Allow an address that other machines can reach without encryption or without users
    #[arg(long)]
    listen_publicly: bool,
    /// Address and port of the page for people and the numbers for monitoring (/metrics, /healthz), over HTTP; off without it
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    /// Commits are acknowledged when so many followers have them on their disks
    #[arg(long, value_name = "N")]
    sync: Option<u64>,
    /// Say that log and index were both put back from a copy: clients then drop what they know of the life that was lost
    #[arg(long)]
    put_back: bool,
    /// Any other setting
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// What to log on standard error, as `info` or `zeolite_server=debug`
    #[arg(long, value_name = "FILTER", env = "ZEOLITE_LOG", default_value = "info")]
    log: String,
    /// In which form
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Args)]
pub(crate) struct FollowArgs {
    /// The primary, and the other copies: HOST:PORT, with commas between; without it, `follow.primary` of the settings
    #[arg(value_name = "PRIMARY")]
    primary: Option<String>,
    /// Once: move what is in the data directory aside, into a directory in it, and copy anew
    #[arg(long)]
    discard_own: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

/// The form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON value per line
    Json,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, as in store.cache_bytes=1GiB")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl ServeArgs {
    pub(crate) fn settings(&self, primary: Option<&str>) -> Result<Settings> {
        let file = self.config.as_deref().or_else(file_here);
        let mut overrides = self.set.clone();
        if let Some(dir) = &self.data {
            let dir = dir.to_str().ok_or_else(|| Usage("the data directory's name is not utf-8; rename it".into()))?;
            overrides.push(("data_dir".into(), dir.into()));
        }
        overrides.extend(primary.iter().map(|primary| ("follow.primary".into(), (*primary).to_owned())));
        overrides.extend(self.listen.iter().map(|listen| ("listen".into(), listen.clone())));
        overrides.extend(self.metrics.iter().map(|listen| ("metrics.listen".into(), listen.clone())));
        overrides.extend(self.sync.iter().map(|sync| ("replication.sync".into(), sync.to_string())));
        if self.listen_publicly {
            overrides.push(("listen_publicly".into(), "true".into()));
        }
        load(file, &overrides)
    }
}

/// The settings file of the current directory.
fn file_here<'a>() -> Option<&'a Path> {
    Some(Path::new(FILE)).filter(|file| file.exists())
}

fn load(file: Option<&Path>, overrides: &[(String, String)]) -> Result<Settings> {
    let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Settings::load(file, std::env::vars_os().filter_map(utf8), overrides)
        .map_err(|error| Usage(error.to_string()).into())
}

/// The file of users that the settings name: of this settings file, or as `serve` would find them.
pub(crate) fn users_file(config: Option<&Path>) -> Result<Option<PathBuf>> {
    let settings = load(config.or_else(file_here), &[])?;
    Ok(settings.auth.has_users().then_some(settings.auth.users_file))
}

/// The data directory that `serve` would take: of this settings file, or as it would find one.
pub(crate) fn data_dir(config: Option<&Path>) -> Result<PathBuf> {
    Ok(load(config.or_else(file_here), &[])?.data_dir)
}

/// The settings of a data directory, for a command that opens it without serving it: from file and environment.
pub(crate) fn offline(dir: &Path) -> Result<Settings> {
    let settings = Settings { data_dir: dir.to_owned(), ..load(file_here(), &[])? };
    settings.check().map_err(|problems| Usage(problems.join("; ")))?;
    Ok(settings)
}

#[derive(Args)]
pub(crate) struct ConfigCheckArgs {
    /// With what each setting means, its default and its bounds: to begin a settings file from
    #[arg(long)]
    pub(crate) explain: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// `zeolite config check`.
pub(crate) fn check(out: &Out, args: &ConfigCheckArgs) -> Result<()> {
    let settings = args.serve.settings(None)?;
    let problems = problems(&settings);
    if out.is_json() {
        out.json(&json!({ "settings": settings, "problems": problems }))?;
    } else {
        let shown = toml::to_string(&settings).context("the settings cannot be shown as toml")?;
        let shown = if args.explain { settings_page::with_meanings(&shown) } else { shown };
        out.line(shown.trim_end());
        problems.iter().for_each(|problem| out.line(out.verdict(false, problem)));
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(ProblemFound("1 setting is wrong".to_owned()).into()),
        count => Err(ProblemFound(format!("{count} settings are wrong")).into()),
    }
}

/// Everything that is wrong with settings, those included that the server itself does not read.
pub(crate) fn problems(settings: &Settings) -> Vec<String> {
    let mut problems = settings.check().err().unwrap_or_default();
    problems.extend(keep_of(settings).err());
    problems.extend(apart(settings).err());
    problems.extend(followed(settings).err());
    if settings.backup.is_on() {
        problems.extend(place(&settings.backup).err().map(|error| format!("backup.to: {error:#}")));
    }
    problems
}

/// Backups in a data directory would be lost with it.
fn apart(settings: &Settings) -> Result<(), String> {
    let to = &settings.backup.to;
    if to.is_empty() || to.contains("://") {
        return Ok(());
    }
    let mut dirs = settings.data_dirs().map(|(_, dir)| dir);
    let place = real_path(Path::new(to));
    match dirs.find(|dir| place.starts_with(real_path(dir))) {
        None => Ok(()),
        Some(dir) => Err(format!(
            "backup.to = {to} lies in the data directory {}, and would be lost with it; name a directory elsewhere",
            dir.display()
        )),
    }
}

/// A name that is none would be waited for.
fn followed(settings: &Settings) -> Result<(), String> {
    let mut wrong = settings.follow.addresses().filter_map(|at| crate::server::address(at).err());
    wrong.next().map_or(Ok(()), |wrong| Err(format!("follow.primary: {wrong}")))
}

/// Where scheduled backups go.
pub(crate) fn place(backup: &BackupSettings) -> Result<Place> {
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let key = (!backup.key_file.as_os_str().is_empty()).then(|| Key::read(&backup.key_file)).transpose()?;
    let reach = Reach { endpoint: said(&backup.endpoint), region: said(&backup.region), key };
    Ok(Place::open_there(&backup.to, reach)?)
}

/// What `backup.keep` says, which the server itself does not read.
fn keep_of(settings: &Settings) -> Result<Keep, String> {
    settings.backup.keep.parse().map_err(|problem| format!("backup.keep: {problem}"))
}

/// The built-in resolvers, and those for ZODB's classes.
fn registry(settings: &ZodbSettings) -> Registry {
    let mut registry = Registry::built_in();
    let rules = Rules { same_changes: settings.merge_same_changes };
    if settings.merge {
        zeolite_zodb::resolvers(rules).for_each(|(class, resolver)| registry.register(class, resolver));
    }
    if settings.merge_mappings {
        zeolite_zodb::mapping::resolvers(rules).for_each(|(class, resolver)| registry.register(class, resolver));
    }
    if settings.route_read_checks {
        registry.judge_reads(Arc::new(zeolite_zodb::routes::Routes));
    }
    if settings.replay_splits {
        registry.replay_with(Arc::new(Replay { rules }));
    }
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_backups_in_a_data_directory_is_refused_however_it_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let data_dir = dir.path().join("data");
        std::fs::create_dir(&data_dir).expect("makes");
        std::os::unix::fs::symlink(&data_dir, dir.path().join("link")).expect("links");
        let wrong = |to: &str| {
            let to = dir.path().join(to).to_str().expect("plain").to_owned();
            let backup = BackupSettings { to, ..BackupSettings::default() };
            apart(&Settings { data_dir: data_dir.clone(), backup, ..Settings::default() }).is_err()
        };
        assert!(
            ["data", "data/backup", "link/backup", "data/not/there/yet", "link"].map(wrong).iter().all(|wrong| *wrong)
        );
        assert!(!["", "database", "backup", "elsewhere/data"].map(wrong).iter().any(|wrong| *wrong));
        assert!(apart(&Settings::default()).is_ok());
    }

    #[test]
    fn classes_of_zodb_are_merged_and_their_read_checks_judged_unless_settings_say_no() {
        let with = |merge, route_read_checks| {
            let (replay_splits, merge_mappings) = (merge, merge);
            registry(&ZodbSettings {
                merge,
                route_read_checks,
                replay_splits,
                merge_mappings,
                ..ZodbSettings::default()
            })
        };
        let serves = registry(&ZodbSettings::default());
        for class in ["BTrees.OOBTree.OOBucket", "BTrees.IIBTree.IITreeSet", "BTrees.Length.Length"] {
            assert!(serves.get(class).is_some() && with(false, true).get(class).is_none(), "{class}");
        }
        assert!(serves.read_judge().is_some() && with(true, false).read_judge().is_none());
        let mapping = "persistent.mapping.PersistentMapping";
        assert!(serves.get(mapping).is_none() && with(true, false).get(mapping).is_some());
        assert!(serves.replayer().is_none() && with(true, false).replayer().is_some());
    }
}
