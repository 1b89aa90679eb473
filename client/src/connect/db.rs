//! Owns the handle that applications hold: [`Db`]. How transactions begin is told by `tx`, the operator's calls by `admin`.

use super::{Attached, Core, Options, Resend, State, supervise, url_of};
use crate::answer::Outcome;
use crate::cache::{Cache, CacheStats, Opened};
use crate::errors::{Error, Result};
use crate::revision::{Listing, PastRevision};
use crate::watch::{ModeWatch, Watch};
use crate::wire::Link;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::{Cell, CommitKey, Mode, Note, Oid, Pressure, Receipt, Remedy, Tid};

/// A connection to a database, with its cache. Cheap to clone; all clones share one session, so an application has one.
///
/// The last clone that is dropped closes the session; transactions, views and pins count as clones. With a cache in a file
/// ([`Options::cache_dir`]) that waits for one sync of the disk.
///
/// ```
/// use zeolite_client::collections::Counter;
///
/// # zeolite_testing::with_db(async |db| {
/// let hits: Counter = db.run(async |tx| tx.root_or_create("hits").await).await?;
/// let same = db.clone(); // for another task: one session, one cache
/// same.run(async |tx| hits.add(&tx, 1)).await?;
/// assert_eq!(hits.get(&db.now()).await?, 1);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Db {
    owner: Arc<Owner>,
}

/// A server and its store.
///
/// ```
/// # zeolite_testing::with_db(async |db| {
/// let server = db.server().expect("there is a connection");
/// assert!(server.name.contains("zeolite") && server.store_id != 0);
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The server's name and version.
    pub name: String,
    /// Tells its store from any other.
    pub store_id: u64,
}

/// Ends the supervisor with the last handle.
#[derive(Debug)]
struct Owner {
    core: Arc<Core>,
    supervisor: tokio::task::AbortHandle,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.core.here().is_err() {
            // In a forked child the runtime's locks may be held for ever by threads that are not there: nothing is touched.
            std::mem::forget(self.core.clone());
            return;
        }
        self.supervisor.abort();
        self.core.state.send_replace(State::Closed);
        self.core.cache.close();
    }
}

/// The cache, over a file if there is to be one.
async fn opened(options: &Options) -> Result<Opened> {
    let (bytes, file_bytes, database) = (options.cache_bytes, options.cache_file_bytes, options.database.clone());
    let Some(dir) = options.cache_dir.clone() else { return Ok(Opened::in_memory(bytes)) };
    if !options.feed {
        return Err(Error::invalid(
            "a cache in a file is kept right by the feed; leave cache_dir out, or have the feed",
        ));
    }
    let open = tokio::task::spawn_blocking(move || Cache::open(bytes, &dir, &database, file_bytes)).await;
    let ended = |error| Error::invalid(format!("the runtime ended while the cache's file was opened: {error}"));
    open.map_err(ended)?.map_err(Error::invalid)
}

impl Db {
    /// Connects with the default [`Options`]; `url` is `http://host:port`, `https://host:port` or `host:port`.
    pub async fn connect(url: impl Into<String>) -> Result<Db> {
        Db::connect_with(url, Options::default()).await
    }

    /// Connects. A server that has no room keeps it trying for the request time limit; one that is not there, only with
    /// [`Options::wait_for_server`].
    pub async fn connect_with(url: impl Into<String>, options: Options) -> Result<Db> {
        let url = url_of(url.into(), &options.tls);
        let waits = options.wait_for_server;
        let opened = opened(&options).await?;
        // A large file on a slow disk takes its time, which is not the server's.
        let deadline = Instant::now() + options.request_timeout;
        let no_thread = |error| Error::invalid(format!("the cache's file has no thread: {error}; leave cache_dir out"));
        let core = Arc::new(Core::new(url, options, opened).map_err(no_thread)?);
        let supervisor = tokio::spawn(supervise(core.clone())).abort_handle();
        let db = Db { owner: Arc::new(Owner { core, supervisor }) };
        let mut state = db.core().state.subscribe();
        let settled = state.wait_for(|state| match state {
            State::Connecting { last: Some(Error::Disconnected { .. }) } => !waits,
            State::Connecting { last: Some(error) } => !matches!(error.remedy(), Remedy::Wait),
            State::Connecting { last: None } => false,
            State::Connected(_) | State::Closed => true,
        });
        // Ends when connected, refused for good, or out of time; the last is told by `attached` below.
        let refused = match tokio::time::timeout_at(deadline, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Connecting { last: Some(error) } => Some(error.clone()),
                _ => None,
            },
            _ => None,
        };
        match refused {
            Some(error) => Err(error),
            None => db.core().attached(deadline).await.map(|_| db),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.owner.core
    }

    /// The newest tid that this client knows of: what a transaction begun now would read at.
    pub fn position(&self) -> Tid {
        self.core().position.get()
    }

