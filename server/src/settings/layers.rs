//! Owns how the layers of settings are laid over each other: file, environment, flags.
//!
//! A value from the environment or a flag is text. It is read as a TOML value first (`100`, `true`), then as a number with a
//! unit, and taken as a string where that does not fit its setting.
//!
//! Variables that begin like settings and that others set are left alone: Kubernetes tells every pod of each service of its
//! namespace, so that a service named `zeolite` makes `ZEOLITE_PORT=tcp://10.0.0.1:7878`.

use super::{OTHER_VARIABLES, Settings, units};
use std::path::Path;
use toml::{Table, Value};

/// The tables of the file; everything else stands at its top.
const SECTIONS: &[&str] = &[
    "store",
    "engine",
    "limits",
    "sessions",
    "metrics",
    "auth",
    "tls",
    "zodb",
    "backup",
    "pack",
    "replication",
    "follow",
];

/// What begins an environment variable that is a setting.
const PREFIX: &str = "ZEOLITE_";

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("the settings file {path} cannot be read ({error}); name another one")]
    Read {
        /// The file.
        path: String,
        /// The system's answer.
        error: std::io::Error,
    },
    /// The file is not TOML, or a name or value in it is wrong.
    #[error("the settings file {path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What and where.
        problem: String,
    },
    /// A variable or a flag is wrong.
    #[error("{origin}: {problem}")]
    Override {
        /// The variable, or the flag's dotted name.
        origin: String,
        /// What does not fit.
        problem: String,
    },
}

pub(super) fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<Settings, SettingsError> {
    let mut table = match file {
        Some(path) => read(path)?,
        None => Table::new(),
    };
    let mut variables: Vec<(String, String)> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !OTHER_VARIABLES.contains(&name.as_str()))
        .filter(|(name, value)| !is_of_kubernetes(name, value))
        .collect();
    variables.sort();
    for (name, text) in variables {
        let path = dotted(&name);
        lay_over(&mut table, &path, &text).map_err(|problem| SettingsError::Override {
            origin: format!("the environment variable {name}"),
            problem,
        })?;
    }
    for (path, text) in overrides {
        lay_over(&mut table, path, text)
            .map_err(|problem| SettingsError::Override { origin: format!("the setting {path}"), problem })?;
    }
    read_table(&table).map_err(|problem| SettingsError::Override { origin: "the settings".into(), problem })
}

fn read(path: &Path) -> Result<Table, SettingsError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| SettingsError::Read { path: shown.clone(), error })?;
    let bad = |problem: toml::de::Error| SettingsError::File { path: shown.clone(), problem: problem.to_string() };
    // Read as settings from the text itself, so that the error shows line and column.
    let text = units::plain(&text).map_err(|problem| SettingsError::File { path: shown.clone(), problem })?;
    toml::from_str::<Settings>(&text).map_err(bad)?;
    toml::from_str(&text).map_err(bad)
}

/// Whether Kubernetes makes such a variable for a service: `..._SERVICE_HOST`, `..._SERVICE_PORT[_NAME]`, and
/// `..._PORT[_7878_TCP[_PROTO|_PORT|_ADDR]]` with an address as its value.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let of_port = |rest: &str| {
        let mut words = rest.split('_');
        let number = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
        let protocol = words.next().is_some_and(|word| ["TCP", "UDP", "SCTP"].contains(&word));
        let what = words.next().is_none_or(|word| ["PROTO", "PORT", "ADDR"].contains(&word));
        number && protocol && what && words.next().is_none()
    };
    name.ends_with("_SERVICE_HOST")
        || (name.contains("_SERVICE_PORT") && value.parse::<u16>().is_ok())
        || (name.ends_with("_PORT") && value.contains("://"))
        || name.split_once("_PORT_").is_some_and(|(_, rest)| of_port(rest))
}

/// `ZEOLITE_SESSIONS_IN_FLIGHT_MAX` is `sessions.in_flight_max`.
fn dotted(variable: &str) -> String {
    let name = variable[PREFIX.len()..].to_ascii_lowercase();
    let section = SECTIONS.iter().find_map(|section| Some((section, name.strip_prefix(section)?.strip_prefix('_')?)));
    match section {
        Some((section, rest)) => format!("{section}.{rest}"),
        None => name,
    }
}

