//! Owns the operator's side of the client: status, pack, verify, the log, history of kinds, restore.
//!
//! Everything here is a plain call on the running server; none of it goes through the cache.

use crate::connect::{Db, What};
use crate::errors::Result;
use crate::revision::Transaction;
use crate::wire::Pages;
use futures_util::Stream;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use zeolite_proto::{Gate, Mode, ModeKind, Oid, Pressure, Tid};

/// The operator's calls; see [`crate::Db::admin`].
#[derive(Clone, Debug)]
pub struct Admin {
    pub(crate) db: Db,
}

/// What to pack.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PackOptions {
    /// Keep what is visible at this tid and later; [`Tid::NONE`]: now.
    pub to: Tid,
    /// Do not collect unreachable objects.
    pub keep_garbage: bool,
    /// Only count.
    pub dry_run: bool,
}

/// How far a pack is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the protocol's PackProgress, documented there")]
pub struct PackProgress {
    pub stage: String,
    pub done_units: u64,
    pub total_units: u64,
    pub done: bool,
    pub packed_to: Tid,
    pub revisions_removed: u64,
    pub objects_removed: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// How far a verify is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the protocol's VerifyProgress, documented there")]
pub struct VerifyProgress {
    pub stage: String,
    pub done_units: u64,
    pub total_units: u64,
    pub done: bool,
    pub transactions: u64,
    pub revisions: u64,
    pub objects: u64,
    pub problems: Vec<String>,
    pub problems_total: u64,
}

/// A resolver that the server has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the protocol's ResolverInfo, documented there")]
pub struct ResolverInfo {
    pub class: String,
    pub description: String,
    pub applies: bool,
    pub expensive: bool,
}

/// Where the time of commits goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the protocol's Stage, documented there")]
pub struct Stage {
    pub name: String,
    pub count: u64,
    pub total_ns: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
}

/// What the server says about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the protocol's StatusReply, documented there")]
pub struct Status {
    pub version: String,
    pub store_id: u64,
    pub visible: Tid,
    pub packed_to: Tid,
    pub uptime_ms: u64,
    pub poisoned: Option<String>,
    pub index: String,
    pub objects: u64,
    pub log_bytes: u64,
    pub index_bytes: u64,
    pub segments: u64,
    pub free_bytes: u64,
    pub sessions: u64,
    pub pins: u64,
    pub oldest_pin: Tid,
    pub prepared: u64,
    pub commits: u64,
    pub conflicts: u64,
    pub merges: u64,
    pub loads: u64,
    pub queue_live: u64,
    pub queue_batch: u64,
    pub cache_bytes: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub stages: Vec<Stage>,
    pub unsettled_bytes: u64,
    pub batches: u64,
    pub pack: String,
    pub mode: Mode,
    pub pressure: Pressure,
    pub pinned_bytes: u64,
    pub disk_bytes: u64,
    pub classes: Vec<ClassCounts>,
}

/// Conflicts and merges of one class since the start; the class "" stands for those beyond the first 256.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClassCounts {
    /// The class.
    pub class: String,
    /// Drafts refused because of a cell of this class.
    pub conflicts: u64,
    /// Cells of this class that a resolver decided.
    pub merges: u64,
}

/// The exact number of objects of one class and schema version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kind {
    /// The class.
    pub class: String,
    /// The schema version.
    pub version: u32,
    /// How many objects.
    pub objects: u64,
}

/// What became of closing a gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateAnswer {
    /// Closed by this commit: nothing is below the version, and nothing will be.
    Closed(Tid),
    /// Still open: so many objects are below the version.
    Left(u64),
}

impl Admin {
    /// What the server says about itself.
    pub async fn status(&self) -> Result<Status> {
        self.db.core().call(What::Read, |link| async move { link.status().await }).await
    }

