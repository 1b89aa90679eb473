//! The real binary, served and offline: every administrative command, for people and for programs.

mod offline;
mod program;
mod served;
mod settings;
mod shows;
mod upkeep;
