//! Owns the operator's side of the client: status, mode, pack, verify, resolvers, kinds, objects, gates, heat, log, restore.
//!
//! Everything here is a plain call on the running server; none of it goes through the cache.

use crate::connect::{Db, Resend};
use crate::errors::Result;
use crate::revision::Transaction;
use crate::wire::Pages;
use futures_util::Stream;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use zeolite_proto::{
    CloseAttempt, Gate, Kind, Mode, ModeKind, Oid, PackOptions, PackProgress, ResolverInfo, Status, Tid, VerifyProgress,
};

/// The operator's calls; see [`Db::admin`].
#[derive(Clone, Debug)]
pub struct Admin {
    pub(crate) db: Db,
}

impl Db {
    /// The operator's calls.
    pub fn admin(&self) -> Admin {
        Admin { db: self.clone() }
    }
}

impl Admin {
    /// What the server says about itself.
    pub async fn status(&self) -> Result<Status> {
        self.db.core().call(Resend::Always, |link| async move { link.status().await }).await
    }

    /// Switches who may write, with a banner for the users of the site, for good or until a time. Gives the mode in force:
    /// durable, and on its way to every client.
    pub async fn set_mode(&self, kind: ModeKind, banner: &str, until: Option<SystemTime>) -> Result<Mode> {
        let until = until.map(|until| until.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_millis() as u64));
        self.db.core().call(Resend::Always, |link| async move { link.set_mode(kind, banner, until).await }).await
    }

    /// Packs, with progress; the last message has `done`.
    pub async fn pack(&self, options: PackOptions) -> Result<Pages<PackProgress>> {
        self.db.core().call(Resend::Never, |link| async move { link.pack(options).await }).await
    }

    /// Verifies the whole log beside running traffic, with progress; the last message has `done`.
    pub async fn verify(&self) -> Result<Pages<VerifyProgress>> {
        self.db.core().call(Resend::Always, |link| async move { link.verify().await }).await
    }

    /// The resolvers that the server has.
    pub async fn resolvers(&self) -> Result<Vec<ResolverInfo>> {
        self.db.core().call(Resend::Always, |link| async move { link.resolvers().await }).await
    }

    /// Objects by class and schema version, exactly.
    pub async fn kinds(&self) -> Result<Vec<Kind>> {
        self.db.core().call(Resend::Always, |link| async move { link.kinds().await }).await
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
        self.db.core().call(Resend::Always, ask).await
    }

    /// Refuses objects of a class below a schema version from now on, if none are left; `job` is told to who is refused.
    /// Asking again after a lost connection is harmless.
    pub async fn close_gate(&self, class: &str, version: u32, job: &str) -> Result<CloseAttempt> {
        self.db.core().call(Resend::Always, |link| async move { link.close_gate(class, version, job).await }).await
    }

    /// Takes the gate of a class away again.
    pub async fn open_gate(&self, class: &str) -> Result<Tid> {
        self.db.core().call(Resend::Always, |link| async move { link.open_gate(class).await }).await
    }

    /// The closed gates.
    pub async fn gates(&self) -> Result<Vec<Gate>> {
        self.db.core().call(Resend::Always, |link| async move { link.gates().await }).await
    }

    /// How often live commits wrote each of these objects lately: to leave the hot ones for last. At most as many oids as
    /// one load may name.
    pub async fn heat(&self, oids: &[Oid]) -> Result<Vec<u32>> {
        self.db.core().call(Resend::Always, |link| async move { link.heat(oids).await }).await
    }

    /// Transactions in tid order, both bounds inclusive; [`Tid::NONE`]: from the beginning, to the newest. `limit` 0: all.
    pub async fn log(&self, from: Tid, to: Tid, limit: u32, with_records: bool) -> Result<Pages<Vec<Transaction>>> {
        self.db.core().call(Resend::Always, |link| async move { link.log(from, to, limit, with_records).await }).await
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
        self.db.core().call(Resend::Never, ask).await
    }
}
