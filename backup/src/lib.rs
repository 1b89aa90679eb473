//! Backups of Zeolite databases: taken beside live traffic, kept, verified and restored, in directories and object stores.
//!
//! ```text
//!   taking ──> writer, turn ─┐
//!   restoring ───────────────┤
//!   verifying ───────────────┼──> shelf ──> manifest ──> sealed ──> key
//!   tidying ──> retention                 └─> place
//! ```
//! What is above may name what is below. docs/backup.md is the page for users, and has the format of what is stored.

mod errors;
mod key;
mod manifest;
mod place;
mod restoring;
mod retention;
mod sealed;
mod shelf;
mod slices;
mod taking;
#[cfg(test)]
mod tests;
mod tidying;
mod turn;
mod verifying;
mod writer;

pub use errors::{Error, Result};
pub use key::Key;
pub use manifest::{Extent, FORMAT, Manifest};
pub use place::{Place, Reach, real_path};
pub use restoring::{Chosen, Restored, choose, restore};
pub use retention::Keep;
pub use shelf::{Backup, Chain, Shelf, databases};
pub use taking::{Course, How, Taken, take};
pub use tidying::{Tidied, tidy};
pub use verifying::{Verified, verify};
pub use writer::OBJECT_BYTES;
