//! Keeps the house: every source file of the workspace against every rule that a program can check.
//!
//! The rules are in `rules`; each of them is shown here to catch a bad example and to let a good one pass.

mod api;
mod pages;
mod rings;
mod rules;
mod settings;
mod source;

use rules::{Finding, asserting_in, judge};
use source::Source;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CRATES: [&str; 11] =
    ["proto", "zodb", "server", "derive", "client", "testing", "backup", "cli", "tests", "benches", "python"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate is in the workspace").to_owned()
}

/// Every Rust file of the workspace.
fn sources() -> Vec<Source> {
    let root = root();
    let mut waiting: Vec<PathBuf> = CRATES.iter().map(|name| root.join(name)).collect();
    let mut sources = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file is utf-8");
                let name = path.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
                sources.push(Source::new(&name, &text));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// The functions of test code that assert. `new`, `run` and the like are names of too many functions to say anything
/// outside of their own file.
fn asserting(sources: &[Source]) -> BTreeSet<String> {
    let of_tests = sources.iter().filter(|source| source.text.contains("#[test]") || source.path.starts_with("tests/"));
    asserting_in(of_tests).into_iter().filter(|name| name.len() > 3).collect()
}

#[test]
fn the_house_is_tidy() {
    let sources = sources();
    assert!(sources.len() > 40, "only {} files were found", sources.len());
    let asserting = asserting(&sources);
    let mut findings: Vec<Finding> = sources.iter().flat_map(|source| judge(source, &asserting)).collect();
    findings.extend(rings::rings(&sources));
    findings.extend(api::api(&sources));
    let shown: Vec<String> =
        findings.iter().map(|f| format!("{}:{}: {}: {}", f.path, f.line, f.rule, f.text)).collect();
    assert!(shown.is_empty(), "{} findings\n{}", shown.len(), shown.join("\n"));
}

/// What of the policy on dependencies can be kept without a network.
#[test]
fn the_lock_file_keeps_the_policy() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect("a file of the workspace");
    let policy: toml::Table = read("deny.toml").parse().expect("deny.toml is toml");
    let lock: toml::Table = read("Cargo.lock").parse().expect("Cargo.lock is toml");
    let text =
        |table: &toml::Value, key: &str| table.get(key).and_then(|value| value.as_str()).unwrap_or("").to_owned();
    let banned = policy["bans"]["deny"].as_array().expect("a list of bans").iter();
    let banned: Vec<String> = banned.filter(|ban| ban.get("wrappers").is_none()).map(|ban| text(ban, "name")).collect();
    let registry = policy["sources"]["allow-registry"][0].as_str().expect("a registry");
    let packages = lock["package"].as_array().expect("packages");
    assert!(packages.len() > 50 && banned.len() > 3, "{} {}", packages.len(), banned.len());
    for package in packages {
        let (name, source) = (text(package, "name"), text(package, "source"));
        assert!(!banned.contains(&name), "{name} is banned, deny.toml says why");
        let ours = CRATES.iter().any(|ours| name == format!("zeolite-{ours}")) || name == "zeolite";
        assert!(ours == source.is_empty(), "{name} comes from nowhere");
        assert!(ours || source == format!("registry+{registry}"), "{name} comes from {source}");
    }
}

