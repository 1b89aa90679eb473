//! Owns the operator's side of the client: status, mode, pack, verify, resolvers, kinds, objects, gates, prepared drafts,
//! heat, log, restore.
//!
//! Everything here is a plain call on the running server; none of it goes through the cache.

use crate::answer::Restored;
use crate::connect::{Db, Options, Resend, url_of};
use crate::errors::{Error, Result};
use crate::revision::{Listing, LoggedTransaction, Revision};
use crate::wire::{Failure, FollowBegun, FollowHello, FollowPage, Followed, LogHow, LogPiece, Pages, Unary};
use futures_util::Stream;
use std::time::Duration;
use zeolite_proto::{
    CloseAttempt, CommitKey, Gate, Kinds, Mode, ModeEnd, ModeKind, Oid, PackOptions, PackProgress, PreparedDraft,
    Promoted, Receipt, Replication, ResolverInfo, SessionInfo, Status, Tid, VerifyProgress,
};

/// The operator's calls: beside the session of a [`Db`] ([`Db::admin`]), or over a connection of their own
/// ([`Admin::connect`]).
///
/// ```
/// # zeolite_testing::with_db(async |db| {
/// let status = db.admin().status().await?;
/// assert!(status.commits < 100);
/// let kinds = db.admin().kinds().await?;
/// assert!(kinds.tid <= db.newest().await?);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Admin {
    door: Door,
}

#[derive(Clone, Debug)]
enum Door {
    /// Reconnects and repeats as the session does.
    Session(Db),
    /// Asks once.
    Alone { unary: Unary, url: String, timeout: Duration },
}

impl Db {
    /// The operator's calls.
    pub fn admin(&self) -> Admin {
        Admin { door: Door::Session(self.clone()) }
    }
}

impl Admin {
    /// Connects for the operator's calls alone: with the options' database, role and time limits. It takes no session, so it
    /// works on a server that has no room for another; it asks once, and a call that is not answered within
    /// `request_timeout` has failed. A stream of progress may last longer, as
    /// long as its server lives.
    pub async fn connect(url: impl Into<String>, options: &Options) -> Result<Admin> {
        let (url, timeout) = (url_of(url.into(), &options.tls), options.request_timeout);
        let unary = Unary::connect(&url, timeout.min(options.connect_timeout), &options.acting()).await?;
        Ok(Admin { door: Door::Alone { unary, url, timeout } })
    }

    async fn call<T, F>(&self, resend: Resend, ask: impl Fn(Unary) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        match &self.door {
            Door::Session(db) => db.core().call(resend, |link| ask(link.unary().clone())).await,
            Door::Alone { unary, url, timeout } => match tokio::time::timeout(*timeout, ask(unary.clone())).await {
                Ok(reply) => alone(url, reply),
                Err(_) => Err(Error::NoAnswer { url: url.clone(), within: *timeout }),
            },
        }
    }

    /// What the server says about itself.
    pub async fn status(&self) -> Result<Status> {
        self.call(Resend::Always, |server| async move { server.status().await }).await
    }

    /// Switches who may write, with a banner for the users of the site. Gives the mode in force: durable, and on its way to
    /// every client.
    pub async fn set_mode(&self, kind: ModeKind, banner: &str, end: ModeEnd) -> Result<Mode> {
        self.call(Resend::Always, |server| async move { server.set_mode(kind, banner, end).await }).await
    }

    /// Begins to follow this server's log, with the role `replicate`.
    pub async fn follow(&self, hello: &FollowHello) -> Result<FollowBegun> {
        self.call(Resend::Never, |server| async move { server.follow(hello.clone()).await }).await
    }

    /// How this server stands among its copies; with the role `replicate`.
    pub async fn standing(&self, store_id: u64) -> Result<Replication> {
        self.call(Resend::Always, |server| async move { server.fence(store_id, 0, None, false).await }).await
    }

    /// Tells this server that another one was promoted, in a term of a store: it takes no writes any more if its own is older. Gives how it
    /// stands now.
    pub async fn fence(&self, store_id: u64, term: u64, by: &str) -> Result<Replication> {
        self.call(Resend::Always, |server| async move { server.fence(store_id, term, Some(by), false).await }).await
    }

    /// The same of a primary that hands over: it finishes what it has admitted, and answers when all of that is on its disk.
    pub async fn hand_over(&self, store_id: u64, term: u64, by: &str) -> Result<Replication> {
        self.call(Resend::Never, |server| async move { server.fence(store_id, term, Some(by), true).await }).await
    }

