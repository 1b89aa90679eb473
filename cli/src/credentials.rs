//! Owns the options by which a command proves who it is, and knows the server.
//!
//! There is none that takes the token itself: the arguments of a process are seen by everybody on its machine. What is not given
//! is looked for by the client library, in the environment and in a file.
//!
//! Their ids are their own: a command may have an argument `key` of another kind.

use clap::Args;
use std::path::PathBuf;

/// The heading of what every command takes.
pub(crate) const EVERYWHERE: &str = "Global options";

/// How a command proves who it is, and how it knows the server.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Credentials {
    /// The file that holds the token of a user; also ZEOLITE_TOKEN_FILE, ZEOLITE_TOKEN, or ~/.config/zeolite/credentials.toml
    #[arg(id = "own_token_file", long = "token-file", global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Speak TLS to a server whose certificate is of this CA (PEM); also ZEOLITE_CA
    #[arg(id = "own_ca", long = "ca", global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The certificate to show to the server (PEM); also ZEOLITE_CERT
    #[arg(id = "own_cert", long = "cert", global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key (PEM); also ZEOLITE_KEY
    #[arg(id = "own_key", long = "key", global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}