fn rules_broken(path: &str, text: &str) -> Vec<&'static str> {
    let source = Source::new(path, text);
    let asserting = asserting(std::slice::from_ref(&source));
    judge(&source, &asserting).into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn each_rule_catches_its_bad_example() {
    let long_file = "//! Owns.\n".to_owned() + &"const A: u8 = 1;\n".repeat(600);
    let long_function = format!("//! Owns.\nfn f() {{\n{}}}\n", "    g();\n".repeat(69));
    let bad: &[(&str, &str, &str)] = &[
        ("file length", "proto/src/a.rs", &long_file),
        ("function length", "proto/src/a.rs", &long_function),
        ("header", "proto/src/a.rs", "use a::b;\n"),
        ("file name", "server/src/util.rs", "//! Owns.\n"),
        ("direction", "proto/src/a.rs", "//! Owns.\nuse zeolite_server::Server;"),
        ("direction", "client/src/cache.rs", "//! Owns.\nuse zeolite_server::Server;"),
        ("direction", "server/src/rpc/a.rs", "//! Owns.\nuse zeolite_client::Client;"),
        ("direction", "server/src/store/a.rs", "//! Owns.\nfn f(e: &crate::engine::Engine) {}"),
        ("direction", "server/src/engine/a.rs", "//! Owns.\nuse crate::rpc::Session;"),
        ("direction", "server/src/engine/a.rs", "//! Owns.\nuse crate::store::Reader;"),
        ("direction", "server/src/storage.rs", "//! Owns.\nuse crate::engine::Engine;"),
        ("direction", "server/src/store/a.rs", "//! Owns.\nuse crate::storage::Read;"),
        ("direction", "server/src/rpc/a.rs", "//! Owns.\nuse crate::server::Server;"),
        ("direction", "server/src/store/disk/a.rs", "//! Owns.\nuse crate::store::Reader;"),
        ("direction", "client/src/wire.rs", "//! Owns.\nuse crate::tx::Session;"),
        ("direction", "client/src/tx/a.rs", "//! Owns.\nuse crate::collections::Map;"),
        ("doors", "server/src/engine/a.rs", "//! Owns.\nuse zeolite_proto::wire::v2;"),
        ("doors", "server/src/server.rs", "//! Owns.\nuse zeolite_proto::wire::v2;"),
        ("doors", "server/src/store/a.rs", "//! Owns.\nuse tonic::Status;"),
        ("doors", "client/src/connect.rs", "//! Owns.\nuse tonic::transport::Channel;"),
        ("doors", "cli/src/status.rs", "//! Owns.\nuse zeolite_proto::wire::v2;"),
        ("doors", "cli/src/server.rs", "//! Owns.\nuse tonic::transport::Channel;"),
        ("direction", "client/src/wire/a.rs", "//! Owns.\nuse crate::admin::Admin;"),
        ("direction", "client/src/connect/a.rs", "//! Owns.\nuse crate::tx::Tx;"),
        ("direction", "client/src/connect.rs", "//! Owns.\nuse crate::admin::Admin;"),
        ("doors", "proto/src/draft.rs", "//! Owns.\nfn f(draft: v2::Draft) {}"),
        ("store", "server/src/store/a.rs", "//! Owns.\nfn f() { std::thread::spawn(g); }"),
        ("store", "server/src/store.rs", "//! Owns.\nuse crossbeam_channel::Sender;"),
        ("store", "server/src/store/a.rs", "//! Owns.\nuse std::sync::mpsc;"),
        ("store", "server/src/store/a.rs", "//! Owns.\nasync fn f() {}"),
        ("time", "server/src/rpc/a.rs", "//! Owns.\nfn f() { let began = std::time::Instant::now(); }"),
        ("time", "server/src/store/a.rs", "//! Owns.\nfn f() -> SystemTime { SystemTime::now() }"),
        ("unfinished", "cli/src/a.rs", "//! Owns.\n// TODO: later"),
        ("unfinished", "cli/src/a.rs", "//! Owns.\n/* a /* nested */ FIXME */"),
        ("unfinished", "cli/src/a.rs", "//! Owns.\nfn f() { todo!() }"),
        ("unfinished", "cli/src/a.rs", "//! Owns.\nfn f() { unimplemented!(\"x\") }"),
        ("allow", "cli/src/a.rs", "//! Owns.\n#[allow(dead_code)]\nfn f() {}"),
        ("allow", "cli/src/a.rs", "//! Owns.\n#![allow(dead_code)]"),
        ("sleep", "tests/tests/a.rs", "//! Owns.\nfn f() { std::thread::sleep(d); }"),
        ("sleep", "client/tests/a.rs", "//! Owns.\nasync fn f() { tokio::time::sleep(d).await; }"),
        ("sleep", "server/src/a.rs", "//! Owns.\n#[cfg(test)]\nmod tests { fn f() { sleep(d); } }"),
        ("ignored test", "cli/src/a.rs", "//! Owns.\n#[test]\n#[ignore]\nfn t() { assert!(f()); }"),
        ("ignored test", "cli/src/a.rs", "//! Owns.\n#[ignore = \"slow\"]\nfn t() {}"),
        ("void assertion", "cli/src/a.rs", "//! Owns.\nfn t() { assert!(true); }"),
        ("void assertion", "cli/src/a.rs", "//! Owns.\nfn t() { assert!( true, \"why\"); }"),
        ("void assertion", "cli/src/a.rs", "//! Owns.\nfn t() { assert_eq!(a.len(), a.len( )); }"),
        ("void assertion", "cli/src/a.rs", "//! Owns.\nfn t() { assert!(r.is_ok() || r.is_err()); }"),
        ("void assertion", "cli/src/a.rs", "//! Owns.\nfn t() { assert!(x == x); }"),
        ("void test", "cli/src/a.rs", "//! Owns.\n#[test]\nfn t() { let _ = f(); }"),
        ("void test", "cli/src/a.rs", "//! Owns.\n#[tokio::test]\nasync fn t() { f().await; }"),
    ];
    for (rule, path, text) in bad {
        let broken = rules_broken(path, text);
        assert_eq!(broken, [*rule], "{path}: {text}");
    }
}

