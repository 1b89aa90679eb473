//! The server through real sockets, one program for all of it: a test program costs more to link than to run.

mod metrics;
mod rpc;
mod traces;
mod web;
