//! Owns the golden scripts of evolves: a file of commands with what each of them is to print.
//!
//! ```text
//!   # What it shows, in a line or two.                     comments stay where they are
//!   w1: step 2                                             a command, flush left: `actor: command`, or nobody's
//!     w1: stepped page1, page2; at page3                   what it prints, indented by two
//! ```
//! Who an actor is, its name says: `op..` an operator, `w..` a worker, `old..` a live client that knows the old shape only,
//! `live..` one that knows the new shape and merges edits with upgrades, any other (`a`, `b`) one that knows the new shape.
//!
//! A worker's step waits for a permit *after* it was given the object, so a script says exactly what has been read and what has
//! been committed when something else happens. A command ends when its fact is there (a worker stands in a step again, the
//! ledger says so), never after a time; a script that waits for what never comes says STUCK.

use super::stage::Stage;

/// Runs a script; gives what the file should be.
pub(crate) async fn run(text: &str) -> String {
    let mut stage = Stage::default();
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
        let printed = stage.run(line).await.unwrap_or_else(|error| vec![format!("BAD COMMAND: {error}")]);
        printed.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
    }
    out
}

/// The first lines that differ, with the line number.
pub(crate) fn first_difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected.next(), found.next()) {
            (None, None) => return "no line differs, but a command is bad or stuck".into(),
            (one, other) if one == other => {}
            (one, other) => {
                let (one, other) = (one.unwrap_or("(end)"), other.unwrap_or("(end)"));
                return format!("line {number}\n  the file says: {one}\n  what came:     {other}");
            }
        }
    }
}
