//! Owns how the page of a server steers evolves: as a client with the role `evolve`, through the door inside, by the same calls as
//! `zeolite evolve`. Who may is decided before (`web/actions`).

use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use zeolite_client::{Db, Error, Inside, Options, evolve};
use zeolite_proto::{Fault, FaultKind, Role};
use zeolite_server::server::Server;
use zeolite_server::web::Steer;

/// Within the time that a request of the page has.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// From now on the page can.
pub(super) fn begin(server: &Server) {
    let inside = server.inside();
    let door = Inside::new(move || {
        let inside = inside.clone();
        async move { inside.open().await }
    });
    server.steered_by(Arc::new(move |database, name, what| {
        let door = door.clone();
        async move { steer(door, database, &name, what).await.map_err(told) }.boxed()
    }));
}

async fn steer(door: Inside, database: String, name: &str, what: Steer) -> Result<(), Error> {
    let options = Options::new()
        .name("zeolite page")
        .database(database)
        .inside(Some(door))
        .role(Role::Evolve.text())
        .request_timeout(ANSWER_WITHIN)
        .feed(false)
        .cache_bytes(0);
    let db = Db::connect_with("http://inside", options).await?;
    let job = evolve::find(&db, name).await?;
    match what {
        Steer::Pause { reason } => job.pause(&reason, 0).await,
        Steer::Resume => job.resume().await,
        Steer::Cancel { reason } => job.cancel(&reason).await.map(drop),
    }
}

/// What the server has said goes on as it is; what the client has found is about the request.
fn told(error: Error) -> Fault {
    match error {
        Error::Fault(fault) => fault,
        error => Fault::new(error.kind().unwrap_or(FaultKind::Invalid), error.to_string()),
    }
}
