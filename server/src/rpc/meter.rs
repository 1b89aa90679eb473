//! Owns the metering of what comes in and of what goes out: a message that is not whole yet is counted, and an answer until it is sent.
//!
//! A message is kept until its last byte is there, and it says its length first. Thousands of streams that each send all but the last
//! byte would hold thousands of messages, for as long as they like. So the length is charged when it is said, to the connection's share like
//! every request (`budget`), and released when the message is whole: from then on its request is charged.
//!
//! ```text
//!   length 4 MiB │ bytes ........................... │ last byte          request decoded
//!   ├─ Charge of 4 MiB, or Busy at once ─────────────┤                    ├─ Charge of its weight ... of its answer ─┤ sent
//! ```
//! Small messages are not: they come in one piece as a rule, and a stream takes more than that in any case.
//!
//! The answer of a unary call brings its charge along ([`Held`]). HTTP/2 takes whatever a body gives it, at once: so an answer is given in pieces,
//! each when the client has room for it, and the charge goes with the last one.
//!
//! Every request of every service passes here; so here its token is looked at as well, and taken out of it.

use super::budget::{Charge, Peer};
use crate::auth::visitor::AUTHORIZATION;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use zeolite_proto::Fault;
use zeolite_proto::wire::fault::to_status;

/// Messages up to this size are not charged before they are whole.
const SMALL_BYTES: usize = 4 << 10;

/// An answer is given to HTTP/2 in pieces of this size.
const PIECE_BYTES: usize = 16 << 10;

/// The room of an answer, on its way beside it.
#[derive(Clone)]
pub(super) struct Held {
    _charge: Arc<Charge>,
}

impl Held {
    pub(super) fn new(charge: Charge) -> Held {
        Held { _charge: Arc::new(charge) }
    }
}

/// What comes before each message (gRPC over HTTP/2): whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A service whose requests are metered.
#[derive(Clone)]
pub(super) struct Metered<S> {
    service: S,
    message_bytes_max: usize,
}

impl<S> Metered<S> {
    /// Longer messages are refused by the service itself.
    pub(super) fn new(service: S, message_bytes_max: usize) -> Metered<S> {
        Metered { service, message_bytes_max }
    }
}

impl<S: NamedService> NamedService for Metered<S> {
    const NAME: &'static str = S::NAME;
}

type Answering<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S> Service<http::Request<Body>> for Metered<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Err(refused) = authenticate(&mut request) {
            return Box::pin(refused.told());
        }
        let (peer, message_bytes_max) = (request.extensions().get::<Peer>().cloned(), self.message_bytes_max);
        let request = request.map(|body| match peer {
            Some(peer) => Body::new(Meter { body, peer, message_bytes_max, prefix: Vec::new(), left: 0, charge: None }),
            None => body,
        });
        let answer = self.service.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            let held = answer.extensions_mut().remove::<Held>();
            Ok(match held {
                Some(held) => answer.map(|body| Body::new(InPieces { body, rest: Bytes::new(), _held: held })),
                None => answer,
            })
        })
    }
}

/// Who shows a token is from here on whose it is; whatever the call is, a wrong one is refused.
fn authenticate(request: &mut http::Request<Body>) -> Result<(), Refused> {
    let Some(shown) = request.headers_mut().remove(AUTHORIZATION) else { return Ok(()) };
    let Some(peer) = request.extensions_mut().get_mut::<Peer>() else { return Ok(()) };
    match peer.visitor.showing(shown.as_bytes()) {
        Ok(visitor) => {
            peer.visitor = visitor;
            Ok(())
        }
        Err(fault) => Err(Refused { fault, after: peer.visitor.delay() }),
    }
}

/// A wrong token, whose answer takes its time.
struct Refused {
    fault: Fault,
    after: Duration,
}

impl Refused {
    async fn told<E>(self) -> Result<http::Response<Body>, E> {
        tokio::time::sleep(self.after).await;
        Ok(to_status(&self.fault).into_http())
    }
}

/// The body of an answer.
struct InPieces {
    body: Body,
    rest: Bytes,
    _held: Held,
}

impl HttpBody for InPieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.rest = bytes,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let piece = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

/// The body of a request.
struct Meter {
    body: Body,
    peer: Peer,
    message_bytes_max: usize,
    /// Of the next message, as far as it is there.
    prefix: Vec<u8>,
    /// What is missing of the message that has begun.
    left: usize,
    charge: Option<Charge>,
}

impl Meter {
    fn see(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            let wanted = if self.left > 0 { self.left } else { PREFIX_BYTES - self.prefix.len() };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if self.left > 0 {
                self.left -= now.len();
                self.charge = self.charge.take().filter(|_| self.left > 0);
                continue;
            }
            self.prefix.extend_from_slice(now);
            if let &[_, a, b, c, d] = self.prefix.as_slice() {
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.prefix.clear();
                // What lies in the same piece need not be waited for.
                if self.left > bytes.len() && (SMALL_BYTES..=self.message_bytes_max).contains(&self.left) {
                    self.charge = Some(self.peer.account.take(self.left).map_err(|fault| to_status(&fault))?);
                }
            }
        }
        Ok(())
    }
}

impl HttpBody for Meter {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.see(bytes)?;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::authority::Certified;
    use crate::auth::{Authority, Visitor};
    use crate::clock::SystemClock;
    use crate::rpc::budget::Budget;
    use crate::settings::SessionSettings;
    use zeolite_proto::Role;

    const MAX: usize = 1 << 20;

    fn message(bytes: usize) -> Vec<u8> {
        let mut message = vec![0; PREFIX_BYTES + bytes];
        message[1..PREFIX_BYTES].copy_from_slice(&(bytes as u32).to_be_bytes());
        message
    }

    #[test]
    fn a_message_counts_from_its_length_to_its_last_byte_however_it_is_cut() {
        let connection_bytes_max = 100_000;
        let budget = Budget::new(&SessionSettings { connection_bytes_max, ..SessionSettings::default() });
        let authority = Authority::open(Some(Role::Write), None, Arc::new(SystemClock::new())).expect("opens");
        let peer = Peer {
            visitor: Visitor::new(&authority, None, &Certified::default(), &Arc::default()),
            account: budget.account(),
        };
        let meter = || {
            let (body, peer) = (Body::empty(), peer.clone());
            Meter { body, peer, message_bytes_max: MAX, prefix: Vec::new(), left: 0, charge: None }
        };
        let sizes = [0, 1, 20_000, 7, 60_000, SMALL_BYTES, SMALL_BYTES - 1, 30_000];
        let stream: Vec<u8> = sizes.iter().flat_map(|bytes| message(*bytes)).collect();
        let mut dice = fastrand::Rng::with_seed(1);
        for most in [1, 3, 4096, 40_000] {
            let (mut one, mut at, mut counted) = (meter(), 0, 0);
            while at < stream.len() {
                let next = (at + dice.usize(1..=most)).min(stream.len());
                one.see(&stream[at..next]).expect("there is room for each of them");
                at = next;
                counted = counted.max(budget.used());
            }
            assert_eq!((one.left, one.prefix.len(), budget.used()), (0, 0, 0), "pieces of {most}");
            assert!(most > 4096 || counted == 60_000, "{counted}");
        }
        let (mut one, mut another) = (meter(), meter());
        one.see(&message(60_000)[..100]).expect("room");
        let told = another.see(&message(60_000)[..100]).expect_err("no room");
        assert_eq!(told.code(), tonic::Code::ResourceExhausted, "{told}");
        assert!(another.see(&message(MAX + 1)[..100]).is_ok(), "the service refuses it");
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
