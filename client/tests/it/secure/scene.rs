//! Owns a server with certificates and users: the files, what is written into them, and how a client comes with them.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use zeolite_client::{Cell, Db, Error, FaultKind, Oid, Options, Record, Result, Tls, Token};
use zeolite_proto::{Registry, Role};
use zeolite_server::auth::token::Token as Made;
use zeolite_server::auth::users::Users;
use zeolite_server::server::Server;
use zeolite_server::settings::{DatabaseSettings, Settings};

/// A certificate authority.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    pub(super) fn new(name: &str) -> Ca {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Ca { issuer: Issuer::new(params, key), pem }
    }

    pub(super) fn pem(&self) -> String {
        self.pem.clone()
    }

    /// A certificate and its key, in PEM: with a common name, and names of hosts.
    pub(super) fn signs(&self, name: &str, hosts: &[&str]) -> (String, String) {
        self.signs_numbered(name, hosts, None)
    }

    /// The list that says these certificates count no more, in PEM. Its next one is long overdue.
    pub(super) fn revokes(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2020, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }

    /// The same with a serial number.
    pub(super) fn signs_numbered(&self, name: &str, hosts: &[&str], serial: Option<u64>) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = serial.map(SerialNumber::from);
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

/// A server, and the directory of all its files.
pub(super) struct Scene {
    dir: tempfile::TempDir,
    pub(super) server: Server,
    pub(super) ca: Ca,
}

impl Scene {
    /// With a certificate of its own CA for `localhost`, and users, of whom there are none yet.
    pub(super) async fn start(change: impl FnOnce(&mut Settings, &Path)) -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Ca::new("ca");
        let mut settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        settings.databases.insert("other".into(), DatabaseSettings::default());
        let (cert, key) = ca.signs("server", &["localhost"]);
        for (name, text) in [("server.pem", &cert), ("server.key", &key), ("ca.pem", &ca.pem)] {
            std::fs::write(dir.path().join(name), text).expect("written");
        }
        settings.tls.cert = dir.path().join("server.pem");
        settings.tls.key = dir.path().join("server.key");
        settings.auth.users_file = dir.path().join("users.toml");
        Users::change(&settings.auth.users_file, |_| Ok(())).expect("written");
        change(&mut settings, dir.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = Server::start(settings, Registry::built_in(), listener).await.expect("starts");
        Scene { dir, server, ca }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).expect("written");
        self.path(name)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Users) -> Result<T, String>) -> T {
        let changed = Users::change(&self.path("users.toml"), change).expect("written");
        self.server.look_at_files();
        changed
    }

    /// A new user with a token, whom the server may not know yet.
    pub(super) fn user(&self, name: &str, role: Role, databases: &[&str], expires_unix_s: Option<u64>) -> Made {
        let token = Made::new().expect("randomness");
        let databases: Vec<String> = databases.iter().map(|name| (*name).to_owned()).collect();
        self.change(|users| {
            users.add(name, role, &databases)?;
            users.keep(name, &token, 0, expires_unix_s)
        });
        token
    }

    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}", self.server.address().port())
    }

    /// Those of a client that knows the server's CA.
    pub(super) fn options(&self, token: Option<&Made>) -> Options {
        Options::new()
            .token(token.map(|token| Token::new(token.secret())))
            .tls(Tls::new().ca(Some(self.path("ca.pem"))))
            .request_timeout(Duration::from_secs(10))
            .backoff_min(Duration::from_millis(10))
            .backoff_max(Duration::from_millis(50))
    }

    /// A connection, as soon as the server knows the user.
    pub(super) async fn comes(&self, options: Options) -> Db {
        let known = async {
            loop {
                match Db::connect_with(self.url(), options.clone()).await {
                    Err(error) if error.kind() == Some(FaultKind::Unauthenticated) => {}
                    other => return other.expect("connects"),
                }
            }
        };
        tokio::time::timeout(crate::support::GUARD, known).await.expect("the server takes its users in")
    }

    /// The error that a client gets.
    pub(super) async fn refused(&self, options: Options) -> Error {
        Db::connect_with(self.url(), options).await.expect_err("refused")
    }
}

/// Commits something.
pub(super) async fn set(db: &Db, value: u32) -> Result<()> {
    db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &Record::new("Thing", 1, value.to_string()))).await
}

/// Waits until a connection is refused for good in this way.
pub(super) async fn until_refused(db: &Db, kind: FaultKind) -> Error {
    let refused = async {
        loop {
            match db.newest().await {
                Err(error) if error.kind() == Some(kind) => return error,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(crate::support::GUARD, refused).await.expect("it is refused")
}