    /// The newest tid that is visible on the server, by asking it.
    pub async fn newest(&self) -> Result<Tid> {
        self.core().call(Resend::Always, |link| async move { link.ping().await }).await
    }

    /// Waits until this client has seen the given commit; false when the time is over first.
    pub async fn wait_for(&self, tid: Tid, limit: Duration) -> bool {
        self.core().position.wait_for(tid, Instant::now() + limit).await
    }

    /// Watches all commits from now on. The server tells a client only of what it may hold, until somebody watches: what is committed before it
    /// has heard of that is told as [`crate::Change::Missed`]; [`Watch::begun`] waits for it.
    pub fn watch_all(&self) -> Watch {
        self.core().watchers.watch(None, self.position())
    }

    /// Watches commits that write one of these objects or their entries, from now on; as [`Db::watch_all`].
    pub fn watch(&self, oids: impl IntoIterator<Item = Oid>) -> Watch {
        self.core().watchers.watch(Some(oids.into_iter().collect()), self.position())
    }

    /// The server's mode, as it was told last: at the hello, and at every change since, within moments.
    pub fn mode(&self) -> Mode {
        self.core().mode.borrow().clone()
    }

    /// Tells every change of the mode from now on, so that a site shows the banner.
    pub fn on_mode_change(&self) -> ModeWatch {
        ModeWatch::new(self.core().mode.subscribe())
    }

    /// A fresh oid, never given out before. They come in blocks, so most calls ask nobody.
    pub async fn new_oid(&self) -> Result<Oid> {
        self.core().oids.take(self.core()).await
    }

    /// A fresh commit key, for [`crate::Tx::commit_as`]; whoever writes it down writes down [`Db::position`] with it.
    pub fn new_commit_key(&self) -> CommitKey {
        crate::commit_keys::new()
    }

    /// What became of a commit, by its key and the tid since when the key exists.
    pub async fn outcome(&self, key: CommitKey, since: Tid) -> Result<Outcome> {
        self.core().call(Resend::Always, |link| async move { link.outcome(key, since).await }).await
    }

    /// Revisions of a cell older than `before` (none: from the newest), newest first; at most
    /// `limit`, and fewer where they are large: a reply has about a megabyte.
    pub async fn history(
        &self,
        cell: &Cell,
        before: Option<Tid>,
        limit: u32,
        with_records: bool,
    ) -> Result<Listing<PastRevision>> {
        let ask = |link: Arc<Link>| async move { link.history(cell, before, limit, with_records).await };
        self.core().call(Resend::Always, ask).await.map(Listing::from)
    }

    /// Undoes a transaction: a new commit that puts back what was before it. Refused where later writes stand in the way
    /// and no resolver merges; and where another store has taken the address over meanwhile, in which the tid is another commit's.
    pub async fn undo(&self, tid: Tid, note: Note) -> Result<Receipt> {
        let (core, key, note) = (self.core(), crate::commit_keys::new(), &note);
        let (since, life) = core.position.snapshot();
        let undo = |attached: Arc<Attached>| async move {
            attached.is_of(life)?;
            attached.link.undo(tid, key, since, note).await
        };
        core.call_attached(Resend::UnderKey(key), undo).await
    }

    /// What live traffic feels, as the server has told it last: with each receipt and each answer of `newest`, to a client
    /// with the role `evolve`.
    pub fn pressure(&self) -> Option<Pressure> {
        *self.core().pressure.lock()
    }

    /// Of the key of an entry, as the server has told at the last hello (`limits.key_bytes_max`).
    pub fn key_bytes_max(&self) -> usize {
        self.core().key_bytes_max()
    }

    /// How the shared cache has done.
    pub fn cache_stats(&self) -> CacheStats {
        self.core().cache.stats()
    }

    /// Waits until the file of the cache ([`Options::cache_dir`]) has all that it is to have, for one sync of the disk: where the program may end
    /// before the last handle is dropped. Without that it is what it was within the last half minute, and the rest is told again.
    ///
    /// ```
    /// # zeolite_testing::with_db(async |db| {
    /// db.keep_cache();
    /// # Ok(()) });
    /// ```
    pub fn keep_cache(&self) {
        if self.core().here().is_ok() {
            self.core().cache.write_out();
        }
    }

    /// The id of the store that was last behind the address: the same for everybody, and for the followers of its server. 0: nobody has
    /// answered yet.
    pub fn store_id(&self) -> u64 {
        self.core().store_id()
    }

    /// Who is at the other end, as of the last hello; none while there is no connection.
    pub fn server(&self) -> Option<ServerInfo> {
        match &*self.core().state.borrow() {
            State::Connected(attached) => {
                let welcome = attached.link.welcome();
                Some(ServerInfo { name: welcome.server.clone(), store_id: welcome.store_id })
            }
            _ => None,
        }
    }
}
