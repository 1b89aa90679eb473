//! The real binary, served and offline: every administrative command, for people and for programs.

mod databases;
mod offline;
mod restarts;
mod settings;
mod shows;
mod upkeep;
