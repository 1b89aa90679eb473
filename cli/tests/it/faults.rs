//! The real binary under faults, one at a time: what its clients see, what the log holds after, what check, status and the numbers say.
//! docs/faults.md has a paragraph for each.

mod clocks;
mod copies;
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
