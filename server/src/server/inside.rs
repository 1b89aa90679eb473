//! Owns the door inside: how the program that keeps a server reaches it as a client does, without a network, a certificate or a token.
//!
//! What a schedule does (backups, packs) goes through the same calls, limits and budgets as what others ask for. Only who it is needs no
//! proof: nobody but this very process can open the door. There it has the role `admin`.

use std::io;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Bytes on their way in either direction.
const STREAM_BYTES: usize = 1 << 20;
/// Connections that wait to be taken in.
const WAITING_MAX: usize = 4;

/// Opens connections to the server that gave it.
#[derive(Clone, Debug)]
pub struct Inside(mpsc::Sender<DuplexStream>);

/// A door, and where its connections come out.
pub(super) fn door() -> (Inside, mpsc::Receiver<DuplexStream>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Inside(sender), receiver)
}

impl Inside {
    /// A new connection; an error: the server has stopped.
    pub async fn open(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
        let gone = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the server has stopped");
        self.0.send(theirs).await.map_err(gone)?;
        Ok(ours)
    }
}
