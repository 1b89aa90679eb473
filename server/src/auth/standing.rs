//! Owns how the files of certificates and users stand, for whoever looks at the server: status, metrics, `zeolite check`.

use parking_lot::RwLock;
use zeolite_proto::Role;

/// What there is to tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// How many users there are; `None`: nobody is asked who he is.
    pub(crate) users: Option<u64>,
    /// The role of whoever proves nothing.
    pub(crate) anonymous: Option<Role>,
    /// When the certificate ends that is shown, in milliseconds since 1970; 0: there is none.
    pub(crate) certificate_expires_unix_ms: u64,
    /// Why files as they are now do not count.
    pub(crate) problem: Option<String>,
}

/// Kept by whoever looks at the files.
#[derive(Debug, Default)]
pub(crate) struct Standing(RwLock<Told>);

impl Standing {
    /// As of the last look.
    pub(crate) fn told(&self) -> Told {
        self.0.read().clone()
    }

    /// After a look.
    pub(crate) fn tell(&self, told: Told) {
        *self.0.write() = told;
    }
}
