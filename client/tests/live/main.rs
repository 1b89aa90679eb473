//! The client against a real server, over a real network that can be cut.

mod admin;
mod collections;
mod isolation;
mod modes;
mod network;
mod objects;
mod scans;
#[expect(dead_code, reason = "shared with the scripts of evolves, which use the rest")]
mod support;
mod watching;
