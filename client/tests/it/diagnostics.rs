//! What the compiler says to who has made a mistake: in which line, and what to do. Each program is given to the compiler itself, beside the
//! libraries that these tests were built from; nothing is built for it, and none of them is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the libraries of this test are.
fn libraries() -> PathBuf {
    std::env::current_exe().expect("this test is a program").parent().expect("in a directory").to_owned()
}

/// The library that was built last: the one that this test was built with.
fn library(name: &str) -> PathBuf {
    let start = format!("lib{name}-");
    let all = std::fs::read_dir(libraries()).expect("a directory").filter_map(|entry| {
        let path = entry.expect("an entry").path();
        let file = path.file_name()?.to_str()?;
        let is_it = file.starts_with(&start) && file.ends_with(".rlib");
        is_it.then(|| (path.metadata().and_then(|of| of.modified()).expect("has a time"), path.clone()))
    });
    all.max().unwrap_or_else(|| panic!("no library {name}")).1
}

/// What the compiler says of a program.
fn told(program: &str, out: &Path) -> String {
    use std::io::Write;
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command.args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "--crate-name", "told", "-"]);
    command.arg("--out-dir").arg(out).arg("-L").arg(format!("dependency={}", libraries().display()));
    for name in ["zeolite_client", "serde"] {
        command.arg("--extern").arg(format!("{name}={}", library(name).display()));
    }
    let mut running =
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the compiler runs");
    running.stdin.take().expect("piped").write_all(program.as_bytes()).expect("takes the program");
    let ended = running.wait_with_output().expect("the compiler ends");
    String::from_utf8(ended.stderr).expect("is text")
}

/// The head of each program.
const HEAD: &str = "use serde::{Deserialize, Serialize};\nuse zeolite_client::{collections::*, evolve, *};\n";

/// Programs of which nothing is said.
const RIGHT: &[&str] = &[
    "#[derive(Serialize, Deserialize, Persistent)] #[persistent(class = \"P\")] pub struct P { a: u8 }",
    "#[derive(Serialize, Deserialize, Persistent)]\n#[persistent(class = \"P\", unique(name = \"title\", key = String, by = P::title))]\n\
     #[persistent(index(name = \"word\", key = String, by = |page: &P| page.title.clone()))]\n\
     pub struct P { title: Option<String> }\nimpl P { fn title(&self) -> Option<String> { self.title.clone() } }",
];

