//! Owns a server for tests: the real one, in the test's process, on any free port, with its data in a directory that goes with it.
//!
//! ```
//! use zeolite_client::{Error, blocking, collections::Counter};
//!
//! # fn main() -> Result<(), Error> {
//! let server = zeolite_testing::server();
//! let db = blocking::Db::connect(server.address())?;
//! db.run(|tx| tx.root_or_create::<Counter>("hits")?.add(tx, 1))?;
//! # Ok(()) }
//! ```
//!
//! It runs on a thread and a runtime of its own: so a `#[test]` may use it as well as a `#[tokio::test]` of either kind, and a test that
//! holds up its runtime does not hold up the server. Each test may have one of its own; it starts in some ten milliseconds. What it
//! writes is synced like anywhere, so that [`Server::restart`] shows what a restart shows.
//!
//! Not here: a server that is killed. For that start the program as a child (docs/testing.md).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use zeolite_client::{Db, Options, Resolvers};
use zeolite_server::server::ServerError;
pub use zeolite_server::settings::Settings;

/// Why there is no server.
///
/// ```
/// use zeolite_testing::{Server, Settings, StartError};
///
/// let mut settings = Settings::default();
/// settings.limits.record_bytes_max = 0;
/// let refused = Server::start(settings, zeolite_client::Resolvers::built_in());
/// assert!(matches!(refused, Err(StartError::Server(_))));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No directory, port or thread is to be had.
    #[error("the machine has no room for a test's server: {0}")]
    Machine(#[from] std::io::Error),
    /// The server does not start, or has not ended well.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Its thread is gone; it has said why.
    #[error("the server's thread panicked")]
    Panicked,
}

/// A server that is stopped, and its data removed, when it is dropped.
///
/// ```
/// use zeolite_client::{Error, blocking, collections::Counter};
///
/// # fn main() -> Result<(), Error> {
/// let mut server = zeolite_testing::server();
/// let db = blocking::Db::connect(server.address())?;
/// let hits: Counter = db.run(|tx| tx.root_or_create("hits"))?;
/// db.run(|tx| hits.add(tx, 1))?;
/// server.restart().expect("stops in order, and starts again");
/// assert_eq!(db.wait(hits.get(&db.now()))?, 1);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Server {
    running: Option<Running>,
    settings: Settings,
    resolvers: Resolvers,
    directory: tempfile::TempDir,
}

#[derive(Debug)]
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), StartError>>,
}

/// A server with default settings.
///
/// # Panics
///
/// If it does not start: there is nothing to test then. [`Server::start`] gives the reason instead.
pub fn server() -> Server {
    let mut settings = Settings::default();
    // A client that is still connected at the end is the test's own.
    settings.sessions.shutdown_grace_ms = 50;
    match Server::start(settings, Resolvers::built_in()) {
        Ok(server) => server,
        Err(error) => panic!("no server for the test: {error}"),
    }
}

/// Does a test's work with a client of a server of its own; both are gone afterwards. What goes wrong makes the test fail.
///
/// ```
/// use zeolite_client::collections::Counter;
///
/// zeolite_testing::with_db(async |db| {
///     let hits: Counter = db.run(async |tx| tx.root_or_create("hits").await).await?;
///     db.run(async |tx| hits.add(&tx, 1)).await?;
///     assert_eq!(hits.get(&db.now()).await?, 1);
///     Ok(())
/// });
/// ```
///
/// # Panics
///
/// If the server does not start, or the work ends with an error.
pub fn with_db<T>(work: impl AsyncFnOnce(Db) -> zeolite_client::Result<T>) -> T {
    let server = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.expect("a runtime for the test").block_on(async { work(server.db().await?).await });
    match done {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

impl Server {
    /// A server with these settings, but for the data directory and where it listens, and with these resolvers.
    pub fn start(settings: Settings, resolvers: Resolvers) -> Result<Server, StartError> {
        let directory = tempfile::tempdir()?;
        let settings = Settings { data_dir: directory.path().join("data"), ..settings };
        let running = Some(Running::start(settings.clone(), resolvers.clone(), "127.0.0.1:0".into())?);
        Ok(Server { running, settings, resolvers, directory })
    }

    /// Where it listens, as `Db::connect` takes it.
    pub fn address(&self) -> String {
        self.running.as_ref().map(|running| running.address.to_string()).unwrap_or_default()
    }

    /// Where its data is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new client of it, on the runtime of the caller.
    pub async fn db(&self) -> zeolite_client::Result<Db> {
        self.db_with(Options::default()).await
    }

    /// The same with options.
    pub async fn db_with(&self, options: Options) -> zeolite_client::Result<Db> {
        Db::connect_with(self.address(), options).await
    }

    /// Stops in order, and starts again on the same data, at the same address. Clients connect again by themselves.
    pub fn restart(&mut self) -> Result<(), StartError> {
        let address = self.address();
        self.end()?;
        self.running = Some(Running::start(self.settings.clone(), self.resolvers.clone(), address)?);
        Ok(())
    }

    /// Stops in order, and says how it went.
    pub fn stop(mut self) -> Result<(), StartError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), StartError> {
        let Some(Running { stop, thread, .. }) = self.running.take() else { return Ok(()) };
        // One that is gone already says so by its thread.
        let _ = stop.send(());
        thread.join().unwrap_or(Err(StartError::Panicked))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Who wants to know how it ended calls `stop`.
        let _ = self.end();
    }
}

impl Running {
    fn start(settings: Settings, resolvers: Resolvers, listen: String) -> Result<Running, StartError> {
        let (stop, stopped) = oneshot::channel();
        let (said, says) = mpsc::channel();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(async move {
                let listener = TcpListener::bind(listen).await?;
                let server = zeolite_server::server::Server::start(settings, resolvers, listener).await?;
                let _ = said.send(server.address());
                // Its owner is gone, or says so.
                let _ = stopped.await;
                Ok(server.stop().await?)
            })
        };
        let thread = std::thread::Builder::new().name("zeolite-server".into()).spawn(serve)?;
        match says.recv() {
            Ok(address) => Ok(Running { address, stop, thread }),
            // It has not begun: its thread has the reason.
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(StartError::Panicked),
            },
        }
    }
}
