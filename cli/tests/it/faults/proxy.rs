//! Owns the network between a client and a server: it ends a connection after so many bytes, in the middle of whatever they are, or holds
//! still with all connections open, as a cable does that is pulled out.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct State {
    /// Connections of an earlier life end.
    life: u64,
    /// Nothing is carried on these ways.
    held: [bool; 2],
}

struct Shared {
    target: SocketAddr,
    state: watch::Sender<State>,
    /// The connection ends after so many bytes more on this way.
    armed: Mutex<Option<(Way, usize)>>,
}

pub(super) struct Proxy {
    shared: Arc<Shared>,
    pub(super) address: String,
}

impl Proxy {
    pub(super) async fn to(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (target, state) = (target.parse().expect("an address"), watch::Sender::new(State::default()));
        let shared = Arc::new(Shared { target, state, armed: Mutex::new(None) });
        let carrying = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, carrying.clone()));
            }
        });
        Proxy { shared, address }
    }

    /// The connection on which so many bytes more have gone this way ends there; others go on.
    pub(super) fn arm(&self, way: Way, bytes: usize) {
        *self.shared.armed.lock().expect("no panic") = Some((way, bytes));
    }

    /// Whether it was not met since it was armed.
    pub(super) fn disarm(&self) -> bool {
        self.shared.armed.lock().expect("no panic").take().is_some()
    }

    /// From now on nothing is carried on these ways.
    pub(super) fn hold(&self, ways: &[Way]) {
        self.shared.state.send_modify(|state| ways.iter().for_each(|way| state.held[*way as usize] = true));
    }

    /// Carries what has waited.
    pub(super) fn release(&self) {
        self.shared.state.send_modify(|state| state.held = [false; 2]);
    }

    /// Ends all connections; new ones are carried.
    pub(super) fn cut(&self) {
        self.shared.state.send_modify(|state| *state = State { life: state.life + 1, held: [false; 2] });
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let mut states = shared.state.subscribe();
    let life = states.borrow_and_update().life;
    let Ok(server) = TcpStream::connect(shared.target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = one_way(Way::ToServer, from_client, to_server, &shared) => {}
        () = one_way(Way::ToClient, from_server, to_client, &shared) => {}
        _ = states.wait_for(|state| state.life != life) => {}
    }
}

async fn one_way(way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut states = shared.state.subscribe();
    let mut bytes = vec![0; 16 << 10];
    loop {
        if states.wait_for(|state| !state.held[way as usize]).await.is_err() {
            return;
        }
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        if states.wait_for(|state| !state.held[way as usize]).await.is_err() {
            return;
        }
        let left = shared.left(way, count);
        if to.write_all(&bytes[..left.unwrap_or(count)]).await.is_err() || left.is_some() {
            return;
        }
    }
}

impl Shared {
    /// How many of these bytes are the last; none: they are not.
    fn left(&self, way: Way, count: usize) -> Option<usize> {
        let mut armed = self.armed.lock().expect("no panic");
        let (_, left) = armed.as_mut().filter(|(at, _)| *at == way)?;
        if count < *left {
            *left -= count;
            return None;
        }
        let last = *left;
        *armed = None;
        Some(last)
    }
}
