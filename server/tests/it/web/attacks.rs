//! What is not meant, and what is not HTTP as it should be: nothing of it changes anything, shows anything or ends anything.

use super::scene::{OWN, Scene};
use zeolite_proto::ModeKind;

const READ_ONLY: &str = r#"{"database":"main","mode":"read-only"}"#;

fn mode(scene: &Scene) -> ModeKind {
    scene.server.engine().status().mode.kind
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_changes_nothing() {
    let scene = Scene::open().await;
    let own = "x-zeolite: page\r\n";
    let forged = [
        String::new(),
        "origin: http://localhost\r\n".into(),
        format!("{own}origin: http://evil.example\r\n"),
        format!("{own}origin: null\r\n"),
        format!("{own}sec-fetch-site: cross-site\r\n"),
        format!("{own}sec-fetch-site: same-site\r\n"),
    ];
    for headers in &forged {
        for (path, body) in [
            ("/api/mode", READ_ONLY),
            ("/api/session/cut", r#"{"database":"main","id":1}"#),
            ("/api/evolve", r#"{"database":"main","name":"x","verb":"cancel"}"#),
            ("/api/login", r#"{"token":"x"}"#),
            ("/api/logout", "{}"),
        ] {
            let answer = scene.post(path, headers, body).await;
            assert_eq!(answer.status, 403, "{path} with {headers:?}: {answer:?}");
        }
    }
    // A form can send this without asking.
    let form = format!(
        "POST /api/mode HTTP/1.1\r\nHost: localhost\r\n{OWN}content-type: text/plain\r\ncontent-length: {}\r\n\r\n{READ_ONLY}",
        READ_ONLY.len()
    );
    assert_eq!(scene.send(form.as_bytes()).await.status, 400);
    let preflight = "OPTIONS /api/mode HTTP/1.1\r\nHost: localhost\r\norigin: http://evil.example\r\naccess-control-request-headers: x-zeolite\r\n\r\n";
    let answer = scene.send(preflight.as_bytes()).await;
    assert!(!answer.head.contains("access-control-allow"), "{answer:?}");
    assert_eq!(mode(&scene), ModeKind::Normal);
    let own = scene
        .post("/api/mode", &format!("{OWN}origin: http://localhost\r\nsec-fetch-site: same-origin\r\n"), READ_ONLY)
        .await;
    assert_eq!((own.status, mode(&scene)), (200, ModeKind::ReadOnly));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_led_to_loopback_is_refused() {
    let scene = Scene::open().await;
    for path in ["/", "/metrics", "/healthz", "/api/who", "/api/events", "/page/page.js"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example:9464\r\n\r\n");
        let answer = scene.send(request.as_bytes()).await;
        assert!(answer.status == 403 && answer.body.contains("metrics.host_name"), "{path}: {answer:?}");
    }
    let named = Scene::start(|settings, _| settings.metrics.host_name = "db.example".into()).await;
    assert_eq!(named.send(b"GET / HTTP/1.1\r\nHost: db.example\r\n\r\n").await.status, 200);
    assert_eq!(named.send(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_lead_to_the_pages_files_and_nowhere_else() {
    let scene = Scene::open().await;
    for name in ["index.html", "style.css", "page.js", "uplot.js", "icon.svg"] {
        assert_eq!(scene.get(&format!("/page/{name}"), "").await.status, 200, "{name}");
    }
    for path in [
        "/page/../Cargo.toml",
        "/page/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/page/....//etc/passwd",
        "/page/%2e%2e/%2e%2e/etc/passwd",
        "/page/index.html%00.js",
        "/page//etc/passwd",
        "/page/",
        "//etc/passwd",
        "/page/README.md",
        "/metrics/..%2f..%2fetc",
        "/metrics/no-such",
        "/api/",
        "/api/events/../../etc",
    ] {
        let answer = scene.get(path, "").await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert!(!answer.body.contains("root:"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_holds_the_browser_to_this_listener() {
    let scene = Scene::open().await;
    for path in ["/", "/page/page.js", "/api/who", "/metrics", "/healthz", "/no-such"] {
        let answer = scene.get(path, "").await;
        let policy = answer.head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).expect("one");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{path}");
    }
    let index = scene.get("/", "").await.body;
    assert!(!index.contains("://") && !index.contains(" style=") && !index.contains(" onclick"), "{index}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_and_the_server_goes_on() {
    let scene = Scene::open().await;
    let deep = format!("{}{}", "[".repeat(8000), "]".repeat(8000));
    let long = format!("{{\"database\":\"main\",\"mode\":\"read-only\",\"banner\":\"{}\"}}", "x".repeat(20_000));
    let wordy = format!("{{\"database\":\"main\",\"mode\":\"read-only\",\"banner\":\"{}\"}}", "x".repeat(1001));
    let bodies: [(&str, u16); 10] = [
        ("", 400),
        ("{", 400),
        (&deep, 400),
        (r#"{"database":"main","mode":"boss"}"#, 400),
        (r#"{"database":"main","mode":"read-only","for_ms":-1}"#, 400),
        (r#"{"database":"main","mode":"read-only","for_ms":1e300}"#, 400),
        (r#"{"database":"main","mode":"read-only","more":1}"#, 400),
        (r#"{"database":"no-such","mode":"read-only"}"#, 404),
        (&wordy, 413),
        (&long, 413),
    ];
    for (body, status) in bodies {
        let answer = scene.post("/api/mode", OWN, body).await;
        assert_eq!(answer.status, status, "{} bytes: {answer:?}", body.len());
    }
    let own = "Host: localhost\r\nx-zeolite: page\r\n";
    let broken: [Vec<u8>; 8] = [
        format!("PUT / HTTP/1.1\r\n{own}\r\n").into(),
        format!("DELETE /api/mode HTTP/1.1\r\n{own}\r\n").into(),
        format!("GET /api/mode HTTP/1.1\r\n{own}\r\n").into(),
        format!("CONNECT evil.example:1 HTTP/1.1\r\n{own}\r\n").into(),
        format!("POST /api/mode HTTP/1.1\r\n{own}content-length: 1\r\ncontent-length: 2\r\n\r\n{{}}").into(),
        format!("POST /api/mode HTTP/1.1\r\n{own}transfer-encoding: chunked\r\n\r\nzz\r\n").into(),
        format!("GET / HTTP/1.1\r\n{own}cookie: zeolite_page_1=\u{e9}; =; zeolite_page_1\r\n\r\n").into(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    for request in broken {
        let answer = scene.send(&request).await;
        let shown = String::from_utf8_lossy(&request).into_owned();
        assert!(answer.status < 500, "{shown}: {answer:?}");
    }
    assert_eq!(mode(&scene), ModeKind::Normal);
    assert_eq!(scene.get("/healthz", "").await.body, "ok\nmain primary\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_others_stay_words() {
    let scene = Scene::open().await;
    // Neither the end of a line nor of a script ends anything.
    let banner = "</script><img src=x onerror=alert(1)>\\r\\n\\r\\nevent: over\\r\\ndata: {}\\r\\n\\r\\n";
    let body = format!(r#"{{"database":"main","mode":"read-only","banner":"{banner}"}}"#);
    assert_eq!(scene.post("/api/mode", OWN, &body).await.status, 200);
    let mut events = scene.events("").await;
    let text = events.until("onerror").await.to_owned();
    assert!(!text.lines().any(|line| line.trim() == "event: over"), "{text}");
    assert!(text.to_ascii_lowercase().contains("content-type: text/event-stream"), "{text}");
}
