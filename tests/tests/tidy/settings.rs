//! Keeps docs/settings.md: every setting with its default, its bounds and its meaning, from the source alone.
//!
//! The meaning is told once, at the field. `ZEOLITE_BLESS=1` rewrites the page.

use crate::root;
use zeolite_server::settings::{Settings, bounds, shown};

/// Where the fields of each section stand.
const SECTIONS: [(&str, &str, &str); 14] = [
    ("", "server/src/settings.rs", "Settings"),
    ("store", "server/src/store/settings.rs", "StoreSettings"),
    ("engine", "server/src/engine/settings.rs", "EngineSettings"),
    ("limits", "proto/src/limits.rs", "Limits"),
    ("sessions", "server/src/settings.rs", "SessionSettings"),
    ("metrics", "server/src/settings/metrics.rs", "MetricsSettings"),
    ("traces", "server/src/settings/traces.rs", "TracesSettings"),
    ("auth", "server/src/settings/auth.rs", "AuthSettings"),
    ("tls", "server/src/settings/auth.rs", "TlsSettings"),
    ("zodb", "server/src/settings/zodb.rs", "ZodbSettings"),
    ("backup", "server/src/settings/schedules.rs", "BackupSettings"),
    ("pack", "server/src/settings/schedules.rs", "PackSettings"),
    ("replication", "server/src/engine/replication/settings.rs", "ReplicationSettings"),
    ("follow", "server/src/settings/follow.rs", "FollowSettings"),
];

const HEAD: &str = "# Settings

Made from the source by the tests; `zeolite config explain [WORD]` shows it. Each setting can stand in `zeolite.toml`, in the environment and behind `--set`;
the later wins: `[store] cache_bytes = \"1 GiB\"`, `ZEOLITE_STORE_CACHE_BYTES=1GiB`, `--set store.cache_bytes=1GiB`. A plain number is in the unit that the name
says (`bytes`, `ms`, `s`); a text may have another: `256 MiB`, `1.5 GB`, `90s`, `2h`, `1d`. `zeolite config check` shows what holds, and what is wrong.
";

#[test]
fn the_page_of_settings_is_that_of_the_source() {
    let path = root().join("docs/settings.md");
    let page = page();
    if std::env::var_os("ZEOLITE_BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/settings.md is not what the source says; ZEOLITE_BLESS=1 rewrites it");
}

fn page() -> String {
    let defaults = toml::Table::try_from(Settings::default()).expect("plain data");
    let mut page = HEAD.to_owned();
    for (section, file, name) in SECTIONS {
        let title = if section.is_empty() { "At the top".to_owned() } else { format!("`[{section}]`") };
        page += &format!("\n## {title}\n\n| setting | default | from, to | meaning |\n|---|---|---|---|\n");
        let defaults = if section.is_empty() { Some(&defaults) } else { defaults[section].as_table() };
        let fields = fields(file, name);
        assert!(!fields.is_empty(), "{name} in {file} has no fields");
        for (field, meaning) in fields {
            let setting = if section.is_empty() { field.clone() } else { format!("{section}.{field}") };
            let Some(default) = defaults.and_then(|table| table.get(&field)) else { continue };
            // Sections have their own tables.
            if default.is_table() {
                continue;
            }
            let default = default.as_integer().map_or(default.to_string(), |number| shown(&setting, number as u64));
            let bounds = bounds(&setting).map_or(String::new(), |(least, most)| {
                format!("{} to {}", shown(&setting, least), shown(&setting, most))
            });
            page += &format!("| `{setting}` | {default} | {bounds} | {meaning} |\n");
        }
    }
    page
}

/// The public fields of a struct with their documentation.
fn fields(file: &str, name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join(file)).expect("a source file");
    let head = format!("pub struct {name} {{\n");
    let body = text.split_once(&head).and_then(|(_, body)| body.split_once("\n}")).expect("the struct").0;
    let (mut fields, mut meaning) = (Vec::new(), Vec::new());
    for line in body.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("/// ") {
            meaning.push(words);
        } else if let Some((field, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
            fields.push((field.to_owned(), std::mem::take(&mut meaning).join(" ").replace('|', "\\|")));
        }
    }
    fields
}
