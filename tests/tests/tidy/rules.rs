//! Owns the rules of the house that a program can check; each is a function from a source file to findings.
//!
//! ```text
//!   size         a file has at most 600 lines (aim at 400), a function 70
//!   header       every file begins with a header that says what it owns
//!   direction    left may name right: server > web > metrics > rpc > engine > store > disk;
//!                evolve > objects > collections > typed > tx, admin > connect > wire; crates: cli > server, client > proto
//!   ring         among files no imports lead back to where they began (in `rings`)
//!   doors        only rpc and wire name the generated types; store has no threads, no channels, no tokio;
//!                the command line speaks through the client
//!   time         the server's time comes from its clock
//!   unfinished   nothing is left to do later
//!   allow        lints are expected with a reason, never allowed
//!   api          what users of the client see has examples, and may grow (in `api`)
//!   tests        no sleep, none ignored, no assertion that cannot fail, none without one
//! ```

use super::source::{Source, end_of_item, has_word};
use std::collections::BTreeSet;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// One thing to put right.
#[derive(Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) rule: &'static str,
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) text: String,
}

pub(crate) struct Findings<'a> {
    source: &'a Source,
    all: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, rule: &'static str, at: usize, text: impl Into<String>) {
        let (path, line) = (self.source.path.clone(), self.source.line(at));
        self.all.push(Finding { rule, path, line, text: text.into() });
    }
}

/// Everything that is wrong with one file. `asserting` are the functions that assert, of all files.
pub(crate) fn judge(source: &Source, asserting: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Findings { source, all: Vec::new() };
    size(source, &mut findings);
    header(source, &mut findings);
    direction(source, &mut findings);
    doors(source, &mut findings);
    time(source, &mut findings);
    unfinished(source, &mut findings);
    lints(source, &mut findings);
    tests(source, &mut findings);
    void_tests(source, asserting, &mut findings);
    findings.all
}

/// A function: its name, where it begins, its body.
struct Function<'a> {
    name: &'a str,
    at: usize,
    end: usize,
}

impl Function<'_> {
    fn code<'s>(&self, source: &'s Source) -> &'s str {
        &source.code[self.at..self.end]
    }
}

/// The functions of a file that have a body.
fn functions(source: &Source) -> Vec<Function<'_>> {
    let named = source.places_of("fn").filter_map(|at| {
        let rest = source.code[at + 2..].trim_start();
        let name = &rest[..rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()];
        let end = end_of_item(&source.code, at);
        let has_body = !name.is_empty() && source.code[..end].ends_with('}');
        has_body.then_some(Function { name, at, end })
    });
    named.collect()
}

fn size(source: &Source, findings: &mut Findings<'_>) {
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.add("file length", 0, format!("{lines} lines, at most {FILE_LINES_MAX}: split it by nouns"));
    }
    for function in functions(source) {
        let lines = source.line(function.end) - source.line(function.at) + 1;
        if lines > FUNCTION_LINES_MAX {
            let text = format!("{} has {lines} lines, at most {FUNCTION_LINES_MAX}: name its parts", function.name);
            findings.add("function length", function.at, text);
        }
    }
}

fn header(source: &Source, findings: &mut Findings<'_>) {
    if !source.text.starts_with("//!") {
        findings.add("header", 0, "the first line must be a header (//!) that says what the file owns");
    }
    let name = source.path.rsplit('/').next().unwrap_or_default();
    if ["util.rs", "utils.rs", "common.rs", "helpers.rs", "misc.rs"].contains(&name) {
        findings.add("file name", 0, format!("{name} owns no noun"));
    }
}

/// Files that begin with one of these may not name any of those, for the reason.
type Ban = (&'static [&'static str], &'static [&'static str], &'static str);

