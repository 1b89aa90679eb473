//! Backups of the real binary: taken from a running server, restored, and compared with where they came from.

mod apart;
mod cut;
mod damaged;
mod kept;
mod restored;
pub(crate) mod s3;
pub(crate) mod scene;
mod scheduled;
