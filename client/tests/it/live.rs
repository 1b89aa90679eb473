//! The client against a real server, over a real network that can be cut.

mod admin;
mod blobs;
mod collections;
mod deadlines;
mod interest;
mod isolation;
mod kept_cache;
mod lives;
mod modes;
mod network;
mod objects;
mod raw;
mod savepoints;
mod scans;
mod traced;
mod walks;
mod watching;
