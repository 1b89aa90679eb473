//! The real binary, served and offline: every administrative command, for people and for programs.

mod offline;
mod settings;
mod shows;
mod upkeep;