fn lay_over(table: &mut Table, path: &str, text: &str) -> Result<(), String> {
    let value = match literal(text) {
        Some(Value::String(text)) => with_unit(path, &text)?,
        Some(value) => value,
        None => with_unit(path, text)?,
    };
    let mut first_problem = None;
    for value in [value, Value::String(text.into())] {
        let mut tried = table.clone();
        put(&mut tried, path, value)?;
        match read_table(&tried) {
            Ok(_) => {
                *table = tried;
                return Ok(());
            }
            Err(problem) => first_problem = first_problem.or(Some(problem)),
        }
    }
    Err(first_problem.unwrap_or_default())
}

fn with_unit(path: &str, text: &str) -> Result<Value, String> {
    units::number(path, text).map_or_else(|| Ok(Value::String(text.into())), |number| number.map(Value::Integer))
}

fn literal(text: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("value = {text}")).ok()?;
    table.remove("value").filter(|_| table.is_empty())
}

fn put(table: &mut Table, path: &str, value: Value) -> Result<(), String> {
    match path.split_once('.') {
        None => {
            table.insert(path.into(), value);
            Ok(())
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().ok_or_else(|| format!("{section} is a setting, not a section"))?;
            put(inner, rest, value)
        }
    }
}

fn read_table(table: &Table) -> Result<Settings, String> {
    Settings::deserialize_table(table.clone())
}

