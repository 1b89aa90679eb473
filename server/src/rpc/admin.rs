//! Owns the operator's door: status, resolvers.
//!
//! Pack and verify are refused: the engine has neither yet.

use super::storage::refusal;
use super::{Rpc, encode};
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use zeolite_proto::wire::v1;
use zeolite_proto::wire::v1::admin_server::Admin;
use zeolite_proto::{Fault, FaultKind};

type Progress<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The `Admin` service.
pub(super) struct Administration {
    rpc: Arc<Rpc>,
}

impl Administration {
    pub(super) fn new(rpc: Arc<Rpc>) -> Administration {
        Administration { rpc }
    }
}

#[tonic::async_trait]
impl Admin for Administration {
    type PackStream = Progress<v1::PackProgress>;
    type VerifyStream = Progress<v1::VerifyProgress>;

    async fn status(&self, _request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        // Sizes and free bytes are asked of the disk.
        let engine = self.rpc.calls.engine.clone();
        let status = self.rpc.off_thread(move || Ok(engine.status())).await;
        let mut status = status.map(encode::status).map_err(|fault| refusal(&self.rpc, &fault))?;
        status.sessions = self.rpc.session_count() as u64;
        Ok(Response::new(status))
    }

    async fn pack(&self, _request: Request<v1::PackRequest>) -> Result<Response<Self::PackStream>, Status> {
        Err(refusal(&self.rpc, &Fault::new(FaultKind::Unsupported, "this server cannot pack; use a newer one")))
    }

    async fn verify(&self, _request: Request<v1::VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        Err(refusal(&self.rpc, &Fault::new(FaultKind::Unsupported, "this server cannot verify; use a newer one")))
    }

    async fn resolvers(&self, _request: Request<v1::ResolversRequest>) -> Result<Response<v1::ResolversReply>, Status> {
        Ok(Response::new(encode::resolvers(self.rpc.calls.engine.registry())))
    }
}