const DIRECTION: &[Ban] = &[
    (&["proto/"], &["zeolite_server", "zeolite_client"], "proto is below server and client"),
    (&["zodb/src/"], &["zeolite_server", "zeolite_client"], "zodb knows proto alone"),
    (&["server/src/", "client/src/"], &["zeolite_zodb"], "what is known of ZODB is given to them"),
    (&["server/src/"], &["zeolite_client"], "the server does not know its clients"),
    (&["client/src/"], &["zeolite_server"], "the client knows the server by the protocol only"),
    (
        &["server/src/store"],
        &[
            "crate::storage",
            "crate::engine",
            "crate::rpc",
            "crate::metrics",
            "crate::web",
            "crate::server",
            "crate::settings",
        ],
        "store is below storage, engine, rpc and server",
    ),
    (
        &["server/src/engine"],
        &["crate::rpc", "crate::metrics", "crate::web", "crate::server", "crate::settings"],
        "engine is below rpc and server",
    ),
    (&["server/src/engine"], &["crate::store"], "engine knows what keeps its data by the contracts of storage only"),
    (&["server/src/storage"], &["crate::engine", "crate::rpc", "crate::server"], "storage is below engine"),
    (&["server/src/rpc"], &["crate::server", "crate::web", "crate::metrics"], "rpc is below server, web and metrics"),
    (&["server/src/metrics"], &["crate::server", "crate::web"], "metrics are below server and web"),
    (&["server/src/web"], &["crate::server"], "web is below server"),
    (
        &["client/src/wire"],
        &[
            "crate::tx",
            "crate::typed",
            "crate::collections",
            "crate::evolve",
            "crate::connect",
            "crate::admin",
            "crate::cache",
            "crate::watch",
        ],
        "wire is the lowest part of the client",
    ),
    (
        &["client/src/connect"],
        &["crate::tx", "crate::typed", "crate::collections", "crate::evolve", "crate::admin"],
        "connect is below transactions and the operator's calls",
    ),
    (
        &["client/src/tx"],
        &["crate::typed", "crate::collections", "crate::objects", "crate::evolve", "crate::admin"],
        "transactions are below typed objects, collections and evolves",
    ),
    (
        &["client/src/typed"],
        &["crate::collections", "crate::objects", "crate::evolve"],
        "typed objects are below collections and evolves",
    ),
    (&["client/src/collections"], &["crate::objects", "crate::evolve"], "collections are below objects and evolves"),
    (&["client/src/objects"], &["crate::evolve"], "objects are below evolves"),
];

fn direction(source: &Source, findings: &mut Findings<'_>) {
    banned(source, DIRECTION, "direction", findings);
    if source.path.starts_with("server/src/store/disk") {
        for at in source.places_of("crate::store") {
            let named = &source.code[at + "crate::store".len()..];
            if !source.is_test(at) && !named.starts_with("::disk") && !named.starts_with("::StoreError") {
                findings.add("direction", at, "disk is below store: it may name its errors only");
            }
        }
    }
}

const THREADS: &[&str] = &["tokio", "crossbeam_channel", "std::thread", "mpsc", "async", "await"];

fn doors(source: &Source, findings: &mut Findings<'_>) {
    banned(source, &[(&["server/src/store"], THREADS, "store has no threads, channels or tokio")], "store", findings);
    let begins = |doors: &[&str]| doors.iter().any(|door| source.path.starts_with(door));
    let is_product = begins(&["server/src/", "client/src/", "proto/src/", "cli/src/"]);
    // The server's composition hands a listener to tonic, and traces go out by it; they name no generated type.
    let tonic = ["server/src/rpc", "server/src/server", "server/src/traces", "client/src/wire", "proto/src/wire"];
    let generated = ["server/src/rpc", "client/src/wire", "proto/src/wire"];
    for (names, doors) in [(&["tonic", "tonic_health", "tonic_reflection"][..], &tonic[..]), (&["v2"], &generated)] {
        if !is_product || begins(doors) {
            continue;
        }
        for name in names {
            for at in source.places_of(name).filter(|at| !source.is_test(*at)) {
                findings.add("doors", at, format!("only {} name {name}", doors.join(", ")));
            }
        }
    }
}

/// The server's time comes from the clock that it was given, so that a test can hold it still; the door is `clock.rs`.
fn time(source: &Source, findings: &mut Findings<'_>) {
    if !source.path.starts_with("server/src/") || source.path == "server/src/clock.rs" {
        return;
    }
    for name in ["Instant::now", "SystemTime::now"] {
        for at in source.places_of(name).filter(|at| !source.is_test(*at)) {
            findings.add("time", at, format!("names {name}: ask the Clock that was given"));
        }
    }
}

fn banned(source: &Source, bans: &[Ban], rule: &'static str, findings: &mut Findings<'_>) {
    for (files, names, why) in bans {
        if !files.iter().any(|file| source.path.starts_with(file)) {
            continue;
        }
        for name in *names {
            for at in source.places_of(name).filter(|at| !source.is_test(*at)) {
                findings.add(rule, at, format!("names {name}: {why}"));
            }
        }
    }
}

