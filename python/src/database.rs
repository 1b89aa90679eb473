//! Owns the connections of a process: one session, one cache, one feed for all who open the same database, and the operator's
//! calls on it.
//!
//! A `Database` of Python is a handle. In a forked child it connects anew at its first use; what was begun in the parent
//! (a snapshot, a staged transaction) is refused there by name.

use crate::pins::Pins;
use crate::typed::Indexes;
use crate::{errors, runtime};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use zeolite_client::{Cell, Db, Error, FaultKind, ModeKind, Options, PackOptions, Place, Revision, Tid, Tls, Token};

/// How long to wait for a commit that is told of to be shown here, before the server is asked.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a connection is opened with; two with the same are one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Opened {
    servers: Vec<String>,
    database: String,
    role: String,
    name: Option<String>,
    cache_bytes: u64,
    cache_dir: Option<PathBuf>,
    cache_file_bytes: u64,
    changed_oids_max: usize,
    wait: bool,
    timeout_ms: u64,
    token: Option<Token>,
    tls: Tls,
}

/// A connection with what a process keeps beside it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) db: Db,
    pub(crate) pins: Arc<Pins>,
    pub(crate) process: u32,
    /// Oids that were made up here for the first transaction of a database.
    pub(crate) first_oids: AtomicU64,
    /// Up to where this process has packed: what the cache still has of that is not shown.
    pub(crate) packed_to: AtomicU64,
    /// The indexes that are kept with objects here.
    pub(crate) indexes: Arc<Indexes>,
}

type All = HashMap<(u32, Opened), Weak<Shared>>;

static ALL: Mutex<Option<All>> = Mutex::new(None);

/// A handle on a database that a server has.
#[pyclass(module = "zeolite._zeolite", frozen)]
#[derive(Debug)]
pub(crate) struct Database {
    opened: Opened,
    /// None: closed.
    shared: Mutex<Option<Arc<Shared>>>,
}

impl Opened {
    /// What is not said of token and TLS is found where the client library looks for it.
    fn options(&self) -> Result<Options, Error> {
        let options = Options::new()
            .name(self.name.clone().unwrap_or_else(|| format!("python, pid {}", std::process::id())))
            .role(self.role.clone())
            .database(self.database.clone())
            .cache_bytes(self.cache_bytes)
            .cache_dir(self.cache_dir.clone())
            .cache_file_bytes(self.cache_file_bytes)
            .wait_for_server(self.wait)
            .request_timeout(Duration::from_millis(self.timeout_ms))
            .changed_oids_max(self.changed_oids_max)
            .other_addresses(self.servers[1..].to_vec())
            .token(self.token.clone())
            .tls(self.tls.clone())
            .traced_by(Some(crate::traced::traced_by()));
        options.with_credentials_for(&self.servers[0])
    }

    fn connect(&self, py: Python<'_>) -> PyResult<Arc<Shared>> {
        let process = std::process::id();
        let key = (process, self.clone());
        let known = || ALL.lock().get_or_insert_default().get(&key).and_then(Weak::upgrade);
        if let Some(shared) = known() {
            return Ok(shared);
        }
        let options = self.options().map_err(|error| errors::raised(py, &error))?;
        let db = runtime::wait(py, Db::connect_with(self.servers[0].clone(), options))?;
        // Somebody else may have connected meanwhile: his counts.
        if let Some(shared) = known() {
            return Ok(shared);
        }
        let shared = Arc::new(Shared {
            db,
            pins: Arc::default(),
            process,
            first_oids: AtomicU64::new(0),
            packed_to: AtomicU64::new(0),
            indexes: Arc::default(),
        });
        let mut all = ALL.lock();
        let all = all.get_or_insert_default();
        all.retain(|(of, _), shared| *of == process && shared.strong_count() > 0);
        all.insert(key, Arc::downgrade(&shared));
        Ok(shared)
    }
}

impl Shared {
    /// The newest revision of a cell before a tid, as pack has left it.
    pub(crate) async fn before(&self, cell: &Cell, tid: Tid) -> Result<Revision, Error> {
        let at = tid.prev().min(self.db.position());
        if at.0 >= self.packed_to.load(Ordering::Relaxed) {
            match self.db.at(at).revision(cell).await {
                Err(Error::Fault(fault)) if fault.kind == FaultKind::SnapshotPacked => {}
                revision => return revision,
            }
        }
        self.kept(cell, tid).await
    }