#[test]
fn good_examples_pass() {
    let good = [
        (
            "server/src/rpc/a.rs",
            "//! Owns.\nuse crate::engine::Engine;\nuse zeolite_proto::wire::v2;\nuse tonic::Status;",
        ),
        ("server/src/store/a.rs", "//! Owns; no tokio, no threads, no async.\nuse crate::store::disk::Disk;"),
        ("server/src/store/a.rs", "//! Owns.\n#[cfg(test)]\nmod tests {\n use std::thread::spawn; use std::thread;\n}"),
        ("server/src/store/frame/tests.rs", "//! Shows.\nuse std::thread;"),
        ("server/src/clock.rs", "//! Owns.\nfn f() { let now = std::time::Instant::now(); }"),
        ("server/src/a.rs", "//! Owns.\n#[cfg(test)]\nmod tests { fn f() { let now = Instant::now(); } }"),
        ("server/src/store/disk/a.rs", "//! Owns.\nuse crate::store::StoreError;"),
        ("server/src/rpc/a.rs", "//! Owns.\nasync fn f() { tokio::time::sleep(linger).await; }"),
        (
            "server/src/a.rs",
            "//! Owns.\nconst A: &str = \"TODO #[allow( v1\"; const B: char = '\"'; fn f<'a>(a: &'a str) {}",
        ),
        (
            "server/src/a.rs",
            "//! Owns.\nconst A: &str = r#\"tonic \" todo!()\"#; const B: u8 = b'\\''; const V11: u8 = 1;",
        ),
        (
            "cli/src/a.rs",
            "//! Owns.\n#[test]\nfn t() { check(1); }\nfn check(a: u8) { inner(a); }\nfn inner(a: u8) { assert_eq!(a, 1); }",
        ),
        ("cli/src/a.rs", "//! Owns.\n#[test]\nfn t() { run(1); }\nfn run(a: u8) { assert_eq!(a, 1); }"),
        ("cli/src/a.rs", "//! Owns.\n#[test]\nfn t() { assert_eq!(f(\"a\"), f(\"b\")); }"),
        (
            "cli/src/a.rs",
            "//! Owns.\ntrait T { fn f(&self); }\n#[tokio::test]\nasync fn t() -> Result<()> { f().await?; Ok(()) }",
        ),
    ];
    for (path, text) in good {
        assert_eq!(rules_broken(path, text), Vec::<&str>::new(), "{path}: {text}");
    }
}

/// The files of the rings that are found among these files, each of which names what follows its name.
fn rings_among(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    rings::rings(&sources).into_iter().map(|ring| ring.text.split(':').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_ring_is_found_however_it_is_written() {
    let ring = "cli/src/a.rs > cli/src/b.rs > cli/src/a.rs";
    let rings: [&[(&str, &str)]; 6] = [
        &[("cli/src/a.rs", "use crate::b::B;"), ("cli/src/b.rs", "use crate::a::A;")],
        &[("cli/src/a.rs", "use super::b::B;"), ("cli/src/b.rs", "fn f(a: crate::a::A) {}")],
        &[("cli/src/a.rs", "use crate::{c::C, b::{self, B}};"), ("cli/src/b.rs", "use super::a;")],
        &[("cli/src/a.rs", "use crate::{x as y, b as z};"), ("cli/src/b.rs", "pub(in crate::a) fn f() {}")],
        &[("cli/src/a.rs", "fn f() { crate::b::g() }"), ("cli/src/b.rs", "use super::{c::C, a::A};")],
        &[
            ("cli/src/a.rs", "use crate::b::B;"),
            ("cli/src/b.rs", "use crate::a::A;"),
            ("cli/src/c.rs", "use crate::a::A; use crate::b::B;"),
        ],
    ];
    for files in rings {
        assert_eq!(rings_among(files), [ring], "{files:?}");
    }
    let three = [
        ("proto/src/x/a.rs", "use super::b::B;"),
        ("proto/src/x/b.rs", "use super::super::y::C;"),
        ("proto/src/y.rs", "use crate::x::a::A;"),
        ("proto/src/x.rs", "mod a; mod b;"),
    ];
    assert_eq!(rings_among(&three), ["proto/src/x/a.rs > proto/src/x/b.rs > proto/src/y.rs > proto/src/x/a.rs"]);
}

#[test]
fn a_line_of_files_is_no_ring() {
    let lines: [&[(&str, &str)]; 5] = [
        &[("cli/src/a.rs", "use crate::b::B;"), ("cli/src/b.rs", "use crate::c::C;"), ("cli/src/c.rs", "")],
        &[("cli/src/a.rs", "mod b; use b::B;"), ("cli/src/a/b.rs", "use super::A; use crate::a::C;")],
        &[("cli/src/a.rs", "use crate::b::B;"), ("client/src/b.rs", "use crate::a::A;")],
        &[
            ("cli/src/a.rs", "use crate::b::B;"),
            ("cli/src/b.rs", "//! crate::a\n#[cfg(test)]\nmod tests { use crate::a::A; }"),
        ],
        &[("cli/src/a.rs", "use crate::b::B;"), ("cli/src/b/tests.rs", "use crate::a::A;"), ("cli/src/b.rs", "")],
    ];
    for files in lines {
        assert_eq!(rings_among(files), [""; 0], "{files:?}");
    }
}
