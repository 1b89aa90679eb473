//! `zeolite evolve` as its users meet it: jobs planned, run by programs in another language, killed, resumed, undone.

mod bad_input;
mod example;
mod gates;
mod gone;
mod jobs;
mod owed;
mod programs;
mod report;
pub(crate) mod scene;
mod stopped;
mod writes;
