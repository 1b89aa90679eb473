//! Evolves against a real server: beside live writers and at random. Single states and races are golden scripts, in
//! `evolve_scripts`.

mod beside_traffic;
mod control;
mod looked_after;
mod model;
mod plans;
mod site;
#[path = "../live/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the client, which use all of it")]
mod support;
mod undo;
mod whole;
