//! The operator's door, health and reflection.

use super::support::{TestServer, cell, draft, kind, put, start, start_on, status_fault, within};
use tokio_stream::StreamExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;
use zeolite_proto::{FaultKind, Tid};
use zeolite_server::store::disk::sim::{SimDisk, SimOp};

#[tokio::test(flavor = "multi_thread")]
async fn status_and_resolvers_are_told() {
    let test = start().await;
    let mut raw = test.session().await;
    let tid = raw.commit(draft(0, vec![put(cell(1), 0, "x")])).await.expect("new").tid;
    let mut admin = AdminClient::new(test.channel().await);
    let status = admin.status(v2::StatusRequest {}).await.expect("a status").into_inner();
    assert_eq!((status.sessions, status.visible), (1, tid));
    assert!(status.commits > 0 && status.free_bytes > 0 && !status.stages.is_empty(), "{status:?}");
    assert_eq!(status.poisoned, "");
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    let resolvers = admin.resolvers(v2::ResolversRequest {}).await.expect("a list").into_inner().resolvers;
    assert_eq!(resolvers.len(), test.server.engine().registry().list().len());
    assert!(resolvers.iter().any(|resolver| resolver.applies && !resolver.description.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_service_says_when_the_server_goes_down() {
    let test = start().await;
    let mut health = HealthClient::new(test.channel().await);
    for service in ["", "zeolite.v2.Zeolite", "zeolite.v2.Admin"] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.expect("known").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let mut watch = health.watch(HealthCheckRequest::default()).await.expect("known").into_inner();
    let first = within(watch.next()).await.expect("now").expect("no fault");
    assert_eq!(first.status(), ServingStatus::Serving);
    let stopping = tokio::spawn(test.server.stop());
    let second = within(watch.next()).await.expect("a change").expect("no fault");
    assert_eq!(second.status(), ServingStatus::NotServing);
    drop((watch, health));
    within(stopping).await.expect("no panic").expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_store_is_told_by_health_and_status_and_still_read() {
    let disk = SimDisk::new();
    let test = start_on(disk.clone()).await;
    let mut raw = test.session().await;
    let tid = raw.commit(draft(0, vec![put(cell(1), 0, "kept")])).await.expect("new").tid;
    let mut watch = HealthClient::new(test.channel().await).watch(HealthCheckRequest::default()).await;
    let watch = watch.as_mut().expect("known").get_mut();
    assert_eq!(within(watch.next()).await.expect("now").expect("no fault").status(), ServingStatus::Serving);

    disk.fail(SimOp::Sync, "log/", 0, std::io::ErrorKind::Other);
    let unknown = raw.commit(draft(0, vec![put(cell(2), 0, "lost?")])).await;
    assert_eq!(kind(unknown), FaultKind::OutcomeUnknown, "its batch may be on the disk");
    assert_eq!(within(watch.next()).await.expect("a change").expect("no fault").status(), ServingStatus::NotServing);
    assert_eq!(kind(raw.commit(draft(0, vec![put(cell(3), 0, "x")])).await), FaultKind::Poisoned);
    assert_eq!(raw.load(vec![cell(1)]).await.revisions[0].tid, tid, "reads go on");
    let status = AdminClient::new(test.channel().await).status(v2::StatusRequest {}).await.expect("a status");
    assert!(!status.into_inner().poisoned.is_empty());
    assert_eq!(health_of(&test, "zeolite.v2.Zeolite").await, ServingStatus::NotServing);
    assert_eq!(health_of(&test, "zeolite.v2.Admin").await, ServingStatus::Serving, "its operator is answered");
}

async fn health_of(test: &TestServer, service: &str) -> ServingStatus {
    let mut health = HealthClient::new(test.channel().await);
    let answer = health.check(HealthCheckRequest { service: service.into() }).await.expect("known");
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_serves() {
    let test = start().await;
    let request = v2::SetModeRequest { kind: v2::ModeKind::ReadOnly.into(), ..Default::default() };
    AdminClient::new(test.channel().await).set_mode(request).await.expect("switched");
    let refused = test.session().await.commit(draft(0, vec![put(cell(1), 0, "x")])).await;
    assert_eq!(kind(refused), FaultKind::ReadOnly);
    for service in ["", "zeolite.v2.Zeolite", "zeolite.v2.Admin"] {
        assert_eq!(health_of(&test, service).await, ServingStatus::Serving, "{service:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services() {
    let test = start().await;
    let mut reflection = ServerReflectionClient::new(test.channel().await);
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([ask])).await.expect("reflection v1").into_inner();
    let answer = within(answers.next()).await.expect("an answer").expect("no fault");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["zeolite.v2.Zeolite", "zeolite.v2.Admin"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_without_a_sensible_class_is_neither_closed_nor_opened() {
    let test = start().await;
    let mut admin = AdminClient::new(test.channel().await);
    for class in [String::new(), "x".repeat(256), "x".repeat(70_000)] {
        let open = v2::OpenGateRequest { class: class.clone() };
        assert_eq!(status_fault(&within(admin.open_gate(open)).await.expect_err("refused")).kind, FaultKind::Invalid);
        let close = v2::CloseGateRequest { class, min_version: 2, job: "a".into() };
        assert_eq!(status_fault(&within(admin.close_gate(close)).await.expect_err("refused")).kind, FaultKind::Invalid);
    }
    let own = test.server.engine().log_page(Tid(1), Tid::NONE, 0).expect("reads");
    assert!(own.iter().all(|txn| txn.writes.iter().all(|write| !write.cell.key.starts_with(b"gate"))), "{own:?}");
}