    /// Makes this copy the primary. `anyway`: also where the primary is there or another copy has more; `hand_over`: the primary stops taking
    /// writes first, and gives all that it has.
    pub async fn promote(&self, anyway: bool, hand_over: bool) -> Result<Promoted> {
        self.call(Resend::Never, |server| async move { server.promote(anyway, hand_over).await }).await
    }

    /// Packs, with progress; the last message has `done`.
    pub async fn pack(&self, options: PackOptions) -> Result<Pages<PackProgress>> {
        self.call(Resend::Never, |server| async move { server.pack(options).await }).await
    }

    /// Verifies the whole log beside running traffic, with progress; the last message has `done`.
    pub async fn verify(&self) -> Result<Pages<VerifyProgress>> {
        self.call(Resend::Always, |server| async move { server.verify().await }).await
    }

    /// The resolvers that the server has.
    pub async fn resolvers(&self) -> Result<Vec<ResolverInfo>> {
        self.call(Resend::Always, |server| async move { server.resolvers().await }).await
    }

    /// Objects by class and schema version, exactly, and as of when.
    pub async fn kinds(&self) -> Result<Kinds> {
        self.call(Resend::Always, |server| async move { server.kinds().await }).await
    }

    /// A page of the oids of a class, ascending, after the given one, with a schema version below the given one
    /// (none: any), as of now; the snapshot (none: the newest) only has to be readable.
    pub async fn objects(
        &self,
        snapshot: Option<Tid>,
        class: &str,
        version_below: Option<u32>,
        after: Oid,
        limit: u32,
    ) -> Result<Listing<Oid>> {
        let ask = |server: Unary| async move { server.objects(snapshot, class, version_below, after, limit).await };
        self.call(Resend::Always, ask).await.map(Listing::from)
    }

    /// A page of all objects, by oid, after the given one ([`Oid::ROOT`]: from the first, itself included), each with its revision as
    /// of the snapshot (tid 0: it is newer than that).
    pub async fn records(&self, snapshot: Tid, after: Oid, limit: u32) -> Result<Listing<(Oid, Revision)>> {
        let ask = |server: Unary| async move { server.records(snapshot, after, limit).await };
        self.call(Resend::Always, ask).await.map(Listing::from)
    }

    /// Refuses objects of a class below a schema version from now on, if none are left; `job` is told to who is refused.
    /// Asking again after a lost connection is harmless.
    pub async fn close_gate(&self, class: &str, version: u32, job: &str) -> Result<CloseAttempt> {
        self.call(Resend::Always, |server| async move { server.close_gate(class, version, job).await }).await
    }

    /// Takes the gate of a class away again.
    pub async fn open_gate(&self, class: &str) -> Result<Tid> {
        self.call(Resend::Always, |server| async move { server.open_gate(class).await }).await
    }

    /// The closed gates.
    pub async fn gates(&self) -> Result<Vec<Gate>> {
        self.call(Resend::Always, |server| async move { server.gates().await }).await
    }

