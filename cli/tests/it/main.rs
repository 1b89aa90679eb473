//! The real binary, one program for all of its tests: a test program costs more to link than to run.

mod backups;
mod capacity;
mod command_line;
mod demo;
mod doctor;
mod ended;
mod evolve;
mod faults;
mod files;
mod followed;
mod killed;
mod logged;
mod monitoring;
mod packaging;
mod prepared;
mod program;
mod recipes;
mod releases;
mod secure;
mod serve;
mod served;
mod silent;
