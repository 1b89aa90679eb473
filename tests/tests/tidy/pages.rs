//! Owns what pages of docs/ must hold: what the code has, since a new kind is easily forgotten, and that their links lead somewhere.

use crate::root;
use zeolite_proto::{FaultKind, Remedy};

fn remedy(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Retry => "retry",
        Remedy::ReopenSnapshot => "reopen",
        Remedy::FixRequest => "fix",
        Remedy::Wait => "wait",
        Remedy::GiveUp => "give up",
        Remedy::AskOutcome => "ask",
    }
}

/// The cells of a table's rows.
fn rows(page: &str) -> Vec<Vec<String>> {
    let row = |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
    page.lines().filter(|line| line.starts_with("| ")).map(row).collect()
}

#[test]
fn every_error_is_on_its_page_with_its_remedy() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect("a file of the repository");
    let rows = rows(&read("docs/errors.md"));
    let of = |name: &str| {
        let row = rows.iter().find(|row| row.get(1).is_some_and(|first| first == name));
        row.and_then(|row| row.get(2)).map(String::as_str)
    };
    for kind in FaultKind::ALL {
        assert_eq!(of(kind.text()), Some(remedy(kind.remedy())), "{}", kind.text());
    }
    let source = read("client/src/errors.rs");
    let all = source.split_once("pub enum Error {").and_then(|(_, rest)| rest.split_once("\n}\n")).expect("the enum").0;
    let variants: Vec<&str> = all
        .lines()
        .filter_map(|line| {
            line.strip_prefix("    ").filter(|line| line.starts_with(|first: char| first.is_uppercase()))
        })
        .filter_map(|line| line.split(['{', '(', ' ', ',']).next())
        .collect();
    assert!(variants.len() > 8 && variants.contains(&"Forked"), "{variants:?}");
    for variant in variants {
        assert!(of(variant).is_some(), "docs/errors.md does not tell {variant}");
    }
}

/// README.md, CHANGELOG.md and every page below docs/, by their paths from the root.
fn pages() -> Vec<(String, String)> {
    let (mut waiting, mut found) =
        (vec![root().join("docs")], vec![root().join("README.md"), root().join("CHANGELOG.md")]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory of the repository") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => waiting.push(path),
                false if path.extension().is_some_and(|extension| extension == "md") => found.push(path),
                false => {}
            }
        }
    }
    let name = |path: &std::path::Path| path.strip_prefix(root()).expect("below the root").display().to_string();
    found.iter().map(|path| (name(path), std::fs::read_to_string(path).expect("a page"))).collect()
}

/// Where a page leads to, outside of code.
fn links(page: &str) -> Vec<&str> {
    let prose = page.split("```").step_by(2);
    let after = prose.flat_map(|text| text.split("](").skip(1));
    after
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.contains(' '))
        .collect()
}

/// The name of a heading as forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
}

fn anchors(page: &str) -> Vec<String> {
    let prose: Vec<&str> = page.split("```").step_by(2).collect();
    let headings = prose.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let (pages, mut seen, mut dead) = (pages(), 0, Vec::new());
    for (name, text) in &pages {
        for link in links(text) {
            seen += 1;
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(name),
                path => root().join(name).parent().expect("a page lies in a directory").join(path),
            };
            let leads = target.exists()
                && (place.is_empty()
                    || std::fs::read_to_string(&target)
                        .is_ok_and(|page| anchors(&page).iter().any(|one| one == place)));
            if !leads {
                dead.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(seen > 100 && pages.len() > 30, "{seen} links, {} pages", pages.len());
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}
