//! Owns the connections of a server: how many there may be, who is at their other end, and that all of them can be cut.
//!
//! A server that stops asks its clients to hang up. One that does not hear it (its network is gone, it is stopped in a
//! debugger) would keep its connection, and by it the engine and the lock of the store. The tasks of the connections are
//! HTTP/2's own and cannot be ended from here, so the bytes end: a cut connection fails whatever is read or written next.
//!
//! ```text
//!   cut ──> flag, waker of the task that waits ──> its next read or write fails ──> task ends, streams and engine let go
//! ```
//!
//! Who connects must begin to speak: HTTP/2 asks for signs of life only when its preface has come. Until then a connection has
//! `sessions.keepalive_timeout_ms`, or silent ones would take all places. And where everybody must prove who he is, the last eighth of the
//! places is for those who can: with so few left, for each that comes one of those that have proved nothing is cut, the one with most wrong
//! tokens first, then the oldest. One that still shakes hands has proved nothing.

use super::certificate;
use super::socket::Socket;
use super::tls::Tls;
use crate::auth::seldom::Seldom;
use crate::auth::visitor::Guests;
use crate::auth::{Authority, Visitor};
use crate::clock::Clock;
use crate::rpc::budget::{Budget, Peer};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// Between two lines about too many connections.
const FULL_EVERY: Duration = Duration::from_secs(10);

/// The length of what an HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;

/// The open connections of a server.
pub(super) struct Connections {
    authority: Arc<Authority>,
    budget: Arc<Budget>,
    clock: Arc<dyn Clock>,
    preface_within: Duration,
    full: Seldom,
    places: Arc<Semaphore>,
    /// With fewer places left, room is made.
    spare: usize,
    /// Those that are gone are taken out when the list would grow.
    cuts: Mutex<Vec<Weak<Cut>>>,
}

