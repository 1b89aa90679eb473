//! Evolves against a real server: beside live writers, with workers that die and a server that restarts.

mod beside_traffic;
mod control;
mod ledger;
mod looked_after;
mod model;
mod plans;
mod site;
#[path = "../live/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the client, which use all of it")]
mod support;
mod undo;
