//! Owns the way to a server in this very process: streams instead of a network.

use hyper_util::rt::TokioIo;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::DuplexStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

type Opening = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

/// Opens connections to a server in this process.
#[derive(Clone)]
pub struct Inside(Arc<dyn Fn() -> Opening + Send + Sync>);

impl Inside {
    /// By whatever gives a stream to it.
    pub fn new<F>(open: impl Fn() -> F + Send + Sync + 'static) -> Inside
    where
        F: Future<Output = io::Result<DuplexStream>> + Send + 'static,
    {
        Inside(Arc::new(move || Box::pin(open())))
    }
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inside")
    }
}

impl Service<Uri> for Inside {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let opening = (self.0)();
        Box::pin(async { opening.await.map(TokioIo::new) })
    }
}
