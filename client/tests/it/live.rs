//! The client against a real server, over a real network that can be cut.

mod admin;
mod collections;
mod isolation;
mod modes;
mod network;
mod objects;
mod scans;
mod watching;
