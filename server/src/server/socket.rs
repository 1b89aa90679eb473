//! Owns the socket of a connection: plain, or TLS over it; and what is said to a client that speaks the wrong one of the two.
//!
//! A client without TLS at a port with it hears nothing that it understands and blames the network. Its first byte tells; so it is answered
//! in its own protocol, by the HTTP/2 frame that ends a connection, whose text says what to do. (The other way round it is the client
//! that must tell: a program that expects TLS understands nothing else.)

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of TLS: a record of a handshake.
const HANDSHAKE: u8 = 0x16;

const SPEAK_TLS: &[u8] = b"this server speaks TLS: connect to https:// (and give the CA: ca, ZEOLITE_CA)";

/// A stream that a client speaks on.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Inside(DuplexStream),
}

impl Socket {
    /// Begins TLS; a client that does not speak it is told so.
    pub(super) async fn tls(mut stream: TcpStream, config: Arc<rustls::ServerConfig>) -> io::Result<Socket> {
        let mut first = [0];
        let said = stream.peek(&mut first).await?;
        if said == 1 && first[0] != HANDSHAKE {
            first_call(&mut stream).await?;
            stream.write_all(&farewell(SPEAK_TLS)).await?;
            stream.shutdown().await?;
            // What it has sent is read, or the system answers it by a reset that takes the farewell away.
            let mut rest = [0; 4096];
            while stream.read(&mut rest).await? > 0 {}
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
        }
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Socket::Tls(Box::new(stream)))
    }

    /// The certificates that the client has shown, its own first, which was verified.
    pub(super) fn certificates(&self) -> &[rustls::pki_types::CertificateDer<'static>] {
        match self {
            Socket::Plain(_) | Socket::Inside(_) => &[],
            Socket::Tls(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
        }
    }
}

/// Reads until the client calls something: a library that has no call under way when it is told keeps the text to itself. Who speaks no HTTP/2 is
/// not waited for.
async fn first_call(stream: &mut TcpStream) -> io::Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const HEADERS: u8 = 1;
    const FRAME_BYTES_MAX: usize = 16 << 10;
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if preface != *PREFACE {
        return Ok(());
    }
    let mut frame = [0; FRAME_BYTES_MAX];
    loop {
        stream.read_exact(&mut frame[..9]).await?;
        let [_, high, low, kind, ..] = frame;
        let length = usize::from(u16::from_be_bytes([high, low])).min(FRAME_BYTES_MAX);
        stream.read_exact(&mut frame[..length]).await?;
        if kind == HEADERS {
            return Ok(());
        }
    }
}

/// SETTINGS, then GOAWAY with a text (RFC 9113, 6.5 and 6.8).
fn farewell(text: &[u8]) -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // HTTP_1_1_REQUIRED and its like would be guesses: INADEQUATE_SECURITY is what it is.
    const INADEQUATE_SECURITY: u32 = 0xc;
    let length = (8 + text.len()) as u32;
    let mut frames = SETTINGS.to_vec();
    frames.extend_from_slice(&length.to_be_bytes()[1..]);
    frames.extend_from_slice(&[7, 0, 0, 0, 0, 0]);
    frames.extend_from_slice(&0u32.to_be_bytes());
    frames.extend_from_slice(&INADEQUATE_SECURITY.to_be_bytes());
    frames.extend_from_slice(text);
    frames
}

macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket.get_mut() {
            Socket::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Socket::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
            Socket::Inside($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Plain(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
            Socket::Inside(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }
}
