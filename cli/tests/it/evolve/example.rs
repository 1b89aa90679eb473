//! The example of the guide, run as it stands there: the program, each command, and what each of them prints.
//!
//! ```text
//!   docs/evolve.md, "An example from begin to end"
//!     ```python   the program; a second one is the lines that mend it
//!     ```console  $ command, and behind it what it prints
//! ```
//! What depends on the moment and the machine (times, tids, rates, process numbers) only has to be of the same kind.

use super::scene::Scene;
use crate::served::text;
use std::path::{Path, PathBuf};
use std::process::Command;
use zeolite_client::{Cell, Record};

const GUIDE: &str = include_str!("../../../../docs/evolve.md");

/// One fenced block of the example.
enum Block {
    Program(String),
    Session(Vec<Said>),
}

/// A command and what it printed.
struct Said {
    command: String,
    lines: Vec<String>,
}

fn blocks() -> Vec<Block> {
    let begin = GUIDE.find("## An example from begin to end").expect("the guide has the example");
    let rest = &GUIDE[begin + 2..];
    let example = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let fenced = example.split("\n```").skip(1).step_by(2);
    fenced.map(|fenced| block(fenced.split_once('\n').expect("a kind and its text"))).collect()
}

fn block((kind, body): (&str, &str)) -> Block {
    if kind == "python" {
        return Block::Program(format!("{body}\n"));
    }
    assert_eq!(kind, "console", "a kind of block that nobody knows here");
    let mut session: Vec<Said> = Vec::new();
    for line in body.lines() {
        match (line.strip_prefix("$ "), session.last_mut()) {
            (Some(command), _) => session.push(Said { command: command.to_owned(), lines: Vec::new() }),
            (None, Some(said)) => said.lines.push(line.to_owned()),
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    Block::Session(session)
}

/// A shell in which `zeolite` is the program under test.
struct Shell {
    directory: PathBuf,
    path: String,
    server: String,
}

impl Shell {
    fn new(directory: &Path, server: &str) -> Shell {
        let program = Path::new(env!("CARGO_BIN_EXE_zeolite"));
        let own = program.parent().expect("is in a directory").display().to_string();
        let path = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
        Shell { directory: directory.to_owned(), path, server: server.to_owned() }
    }

    fn run(&self, command: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{{ {command}\n}} 2>&1")]).current_dir(&self.directory);
        let output = shell.env("PATH", &self.path).env("ZEOLITE_SERVER", &self.server).output().expect("sh runs");
        text(&output.stdout)
    }
}

/// Not an empty line, nor one in which `run` draws how far it is: how many there are depends on the moment.
fn is_told(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("names: ")
}

/// A line without what the moment and the machine make of it.
fn kind_of(line: &str) -> String {
    let mut words: Vec<String> = line.split_whitespace().map(kind_of_word).collect();
    // An object in a list: which oids a client gets depends on what it was given before.
    if let Some(first) = words.first_mut().filter(|word| word.chars().all(|c| c.is_ascii_hexdigit())) {
        *first = "OID".into();
    }
    if let Some(at) = words.iter().position(|word| word == "commits").filter(|at| *at > 2) {
        // `13 of 13 commits taken back`
        words[at - 3] = "NUMBER".into();
        words[at - 1] = "NUMBER".into();
    }
    for at in 1..words.len() {
        // `235 per second`, `9 chunks`
        if ["per", "chunks"].contains(&words[at].as_str()) {
            words[at - 1] = "NUMBER".into();
        }
    }
    words.join(" ")
}

fn kind_of_word(word: &str) -> String {
    let bare = word.trim_end_matches([',', ':', ';']);
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || ".,".contains(c));
    let unit = bare.trim_start_matches(|c: char| c.is_ascii_digit() || ".,".contains(c));
    if bare.len() == 16 && bare.chars().all(|c| c.is_ascii_hexdigit()) {
        return word.replace(bare, "TID");
    }
    let is_measured = ["s", "ms", "us", "/s"].contains(&unit) && is_number(&bare[..bare.len() - unit.len()]);
    let is_moment = bare.len() > 7 && bare.chars().all(|c| c.is_ascii_digit() || "-:.Z".contains(c));
    if is_measured {
        return word.replace(bare, "TIME");
    }
    if is_moment {
        return word.replace(bare, "MOMENT");
    }
    word.to_owned()
}

#[test]
fn only_the_moment_may_differ() {
    let same = |one: &str, other: &str| kind_of(one) == kind_of(other);
    assert!(same("duration  0.1s", "duration 12.5s") && same("rate 2,000/s,", "rate 1.0/s,"));
    assert!(same("at 2026-11-23 19:26:02.827Z; x", "at 2027-01-01 00:00:00.000Z; x"));
    assert!(same("by 040d370e2f1e476e: no", "by 050d370e2f1e476f: no"));
    assert!(same("2cc shop.Customer", "4cc shop.Customer") && !same("2cc Customer", "2cc Page"));
    assert!(!same("progress 999 of 1,000", "progress 998 of 1,000") && !same("and 1 in it", "and 2 in it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_example_prints_what_the_guide_says() {
    let python = Command::new("python3").arg("--version").output();
    assert!(python.is_ok_and(|output| output.status.success()), "the guide's example needs python3: install it");
    let scene = Scene::with(0).await;
    let names = ["Ada Lovelace", "Alan Turing", "Grace Hopper", "Edsger Dijkstra"];
    let customers: Vec<String> = (0..1000)
        .map(|number| if number == 700 { "Prince".to_owned() } else { names[number % names.len()].to_owned() })
        .collect();
    let first = scene.db.new_oid().await.expect("an oid");
    let tx = scene.db.begin().await.expect("begins");
    let mut oid = first;
    for name in &customers {
        let data = format!("{{\"name\": \"{name}\"}}");
        tx.put(Cell::object(oid), &Record::new("shop.Customer", 1, data)).expect("encodes");
        oid = scene.db.new_oid().await.expect("an oid");
    }
    tx.commit().await.expect("commits");

    let step = scene.script("split_names.py", "");
    let shell = Shell::new(step.parent().expect("is in a directory"), &scene.served.address);
    let (mut program, mut wrong) = (String::new(), String::new());
    for block in blocks() {
        match block {
            Block::Program(text) if program.is_empty() => program = text,
            Block::Program(mended) => {
                let begin = mended.split('=').next().expect("an assignment").trim_end();
                let begin = begin.split(',').next().expect("a name");
                let line = program.lines().find(|line| line.starts_with(begin)).expect("the line that is mended");
                program = program.replace(line, mended.trim_end());
            }
            Block::Session(session) => {
                std::fs::write(&step, &program).expect("writes");
                for said in session {
                    let printed = shell.run(&said.command);
                    if said.command.contains("evolve plan") && !said.command.contains("--dry-run") {
                        // The disk of the machine that tests is nobody's business.
                        shell.run("zeolite evolve set names disk_pause_percent=0 disk_stop_percent=0");
                    }
                    let kinds = |lines: &mut dyn Iterator<Item = &str>| lines.map(kind_of).collect::<Vec<_>>();
                    let wanted = kinds(&mut said.lines.iter().map(String::as_str).filter(|line| is_told(line)));
                    if kinds(&mut printed.lines().filter(|line| is_told(line))) != wanted {
                        wrong += &format!("$ {}\n{printed}\n", said.command);
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the guide says something else:\n{wrong}");
}
