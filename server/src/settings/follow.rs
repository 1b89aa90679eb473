//! Owns the settings of a follower: whom it follows, and how it is let in there.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A warm copy of another server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FollowSettings {
    /// The addresses of the primary and of the other copies, `HOST:PORT`, with commas between: the one that takes writes is followed. Empty:
    /// nobody is.
    pub primary: String,
    /// How others reach this server, for what they are told of it; empty: where it listens.
    pub address: String,
    /// The file with the token of a user with the role `replicate`; empty: `ZEOLITE_TOKEN`, `ZEOLITE_TOKEN_FILE` or the credentials file.
    pub token_file: PathBuf,
    /// The CA of the other servers' certificates; empty: `ZEOLITE_CA` or the credentials file.
    pub ca: PathBuf,
    /// The certificate of this server as their client; empty: `ZEOLITE_CERT`, or none.
    pub cert: PathBuf,
    /// Its private key; empty: `ZEOLITE_KEY`, or none.
    pub key: PathBuf,
}

impl FollowSettings {
    /// Whether there is somebody to follow.
    pub fn is_on(&self) -> bool {
        self.addresses().next().is_some()
    }

    /// The addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.primary.split(',').map(str::trim).filter(|address| !address.is_empty())
    }
}
