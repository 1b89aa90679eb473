//! The real binary under faults, one at a time: what its clients see, what the log holds after, what check, status and the numbers say.
//! docs/faults.md has a paragraph for each.

mod clocks;
mod copies;
mod disk;
mod full;
mod lines;
mod proxy;
mod scene;
mod sessions;
