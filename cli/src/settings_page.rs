//! Owns `config explain`: what each setting means, from the page of settings that the tests keep true.

use crate::exit::Usage;
use crate::output::{Out, wrapped};
use anyhow::Result;
use serde_json::json;

const PAGE: &str = include_str!("../../docs/settings.md");

/// One setting of the page.
struct Explained<'a> {
    name: &'a str,
    default: &'a str,
    bounds: &'a str,
    meaning: &'a str,
}

fn explained() -> impl Iterator<Item = Explained<'static>> {
    PAGE.lines().filter_map(|row| {
        let mut columns = row.strip_prefix("| `")?.strip_suffix(" |")?.splitn(4, " | ");
        let name = columns.next()?.strip_suffix('`')?;
        Some(Explained { name, default: columns.next()?, bounds: columns.next()?.trim(), meaning: columns.next()? })
    })
}

/// `zeolite config explain [WORD]`.
pub(crate) fn explain(out: &Out, word: Option<&str>) -> Result<()> {
    let word = word.unwrap_or_default().to_lowercase();
    let about = |one: &Explained<'_>| one.name.contains(&word) || one.meaning.to_lowercase().contains(&word);
    let found: Vec<Explained<'_>> = explained().filter(about).collect();
    if found.is_empty() {
        return Err(
            Usage(format!("no setting is named {word:?} or speaks of it; `zeolite config explain` lists all")).into()
        );
    }
    if out.is_json() {
        let one = |one: &Explained<'_>| json!({ "name": one.name, "default": one.default, "bounds": one.bounds, "meaning": one.meaning });
        return out.json(&found.iter().map(one).collect::<Vec<_>>());
    }
    for Explained { name, default, bounds, meaning } in found {
        let bounds = if bounds.is_empty() { String::new() } else { format!("; {bounds}") };
        out.line(format_args!("{name} = {default}{bounds}\n    {meaning}"));
    }
    Ok(())
}

/// Settings as `config check` shows them, each below what it means.
pub(crate) fn with_meanings(toml: &str) -> String {
    let (mut section, mut text) = (String::new(), String::new());
    for line in toml.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((name, _)) = line.split_once(" = ") {
            // A database of its own has the settings of the store that all have.
            let name = format!("{section}{name}");
            let is = |one: &Explained<'_>| one.name == name || one.name.ends_with(&format!(".{name}"));
            if let Some(Explained { default, bounds, meaning, .. }) = explained().find(is) {
                let bounds = if bounds.is_empty() { String::new() } else { format!("; {bounds}") };
                let told = format!("{meaning} Default: {default}{bounds}");
                wrapped(&told, 78).iter().for_each(|line| text += &format!("# {line}\n"));
            }
        }
        text += line;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_shown_with_its_meaning_and_the_file_means_the_same() {
        let settings = zeolite_server::settings::Settings::default();
        let plain = toml::to_string(&settings).expect("is toml");
        let told = with_meanings(&plain);
        let mut before = "";
        for line in told.lines() {
            assert!(
                !line.contains(" = ") || line.starts_with('#') || before.starts_with("# "),
                "{line} is not explained"
            );
            before = line;
        }
        assert_eq!(toml::from_str::<toml::Table>(&told), toml::from_str::<toml::Table>(&plain));
    }

    #[test]
    fn every_row_of_the_page_is_read() {
        let rows = PAGE.lines().filter(|line| line.starts_with("| `")).count();
        assert!(rows > 50 && explained().count() == rows, "{rows}");
        assert!(explained().all(|one| !one.meaning.is_empty()));
    }
}
