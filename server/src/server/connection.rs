//! Owns the connections of a server: how many there may be, who is at their other end, and that all of them can be cut.
//!
//! A server that stops asks its clients to hang up. One that does not hear it (its network is gone, it is stopped in a
//! debugger) would keep its connection, and by it the engine and the lock of the store. The tasks of the connections are
//! HTTP/2's own and cannot be ended from here, so the bytes end: a cut connection fails whatever is read or written next.
//!
//! ```text
//!   cut ──> flag, waker of the task that waits ──> its next read or write fails ──> task ends, streams and engine let go
//! ```

use crate::auth::{Authority, Principal};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

/// The open connections of a server.
pub(super) struct Connections {
    authority: Authority,
    places: Arc<Semaphore>,
    /// Those that are gone are taken out when the list would grow.
    cuts: Mutex<Vec<Weak<Cut>>>,
}

impl Connections {
    /// None are open; at most this many will be.
    pub(super) fn new(connections_max: usize, authority: Authority) -> Arc<Connections> {
        Arc::new(Connections { authority, places: Arc::new(Semaphore::new(connections_max)), cuts: Mutex::default() })
    }

    /// Takes a stream in; none: there are too many, and the stream is closed.
    pub(super) fn admit(&self, stream: TcpStream) -> Option<Connection> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let cut = Arc::new(Cut::default());
        let mut cuts = self.cuts.lock();
        if cuts.len() == cuts.capacity() {
            cuts.retain(|cut| cut.strong_count() > 0);
        }
        cuts.push(Arc::downgrade(&cut));
        let principal = self.authority.anonymous(stream.peer_addr().ok());
        Some(Connection { stream, principal, cut, _place: place })
    }

    /// Cuts all that are open; says how many.
    pub(super) fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.cuts.lock());
        open.iter().filter_map(Weak::upgrade).map(|cut| cut.now()).count()
    }
}

/// Whether a connection was cut, and the task that must hear of it: the one that reads and writes.
#[derive(Default)]
struct Cut {
    done: AtomicBool,
    task: AtomicWaker,
}

impl Cut {
    fn now(&self) {
        self.done.store(true, Ordering::Release);
        self.task.wake();
    }

    /// What the socket has to say, unless the connection was cut.
    fn or<T>(&self, context: &Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_pending() {
            self.task.register(context.waker());
        }
        if self.done.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server has stopped")));
        }
        said
    }
}

/// One accepted connection; its place is free again when it is dropped.
pub(super) struct Connection {
    stream: TcpStream,
    principal: Principal,
    cut: Arc<Cut>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    /// Each request of the connection carries it.
    type ConnectInfo = Principal;

    fn connect_info(&self) -> Principal {
        self.principal.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.cut.or(context, said)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.cut.or(context, said)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.cut.or(context, said)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_flush(context);
        self.cut.or(context, said)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