    /// The same, from the object's history, which is never too old.
    pub(crate) async fn kept(&self, cell: &Cell, before: Tid) -> Result<Revision, Error> {
        let none = Revision { tid: Tid::NONE, end: None, record: None };
        if before == Tid::NONE {
            return Ok(none);
        }
        let revisions = self.db.history(cell, Some(before), 1, true).await?.items;
        Ok(revisions.into_iter().next().map_or(none, |past| past.revision))
    }

    /// Waits until a commit that is told of is shown here; at last the server is asked.
    pub(crate) async fn seen(&self, tid: Tid) -> Result<(), Error> {
        if !self.db.wait_for(tid, VISIBLE_WITHIN).await {
            self.db.newest().await?;
        }
        Ok(())
    }
}

impl Database {
    /// The connection of this process; a child that was forked off makes its own.
    pub(crate) fn shared(&self, py: Python<'_>) -> PyResult<Arc<Shared>> {
        // No Python runs while the lock is held: another thread may wait for it with the interpreter's.
        let known = self.shared.lock().clone();
        let Some(parents) = known else {
            return Err(errors::invalid(py, "this database was closed; open it again"));
        };
        if parents.process == std::process::id() {
            return Ok(parents);
        }
        let own = self.opened.connect(py)?;
        std::mem::forget(parents);
        if let Some(parents) = self.shared.lock().replace(own.clone())
            && parents.process != own.process
        {
            std::mem::forget(parents);
        }
        Ok(own)
    }

    pub(crate) fn db(&self, py: Python<'_>) -> PyResult<Db> {
        Ok(self.shared(py)?.db.clone())
    }

    /// The place that a new snapshot would have.
    pub(crate) fn place(&self, py: Python<'_>) -> PyResult<Place> {
        Ok(self.db(py)?.place())
    }
}

