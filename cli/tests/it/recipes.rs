//! The recipes of the guide (docs/evolve.md), with releases that are processes of their own, old and new ones at the same time.
//!
//! ```text
//!   test ── zeolite serve, zeolite evolve …, zeolite gate …       the commands of the guide
//!     └──── this program, as a release of a shop (process)        serves requests, or works on a job, until it is stopped
//! ```
//! A release does nothing about errors but what `Db::run` does by itself: a request that fails ends it, and the test. At the end the
//! data has to be exact: each request that was acknowledged, the counter, the indexes both ways.

mod back;
mod index;
mod process;
mod requests;
mod shop;
mod two_versions;
