//! Owns the connection and its unary calls: administration, lists of objects, the log, restore. They run beside a session on the
//! same connection, so a long stream of pages does not hold up loads and commits; and without one, for operators, when a
//! server has no room for another session.

use super::log::{Assembly, messages};
use super::{Acting, FRAME_BYTES_MAX, Failure, ZeoliteClient, channel, fault, v2, why};
use crate::answer::Restored;
use crate::errors::{Error, Result};
use crate::revision::{LoggedTransaction, Revision};
use futures_util::{Stream, StreamExt, stream};
use std::pin::Pin;
use std::time::Duration;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use v2::admin_client::AdminClient;
use v2::reader_client::ReaderClient;
use v2::replicator_client::ReplicatorClient;
use zeolite_proto::{
    CloseAttempt, CommitKey, Gate, Kinds, Mode, ModeEnd, ModeKind, Oid, PackOptions, PackProgress, PreparedDraft,
    Receipt, ResolverInfo, SessionInfo, Status, Tid, VerifyProgress,
};

/// A connection to a server.
#[derive(Clone, Debug)]
pub(crate) struct Unary {
    channel: Calls,
}

pub(super) type Calls = InterceptedService<Channel, Said>;

/// What each call says in its metadata: on which database, as what, and by which token.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(Vec<(&'static str, AsciiMetadataValue)>);

/// How the log is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogHow {
    /// In order, and nothing may be missing.
    Whole,
    /// In order, what pack has left.
    Left,
    /// The newest first, what pack has left.
    Backwards,
}

impl Said {
    fn of(acting: &Acting) -> Result<Said> {
        let mut said = Vec::new();
        for (name, value) in [("zeolite-database", &acting.database), ("zeolite-role", &acting.role)] {
            if !value.is_empty() {
                let bad = |_| Error::invalid(format!("{value:?} is no name for a database or a role; see the options"));
                said.push((name, AsciiMetadataValue::try_from(value.as_str()).map_err(bad)?));
            }
        }
        if let Some(token) = &acting.token {
            let bad = |_| Error::invalid("the token is not one line of plain text; see where it comes from");
            let mut bearer = AsciiMetadataValue::try_from(format!("Bearer {}", token.read()?)).map_err(bad)?;
            bearer.set_sensitive(true);
            said.push(("authorization", bearer));
        }
        Ok(Said(said))
    }
}

impl Interceptor for Said {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, value.clone());
        }
        Ok(request)
    }
}

/// A stream of a long call's messages. Dropping it ends the call.
///
/// ```
/// # zeolite_testing::with_db(async |db| {
/// let mut pages = db.admin().verify().await?;
/// while let Some(progress) = pages.next().await? {
///     println!("{}: {}", progress.stage, progress.done_units);
/// }
/// # Ok(()) });
/// ```
pub struct Pages<T> {
    messages: Pin<Box<dyn Stream<Item = Result<T>> + Send>>,
}

impl<T> std::fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

impl<T: Send + 'static> Pages<T> {
    pub(super) fn new<W: Send + 'static>(
        stream: tonic::Streaming<W>,
        mut translate: impl FnMut(W) -> T + Send + 'static,
    ) -> Pages<T> {
        let messages = stream.map(move |message| message.map(&mut translate).map_err(|status| failed(&status)));
        Pages { messages: Box::pin(messages) }
    }

    /// The next message; none at the end.
    pub async fn next(&mut self) -> Result<Option<T>> {
        self.messages.next().await.transpose()
    }
}

impl<T> Pages<Vec<T>> {
    /// All items of all pages. The caller bounds their number by what it asked for.
    pub async fn collect(mut self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(page) = self.messages.next().await.transpose()? {
            all.extend(page);
        }
        Ok(all)
    }
}

fn failed(status: &tonic::Status) -> Error {
    match failure(status) {
        Failure::Fault(fault) => fault.into(),
        Failure::Elsewhere => Failure::elsewhere().into(),
        Failure::Lost(reason) => Error::Disconnected { url: "the server".into(), reason },
    }
}

pub(super) fn failure(status: &tonic::Status) -> Failure {
    fault::from_status(status).map_or_else(|| Failure::Lost(channel::explained(why(status))), Failure::Fault)
}

impl Unary {
    /// Connects.
    pub(crate) async fn connect(url: &str, connect_timeout: Duration, acting: &Acting) -> Result<Unary> {
        let said = Said::of(acting)?;
        Ok(Unary { channel: InterceptedService::new(channel::connect(url, connect_timeout, acting).await?, said) })
    }

