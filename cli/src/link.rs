//! Owns the connection of the administrative commands to a server.
//!
//! These commands speak the unary calls, one at a time: they are what the protocol shows, without cache or session. Only
//! this file and the commands that print its messages name generated types.

use crate::exit::CannotConnect;
use anyhow::{Result, anyhow};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use zeolite_proto::wire::fault::from_status;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;
use zeolite_proto::wire::v2::zeolite_client::ZeoliteClient;

/// Where a server listens unless told otherwise.
pub(crate) const ADDRESS: &str = zeolite_server::settings::LISTEN_DEFAULT;

/// One message may be a page of large records.
const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// A connected server.
pub(crate) struct Link {
    address: String,
    pub(crate) storage: ZeoliteClient<Channel>,
    pub(crate) admin: AdminClient<Channel>,
}

impl Link {
    /// Connects; a server that does not answer within five seconds counts as not there.
    pub(crate) async fn connect(address: &str) -> Result<Link> {
        let cannot = |reason: String| CannotConnect { address: address.to_owned(), reason };
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(url).map_err(|error| cannot(error.to_string()))?;
        let endpoint = endpoint.connect_timeout(Duration::from_secs(5)).tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|error| cannot(innermost(&error)))?;
        Ok(Link {
            address: address.to_owned(),
            storage: ZeoliteClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            admin: AdminClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        })
    }

    /// What a failed call means: the server's fault, or a connection that broke.
    pub(crate) fn failed(&self, status: &Status) -> anyhow::Error {
        if let Some(fault) = from_status(status) {
            return fault.into();
        }
        match status.code() {
            Code::Unavailable | Code::Cancelled | Code::Unknown => {
                CannotConnect { address: self.address.clone(), reason: status.message().to_owned() }.into()
            }
            _ => anyhow!("the call failed in transport: {status}"),
        }
    }

    /// The next message of a stream.
    pub(crate) async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>> {
        stream.message().await.map_err(|status| self.failed(&status))
    }

    /// The server's status.
    pub(crate) async fn status(&mut self) -> Result<v2::StatusReply> {
        match self.admin.status(v2::StatusRequest {}).await {
            Ok(reply) => Ok(reply.into_inner()),
            Err(status) => Err(self.failed(&status)),
        }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