impl Connections {
    /// None are open; at most this many will be, and each has this long to begin to speak.
    pub(super) fn new(
        connections_max: usize,
        preface_within: Duration,
        authority: Arc<Authority>,
        budget: Arc<Budget>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Connections> {
        let full = Seldom::new(FULL_EVERY);
        let places = Arc::new(Semaphore::new(connections_max));
        let spare = (connections_max / 8).max(1);
        Arc::new(Connections { authority, budget, clock, preface_within, full, places, spare, cuts: Mutex::default() })
    }

    /// A place for one more; none: there are too many, which the log tells now and then.
    pub(super) fn place(&self) -> Option<Place> {
        if self.authority.anonymous().is_none() && self.places.available_permits() < self.spare {
            self.cut_one_unproved();
        }
        let place = self.places.clone().try_acquire_owned().ok();
        if place.is_none()
            && let Some(untold) = self.full.may_tell(self.clock.steady())
        {
            tracing::warn!(
                untold,
                "too many connections: one is closed; raise sessions.connections_max and the limit of open files if they \
                 are wanted"
            );
        }
        let cut = Arc::<Cut>::default();
        let place = Place { cut: cut.clone(), _free_when_dropped: place? };
        let mut cuts = self.cuts.lock();
        if cuts.len() == cuts.capacity() {
            cuts.retain(|cut| cut.strong_count() > 0);
        }
        cuts.push(Arc::downgrade(&cut));
        Some(place)
    }

    /// Begins TLS on a stream and takes it in; none: the client has failed at it, and the stream is closed.
    pub(super) async fn admit_tls(
        &self,
        stream: TcpStream,
        place: Place,
        config: Arc<rustls::ServerConfig>,
    ) -> Option<Connection> {
        let address = stream.peer_addr().ok();
        let (cut, judged_by) = (place.cut.clone(), config.clone());
        let handshake = tokio::time::timeout(self.preface_within, Socket::tls(stream, config));
        let begun = tokio::select! {
            begun = handshake => begun,
            () = poll_fn(|context| cut.comes(context)) => Ok(Err(was_cut())),
        };
        let why = match begun {
            Ok(Ok(socket)) => {
                let shown = socket.certificates().to_vec();
                *place.cut.shown.lock() = Some(Shown { certificates: shown, judged_by });
                return Some(self.admitted(socket, address, place));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        let address = address.map_or_else(String::new, |address| address.to_string());
        tracing::debug!(address, why, "no TLS with a client");
        None
    }

    /// Takes a stream in.
    pub(super) fn admit(&self, stream: TcpStream, place: Place) -> Connection {
        let address = stream.peer_addr().ok();
        self.admitted(Socket::Plain(stream), address, place)
    }

    /// Takes a stream of this very process in: who opens it need prove nothing.
    pub(super) fn admit_inside(&self, stream: DuplexStream, place: Place) -> Connection {
        let visitor = Visitor::inside(&self.authority, &place.cut.guests);
        place.cut.guests.are_proved();
        self.visited(Socket::Inside(stream), visitor, place)
    }

    fn admitted(&self, stream: Socket, address: Option<SocketAddr>, place: Place) -> Connection {
        let certified = stream.certificates().first().map(certificate::certified).unwrap_or_default();
        let visitor = Visitor::new(&self.authority, address, &certified, &place.cut.guests);
        self.visited(stream, visitor, place)
    }

    fn visited(&self, stream: Socket, visitor: Visitor, place: Place) -> Connection {
        let peer = Peer { visitor, account: self.budget.account() };
        let preface = Some(Preface { left: PREFACE_BYTES, by: Box::pin(tokio::time::sleep(self.preface_within)) });
        Connection { stream, peer, preface, place }
    }

    /// Cuts those on which something was granted that does not hold any more, or too many wrong tokens were shown.
    pub(super) fn cut_revoked(&self) {
        for cut in self.open().iter().filter(|cut| !cut.guests.may_stay(&self.authority)) {
            cut.now();
        }
    }

    /// Cuts those who came in under former files of certificates and would not now.
    pub(super) fn cut_untrusted(&self, tls: &Tls) {
        let now = u64::try_from(self.clock.unix_nanos() / 1_000_000_000).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let config = tls.config();
        for cut in self.open() {
            let mut shown = cut.shown.lock();
            let Some(shown) = shown.as_mut().filter(|shown| !Arc::ptr_eq(&shown.judged_by, &config)) else { continue };
            if tls.trusts(&shown.certificates, now) {
                shown.judged_by = config.clone();
            } else {
                cut.now();
            }
        }
    }

    fn cut_one_unproved(&self) {
        let mut unproved = self.open();
        unproved.retain(|cut| cut.guests.is_unproved() && !cut.done.load(Ordering::Acquire));
        // Of several the last counts, which is the oldest from behind.
        if let Some(cut) = unproved.iter().rev().max_by_key(|cut| cut.guests.wrong()) {
            cut.now();
        }
    }

    fn open(&self) -> Vec<Arc<Cut>> {
        self.cuts.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Cuts all that are open; says how many.
    pub(super) fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.cuts.lock());
        open.iter().filter_map(Weak::upgrade).map(|cut| cut.now()).count()
    }
}

/// The place of one connection, from before it has shaken hands; free again when it is dropped.
pub(super) struct Place {
    cut: Arc<Cut>,
    _free_when_dropped: OwnedSemaphorePermit,
}

/// Whether a connection was cut, and the task that must hear of it: the one that shakes hands, then the one that reads and writes.
#[derive(Default)]
struct Cut {
    guests: Arc<Guests>,
    shown: Mutex<Option<Shown>>,
    done: AtomicBool,
    task: AtomicWaker,
}

/// The certificates that a client has shown, perhaps none, and by which configuration they were judged last.
struct Shown {
    certificates: Vec<CertificateDer<'static>>,
    judged_by: Arc<rustls::ServerConfig>,
}

impl Cut {
    fn now(&self) {
        self.done.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Ready when it was cut.
    fn comes(&self, context: &Context<'_>) -> Poll<()> {
        self.task.register(context.waker());
        if self.done.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What the socket has to say, unless the connection was cut.
    fn or<T>(&self, context: &Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_pending() {
            self.task.register(context.waker());
        }
        if self.done.load(Ordering::Acquire) {
            return Poll::Ready(Err(was_cut()));
        }
        said
    }
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the server has cut the connection")
}

/// What a client has not said yet of what it must say first.
struct Preface {
    left: usize,
    by: Pin<Box<Sleep>>,
}

impl Preface {
    /// What the socket has to say, unless the time is over.
    fn or(&mut self, context: &mut Context<'_>, said: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if said.is_pending() && self.by.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not begin to speak")));
        }
        said
    }
}

/// One accepted connection; its place is free again when it is dropped.
pub(super) struct Connection {
    stream: Socket,
    peer: Peer,
    /// None: it speaks.
    preface: Option<Preface>,
    place: Place,
}

impl Connected for Connection {
    /// Each request of the connection carries it.
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let mut said = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(preface) = &mut self.preface {
            preface.left = preface.left.saturating_sub(buffer.filled().len() - before);
            said = preface.or(context, said);
            if preface.left == 0 {
                self.preface = None;
            }
        }
        self.place.cut.or(context, said)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.place.cut.or(context, said)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.place.cut.or(context, said)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_flush(context);
        self.place.cut.or(context, said)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
