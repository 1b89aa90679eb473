//! Owns the rules of what users of the client see: each public type and trait has an example, and none that is open can break its users
//! when it grows.
//!
//! ```text
//!   example   a public struct, enum or trait has one (it is a test as well), or stands in WITHOUT_EXAMPLE with the reason
//!   open      an enum, or a struct with public fields, is #[non_exhaustive], or stands in CLOSED with the reason
//! ```
//! Re-exported words of `zeolite-proto` are not looked at: what servers answer is made in one place, the server, where a field that is
//! forgotten must not compile.

use super::rules::Finding;
use super::source::Source;

const OF_COPIES: &str = "for copies of a server, which this house alone writes";
const OF_BINDINGS: &str = "for bindings that step objects together; docs/evolve.md tells them";

const WITHOUT_EXAMPLE: &[(&str, &str)] = &[
    ("AnyStep", "nobody writes one: every `Step` is one"),
    ("BadPiece", OF_COPIES),
    ("FollowBegun", OF_COPIES),
    ("FollowHello", OF_COPIES),
    ("FollowPage", OF_COPIES),
    ("FollowWelcome", OF_COPIES),
    ("FollowWords", OF_COPIES),
    ("Followed", OF_COPIES),
    ("Inside", "for a server that has a client of itself"),
    ("JointObject", OF_BINDINGS),
    ("JointStep", OF_BINDINGS),
    ("JointWork", OF_BINDINGS),
    ("LogPiece", OF_COPIES),
    ("Naming", OF_COPIES),
    ("Share", OF_BINDINGS),
];

const CLOSED: &[(&str, &str)] = &[
    ("FollowHello", "a follower makes it, in whole: a field that it forgets must not compile"),
    ("Inserted", "free or taken: who asks decides on both"),
    ("Outcome", "who asks for it decides on each of the four"),
];

/// A public item: its kind and name, where it stands, and the lines above it.
struct Item<'s> {
    kind: &'s str,
    name: &'s str,
    line: usize,
    above: Vec<&'s str>,
    has_open_fields: bool,
}

fn items(text: &str) -> Vec<Item<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    (0..lines.len()).filter_map(|number| item(&lines, number)).collect()
}

/// The item that begins in a line, if one does.
fn item<'s>(lines: &[&'s str], number: usize) -> Option<Item<'s>> {
    let line = lines[number];
    let (kind, rest) = line.strip_prefix("pub ")?.split_once(' ')?;
    if !["struct", "enum", "trait"].contains(&kind) {
        return None;
    }
    let name = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())];
    let belongs = |line: &&&str| ["///", "#[", " ", ")]"].iter().any(|start| line.starts_with(start));
    let above = lines[..number].iter().rev().take_while(belongs).copied().collect();
    let mut body = lines[number + 1..].iter().take_while(|line| !line.starts_with('}'));
    let has_open_fields = line.ends_with('{') && body.any(|line| line.starts_with("    pub "));
    Some(Item { kind, name, line: number + 1, above, has_open_fields })
}

fn knows(list: &[(&str, &str)], name: &str) -> bool {
    list.iter().any(|(known, _)| *known == name)
}

/// What one file lacks.
fn judge(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |rule, item: &Item<'_>, text: String| {
        findings.push(Finding { rule, path: path.to_owned(), line: item.line, text });
    };
    for item in items(text) {
        let has = |part: &str| item.above.iter().any(|line| line.contains(part));
        if !has("```") && !knows(WITHOUT_EXAMPLE, item.name) {
            let what = "has no example: write one that runs, or say in tidy/api.rs why there is none";
            add("example", &item, format!("{} {what}", item.name));
        }
        let is_open = item.kind == "enum" || item.has_open_fields;
        if is_open && !has("#[non_exhaustive]") && !knows(CLOSED, item.name) {
            let what = "grows, and then breaks its users: #[non_exhaustive], with setters if they make it, or say in tidy/api.rs why not";
            add("open", &item, format!("{} {what}", item.name));
        }
    }
    findings
}

/// What users of the client and of its server for tests see.
pub(crate) fn api(sources: &[Source]) -> Vec<Finding> {
    let seen = |path: &str| path.starts_with("client/src/") || path.starts_with("testing/src/");
    let (mut findings, mut names) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| seen(&source.path)) {
        names.extend(items(&source.text).into_iter().map(|item| item.name.to_owned()));
        findings.extend(judge(&source.path, &source.text));
    }
    for (known, _) in WITHOUT_EXAMPLE.iter().chain(CLOSED) {
        if !names.iter().any(|name| name == known) {
            let text = format!("{known} is not there any more: take it out of the list");
            findings.push(Finding { rule: "stale", path: "tests/tests/tidy/api.rs".into(), line: 0, text });
        }
    }
    findings
}

#[test]
fn what_grows_and_what_has_no_example_is_found() {
    let rules = |text: &str| judge("client/src/x.rs", text).into_iter().map(|one| one.rule).collect::<Vec<_>>();
    let example = "/// A page.\n///\n/// ```\n/// use x::Page;\n/// ```\n";
    assert_eq!(rules("/// A page.\npub struct Page {\n    title: String,\n}\n"), ["example"]);
    assert_eq!(rules(&format!("{example}#[derive(Debug)]\npub struct Page {{\n    title: String,\n}}\n")), [""; 0]);
    assert_eq!(rules(&format!("{example}pub struct Page {{\n    /// T.\n    pub title: String,\n}}\n")), ["open"]);
    assert_eq!(rules(&format!("{example}#[non_exhaustive]\npub enum Page {{\n    A,\n}}\n")), [""; 0]);
    assert_eq!(rules("pub enum Page {\n    A,\n}\n"), ["example", "open"]);
    assert_eq!(rules("pub(crate) enum Page {\n    A,\n}\n"), [""; 0]);
    let told = format!("{example}#[diagnostic::on_unimplemented(\n    message = \"none\"\n)]\npub trait Page {{\n}}\n");
    assert_eq!(rules(&told), [""; 0]);
}
