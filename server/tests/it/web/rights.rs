//! Rights at the page's door: each path with each role, against the table of docs/page.md and that of the house; by token and by login.

use super::scene::{Answer, OWN, Scene, bearer};
use std::collections::BTreeMap;
use zeolite_proto::Role;
use zeolite_server::auth::rights::{Verb, may};

const PAGE: &str = include_str!("../../../../docs/page.md");

/// Each path that asks for a right, a sensible request, and the verb.
const PATHS: [(&str, &str, Verb); 5] = [
    ("/api/events", "", Verb::Look),
    ("/metrics", "", Verb::Look),
    ("/api/mode", r#"{"database":"main","mode":"normal"}"#, Verb::SetMode),
    ("/api/session/cut", r#"{"database":"main","id":4711}"#, Verb::Sessions),
    ("/api/evolve", r#"{"database":"main","name":"x","verb":"pause"}"#, Verb::Gate),
];

/// What docs/page.md says: for each path, the roles.
fn documented() -> BTreeMap<String, Vec<Role>> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("| path |")).take_while(|line| line.starts_with('|'));
    let mut paths = BTreeMap::new();
    for row in rows.skip(2) {
        let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let roles = Role::ALL.into_iter().filter(|role| columns[2].split(", ").any(|word| word == role.text()));
        paths.insert(columns[0].trim_matches('`').to_owned(), roles.collect());
    }
    paths
}

async fn ask(scene: &Scene, path: &str, body: &str, who: &str) -> u16 {
    let Answer { status, .. } = match (path, body) {
        ("/api/events", _) => {
            let mut events = scene.events(who).await;
            return events.until("\r\n").await.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        }
        (path, "") => scene.get(path, who).await,
        (path, body) => scene.post(path, &format!("{OWN}{who}"), body).await,
    };
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_is_for_the_roles_of_the_table_by_token_and_by_login() {
    let scene = Scene::guarded().await;
    let documented = documented();
    for role in Role::ALL {
        let token = scene.user(role.text(), role).await;
        for who in [bearer(&token), scene.log_in(&token).await] {
            for (path, body, verb) in PATHS {
                let (status, allowed) = (ask(&scene, path, body, &who).await, may(role, verb));
                assert_eq!(allowed, !matches!(status, 401 | 403), "{path} as {role}: {status}");
                assert_eq!(documented[path].contains(&role), allowed, "docs/page.md on {path} and {role}");
            }
        }
    }
    for (path, body, _) in PATHS {
        assert_eq!(ask(&scene, path, body, "").await, 401, "{path} without proof");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_on_another_database_is_none_here_and_names_nothing() {
    let scene = Scene::guarded().await;
    let token = scene.written("elsewhere", Role::Admin, &["other".to_owned()]);
    scene.knows(&token).await;
    let asks = || scene.get("/metrics/main", "");
    assert_eq!(asks().await.status, 401);
    for database in ["main", "no-such"] {
        let (path, who) = (format!("/metrics/{database}"), bearer(&token));
        let refused = scene.get(&path, &who).await;
        assert_eq!(refused.status, 403, "whether there is one is not told: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_want_a_token_unless_they_are_open_and_health_says_why_to_those_who_may_look() {
    let scene = Scene::guarded().await;
    assert_eq!(scene.get("/healthz", "").await.body, "ok\n");
    assert_eq!(scene.get("/metrics", "").await.status, 401);
    let open = Scene::start(|settings, dir| {
        super::scene::guarded(settings, dir);
        settings.metrics.open = true;
    })
    .await;
    assert_eq!(open.get("/metrics", "").await.status, 200);
    assert_eq!(open.get("/api/events", "").await.status, 401, "the numbers alone are open");
    let free = Scene::open().await;
    assert_eq!(free.get("/metrics", "").await.status, 200, "without users");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_users_other_machines_look_and_change_nothing() {
    let scene = Scene::start(|settings, _| {
        settings.metrics.listen = "0.0.0.0:0".into();
        settings.metrics.listen_publicly = true;
    })
    .await;
    let port = scene.address().port();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let body = r#"{"database":"main","mode":"read-only"}"#;
    let head = "POST /api/mode HTTP/1.1\r\nHost: db.example\r\ncontent-type: application/json\r\nx-zeolite: page";
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let refused = super::scene::exchange(&mut stream, request.as_bytes()).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(scene.server.engine().status().mode.kind, zeolite_proto::ModeKind::Normal);
    let local = Scene::open().await;
    assert_eq!(local.post("/api/mode", OWN, body).await.status, 200, "on loopback he is the operator");
    assert_eq!(local.server.engine().status().mode.kind, zeolite_proto::ModeKind::ReadOnly);
}
