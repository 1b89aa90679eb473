//! Owns the prepared draft as an operator sees it.

use crate::ids::CommitKey;
use serde::{Deserialize, Serialize};

/// A draft that is prepared and holds its cells.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct PreparedDraft {
    /// Its commit key: by this it is finished or aborted.
    pub key: CommitKey,
    /// Who prepared it; `None`: somebody without a name.
    pub owner: Option<String>,
    /// When, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// How many cells it will write.
    pub cells: u64,
    /// Its size.
    pub bytes: u64,
    /// It outlives the server.
    pub durable: bool,
}
