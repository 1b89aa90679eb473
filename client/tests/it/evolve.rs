//! Evolves against a real server: beside live writers and at random. Single states and races are golden scripts, in
//! `evolve_scripts`.

mod beside_traffic;
mod control;
mod course;
mod covered;
mod halves;
mod looked_after;
mod model;
mod plans;
mod refused;
mod undo;
mod whole;
mod yielding;
mod yielding_checks;
