//! Backups of the real binary: taken from a running server, restored, and compared with where they came from.

mod cut;
mod kept;
mod restored;
mod scene;
mod scheduled;
