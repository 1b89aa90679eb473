//! Owns what the gRPC health service says: SERVING, or NOT_SERVING when the store is poisoned or the server goes down.

use super::{AdminServer, Serving, ZeoliteServer, admin::Administration, storage::Storage};
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
    let status = match serving {
        Serving::Yes => ServingStatus::Serving,
        Serving::Poisoned | Serving::ShuttingDown => ServingStatus::NotServing,
    };
    reporter.set_service_status("", status).await;
    reporter.set_service_status(tonic_name::<ZeoliteServer<Storage>>(), status).await;
    reporter.set_service_status(tonic_name::<AdminServer<Administration>>(), status).await;
}

fn tonic_name<S: tonic::server::NamedService>() -> &'static str {
    S::NAME
}
