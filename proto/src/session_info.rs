//! Owns the open session as an operator sees it.

use crate::role::Role;
use serde::{Deserialize, Serialize};

/// An open session of a database.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct SessionInfo {
    /// Its number in this life of the server: by this it is cut.
    pub id: u64,
    /// The name that its program gives itself.
    pub client: String,
    /// The user; `None`: somebody without a name.
    pub principal: Option<String>,
    /// From where it comes; empty: not known.
    pub address: String,
    /// As what it acts; `None`: a role of a newer server.
    pub role: Option<Role>,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Requests that are not answered yet.
    pub in_flight: u64,
    /// Bytes of answers that wait to be sent.
    pub reply_bytes: u64,
    /// Bytes of the feed that its client has not read yet.
    pub feed_bytes: u64,
}
