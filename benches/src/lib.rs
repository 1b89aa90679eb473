//! What the benches share: a bare echo, which is what a server on tonic can do at best.
//!
//! It speaks the session of the protocol and does nothing behind it: each request to load is answered by the same record, from memory that is
//! ready. So the difference to a server is what that server does, and not what HTTP/2, tonic and prost take.

use std::net::SocketAddr;
use std::pin::Pin;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request as Asked;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::wire::v2::zeolite_server::{Zeolite, ZeoliteServer};

/// Answers every load by the same.
struct Echo {
    reply: v2::LoadReply,
}

type Frames = Pin<Box<dyn Stream<Item = Result<v2::ServerFrame, Status>> + Send>>;

#[tonic::async_trait]
impl Zeolite for Echo {
    type SessionStream = Frames;

    async fn session(&self, request: Request<Streaming<v2::ClientFrame>>) -> Result<Response<Frames>, Status> {
        let reply = self.reply.clone();
        let answered = request.into_inner().map(move |frame| {
            let v2::ClientFrame { id, request, .. } = frame?;
            let answer = match request {
                Some(Asked::Hello(_)) => Reply::Hello(v2::HelloReply::default()),
                _ => Reply::Load(reply.clone()),
            };
            Ok(v2::ServerFrame { id, reply: Some(answer), feed_before: Default::default() })
        });
        Ok(Response::new(Box::pin(answered)))
    }
}

/// Serves the echo of one record on a port of the system's choice, until the runtime ends.
pub async fn echo(reply: v2::LoadReply) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tonic::transport::Server::builder().tcp_nodelay(true).add_service(ZeoliteServer::new(Echo { reply }));
    let connections = TcpListenerStream::new(listener).map(|stream| {
        stream.inspect(|stream| {
            // Small answers must not wait for more of them.
            drop(stream.set_nodelay(true));
        })
    });
    tokio::spawn(server.serve_with_incoming(connections));
    Ok(address)
}
