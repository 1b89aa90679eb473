//! Owns what can go wrong with backups, each with what to do.

use std::fmt;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where the backups are, or what is asked for, makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The place where backups lie has failed: a disk, a network, rights.
    #[error("the backup's place: {what}: {why}")]
    Place {
        /// What was done.
        what: String,
        /// What the store says.
        why: String,
    },
    /// Something stored is not what was written.
    #[error("damage in {name}: {why}")]
    Damaged {
        /// The object.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The key is not the one that this was written with, or there is none.
    #[error("{0}")]
    Key(String),
    /// The database says no, or is not there.
    #[error(transparent)]
    Client(#[from] zeolite_client::Error),
    /// What was found does not let it be done.
    #[error("{0}")]
    Refused(String),
}

/// What is done, or why not.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn damaged(name: &str, why: impl fmt::Display) -> Error {
        Error::Damaged { name: name.to_owned(), why: why.to_string() }
    }
}
