//! Owns the server of a test (port 0, a data directory of its own) and the network between: a proxy that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use zeolite_client::{Cell, Db, Error, Oid, Options, Record, Tx};
use zeolite_proto::Registry;
use zeolite_server::engine::clock::SystemClock;
use zeolite_server::server::{Components, Server};
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::sim::SimDisk;

/// Nothing here takes this long: a test that hangs fails instead.
pub(crate) const GUARD: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) server: Option<Server>,
    pub(crate) directory: Arc<tempfile::TempDir>,
    pub(crate) network: Network,
    change: fn(&mut Settings),
    resolvers: Registry,
    /// Instead of the directory.
    disk: Option<SimDisk>,
}

impl World {
    pub(crate) async fn start() -> World {
        World::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: fn(&mut Settings)) -> World {
        World::start_of(change, Registry::built_in(), None).await
    }

    /// With a server that has these resolvers, on a disk that is simulated or in a directory.
    pub(crate) async fn start_of(change: fn(&mut Settings), resolvers: Registry, disk: Option<SimDisk>) -> World {
        let world = World::bare(change, resolvers, disk).await;
        take_oids(world.server.as_ref().expect("started")).await;
        world
    }

    /// With a store in which nothing has ever happened.
    pub(crate) async fn start_bare(change: fn(&mut Settings)) -> World {
        World::bare(change, Registry::built_in(), None).await
    }

    async fn bare(change: fn(&mut Settings), resolvers: Registry, disk: Option<SimDisk>) -> World {
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let server = serve(&directory, change, resolvers.clone(), disk.clone()).await;
        let network = Network::to(server.address()).await;
        World { server: Some(server), directory, network, change, resolvers, disk }
    }

    /// A client behind the proxy.
    pub(crate) async fn db(&self) -> Db {
        self.db_with(Options::default()).await
    }

    pub(crate) async fn db_with(&self, options: Options) -> Db {
        Db::connect_with(self.network.url(), options).await.expect("connects")
    }

    /// A proxy of one client's own, in front of the common one.
    pub(crate) async fn line(&self) -> Network {
        Network::to(self.network.address).await
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await.expect("stops in order");
        }
    }

    /// Stops the server, and starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    pub(crate) async fn start_again(&mut self) {
        let server = serve(&self.directory, self.change, self.resolvers.clone(), self.disk.clone()).await;
        self.network.retarget(server.address());
        self.server = Some(server);
    }

    /// A copy of the log as of now, as a backup would have it; the server is stopped meanwhile.
    pub(crate) async fn copy_log(&mut self) -> tempfile::TempDir {
        self.stop().await;
        let copy = tempfile::tempdir().expect("a temporary directory");
        for segment in std::fs::read_dir(self.directory.path().join("data/log")).expect("lists") {
            let path = segment.expect("lists").path();
            std::fs::copy(&path, copy.path().join(path.file_name().expect("has a name"))).expect("copies");
        }
        self.start_again().await;
        copy
    }

    /// Stops the server, puts a copy of the log in the place of its data, and starts it again.
    pub(crate) async fn put_back(&mut self, copy: &tempfile::TempDir) {
        self.stop().await;
        let data = self.directory.path().join("data");
        std::fs::remove_dir_all(&data).expect("removes");
        std::fs::create_dir_all(data.join("log")).expect("makes");
        for segment in std::fs::read_dir(copy.path()).expect("lists") {
            let path = segment.expect("lists").path();
            std::fs::copy(&path, data.join("log").join(path.file_name().expect("has a name"))).expect("copies");
        }
        self.start_again().await;
    }

    /// Another server with another store takes the address over.
    pub(crate) async fn replace(&mut self) {
        self.stop().await;
        self.directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        self.start_again().await;
        take_oids(self.server.as_ref().expect("started")).await;
        self.network.cut();
    }
}

async fn serve(
    directory: &tempfile::TempDir,
    change: fn(&mut Settings),
    resolvers: Registry,
    disk: Option<SimDisk>,
) -> Server {
    let mut settings = Settings { data_dir: directory.path().join("data"), ..Settings::default() };
    change(&mut settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let Some(disk) = disk else {
        return Server::start(settings, resolvers, listener).await.expect("the server starts");
    };
    let components = Components::new(Arc::new(disk), Arc::new(SystemClock::new()), 7);
    Server::start_with(components, settings, resolvers, listener).await.expect("the server starts")
}

/// The tests name objects by small numbers: those must have been handed out.
async fn take_oids(server: &Server) {
    let db = Db::connect(server.address().to_string()).await.expect("connects");
    while db.new_oid().await.expect("an oid") < Oid(1000) {}
}

/// What a connection does with bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// Carries them.
    Open,
    /// Carries what the client sends; what the server sends is swallowed.
    Deaf,
    /// Each connection ends when the server has sent so many bytes more.
    Short(usize),
}

