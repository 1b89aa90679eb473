//! Owns the settings of the databases beside `main`: where each lies, and in what it differs.
//!
//! ```text
//!   [store]  [engine]  [limits]            what every database starts from; `main` has just these
//!   [databases.shop]
//!   data_dir = "/srv/shop"                 left out: DATA_DIR/databases/shop
//!   [databases.shop.limits]
//!   draft_writes_max = 1000                everything else as in [limits]
//! ```
//! The caches (`store.cache_bytes`, `store.index_cache_bytes`) are a budget of the server: they are shared out evenly among
//! the databases that do not name their own.

use super::{Limits, SessionSettings, Settings, bounds, machine};
use crate::databases::MAIN;
use crate::engine::{EngineSettings, ReplicationSettings};
use crate::rpc::budget::PART_BYTES;
use crate::store::StoreSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Databases of one server; each has five threads and its caches.
const DATABASES_MAX: usize = 64;

/// A database beside `main`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// The data directory; made when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// In what its `[store]` differs.
    pub store: Table,
    /// In what its `[engine]` differs.
    pub engine: Table,
    /// In what its `[limits]` differ.
    pub limits: Table,
}

impl DatabaseSettings {
    /// Where it lies.
    pub fn data_dir(&self, name: &str, of_main: &Path) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| of_main.join("databases").join(name))
    }
}

/// A database as it is to be opened.
#[derive(Clone, Debug)]
pub struct DatabasePlan {
    /// What clients call it.
    pub name: String,
    /// Its log, index and caches.
    pub store: StoreSettings,
    /// Its queues, pins.
    pub engine: EngineSettings,
    /// What its clients may send.
    pub limits: Limits,
}

impl DatabasePlan {
    /// Every problem, in words.
    pub(super) fn check(&self, sessions: &SessionSettings) -> Vec<String> {
        let mut problems = Vec::new();
        bounds::check("store", &self.store, &mut problems);
        bounds::check("engine", &self.engine, &mut problems);
        bounds::check("limits", &self.limits, &mut problems);
        if self.limits.record_bytes_max > self.limits.draft_bytes_max {
            problems.push("limits.record_bytes_max must not be greater than limits.draft_bytes_max".into());
        }
        let draft_bytes = self.limits.draft_bytes_max + PART_BYTES * self.limits.draft_writes_max;
        if sessions.connection_bytes_max < draft_bytes {
            problems.push(format!(
                "sessions.connection_bytes_max must be at least {draft_bytes}, or the largest draft does not get in \
                 (limits.draft_bytes_max, and {PART_BYTES} bytes for each of limits.draft_writes_max)"
            ));
        }
        problems
    }
}

impl Settings {
    /// The names of all databases and where each is, `main` first.
    pub fn data_dirs(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let others = self.databases.iter().map(|(name, one)| (name.as_str(), one.data_dir(name, &self.data_dir)));
        std::iter::once((MAIN, self.data_dir.clone())).chain(others)
    }

