//! The Zeolite server.
//!
//! ```text
//!   server (composition, shutdown) > web > metrics > rpc > auth, databases, traces > engine > storage > store > disk        clock: for all of them
//! ```
//! Left may name right; right never names left. Only `rpc` names generated types; tonic is named there, and by `server`, which
//! accepts the connections.

pub mod auth;
pub mod clock;
pub(crate) mod databases;
pub mod engine;
pub(crate) mod metrics;
pub(crate) mod rpc;
pub mod schedules;
pub mod server;
pub mod settings;
pub mod storage;
pub mod store;
pub(crate) mod traces;
pub mod web;