    /// Switches who may write, with a banner for the users of the site, for good or until a time. Gives the mode in force:
    /// durable, and on its way to every client.
    pub async fn set_mode(&self, kind: ModeKind, banner: &str, until: Option<SystemTime>) -> Result<Mode> {
        let until = until.map(|until| until.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_millis() as u64));
        self.db.core().call(What::Read, |link| async move { link.set_mode(kind, banner, until).await }).await
    }

    /// Packs, with progress; the last message has `done`.
    pub async fn pack(&self, options: PackOptions) -> Result<Pages<PackProgress>> {
        let options = &options;
        self.db.core().call(What::Once, |link| async move { link.pack(options).await }).await
    }

    /// Verifies the whole log beside running traffic, with progress; the last message has `done`.
    pub async fn verify(&self) -> Result<Pages<VerifyProgress>> {
        self.db.core().call(What::Read, |link| async move { link.verify().await }).await
    }

    /// The resolvers that the server has.
    pub async fn resolvers(&self) -> Result<Vec<ResolverInfo>> {
        self.db.core().call(What::Read, |link| async move { link.resolvers().await }).await
    }

    /// Objects by class and schema version, exactly.
    pub async fn kinds(&self) -> Result<Vec<Kind>> {
        let kinds = self.db.core().call(What::Read, |link| async move { link.kinds().await }).await?;
        Ok(kinds.into_iter().map(|(class, version, objects)| Kind { class, version, objects }).collect())
    }

    /// A page of the oids of a class, ascending, after the given one, with a schema version below the given one
    /// (0: any), as of now; the snapshot ([`Tid::NONE`]: the newest) only has to be readable. The second value tells whether
    /// there are more.
    pub async fn objects(
        &self,
        snapshot: Tid,
        class: &str,
        version_below: u32,
        after: Oid,
        limit: u32,
    ) -> Result<(Vec<Oid>, bool)> {
        let ask = |link: Arc<crate::wire::Link>| async move {
            link.objects(snapshot, class, version_below, after, limit).await
        };
        self.db.core().call(What::Read, ask).await
    }

    /// Refuses objects of a class below a schema version from now on, if none are left; `job` is told to who is refused.
    /// Asking again after a lost connection is harmless.
    pub async fn close_gate(&self, class: &str, version: u32, job: &str) -> Result<GateAnswer> {
        self.db.core().call(What::Read, |link| async move { link.close_gate(class, version, job).await }).await
    }

    /// Takes the gate of a class away again.
    pub async fn open_gate(&self, class: &str) -> Result<Tid> {
        self.db.core().call(What::Read, |link| async move { link.open_gate(class).await }).await
    }

    /// The closed gates.
    pub async fn gates(&self) -> Result<Vec<Gate>> {
        self.db.core().call(What::Read, |link| async move { link.gates().await }).await
    }

    /// How often live commits wrote each of these objects lately: to leave the hot ones for last. At most as many oids as
    /// one load may name.
    pub async fn heat(&self, oids: &[Oid]) -> Result<Vec<u32>> {
        self.db.core().call(What::Read, |link| async move { link.heat(oids).await }).await
    }

    /// Transactions in tid order, both bounds inclusive; [`Tid::NONE`]: from the beginning, to the newest. `limit` 0: all.
    pub async fn log(&self, from: Tid, to: Tid, limit: u32, with_records: bool) -> Result<Pages<Vec<Transaction>>> {
        self.db.core().call(What::Read, |link| async move { link.log(from, to, limit, with_records).await }).await
    }

    /// Writes transactions with their own tids into a database whose newest tid is older; gives how many, and the last.
    /// Not resent: after a lost connection look at [`Status::visible`] and go on from there.
    pub async fn restore<S>(&self, transactions: S) -> Result<(u64, Tid)>
    where
        S: Stream<Item = Transaction> + Send + 'static,
    {
        let once = parking_lot::Mutex::new(Some(transactions));
        let once = &once;
        let ask = |link: Arc<crate::wire::Link>| async move {
            let transactions = once.lock().take().ok_or(crate::wire::Failure::Lost)?;
            link.restore(transactions).await
        };
        self.db.core().call(What::Once, ask).await
    }
}
