//! The way to a collector over TLS: its CA, this server's certificate, headers; and what is told when one of them is wrong.

use super::{Collector, ask, commit, context, next};
use crate::metrics::scrape::scrape;
use crate::rpc::support::{TestServer, start_with, within};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use opentelemetry_proto::tonic::trace::v1::Span;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_server::settings::TracesSettings;

const SECRET: &str = "Bearer s3cret";

/// An authority, and what it has signed for localhost: certificate and key.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new(name: &str) -> Ca {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Ca { issuer: Issuer::new(params, key), pem }
    }

    fn signs(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

/// A collector over TLS that wants a certificate of its CA and a token.
async fn collector(ca: &Ca) -> (String, mpsc::UnboundedReceiver<Span>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (to, spans) = mpsc::unbounded_channel();
    let is_known = |request: Request<()>| match request.metadata().get("authorization") {
        Some(value) if value.as_bytes() == SECRET.as_bytes() => Ok(request),
        _ => Err(Status::unauthenticated("who is it")),
    };
    let (cert, key) = ca.signs();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(cert, key));
    let tls = tls.client_ca_root(Certificate::from_pem(&ca.pem));
    let mut serving = Server::builder().tls_config(tls).expect("TLS");
    let serving = serving.add_service(TraceServiceServer::with_interceptor(Collector(to), is_known));
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    (format!("https://localhost:{port}"), spans)
}

/// Files that may be written anew.
struct Files(tempfile::TempDir);

impl Files {
    /// All as they should be.
    fn of(ca: &Ca) -> Files {
        let files = Files(tempfile::tempdir().expect("a directory"));
        let (cert, key) = ca.signs();
        for (name, text) in [("ca", &ca.pem), ("cert", &cert), ("key", &key)] {
            files.write(name, text);
        }
        files.write("headers", &format!("authorization: {SECRET}\n"));
        files
    }

    fn write(&self, name: &str, text: &str) {
        let whole = self.path(&format!("{name}.new"));
        std::fs::write(&whole, text).expect("written");
        std::fs::rename(whole, self.path(name)).expect("in its place");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn settings(&self, endpoint: &str) -> TracesSettings {
        let [ca, cert, key, headers_file] = ["ca", "cert", "key", "headers"].map(|name| self.path(name));
        TracesSettings { endpoint: endpoint.to_owned(), ca, cert, key, headers_file, ..TracesSettings::default() }
    }
}

/// Everything that is logged on this thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics with it")).into_owned()
    }
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> (Logged, impl Sized) {
    let logged = Logged::default();
    let to = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
    let guard = tracing::subscriber::set_default(subscriber.with_writer(move || to.clone()).finish());
    // While there is one subscriber alone, whatever thread of another test comes to a line first decides for all whether it is told.
    let another = tracing::Dispatch::new(tracing_subscriber::registry());
    (logged, (guard, another))
}

async fn traced(settings: TracesSettings) -> TestServer {
    start_with(|server| {
        server.traces = settings;
        server.metrics.listen = "127.0.0.1:0".into();
    })
    .await
}

async fn committed(server: &TestServer, number: u64) {
    let mut raw = server.session().await;
    assert!(matches!(ask(&mut raw, "", &context(true), commit(number)).await, Reply::Receipt(_)));
}

#[tokio::test]
async fn a_collector_over_tls_is_shown_a_certificate_and_a_token() {
    let (logged, _guard) = log();
    let ca = Ca::new("collectors");
    let (endpoint, mut spans) = collector(&ca).await;
    let files = Files::of(&ca);
    let server = traced(files.settings(&endpoint)).await;
    committed(&server, 1).await;
    let all = next(&mut spans, 6).await;
    assert!(all.iter().any(|span| span.name == "commit"), "{all:?}");
    // Another token, which is not taken; then it is as it was.
    files.write("headers", "authorization: Bearer wr0ng\n");
    dropped_one_more(&server, 2).await;
    assert!(logged.text().contains("traces.headers_file"), "{}", logged.text());
    files.write("headers", &format!("Authorization: {SECRET}\n"));
    committed(&server, 3).await;
    next(&mut spans, 6).await;
    assert!(!logged.text().contains("s3cret") && !logged.text().contains("wr0ng"), "{}", logged.text());
    within(server.server.stop()).await.expect("stops");
}

/// Makes something wrong.
type Change<'a> = &'a dyn Fn(&Files, &mut TracesSettings);

/// Commits once more, and waits until its spans were dropped.
async fn dropped_one_more(server: &TestServer, number: u64) {
    let before = scrape(&server.server).await.value("zeolite_spans_dropped_total");
    committed(server, number).await;
    let dropped = async { while scrape(&server.server).await.value("zeolite_spans_dropped_total") < before + 6.0 {} };
    within(dropped).await;
}

/// What is wrong is told with what to do, and commits do not hear of it.
#[tokio::test]
async fn what_is_wrong_with_the_way_to_a_collector_is_named_and_stops_nothing() {
    let (ca, another) = (Ca::new("collectors"), Ca::new("others"));
    let (endpoint, mut spans) = collector(&ca).await;
    let of_another = another.signs();
    let plain = endpoint.replace("https://", "http://");
    let wrong: [(&str, Change<'_>); 6] = [
        ("not of a CA that is known here: name the file of that CA's certificate (traces.ca)", &|files, _| {
            files.write("ca", &another.pem)
        }),
        ("traces.ca = ", &|files, _| std::fs::remove_file(files.path("ca")).expect("it was there")),
        ("(traces.cert, traces.key)", &|_, settings| (settings.cert, settings.key) = Default::default()),
        ("traces.cert", &|files, _| {
            files.write("cert", &of_another.0);
            files.write("key", &of_another.1);
        }),
        ("traces.headers_file, line 1", &|files, _| files.write("headers", "s3cret")),
        ("a collector does not take traces", &|_, settings| {
            *settings = TracesSettings { endpoint: plain.clone(), ..TracesSettings::default() };
        }),
    ];
    for (named, change) in wrong {
        let (logged, _guard) = log();
        let files = Files::of(&ca);
        let mut settings = files.settings(&endpoint);
        change(&files, &mut settings);
        let server = traced(settings).await;
        dropped_one_more(&server, 1).await;
        let told = logged.text();
        let warning =
            told.lines().find(|line| line.contains("does not take traces")).unwrap_or_else(|| panic!("{told}"));
        assert!(warning.contains(named) && warning.contains("WARN"), "{named}: {warning}");
        assert!(!told.contains("s3cret"), "{told}");
        within(server.server.stop()).await.expect("stops");
    }
    assert!(spans.try_recv().is_err(), "nobody was let in");
}

/// Who renews a CA restarts nothing.
#[tokio::test]
async fn a_file_that_is_put_right_is_enough() {
    let (ca, another) = (Ca::new("collectors"), Ca::new("others"));
    let (endpoint, mut spans) = collector(&ca).await;
    let files = Files::of(&ca);
    files.write("ca", &another.pem);
    let server = traced(files.settings(&endpoint)).await;
    dropped_one_more(&server, 1).await;
    files.write("ca", &ca.pem);
    committed(&server, 2).await;
    next(&mut spans, 6).await;
    within(server.server.stop()).await.expect("stops");
}
