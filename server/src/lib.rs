//! The Zeolite server.
//!
//! ```text
//!   server (composition, shutdown) > metrics > rpc > engine > store > disk
//! ```
//! Left may name right; right never names left. Only `rpc` names tonic or generated types.

pub mod engine;
pub(crate) mod metrics;
pub(crate) mod rpc;
pub mod server;
pub mod settings;
pub mod store;