#[pymethods]
impl Database {
    /// Connects to the first of the servers that is there.
    #[new]
    #[pyo3(signature = (servers, *, database="", role="", name=None, cache_bytes=67_108_864, cache_dir=None,
                        cache_file_bytes=268_435_456, changed_oids_max=1_000_000, wait=true, timeout_ms=30_000, token=None,
                        token_file=None, ca=None, cert=None, key=None))]
    #[expect(clippy::too_many_arguments, reason = "they are Python's keywords")]
    fn new(
        py: Python<'_>,
        servers: Vec<String>,
        database: &str,
        role: &str,
        name: Option<String>,
        cache_bytes: u64,
        cache_dir: Option<PathBuf>,
        cache_file_bytes: u64,
        changed_oids_max: usize,
        wait: bool,
        timeout_ms: u64,
        token: Option<&str>,
        token_file: Option<PathBuf>,
        ca: Option<PathBuf>,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> PyResult<Database> {
        if servers.is_empty() {
            return Err(errors::invalid(py, "no server was named; give host:port"));
        }
        let (database, role) = (database.to_owned(), role.to_owned());
        let token = token.map(Token::new).or_else(|| token_file.map(Token::file));
        let tls = Tls::new().ca(ca).cert(cert).key(key).server_name(None);
        let opened = Opened {
            servers,
            database,
            role,
            name,
            cache_bytes,
            cache_dir,
            cache_file_bytes,
            changed_oids_max,
            wait,
            timeout_ms,
            token,
            tls,
        };
        let shared = opened.connect(py)?;
        Ok(Database { opened, shared: Mutex::new(Some(shared)) })
    }

    /// The same database over another connection, for a worker of evolves.
    fn for_evolves(&self, py: Python<'_>) -> PyResult<Database> {
        // A worker looks at each object once: it would take a file and have no use for it.
        let opened = Opened { role: "evolve".to_owned(), name: None, cache_dir: None, ..self.opened.clone() };
        let shared = opened.connect(py)?;
        Ok(Database { opened, shared: Mutex::new(Some(shared)) })
    }

    /// Lets go of the connection; it ends with its last handle.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let shared = self.shared.lock().take();
        let Some(shared) = shared else { return Ok(()) };
        if shared.process != std::process::id() {
            std::mem::forget(shared);
        } else {
            let process = runtime::here(py)?;
            let _entered = process.enter();
            if shared.db.server().is_some() {
                // What nobody reads any more would be kept from pack until its lease is over.
                let settled = tokio::time::timeout(FAREWELL, shared.pins.settle(&shared.db));
                let _ = runtime::wait_for(py, settled);
            }
            // Snapshots that nobody has closed may outlive this handle, and the process end with them.
            py.detach(|| {
                shared.db.keep_cache();
                drop(shared);
            });
        }
        Ok(())
    }

    /// The newest tid that this process knows of.
    fn position(&self, py: Python<'_>) -> PyResult<u64> {
        let db = self.db(py)?;
        runtime::take_in(py)?;
        Ok(db.position().0)
    }

    /// The newest tid of the server; what is known here has come that far when it returns.
    fn newest(&self, py: Python<'_>) -> PyResult<u64> {
        let db = self.db(py)?;
        Ok(runtime::wait(py, async move { db.newest().await })?.0)
    }

    /// Whether the role allows to write.
    fn may_write(&self, py: Python<'_>) -> PyResult<bool> {
        let db = self.db(py)?;
        let asked = runtime::wait_for(py, async move { db.outcome(db.new_commit_key(), db.position()).await })?;
        match asked {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Some(zeolite_client::FaultKind::Denied) => Ok(false),
            Err(error) => Err(errors::raised(py, &error)),
        }
    }

    /// The mode in force: its kind, and the banner.
    fn mode(&self, py: Python<'_>) -> PyResult<(&'static str, String)> {
        let mode = self.db(py)?.mode();
        let kind = match mode.kind {
            ModeKind::Normal => "normal",
            ModeKind::ReadOnly => "read-only",
            ModeKind::EvolveOnly => "evolve-only",
            _ => "another",
        };
        let automatic = mode.automatic.unwrap_or_default();
        Ok((kind, if mode.banner.is_empty() { automatic } else { mode.banner }))
    }

    /// The id of the store behind the address, the same for everybody.
    fn store_id(&self, py: Python<'_>) -> PyResult<u64> {
        let db = self.db(py)?;
        let connected = db.server();
        match connected {
            Some(server) => Ok(server.store_id),
            None => Ok(runtime::wait(py, async move { db.newest().await.map(|_| db.server()) })?
                .map_or(0, |server| server.store_id)),
        }
    }

    /// Bytes held by the cache in memory, hits, misses; bytes in use in its file, hits there.
    fn cache_stats(&self, py: Python<'_>) -> PyResult<(u64, u64, u64, u64, u64)> {
        let stats = self.db(py)?.cache_stats();
        Ok((stats.bytes, stats.hits, stats.misses, stats.file_bytes, stats.file_hits))
    }

    /// Bytes of the log, pinned snapshots, prepared drafts, sessions; databases of the server that this user has a role on.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let db = self.db(py)?;
        let status = runtime::wait(py, async move { db.admin().status().await })?;
        let told = PyDict::new(py);
        told.set_item("log_bytes", status.log_bytes)?;
        told.set_item("pins", status.pins)?;
        told.set_item("prepared", status.prepared)?;
        told.set_item("sessions", status.sessions)?;
        told.set_item("databases", status.databases.len())?;
        Ok(told)
    }

    /// Objects by class, exactly.
    fn kinds(&self, py: Python<'_>) -> PyResult<Vec<(String, u32, u64)>> {
        let db = self.db(py)?;
        let kinds = runtime::wait(py, async move { db.admin().kinds().await })?;
        Ok(kinds.kinds.into_iter().map(|kind| (kind.class, kind.version, kind.objects)).collect())
    }

    /// Moves this process's pin to what is open now; nobody has to wait for its next look.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        let shared = self.shared(py)?;
        runtime::wait_for(py, async move { shared.pins.settle(&shared.db).await }).map(|_| ())
    }

    /// Packs up to a tid, or to the newest one if that is older; revisions and objects that went. The pin of this process follows
    /// first.
    #[pyo3(signature = (to, keep_garbage=false))]
    fn pack(&self, py: Python<'_>, to: u64, keep_garbage: bool) -> PyResult<(u64, u64)> {
        let shared = self.shared(py)?;
        runtime::wait(py, async move {
            shared.pins.settle(&shared.db).await;
            let to = Tid(to).min(shared.db.newest().await?);
            if to == Tid::NONE {
                return Ok((0, 0));
            }
            let options = PackOptions::new().to(Some(to)).keep_garbage(keep_garbage).dry_run(false);
            let mut progress = shared.db.admin().pack(options).await?;
            let mut gone = (0, 0);
            while let Some(step) = progress.next().await? {
                gone = (step.revisions_removed, step.objects_removed);
            }
            shared.packed_to.fetch_max(to.0, Ordering::Relaxed);
            Ok(gone)
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.get_mut().take()
            && shared.process != std::process::id()
        {
            std::mem::forget(shared);
        }
    }
}
