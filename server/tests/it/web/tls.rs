//! TLS on the listener for monitoring: the certificates of the main one, and what the settings ask for before other machines come in.

use super::scene::{Scene, bearer, exchange, guarded};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeolite_proto::Role;
use zeolite_server::settings::Settings;

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_a_scraper_shows_its_token_over_it_and_nothing_is_told_without() {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let scene = Scene::start(|settings, dir| {
        guarded(settings, dir);
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("cert.pem"), certificate.pem()).expect("written");
        std::fs::write(path("key.pem"), key.serialize_pem()).expect("written");
        (settings.tls.cert, settings.tls.key) = (path("cert.pem"), path("key.pem"));
        settings.metrics.tls = true;
    })
    .await;
    let token = scene.written("prometheus", Role::Read, &[]);
    let over = |request: String| {
        let (address, trusted) = (scene.address(), CertificateDer::from(certificate.der().to_vec()));
        async move {
            let stream = TcpStream::connect(address).await.expect("it listens");
            let name = ServerName::try_from("localhost").expect("a name");
            let mut stream = connector(trusted).connect(name, stream).await.expect("TLS");
            exchange(&mut stream, request.as_bytes()).await
        }
    };
    let scrape = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{}\r\n", bearer(&token));
    let told = async {
        loop {
            let answer = over(scrape.clone()).await;
            if answer.status == 200 {
                break answer;
            }
            scene.server.look_at_files();
        }
    };
    let told = tokio::time::timeout(super::scene::GUARD, told).await.expect("the user is known");
    assert!(told.body.contains("zeolite_commits_total"), "{told:?}");
    let body = format!(r#"{{"token":"{}"}}"#, token.secret());
    let head = "POST /api/login HTTP/1.1\r\nHost: localhost\r\nx-zeolite: page\r\ncontent-type: application/json";
    let answer = over(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    assert!(answer.status == 200 && answer.head.contains("; secure"), "{answer:?}");
    let plain = scene.send(scrape.as_bytes()).await;
    assert!(!plain.body.contains("zeolite") && plain.status == 0, "{plain:?}");
}

fn connector(trusted: CertificateDer<'static>) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    TlsConnector::from(Arc::new(config.expect("TLS").with_root_certificates(roots).with_no_client_auth()))
}

#[test]
fn other_machines_are_let_in_by_tls_and_users_or_by_a_word() {
    let problems = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings::default();
        settings.metrics.listen = "0.0.0.0:9464".into();
        change(&mut settings);
        settings.check().err().unwrap_or_default().join("; ")
    };
    let tls = |settings: &mut Settings| {
        (settings.tls.cert, settings.tls.key) = ("cert.pem".into(), "key.pem".into());
        settings.metrics.tls = true;
    };
    let users = |settings: &mut Settings| settings.auth.users_file = "users.toml".into();
    assert!(problems(&|_| {}).contains("metrics.listen_publicly"));
    assert!(problems(&tls).contains("auth.users_file"), "nobody has to say who he is");
    assert!(problems(&users).contains("metrics.tls"), "tokens could be read");
    assert_eq!(problems(&|settings| (tls(settings), users(settings)).0), "");
    assert_eq!(problems(&|settings| settings.metrics.listen_publicly = true), "");
    assert!(problems(&|settings| settings.metrics.tls = true).contains("tls.cert"));
}