    /// The open sessions of the database, the oldest first.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>> {
        self.call(Resend::Always, |server| async move { server.sessions().await }).await
    }

    /// Ends a session by its number. Its client is told, and may come again.
    pub async fn cut_session(&self, id: u64) -> Result<()> {
        self.call(Resend::Never, |server| async move { server.cut_session(id).await }).await
    }

    /// Everybody's prepared drafts, the oldest first.
    pub async fn prepared(&self) -> Result<Vec<PreparedDraft>> {
        self.call(Resend::Always, |server| async move { server.prepared().await }).await
    }

    /// Finishes anybody's prepared draft; asked again, it gives the same receipt.
    pub async fn finish_prepared(&self, key: CommitKey) -> Result<Receipt> {
        self.call(Resend::UnderKey(key), |server| async move { server.finish_prepared(key).await }).await
    }

    /// Gives anybody's prepared draft up.
    pub async fn abort_prepared(&self, key: CommitKey) -> Result<()> {
        self.call(Resend::Always, |server| async move { server.abort_prepared(key).await }).await
    }

    /// How often live commits wrote each of these objects lately: to leave the hot ones for last. At most as many oids as
    /// one load may name.
    pub async fn heat(&self, oids: &[Oid]) -> Result<Vec<u32>> {
        self.call(Resend::Always, |server| async move { server.heat(oids).await }).await
    }

    /// Transactions in tid order, both bounds inclusive (none: from the beginning, to the newest), so many at most (none: all).
    /// From a tid in packed history it is refused: what was deleted there is missing. See [`Admin::log_left`].
    pub async fn log(
        &self,
        from: Option<Tid>,
        to: Option<Tid>,
        limit: Option<u32>,
        with_records: bool,
    ) -> Result<Pages<Vec<LoggedTransaction>>> {
        self.read_log((from, to), limit, with_records, LogHow::Whole).await
    }

    /// The same of what pack has left, to look at, or to go on with a copy that was interrupted: a restore knows what it may take.
    pub async fn log_left(
        &self,
        from: Option<Tid>,
        to: Option<Tid>,
        limit: Option<u32>,
        with_records: bool,
    ) -> Result<Pages<Vec<LoggedTransaction>>> {
        self.read_log((from, to), limit, with_records, LogHow::Left).await
    }

    /// The same against the order: the newest first.
    pub async fn log_back(
        &self,
        from: Option<Tid>,
        to: Option<Tid>,
        limit: Option<u32>,
        with_records: bool,
    ) -> Result<Pages<Vec<LoggedTransaction>>> {
        self.read_log((from, to), limit, with_records, LogHow::Backwards).await
    }

    async fn read_log(
        &self,
        (from, to): (Option<Tid>, Option<Tid>),
        limit: Option<u32>,
        with_records: bool,
        how: LogHow,
    ) -> Result<Pages<Vec<LoggedTransaction>>> {
        self.call(Resend::Always, |server| async move { server.log(from, to, limit, with_records, how).await }).await
    }

    /// The whole log from a tid on, up to what is visible now, in the pieces in which it comes: for copies that keep it as it is. Of
    /// packed history it is refused, unless it begins at the beginning of all ([`Tid::NONE`]).
    pub async fn log_pieces(&self, from: Tid) -> Result<Pages<Vec<LogPiece>>> {
        self.call(Resend::Always, |server| async move { server.log_pieces(from, LogHow::Whole).await }).await
    }

    /// The same of what pack has left.
    pub async fn log_pieces_left(&self, from: Tid) -> Result<Pages<Vec<LogPiece>>> {
        self.call(Resend::Always, |server| async move { server.log_pieces(from, LogHow::Left).await }).await
    }

    /// Writes transactions with their own tids into a database whose newest tid is older; gives how many, and the last.
    /// Not resent: after a lost connection look at [`Status::visible`] and go on from there.
    pub async fn restore<S>(&self, transactions: S) -> Result<Restored>
    where
        S: Stream<Item = LoggedTransaction> + Send + 'static,
    {
        // The time limit is for finding the server: the answer comes when all is there, however long that takes. A server that is gone
        // is found out by the connection.
        let unary = self.call(Resend::Always, async |server: Unary| Ok(server)).await?;
        alone(self.url(), unary.restore(transactions).await)
    }

    /// The same of pieces that a log came in.
    pub async fn restore_pieces<S>(&self, pieces: S) -> Result<Restored>
    where
        S: Stream<Item = LogPiece> + Send + 'static,
    {
        let unary = self.call(Resend::Always, async |server: Unary| Ok(server)).await?;
        alone(self.url(), unary.restore_pieces(pieces).await)
    }

    fn url(&self) -> &str {
        match &self.door {
            Door::Session(db) => &db.core().url,
            Door::Alone { url, .. } => url,
        }
    }
}

/// What an answer means that nobody asks for again.
fn alone<T>(url: &str, reply: Result<T, Failure>) -> Result<T> {
    reply.map_err(|failure| match failure {
        Failure::Fault(fault) => fault.into(),
        Failure::Elsewhere => Failure::elsewhere().into(),
        Failure::Lost(reason) => Error::Disconnected { url: url.to_owned(), reason },
    })
}

impl Followed {
    /// The next page; none: the primary has ended the stream.
    pub async fn page(&mut self) -> Result<Option<FollowPage>> {
        self.next().await.map_err(|failure| match failure {
            Failure::Fault(fault) => fault.into(),
            Failure::Elsewhere => Failure::elsewhere().into(),
            Failure::Lost(reason) => Error::Disconnected { url: "the primary".into(), reason },
        })
    }
}