/// The mistake, and what is to be said of it; `LINE` stands for the place of the line that ends with `//!`.
const MISTAKES: &[(&str, &[&str])] = &[
    (
        "#[derive(Serialize, Deserialize)] struct Page { title: String }\n\
         async fn f(tx: &Tx, page: Page) { let _ = tx.create(&page).await; } //!",
        &["`Page` has no class in the database", "#[persistent(class = \"app.Name\")]", "LINE"],
    ),
    (
        "async fn f(tx: &Tx) {\nlet _ = tx.root_or_create::<Map<Vec<String>, u64>>(\"words\").await; } //!",
        &["`Vec<String>` cannot be the key of a collection", "`#[derive(Key)]`", "LINE"],
    ),
    (
        "async fn f(tx: &Tx) {\nlet _ = tx.root_or_create::<String>(\"name\").await; } //!",
        &[
            "`String` is no collection that can be made without further arguments",
            "tx.set_root(name, &reference)",
            "LINE",
        ],
    ),
    (
        "async fn f(view: &View) {\nlet _ = view.root::<u64>(\"name\").await; } //!",
        &["`u64` stands for no object", "`Ref<T>` of a type with `#[derive(Persistent)]`", "LINE"],
    ),
    (
        "async fn f(view: &View, words: Map<u64, u64>) {\nlet _ = words.prefix(view, &7u32); } //!",
        &["`u64` is no key that begins with such a part", "or a `str` of a `String`", "LINE"],
    ),
    (
        "async fn f(worker: evolve::Worker) {\nlet _ = worker.run(|old: Record| old).await; } //!",
        &["is no step of an evolve", "`evolve::upgrade::<T>()`", "LINE"],
    ),
    (
        "struct Mine;\nfn f(resolvers: &mut Resolvers) { resolvers.register(\"app.Mine\", std::sync::Arc::new(Mine)); } //!",
        &["`Mine` merges nothing", "implement `Resolver` for it", "LINE"],
    ),
    (
        "fn f() {\nlet _ = keys::encode(&(1.5f32..2.5)); } //!",
        &["cannot be the key of a collection, nor be looked up as one", "`#[derive(Key)]`", "LINE"],
    ),
    (
        "#[derive(Serialize, Deserialize, Persistent)] struct Page { title: String } //!",
        &["say which class this is: #[persistent(class = \"app.Name\")]", "LINE"],
    ),
    (
        "#[derive(Key)] enum Place { East, West } //!",
        &["keys are structs: derive `Key` for a struct that has the parts", "LINE"],
    ),
    (
        "#[derive(Serialize, Deserialize, Persistent)]\n#[persistent(class = \"Page\", shape = \"\")] //!\nstruct Page { title: String }",
        &["write shape = \"", "LINE"],
    ),
    (
        "#[derive(Serialize, Deserialize, Persistent)]\n#[persistent(class = \"Page\")]\nstruct Page {\n\
         #[persistent(index)] tags: Vec<String>, //!\n}",
        &["`Vec<String>` cannot be the key of a collection", "LINE"],
    ),
    (
        "#[derive(Serialize, Deserialize, Persistent)] #[persistent(class = \"Page\")] struct Old { title: String }\n\
         #[derive(Serialize, Deserialize, Persistent)]\n#[persistent(class = \"Page\", version = 2, from = Old)] //!\n\
         struct Page { title: String }",
        &["From<Old>", "LINE"],
    ),
    (
        "#[derive(Serialize, Deserialize, Persistent)]\n#[persistent(class = \"Page\", newer = \"r2::Page\")] //!\n\
         struct Page { title: String }",
        &["here belongs a type of the same class, without quotes: newer = r2::Page", "LINE"],
    ),
    (
        "#[derive(Serialize, Deserialize, Persistent)]\n#[persistent(class = \"Page\", version = 2, from = Page V1)] //!\n\
         struct Page { title: String }",
        &["expected `,`", "LINE"],
    ),
    (
        "#[derive(Serialize, Deserialize, Persistent)]\n#[persistent(class = \"Page\",\n\
         index(name = \"word\", key = String, by = \"words\"))] //!\nstruct Page { title: String }",
        &["here belongs a function or a closure, without quotes: by = Page::words", "LINE"],
    ),
    (
        "fn f() { let _ = Options { feed: false, ..Options::default() }; } //!",
        &["cannot create non-exhaustive struct", "LINE"],
    ),
];

#[test]
fn each_mistake_is_told_where_it_stands_with_what_to_do() {
    let out = tempfile::tempdir().expect("a temporary directory");
    for right in RIGHT {
        let said = told(&format!("#![allow(unused_imports)]\n{HEAD}{right}"), out.path());
        assert!(!said.contains("error") && !said.contains("warning"), "{right}\n{said}");
    }
    let failures: Vec<String> = MISTAKES
        .iter()
        .filter_map(|(program, wanted)| {
            let program = format!("{HEAD}{program}");
            let line = program.lines().position(|line| line.ends_with("//!")).expect("a line is marked") + 1;
            // The compiler takes the mark for documentation.
            let said = told(&program.replace("//!", ""), out.path());
            let place = format!("<anon>:{line}:");
            let missing: Vec<&str> = wanted
                .iter()
                .map(|wanted| if *wanted == "LINE" { place.as_str() } else { wanted })
                .filter(|wanted| !said.contains(*wanted))
                .collect();
            (!missing.is_empty()).then(|| format!("{program}\nlacks {missing:?} in\n{said}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
