//! Owns the golden scripts: a file of commands with what each of them is to print.
//!
//! ```text
//!   # Two writers of one page: the second one loses.       comments stay where they are
//!   a: put page Page hello                                 a command, flush left: `actor: command`, or nobody's
//!   a: commit
//!     a: committed t1                                      what it prints, indented by two
//! ```
//! A script is its own expectation: it is run, and what comes out must be the file. With `ZEOLITE_BLESS=1` the file is
//! rewritten instead; then read the difference, because it is the behaviour that has changed.

mod actor;
mod blobs;
mod events;
mod names;
mod operator;
mod values;
mod world;

pub use world::World;

/// Runs a script; gives what the file should be. Drafts of so many writes are made ready before their turn, which changes nothing.
pub fn run(text: &str, ready_writes_min: usize) -> String {
    let mut world = World::default();
    world.settings.engine.ready_writes_min = ready_writes_min;
    let mut out = String::new();
    for line in text.lines() {
        let is_output = line.starts_with("  ");
        if is_output {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let printed = world.run(line).unwrap_or_else(|error| vec![format!("BAD COMMAND: {error}")]);
        printed.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
    }
    out
}

/// The first lines that differ, with the line number, for the message of a failed test.
pub fn first_difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected.next(), found.next()) {
            (None, None) => return "no line differs".into(),
            (one, other) if one == other => {}
            (one, other) => {
                let (one, other) = (one.unwrap_or("(end)"), other.unwrap_or("(end)"));
                return format!("line {number}\n  the file says: {one}\n  what came:     {other}");
            }
        }
    }
}
