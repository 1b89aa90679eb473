//! The real binary under faults, one at a time: what its clients see, what the log holds after, what check, status and the numbers say.
//! docs/faults.md has a paragraph for each.

mod clocks;
mod copies;
mod depends;
mod device;
mod disk;
mod far;
mod full;
mod lines;
mod longer;
mod proxy;
mod scene;
mod sessions;
mod vanished;
mod wire;

use std::io::Write;

/// Says, so that it is seen, that a test could not be made here: what a test prints is captured, what it writes is not.
fn left_out(why: &str) {
    // Who has closed the output wants to see nothing.
    let _ = writeln!(std::io::stderr(), "left out: {}", why.trim());
}
