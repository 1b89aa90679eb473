//! Owns what the gRPC health service says of each service.
//!
//! | service | healthy, in any mode | being opened, poisoned, or not to be opened | going down |
//! |---|---|---|---|
//! | `database/NAME`, for each database | SERVING | NOT_SERVING | NOT_SERVING |
//! | "" and the services of data (`zeolite.v2.Zeolite`, `Reader`, `Writer`, `Replicator`) | SERVING | NOT_SERVING when all are | NOT_SERVING |
//! | `zeolite.v2.Admin` | SERVING | SERVING | NOT_SERVING |
//!
//! A read-only database serves: it is read, and writes are told when to come back. Who asks this service takes a server
//! that is not SERVING out of its list, which would make an outage of a pause. A poisoned one still answers its operator.

use super::admin::Administration;
use super::unary::Unary;
use super::{AdminServer, ReaderServer, ReplicatorServer, WriterServer, ZeoliteServer};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};

/// How the server is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Health {
    pub(super) shutting_down: bool,
    /// The databases that do not serve: they are being opened, could not be, or are poisoned.
    pub(super) out: BTreeSet<Arc<str>>,
}

/// The service; it follows `health` until that is dropped, and says in `told` what it has said.
pub(super) async fn service(
    mut health: watch::Receiver<Health>,
    databases: Vec<Arc<str>>,
    told: watch::Sender<Health>,
) -> HealthServer<impl HealthService> {
    let (reporter, service) = health_reporter();
    let now = health.borrow_and_update().clone();
    tell(&reporter, &now, &databases).await;
    told.send_replace(now);
    tokio::spawn(async move {
        while health.changed().await.is_ok() {
            let now = health.borrow_and_update().clone();
            tracing::info!(?now, "health");
            tell(&reporter, &now, &databases).await;
            told.send_replace(now);
        }
    });
    service
}

async fn tell(reporter: &HealthReporter, now: &Health, databases: &[Arc<str>]) {
    let when = |serves: bool| if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
    let up = !now.shutting_down;
    for name in databases {
        reporter.set_service_status(format!("database/{name}"), when(up && !now.out.contains(name))).await;
    }
    let data = when(up && now.out.len() < databases.len());
    let of_data = [
        <ZeoliteServer<Unary> as NamedService>::NAME,
        <ReaderServer<Unary> as NamedService>::NAME,
        <WriterServer<Unary> as NamedService>::NAME,
        <ReplicatorServer<Unary> as NamedService>::NAME,
    ];
    for service in of_data {
        reporter.set_service_status(service, data).await;
    }
    reporter.set_service_status(<AdminServer<Administration> as NamedService>::NAME, when(up)).await;
    // Last: who sees this one change finds the others changed.
    reporter.set_service_status("", data).await;
}