/// The network: connections of one life (`cut` begins a new one) with one flow.
pub(crate) struct Network {
    address: SocketAddr,
    state: watch::Sender<(SocketAddr, u64, Flow)>,
    /// Connections accepted.
    accepted: watch::Receiver<u64>,
}

impl Network {
    async fn to(target: SocketAddr) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = watch::Sender::new((target, 0, Flow::Open));
        let (count, accepted) = watch::channel(0);
        let states = state.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                tokio::spawn(carry(client, states.clone()));
            }
        });
        Network { address, state, accepted }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| (state.1, state.2) = (state.1 + 1, Flow::Open));
    }

    pub(crate) fn is_deaf(&self) -> bool {
        self.state.borrow().2 == Flow::Deaf
    }

    /// From now on nothing that the server says arrives; until the next cut.
    pub(crate) fn deafen(&self) {
        self.state.send_modify(|state| state.2 = Flow::Deaf);
    }

    /// From now on each connection ends after so many bytes from the server; until the next cut.
    pub(crate) fn shorten(&self, bytes: usize) {
        self.state.send_modify(|state| state.2 = Flow::Short(bytes));
    }

    /// Waits until so many connections have been accepted in all.
    pub(crate) async fn accepted(&self, connections: u64) {
        let mut accepted = self.accepted.clone();
        within(accepted.wait_for(|count| *count >= connections)).await.expect("the proxy runs");
    }

    /// New connections go there; those that are open go on.
    pub(crate) fn point_to(&self, target: &World) {
        let target = target.server.as_ref().expect("started").address();
        self.state.send_modify(|state| state.0 = target);
    }

    fn retarget(&self, target: SocketAddr) {
        self.state.send_modify(|state| (state.0, state.1, state.2) = (target, state.1 + 1, Flow::Open));
    }

    pub(crate) fn connections(&self) -> u64 {
        *self.accepted.borrow()
    }
}

async fn carry(client: TcpStream, mut states: watch::Receiver<(SocketAddr, u64, Flow)>) {
    let (target, life, _) = *states.borrow_and_update();
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let flow = states.clone();
    let up = async move { drop(tokio::io::copy(&mut from_client, &mut to_server).await) };
    let down = async move {
        let mut bytes = vec![0; 64 << 10];
        let mut carried = 0;
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let (room, last) = match flow.borrow().2 {
                Flow::Open => (count, false),
                Flow::Deaf => (0, false),
                Flow::Short(most) => (count.min(most.saturating_sub(carried)), carried + count >= most),
            };
            carried += room;
            if to_client.write_all(&bytes[..room]).await.is_err() || last {
                return;
            }
        }
    };
    let cut = async move { drop(states.wait_for(|state| state.1 != life).await) };
    tokio::select! {
        () = up => {}
        () = down => {}
        () = cut => {}
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, future).await.expect("this does not hang")
}

/// The tests' own numbering: the first oids are the server's.
pub(crate) fn oid(n: u64) -> Oid {
    Oid(100 + n)
}

pub(crate) fn object(n: u64) -> Cell {
    Cell::object(oid(n))
}

/// A record of a class without resolver, with a number in it.
pub(crate) fn number(value: u64) -> Record {
    Record::new("Number", 1, value.to_le_bytes().to_vec())
}

pub(crate) fn value(record: &Record) -> u64 {
    u64::from_le_bytes(record.data.as_ref().try_into().expect("a number"))
}

pub(crate) async fn read(view: &zeolite_client::View, n: u64) -> Result<u64, Error> {
    Ok(view.get(&object(n)).await?.as_ref().map_or(0, value))
}

/// Reads, adds, writes: conflicts with others that do the same.
pub(crate) async fn add_one(tx: &Tx, n: u64) -> Result<u64, Error> {
    let next = read(tx, n).await? + 1;
    tx.put(object(n), &number(next))?;
    Ok(next)
}
