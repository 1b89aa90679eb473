//! Owns the unary calls: administration, the log, restore. They run beside the session on the same connection, so a long
//! stream of pages does not hold up loads and commits.

use super::log::{Assembly, messages};
use super::{FRAME_BYTES_MAX, Failure, Link, ZeoliteClient, chain, fault, v2};
use crate::errors::{Error, Result};
use crate::revision::Transaction;
use futures_util::{Stream, StreamExt, stream};
use std::pin::Pin;
use tonic::transport::Channel;
use v2::admin_client::AdminClient;
use zeolite_proto::{
    CloseAttempt, Gate, Mode, ModeKind, PackOptions, PackProgress, ResolverInfo, Status, Tid, VerifyProgress,
};

/// A stream of a long call's messages. Dropping it ends the call.
pub struct Pages<T> {
    messages: Pin<Box<dyn Stream<Item = Result<T>> + Send>>,
}

impl<T> std::fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

impl<T: Send + 'static> Pages<T> {
    fn new<W: Send + 'static>(
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
        Failure::Lost => Error::Disconnected { url: "the server".into(), reason: chain(status) },
    }
}

fn failure(status: &tonic::Status) -> Failure {
    fault::from_status(status).map_or(Failure::Lost, Failure::Fault)
}

impl Link {
    fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(FRAME_BYTES_MAX)
    }

    fn unary(&self) -> ZeoliteClient<Channel> {
        ZeoliteClient::new(self.channel.clone())
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX)
    }

    /// What the server says about itself.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        let reply = self.admin().status(v2::StatusRequest {}).await.map_err(|status| failure(&status))?;
        Ok(reply.into_inner().into())
    }

    /// Switches the mode.
    pub(crate) async fn set_mode(
        &self,
        kind: ModeKind,
        banner: &str,
        until_unix_ms: Option<u64>,
    ) -> Result<Mode, Failure> {
        let request = v2::SetModeRequest {
            kind: v2::ModeKind::from(kind).into(),
            banner: banner.to_owned(),
            until_unix_ms: until_unix_ms.unwrap_or(0),
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

    /// Transactions in tid order, bounds inclusive.
    pub(crate) async fn log(
        &self,
        from: Tid,
        to: Tid,
        limit: u32,
        with_records: bool,
    ) -> Result<Pages<Vec<Transaction>>, Failure> {
        let request = v2::LogRequest { from: from.0, to: to.0, limit, with_records };
        let stream = self.unary().log(request).await.map_err(|status| failure(&status))?.into_inner();
        let mut assembly = Assembly::default();
        let whole = move |page: v2::LogPage| {
            page.transactions.into_iter().filter_map(|message| assembly.add(message)).collect::<Vec<_>>()
        };
        Ok(Pages::new(stream, whole))
    }

    /// Writes transactions with their own tids; gives their number and the last tid.
    pub(crate) async fn restore<S>(&self, transactions: S) -> Result<(u64, Tid), Failure>
    where
        S: Stream<Item = Transaction> + Send + 'static,
    {
        let reply = self
            .unary()
            .restore(transactions.flat_map(|transaction| stream::iter(messages(transaction))))
            .await
            .map_err(|status| failure(&status))?;
        let reply = reply.into_inner();
        Ok((reply.transactions, Tid(reply.tid)))
    }
}
