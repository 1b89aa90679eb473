//! Owns what the gRPC health service says of each service.
//!
//! | service | healthy, in any mode | poisoned | going down |
//! |---|---|---|---|
//! | "" and zeolite.v2.Zeolite | SERVING | NOT_SERVING | NOT_SERVING |
//! | zeolite.v2.Admin | SERVING | SERVING | NOT_SERVING |
//!
//! A read-only database serves: it is read, and writes are told when to come back. Who asks this service takes a server
//! that is not SERVING out of its list, which would make an outage of a pause. A poisoned one still answers its operator.

use super::{AdminServer, Serving, ZeoliteServer, admin::Administration, unary::Unary};
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};

/// The service; it follows `serving` until that is dropped.
pub(super) async fn service(mut serving: watch::Receiver<Serving>) -> HealthServer<impl Health> {
    let (reporter, service) = health_reporter();
    let now = *serving.borrow_and_update();
    tell(&reporter, now).await;
    tokio::spawn(async move {
        while serving.changed().await.is_ok() {
            let now = *serving.borrow_and_update();
            tracing::info!(?now, "health");
            tell(&reporter, now).await;
        }
    });
    service
}

async fn tell(reporter: &HealthReporter, serving: Serving) {
    let (zeolite, admin) = match serving {
        Serving::Yes => (ServingStatus::Serving, ServingStatus::Serving),
        Serving::Poisoned => (ServingStatus::NotServing, ServingStatus::Serving),
        Serving::ShuttingDown => (ServingStatus::NotServing, ServingStatus::NotServing),
    };
    reporter.set_service_status(tonic_name::<ZeoliteServer<Unary>>(), zeolite).await;
    reporter.set_service_status(tonic_name::<AdminServer<Administration>>(), admin).await;
    // Last: who sees this one change finds the others changed.
    reporter.set_service_status("", zeolite).await;
}

fn tonic_name<S: tonic::server::NamedService>() -> &'static str {
    S::NAME
}