    /// Their names.
    pub fn database_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(MAIN).chain(self.databases.keys().map(String::as_str))
    }

    /// Every database with its settings, `main` first; or what is wrong with one of them.
    pub fn plans(&self) -> Result<Vec<DatabasePlan>, String> {
        let main = DatabaseSettings::default();
        let all = std::iter::once((MAIN, &main)).chain(self.databases.iter().map(|(name, one)| (name.as_str(), one)));
        all.map(|(name, database)| self.plan(name, database)).collect()
    }

    /// `main` as it is written, before the caches are shared out.
    pub(super) fn plan_of_main(&self) -> DatabasePlan {
        let (store, engine, limits) = (self.store.clone(), self.engine.clone(), self.limits.clone());
        DatabasePlan { name: MAIN.into(), store, engine, limits }
    }

    fn plan(&self, name: &str, database: &DatabaseSettings) -> Result<DatabasePlan, String> {
        let mut shared = self.store.clone();
        let is_named =
            |store: &Table, setting: &str| store.get(setting).is_some_and(|value| value.as_integer() != Some(0));
        let sharers = |setting: &str| 1 + self.databases.values().filter(|one| !is_named(&one.store, setting)).count();
        shared.cache_bytes /= sharers("cache_bytes") as u64;
        if shared.index_cache_bytes == 0 {
            shared.index_cache_bytes = machine::index_cache_bytes();
        }
        shared.index_cache_bytes /= sharers("index_cache_bytes");
        // 0 leaves it open here too.
        let mut own = database.store.clone();
        own.retain(|setting, _| setting != "index_cache_bytes" || is_named(&database.store, setting));
        let within = |section: &str| format!("databases.{name}.{section}");
        Ok(DatabasePlan {
            name: name.into(),
            store: overlaid(&shared, &own, &within("store"))?,
            engine: EngineSettings {
                replication: ReplicationSettings { follows: self.follow.is_on(), ..self.replication.clone() },
                ..overlaid(&self.engine, &database.engine, &within("engine"))?
            },
            limits: overlaid(&self.limits, &database.limits, &within("limits"))?,
        })
    }

    /// Every problem of the databases, in words.
    pub(super) fn check_databases(&self, problems: &mut Vec<String>) {
        if self.databases.len() + 1 > DATABASES_MAX {
            problems.push(format!(
                "databases: {} are too many; a server has at most {DATABASES_MAX}",
                self.databases.len()
            ));
        }
        let mut places = vec![(MAIN, self.data_dir.clone())];
        for (name, database) in &self.databases {
            if let Err(problem) = check_name(name) {
                problems.push(problem);
            }
            let place = database.data_dir(name, &self.data_dir);
            if let Some((other, _)) = places.iter().find(|(_, taken)| *taken == place) {
                problems
                    .push(format!("databases.{name}.data_dir = {} is that of {other}; name another", place.display()));
            }
            places.push((name, place));
            match self.plan(name, database) {
                Ok(plan) => {
                    let problems_of_it = plan.check(&self.sessions);
                    problems.extend(problems_of_it.into_iter().map(|problem| format!("databases.{name}.{problem}")));
                }
                Err(problem) => problems.push(problem),
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name == MAIN {
        return Err(format!("databases.{MAIN}: the settings of {MAIN} stand at the top of the file, not in a section"));
    }
    database_name(name).map_err(|problem| format!("databases: {problem}"))
}

/// Whether a database may be called so.
pub(crate) fn database_name(name: &str) -> Result<(), String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(letter) || !name.as_bytes()[0].is_ascii_lowercase() {
        let shown: String = name.chars().take(64).collect();
        return Err(format!(
            "{shown:?} is no name of a database; use a letter, then letters, digits, - and _ (small, 64 at most)"
        ));
    }
    Ok(())
}

/// Settings with some of them replaced.
fn overlaid<T: Serialize + DeserializeOwned>(base: &T, over: &Table, section: &str) -> Result<T, String> {
    let named = |problem: String| format!("{section}: {}", problem.trim());
    let mut table = Table::try_from(base).map_err(|error| named(error.to_string()))?;
    table.extend(over.clone());
    T::deserialize(Value::Table(table)).map_err(|error: toml::de::Error| named(error.message().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).expect("settings")
    }

    #[test]
    fn a_database_differs_in_what_it_names() {
        let settings = settings(
            "data_dir = \"d\"\n[store]\ncache_bytes = 3000\n[databases.shop]\n[databases.blog]\ndata_dir = \"b\"\n\
             [databases.blog.store]\ncache_bytes = 7\n[databases.blog.limits]\noids_max = 5\n",
        );
        let plans = settings.plans().expect("right");
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["main", "blog", "shop"]);
        let caches: Vec<u64> = plans.iter().map(|plan| plan.store.cache_bytes).collect();
        assert_eq!(caches, [1500, 7, 1500], "those who name none share");
        assert_eq!((plans[0].limits.oids_max, plans[1].limits.oids_max), (Limits::default().oids_max, 5));
        assert_eq!(settings.databases["shop"].data_dir("shop", &settings.data_dir), Path::new("d/databases/shop"));
        assert_eq!(settings.databases["blog"].data_dir("blog", &settings.data_dir), Path::new("b"));
        let mut problems = Vec::new();
        settings.check_databases(&mut problems);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn every_problem_names_its_database() {
        let settings = settings(
            "[databases.main]\n[databases.Shop]\n[databases.a.store]\nsegment_bytes_max = 1\n[databases.b.limits]\n\
             oids_maxx = 5\n[databases.c]\ndata_dir = \"zeolite-data\"\n",
        );
        let mut problems = Vec::new();
        settings.check_databases(&mut problems);
        let found = |word: &str| problems.iter().filter(|problem| problem.contains(word)).count();
        assert_eq!(problems.len(), 5, "{problems:?}");
        for word in ["databases.main:", "\"Shop\"", "databases.a.store", "oids_maxx", "databases.c.data_dir"] {
            assert_eq!(found(word), 1, "{word}: {problems:?}");
        }
    }
}