fn unfinished(source: &Source, findings: &mut Findings<'_>) {
    for word in ["TODO", "FIXME", "XXX", "HACK"] {
        for (at, _) in source.comments.match_indices(word) {
            findings.add("unfinished", at, format!("{word}: do it, or say in docs that it is not done"));
        }
    }
    for name in ["todo!", "unimplemented!"] {
        for at in source.places_of(name) {
            findings.add("unfinished", at, name);
        }
    }
}

fn lints(source: &Source, findings: &mut Findings<'_>) {
    for attribute in ["#[allow(", "#![allow("] {
        for (at, _) in source.code.match_indices(attribute) {
            findings.add("allow", at, "use #[expect(..., reason = \"...\")]");
        }
    }
}

fn tests(source: &Source, findings: &mut Findings<'_>) {
    for at in source.places_of("sleep").chain(source.places_of("sleep_until")) {
        if source.is_test(at) {
            findings.add("sleep", at, "a test waits on a fact, never on time");
        }
    }
    for (at, _) in source.code.match_indices("#[ignore") {
        findings.add("ignored test", at, "a test runs or is not there");
    }
    for (at, what) in void_assertions(source) {
        findings.add("void assertion", at, what);
    }
}

/// Assertions that cannot fail.
fn void_assertions(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for name in ["assert!", "assert_eq!", "assert_ne!", "debug_assert!"] {
        for at in source.places_of(name) {
            // From the whole text: two different strings are equal blanks in the code.
            let Some(arguments) = arguments(source, at + name.len()) else { continue };
            let void = match (name, arguments.as_slice()) {
                ("assert_eq!", [left, right, ..]) => left == right,
                (_, [only, ..]) => ["true", "!false", "1==1"].contains(&only.as_str()) || says_nothing(only),
                _ => false,
            };
            if void {
                found.push((at, format!("{name}({}) cannot fail", arguments.join(", "))));
            }
        }
    }
    found
}

fn says_nothing(condition: &str) -> bool {
    let either = |a: &str, b: &str| condition.contains(&format!("{a}||")) && condition.ends_with(b);
    either(".is_ok()", ".is_err()")
        || either(".is_err()", ".is_ok()")
        || either(".is_some()", ".is_none()")
        || condition.ends_with(".len()>=0")
        || condition.split_once("==").is_some_and(|(left, right)| left == right)
}

/// The arguments of a macro call whose bracket comes next, without white space.
fn arguments(source: &Source, from: usize) -> Option<Vec<String>> {
    let open = from + source.code[from..].find(['(', '['])?;
    let (mut depth, mut start, mut arguments) = (0usize, open + 1, Vec::new());
    for (at, byte) in source.code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 1 => {
                arguments.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            arguments.push(start..at);
            break;
        }
    }
    let bare = |range: std::ops::Range<usize>| source.text[range].split_whitespace().collect::<String>();
    Some(arguments.into_iter().map(bare).collect())
}

const ASSERTIONS: &[&str] =
    &["assert", "debug_assert", "assert_eq", "assert_ne", "panic", "expect", "expect_err", "unwrap", "unwrap_err"];

/// Whether the code of a function can fail a test.
fn asserts(code: &str, asserting: &BTreeSet<String>) -> bool {
    let body = code.find('{').map_or("", |at| &code[at..]);
    body.contains('?')
        || ASSERTIONS.iter().any(|name| has_word(body, name))
        || asserting.iter().any(|name| has_word(body, name))
}

/// The functions of the given files that assert, by themselves or by calling one that does.
pub(crate) fn asserting_in<'a>(sources: impl Iterator<Item = &'a Source> + Clone) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    loop {
        let found: BTreeSet<String> = sources
            .clone()
            .flat_map(|source| functions(source).into_iter().map(move |function| (source, function)))
            .filter(|(source, function)| asserts(function.code(source), &names))
            .map(|(_, function)| function.name.to_owned())
            .collect();
        if found == names {
            return names;
        }
        names = found;
    }
}

fn void_tests(source: &Source, asserting: &BTreeSet<String>, findings: &mut Findings<'_>) {
    let asserting: BTreeSet<String> = asserting.union(&asserting_in(std::iter::once(source))).cloned().collect();
    for function in functions(source) {
        let before = source.code[..function.at].trim_end();
        let before = before.strip_suffix("async").map_or(before, str::trim_end);
        let is_test =
            before.ends_with("#[test]") || before.lines().next_back().is_some_and(|line| line.contains("::test"));
        if is_test && !asserts(function.code(source), &asserting) {
            findings.add("void test", function.at, format!("{} asserts nothing", function.name));
        }
    }
}
