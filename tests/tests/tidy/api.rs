//! Owns the rules of what users of the client see: each public type and trait has an example, and none that is open can break its users
//! when it grows.
//!
//! ```text
//!   example   a public struct, enum or trait has one (it is a test as well), or stands in WITHOUT_EXAMPLE with the reason
//!   open      an enum, or a struct with public fields, is #[non_exhaustive], or stands in CLOSED with the reason
//! ```
//! Words of `zeolite-proto` that the client re-exports are open as well. What a server answers is made in one place, the server, where a
//! field that is forgotten must not compile: there, by the feature `whole`, it is not #[non_exhaustive]. Examples are asked of the client's own.

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

const OF_ASKING: &str = "who asks decides on each";
const OF_WORKERS: &str = "a worker makes it, in whole: a field that it forgets must not compile";
const OF_FORMATS: &str = "as the format and the protocol have it: with another part it is another format";

const CLOSED: &[(&str, &str)] = &[
    ("Bad", OF_WORKERS),
    ("BlobStanding", OF_ASKING),
    ("Bounded", OF_FORMATS),
    ("Cell", OF_FORMATS),
    ("Certificate", OF_WORKERS),
    ("CloseAttempt", OF_ASKING),
    ("Counts", OF_WORKERS),
    ("CourseSample", OF_WORKERS),
    ("Cursor", OF_WORKERS),
    ("Entry", OF_FORMATS),
    ("FollowHello", "a follower makes it, in whole: a field that it forgets must not compile"),
    ("Inserted", "free or taken: who asks decides on both"),
    ("JobRecord", OF_WORKERS),
    ("NotUndone", OF_WORKERS),
    ("Note", OF_FORMATS),
    ("Outcome", "who asks for it decides on each of the four"),
    ("Pause", OF_WORKERS),
    ("Priority", "there are two lanes"),
    ("RangeRecord", OF_WORKERS),
    ("Record", OF_FORMATS),
    ("Remedy", "there are six, and who follows them decides on each"),
    ("Revision", OF_FORMATS),
    ("Seat", "a database is one of the three"),
    ("Target", OF_WORKERS),
    ("TraceContext", "as the header `traceparent` has it"),
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
        if may_break(&item) {
            add("open", &item, format!("{} {GROWS}", item.name));
        }
    }
    findings
}

const GROWS: &str =
    "grows, and then breaks its users: #[non_exhaustive], with setters if they make it, or say in tidy/api.rs why not";

fn may_break(item: &Item<'_>) -> bool {
    let is_open = item.kind == "enum" || item.has_open_fields;
    let is_marked = |line: &&str| line.starts_with("#[") && line.contains("non_exhaustive");
    is_open && !item.above.iter().any(is_marked) && !knows(CLOSED, item.name)
}

/// The words of `zeolite-proto` that a file of the client hands on.
fn handed_on(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("pub use zeolite_proto::") {
        if at > 0 && !text[..at].ends_with('\n') {
            continue;
        }
        let whole = text[at..].split_once(';').map_or("", |(whole, _)| whole);
        let words =
            whole.rsplit_once('{').map_or_else(|| whole.rsplit("::").next().unwrap_or_default(), |(_, words)| words);
        names.extend(words.split([',', '}']).filter_map(|word| word.split_whitespace().next()));
    }
    names
}

/// What is wrong with those words.
fn judge_words(path: &str, text: &str, handed_on: &[&str]) -> Vec<Finding> {
    let wrong = items(text).into_iter().filter(|item| handed_on.contains(&item.name) && may_break(item));
    let told = |item: Item<'_>| Finding {
        rule: "open",
        path: path.to_owned(),
        line: item.line,
        text: format!("{} {GROWS}", item.name),
    };
    wrong.map(told).collect()
}

/// What users of the client and of its server for tests see.
pub(crate) fn api(sources: &[Source]) -> Vec<Finding> {
    let seen = |path: &str| path.starts_with("client/src/") || path.starts_with("testing/src/");
    let (mut findings, mut names) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| seen(&source.path)) {
        names.extend(items(&source.text).into_iter().map(|item| item.name.to_owned()));
        findings.extend(judge(&source.path, &source.text));
    }
    let of_client = sources.iter().filter(|source| source.path.starts_with("client/src/"));
    let words: Vec<&str> = of_client.flat_map(|source| handed_on(&source.text)).collect();
    for source in sources.iter().filter(|source| source.path.starts_with("proto/src/")) {
        let there = items(&source.text).into_iter().filter(|item| words.contains(&item.name));
        names.extend(there.map(|item| item.name.to_owned()));
        findings.extend(judge_words(&source.path, &source.text, &words));
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

#[test]
fn words_of_proto_that_are_handed_on_are_found() {
    let client = "pub use errors::Error;\npub use zeolite_proto::Registry as Resolvers;\npub use zeolite_proto::{\n    Gate,\n    Seen,\n};\n";
    let words = handed_on(client);
    assert_eq!(words, ["Registry", "Gate", "Seen"]);
    let rules =
        |text: &str| judge_words("proto/src/x.rs", text, &words).into_iter().map(|one| one.rule).collect::<Vec<_>>();
    let gate = "pub struct Gate {\n    /// C.\n    pub class: String,\n}\n";
    assert_eq!(rules(gate), ["open"]);
    assert_eq!(rules(&format!("#[cfg_attr(not(feature = \"whole\"), non_exhaustive)]\n{gate}")), [""; 0]);
    assert_eq!(rules("pub enum Seen {\n    A,\n}\n"), ["open"]);
    assert_eq!(rules("pub enum Unseen {\n    A,\n}\n"), [""; 0]);
}