    pub(super) fn admin(&self) -> AdminClient<Calls> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(FRAME_BYTES_MAX)
    }

    /// The client of the session, with this crate's limits.
    pub(super) fn client(&self) -> ZeoliteClient<Calls> {
        ZeoliteClient::new(self.channel.clone())
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX)
    }

    fn reader(&self) -> ReaderClient<Calls> {
        ReaderClient::new(self.channel.clone())
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX)
    }

    /// The channel, for calls that are written elsewhere.
    pub(super) fn channel(&self) -> Calls {
        self.channel.clone()
    }

    pub(super) fn replicator(&self) -> ReplicatorClient<Calls> {
        ReplicatorClient::new(self.channel.clone())
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX)
    }

    /// What the server says about itself.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        let reply = self.admin().status(v2::StatusRequest {}).await.map_err(|status| failure(&status))?;
        Ok(reply.into_inner().into())
    }

    /// Switches the mode.
    pub(crate) async fn set_mode(&self, kind: ModeKind, banner: &str, end: ModeEnd) -> Result<Mode, Failure> {
        let (until_unix_ms, for_ms) = end.parts();
        let request = v2::SetModeRequest {
            kind: v2::ModeKind::from(kind).into(),
            banner: banner.to_owned(),
            until_unix_ms,
            for_ms,
        };
        let reply = self.admin().set_mode(request).await.map_err(|status| failure(&status))?;
        Ok(reply.into_inner().into())
    }

    /// Packs; the stream ends with `done`.
    pub(crate) async fn pack(&self, options: PackOptions) -> Result<Pages<PackProgress>, Failure> {
        let stream = self.admin().pack(v2::PackRequest::from(options)).await.map_err(|status| failure(&status))?;
        Ok(Pages::new(stream.into_inner(), PackProgress::from))
    }

    /// Reads the whole log; the stream ends with `done`.
    pub(crate) async fn verify(&self) -> Result<Pages<VerifyProgress>, Failure> {
        let stream = self.admin().verify(v2::VerifyRequest {}).await.map_err(|status| failure(&status))?;
        Ok(Pages::new(stream.into_inner(), VerifyProgress::from))
    }

    /// The server's resolvers.
    pub(crate) async fn resolvers(&self) -> Result<Vec<ResolverInfo>, Failure> {
        let reply = self.admin().resolvers(v2::ResolversRequest {}).await.map_err(|status| failure(&status))?;
        Ok(reply.into_inner().resolvers.into_iter().map(ResolverInfo::from).collect())
    }

    /// Exact counts by class and schema version.
    pub(crate) async fn kinds(&self) -> Result<Kinds, Failure> {
        let reply = self.reader().kinds(v2::KindsRequest {}).await.map_err(|status| failure(&status))?.into_inner();
        Ok(reply.into())
    }

    /// Oids of a class, ascending, and whether there are more.
    pub(crate) async fn objects(
        &self,
        snapshot: Option<Tid>,
        class: &str,
        version_below: Option<u32>,
        after: Oid,
        limit: u32,
    ) -> Result<(Vec<Oid>, bool), Failure> {
        let (snapshot, version_below) = (snapshot.map_or(0, |tid| tid.0), version_below.unwrap_or(0));
        let request = v2::ObjectsRequest {
            snapshot,
            class: class.to_owned(),
            version_below,
            after: after.0,
            limit,
            with_records: false,
        };
        let reply = self.reader().objects(request).await.map_err(|status| failure(&status))?.into_inner();
        Ok((reply.oids.into_iter().map(Oid).collect(), reply.more))
    }

    /// All objects with their revisions as of a snapshot, ascending, and whether there are more.
    pub(crate) async fn records(
        &self,
        snapshot: Tid,
        after: Oid,
        limit: u32,
    ) -> Result<(Vec<(Oid, Revision)>, bool), Failure> {
        let (class, version_below) = (String::new(), 0);
        let (snapshot, after) = (snapshot.0, after.0);
        let request = v2::ObjectsRequest { snapshot, class, version_below, after, limit, with_records: true };
        let reply = self.reader().objects(request).await.map_err(|status| failure(&status))?.into_inner();
        let oids = reply.oids.into_iter().map(Oid);
        Ok((oids.zip(reply.revisions.into_iter().map(Revision::from)).collect(), reply.more))
    }

    /// How often objects are written lately, in the order asked.
    pub(crate) async fn heat(&self, oids: &[Oid]) -> Result<Vec<u32>, Failure> {
        let request = v2::HeatRequest { oids: oids.iter().map(|oid| oid.0).collect() };
        Ok(self.reader().heat(request).await.map_err(|status| failure(&status))?.into_inner().heat)
    }

    /// Closes the gate of a class if nothing is below the version: the commit that did it, or how many are left.
    pub(crate) async fn close_gate(&self, class: &str, version: u32, job: &str) -> Result<CloseAttempt, Failure> {
        let request = v2::CloseGateRequest { class: class.to_owned(), min_version: version, job: job.to_owned() };
        let reply = self.admin().close_gate(request).await.map_err(|status| failure(&status))?.into_inner();
        Ok(if reply.closed { CloseAttempt::Closed(Tid(reply.tid)) } else { CloseAttempt::Left(reply.old_objects) })
    }

    /// Takes the gate of a class away.
    pub(crate) async fn open_gate(&self, class: &str) -> Result<Tid, Failure> {
        let request = v2::OpenGateRequest { class: class.to_owned() };
        let reply = self.admin().open_gate(request).await.map_err(|status| failure(&status))?;
        Ok(Tid(reply.into_inner().tid))
    }

    /// The closed gates.
    pub(crate) async fn gates(&self) -> Result<Vec<Gate>, Failure> {
        let reply = self.admin().gates(v2::GatesRequest {}).await.map_err(|status| failure(&status))?;
        Ok(reply.into_inner().gates.into_iter().map(Gate::from).collect())
    }

    /// Everybody's prepared drafts, the oldest first.
    pub(crate) async fn prepared(&self) -> Result<Vec<PreparedDraft>, Failure> {
        let reply = self.admin().list_prepared(v2::ListPreparedRequest {}).await.map_err(|status| failure(&status))?;
        Ok(reply.into_inner().prepared.into_iter().map(PreparedDraft::from).collect())
    }

    /// The open sessions.
    pub(crate) async fn sessions(&self) -> Result<Vec<SessionInfo>, Failure> {
        let reply = self.admin().list_sessions(v2::ListSessionsRequest {}).await.map_err(|status| failure(&status))?;
        Ok(reply.into_inner().sessions.into_iter().map(SessionInfo::from).collect())
    }

    /// Ends one.
    pub(crate) async fn cut_session(&self, id: u64) -> Result<(), Failure> {
        self.admin().cut_session(v2::CutSessionRequest { id }).await.map_err(|status| failure(&status))?;
        Ok(())
    }

    /// Finishes anybody's prepared draft.
    pub(crate) async fn finish_prepared(&self, key: CommitKey) -> Result<Receipt, Failure> {
        let request = v2::EndPreparedRequest { commit_key: key.0.to_vec().into() };
        let reply = self.admin().finish_prepared(request).await.map_err(|status| failure(&status))?;
        Ok(reply.into_inner().into())
    }

    /// Gives anybody's prepared draft up.
    pub(crate) async fn abort_prepared(&self, key: CommitKey) -> Result<(), Failure> {
        let request = v2::EndPreparedRequest { commit_key: key.0.to_vec().into() };
        self.admin().abort_prepared(request).await.map_err(|status| failure(&status))?;
        Ok(())
    }

    /// Transactions in tid order, bounds inclusive.
    pub(crate) async fn log(
        &self,
        from: Option<Tid>,
        to: Option<Tid>,
        limit: Option<u32>,
        with_records: bool,
        how: LogHow,
    ) -> Result<Pages<Vec<LoggedTransaction>>, Failure> {
        let (from, to) = (from.map_or(0, |tid| tid.0), to.map_or(0, |tid| tid.0));
        let limit = limit.unwrap_or(0);
        let (reverse, as_left) = (how == LogHow::Backwards, how != LogHow::Whole);
        let request = v2::LogRequest { from, to, limit, with_records, reverse, without_own: false, as_left };
        let stream = self.replicator().log(request).await.map_err(|status| failure(&status))?.into_inner();
        let mut assembly = Assembly::default();
        let whole = move |page: v2::LogPage| {
            let packed_to = page.packed_to;
            let messages = page.transactions.into_iter().map(|message| v2::Transaction { packed_to, ..message });
            messages.filter_map(|message| assembly.add(message)).collect::<Vec<_>>()
        };
        Ok(Pages::new(stream, whole))
    }

    /// Writes transactions with their own tids; gives their number and the last tid.
    pub(crate) async fn restore<S>(&self, transactions: S) -> Result<Restored, Failure>
    where
        S: Stream<Item = LoggedTransaction> + Send + 'static,
    {
        let reply = self
            .replicator()
            .restore(transactions.flat_map(|transaction| stream::iter(messages(transaction))))
            .await
            .map_err(|status| failure(&status))?;
        let reply = reply.into_inner();
        Ok(Restored { transactions: reply.transactions, last: Tid(reply.tid) })
    }
}
