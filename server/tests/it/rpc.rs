//! The rpc layer through a real socket: a raw gRPC client that speaks the protocol by hand, against a real server.

mod admin;
mod blobs;
mod copies;
mod databases;
mod feed;
mod follows;
mod hello;
mod holds;
mod hostile;
mod interest;
mod kinds;
mod limits;
mod pins;
mod prepared;
mod quotas;
mod restores;
mod rights;
mod session;
mod slow;
mod stop;
pub(crate) mod support;
mod unary;