impl Settings {
    fn deserialize_table(table: Table) -> Result<Settings, String> {
        serde::Deserialize::deserialize(Value::Table(table))
            .map_err(|error: toml::de::Error| error.message().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it can be written");
        file
    }

    #[test]
    fn later_layers_win() {
        let file = file("listen = \"127.0.0.1:1\"\n[sessions]\nsessions_max = 5\nin_flight_max = 6\nstreams_max = 7\n");
        let environment = strings(&[
            ("HOME", "/home/x"),
            ("ZEOLITE_LOG", "debug"),
            ("ZEOLITE_SESSIONS_IN_FLIGHT_MAX", "60"),
            ("ZEOLITE_SESSIONS_STREAMS_MAX", "70"),
            ("ZEOLITE_DATA_DIR", "123"),
        ]);
        let overrides = strings(&[("sessions.streams_max", "700"), ("listen_publicly", "true")]);
        let settings = Settings::load(Some(file.path()), environment, &overrides).expect("all are settings");
        assert_eq!(settings.listen, "127.0.0.1:1");
        assert_eq!(settings.data_dir.to_str(), Some("123"), "text where the setting is text");
        assert!(settings.listen_publicly);
        let sessions = &settings.sessions;
        assert_eq!((sessions.sessions_max, sessions.in_flight_max, sessions.streams_max), (5, 60, 700));
        assert_eq!(sessions.cut_linger_ms, super::super::SessionSettings::default().cut_linger_ms);
    }

    #[test]
    fn sizes_and_times_have_units_in_every_layer() {
        let file = file("[store]\ncache_bytes = \"1 MiB\"\n[databases.a.limits]\npin_ms_max = \"2h\"\n");
        let environment = strings(&[("ZEOLITE_LIMITS_PIN_MS_MAX", "90s"), ("ZEOLITE_STORE_INDEX_CACHE_BYTES", "5000")]);
        let overrides = strings(&[("store.keys_age_s", "\"1h\""), ("databases.a.store.cache_bytes", "2kB")]);
        let settings = Settings::load(Some(file.path()), environment, &overrides).expect("all are settings");
        let store = &settings.store;
        assert_eq!((store.cache_bytes, store.index_cache_bytes, store.keys_age_s), (1 << 20, 5000, 3600));
        assert_eq!(settings.limits.pin_ms_max, 90_000);
        let plans = settings.plans().expect("right");
        assert_eq!((plans[1].limits.pin_ms_max, plans[1].store.cache_bytes), (7_200_000, 2000));
    }

    #[test]
    fn the_lines_of_a_file_are_still_told_when_values_have_units() {
        let bad = self::file("[store]\ncache_bytes = \"1 MiB\"\n[sessions]\nsesions_max = 5\n");
        let error = Settings::load(Some(bad.path()), [], &[]).expect_err("misspelt").to_string();
        assert!(error.contains("sesions_max") && error.contains("line 4"), "{error}");
        let error =
            Settings::load(None, [], &strings(&[("store.cache_bytes", "1 parsec")])).expect_err("no size").to_string();
        assert!(error.contains("256 MiB") && error.contains("parsec"), "{error}");
    }

    #[test]
    fn what_kubernetes_sets_for_services_is_left_alone_and_a_misspelt_setting_is_not() {
        let of_kubernetes = strings(&[
            ("ZEOLITE_PORT", "tcp://10.0.0.1:7878"),
            ("ZEOLITE_SERVICE_HOST", "10.0.0.1"),
            ("ZEOLITE_SERVICE_PORT", "7878"),
            ("ZEOLITE_SERVICE_PORT_GRPC", "7878"),
            ("ZEOLITE_PORT_7878_TCP", "tcp://10.0.0.1:7878"),
            ("ZEOLITE_PORT_7878_TCP_PROTO", "tcp"),
            ("ZEOLITE_PORT_7878_TCP_PORT", "7878"),
            ("ZEOLITE_PORT_7878_TCP_ADDR", "10.0.0.1"),
            ("ZEOLITE_METRICS_SERVICE_HOST", "10.0.0.2"),
            ("ZEOLITE_METRICS_PORT", "tcp://10.0.0.2:9464"),
        ]);
        let settings = Settings::load(None, of_kubernetes, &[]).expect("none of them is a setting");
        assert_eq!(settings, Settings::default());
        for name in ["ZEOLITE_PORT", "ZEOLITE_METRICS_PORT", "ZEOLITE_PORT_OF_CALL", "ZEOLITE_SERVICE_PORTS"] {
            assert!(Settings::load(None, strings(&[(name, "x")]), &[]).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_no_setting_is_named_wherever_it_stands() {
        let bad = file("[sessions]\nsesions_max = 5\n");
        let error = Settings::load(Some(bad.path()), [], &[]).expect_err("misspelt").to_string();
        assert!(error.contains("sesions_max") && error.contains("line 2"), "{error}");
        let error = Settings::load(None, strings(&[("ZEOLITE_LISTN", "x")]), &[]).expect_err("misspelt").to_string();
        assert!(error.contains("ZEOLITE_LISTN"), "{error}");
        let error =
            Settings::load(None, [], &strings(&[("limits.oids_max", "many")])).expect_err("no number").to_string();
        assert!(error.contains("limits.oids_max"), "{error}");
        let missing = Settings::load(Some(Path::new("no/such/file.toml")), [], &[]).expect_err("missing").to_string();
        assert!(missing.contains("no/such/file.toml"), "{missing}");
    }

    #[test]
    fn the_defaults_are_right_and_every_problem_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let mut settings = Settings { listen: "0.0.0.0:7878".into(), ..Settings::default() };
        settings.sessions.in_flight_max = 0;
        settings.limits.message_bytes_max = 1;
        settings.engine.batch_txns_max = 0;
        let problems = settings.check().expect_err("four problems");
        let names = ["listen_publicly", "engine.batch_txns_max", "limits.message_bytes_max", "sessions.in_flight_max"];
        assert_eq!(problems.len(), names.len(), "{problems:?}");
        for (problem, name) in problems.iter().zip(names) {
            assert!(problem.contains(name), "{problem}");
        }
        settings.listen_publicly = true;
        assert_eq!(settings.check().expect_err("three problems").len(), 3);
    }

    #[test]
    fn a_host_is_looked_up_in_whichever_layer_it_is_named() {
        let file = file("listen = \"localhost:1\"\n[metrics]\nlisten = \"localhost:2\"\n");
        let settings = Settings::load(Some(file.path()), [], &[]).expect("all are settings");
        assert_eq!(settings.check(), Ok(()), "this machine alone");
        assert!(settings.listen_addr().is_ok_and(|address| address.ip().is_loopback() && address.port() == 1));
        for wrong in ["localhost", ":1", "127.0.0.1:99999"] {
            let settings = Settings { listen: wrong.into(), ..Settings::default() };
            assert!(settings.check().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_settings_can_be_written_and_read_again() {
        let text = toml::to_string(&Settings::default()).expect("plain data");
        assert_eq!(toml::from_str::<Settings>(&text).expect("the same names"), Settings::default());
    }
}
