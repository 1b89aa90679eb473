//! Owns the server of these tests and an HTTP client that sends whatever a test writes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeolite_proto::{Registry, Role};
use zeolite_server::auth::token::Token;
use zeolite_server::auth::users::Users;
use zeolite_server::clock::{Clock, SystemClock};
use zeolite_server::server::{Components, Server};
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::sim::SimDisk;

/// Nothing here takes this long: a test that hangs fails instead.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

/// What the page sends with what changes something.
pub(crate) const OWN: &str = "x-zeolite: page\r\n";

pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) dir: Arc<TempDir>,
}

/// An answer in parts; its head in small letters.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Scene {
    /// Nobody has to say who he is.
    pub(crate) async fn open() -> Scene {
        Scene::start(|_, _| {}).await
    }

    /// Everybody has to.
    pub(crate) async fn guarded() -> Scene {
        Scene::start(guarded).await
    }

    pub(crate) async fn start(change: impl FnOnce(&mut Settings, &TempDir)) -> Scene {
        Scene::timed(Arc::new(SystemClock::new()), change).await
    }

    pub(crate) async fn timed(clock: Arc<dyn Clock>, change: impl FnOnce(&mut Settings, &TempDir)) -> Scene {
        let dir = Arc::new(tempfile::tempdir().expect("a directory"));
        let mut settings = Settings::default();
        settings.metrics.listen = "127.0.0.1:0".into();
        change(&mut settings, &dir);
        let components = Components::new(Arc::new(SimDisk::new()), clock, 7);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = Server::start_with(components, settings, Registry::built_in(), listener).await.expect("starts");
        Scene { server, dir }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.metrics_address().expect("it listens")
    }

    /// A user with this role on every database, known to the server.
    pub(crate) async fn user(&self, name: &str, role: Role) -> Token {
        let token = self.written(name, role, &[]);
        self.knows(&token).await;
        token
    }

    /// Waits until the server has looked at the file.
    pub(crate) async fn knows(&self, token: &Token) {
        while self.get("/api/who", &bearer(token)).await.status != 200 {
            self.server.look_at_files();
        }
    }

    /// A user of the file.
    pub(crate) fn written(&self, name: &str, role: Role, databases: &[String]) -> Token {
        let token = Token::new().expect("randomness");
        self.change(|users| {
            users.add(name, role, databases)?;
            users.keep(name, &token, 0, None)
        });
        token
    }

    /// Changes the users; who asks from now on is asked by the new ones.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Users) -> Result<T, String>) {
        Users::change(&self.dir.path().join("users.toml"), change).expect("written");
        self.server.look_at_files();
    }

    /// Sends bytes and reads to the end.
    pub(crate) async fn send(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address()).await.expect("it listens");
        exchange(&mut stream, request).await
    }

    /// `headers` end in `\r\n` each.
    pub(crate) async fn get(&self, path: &str, headers: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes()).await
    }

    pub(crate) async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let kind = "content-type: application/json\r\n";
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{kind}content-length: {length}\r\n{headers}\r\n");
        self.send(format!("{head}{body}").as_bytes()).await
    }

    /// The cookie of a login, as a header.
    pub(crate) async fn log_in(&self, token: &Token) -> String {
        let answer = self.post("/api/login", OWN, &format!("{{\"token\":\"{}\"}}", token.secret())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
        format!("cookie: {}\r\n", cookie.split(';').next().expect("a pair"))
    }

    /// A stream of events that is read as it comes.
    pub(crate) async fn events(&self, headers: &str) -> Events {
        let mut stream = TcpStream::connect(self.address()).await.expect("it listens");
        let request = format!("GET /api/events?database=main HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        Events { stream, text: String::new() }
    }
}

pub(crate) fn guarded(settings: &mut Settings, dir: &TempDir) {
    let path = dir.path().join("users.toml");
    Users::change(&path, |users| users.add("nobody", Role::Read, &["no-such".to_owned()])).expect("written");
    settings.auth.users_file = path;
}

pub(crate) fn bearer(token: &Token) -> String {
    format!("authorization: Bearer {}\r\n", token.secret())
}

pub(crate) async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &[u8]) -> Answer {
    stream.write_all(request).await.expect("sent");
    let mut text = Vec::new();
    // A server that refuses early may cut what it did not read.
    let read = tokio::time::timeout(GUARD, stream.read_to_end(&mut text)).await.expect("it does not hang");
    drop(read);
    let text = String::from_utf8(text).expect("texts alone");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

pub(crate) struct Events {
    pub(crate) stream: TcpStream,
    pub(crate) text: String,
}

impl Events {
    /// Reads until there is this text; gives all that came. Empty: to the end.
    pub(crate) async fn until(&mut self, wanted: &str) -> &str {
        let read = async {
            let mut bytes = vec![0; 64 << 10];
            while wanted.is_empty() || !self.text.contains(wanted) {
                let length = self.stream.read(&mut bytes).await.unwrap_or(0);
                if length == 0 {
                    assert!(wanted.is_empty(), "the stream has ended without {wanted:?}: {}", self.text);
                    return;
                }
                self.text.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        };
        tokio::time::timeout(GUARD, read).await.expect("it comes");
        &self.text
    }
}
