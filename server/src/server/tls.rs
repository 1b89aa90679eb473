//! Owns the server's certificate: read at the start, and again whenever its files change.
//!
//! ```text
//!   cert, key, client_ca, client_crl ── every second, when their bytes differ ──> checked as a whole ──> in force for new connections
//!                                                       └── half written, of two different pairs: the former stay, and that is told
//! ```
//! Whoever renews a certificate writes two files, and for a moment they do not belong together; so a pair that is wrong is no error
//! that ends anything. It is told in the log, in the status and by `zeolite check` for as long as it lasts.
//!
//! TLS 1.3 alone is spoken. Of a client's certificate its chain is checked, the time, and whether a list of its CA has revoked it, when there is
//! one (`client_crl`). A list whose next one is overdue counts still: a CA that is late with it must not stop the site. Who came in before
//! the list had his certificate is judged anew (`trusts`), and cut.

use super::{certificate, revoked};
use crate::auth::watched::{Watched, bytes};
use crate::settings::TlsSettings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// The certificate, for one connection after the other.
pub(super) struct Tls {
    settings: TlsSettings,
    now: Watched<InForce>,
}

struct InForce {
    config: Arc<ServerConfig>,
    clients: Arc<dyn ClientCertVerifier>,
    http1: Arc<ServerConfig>,
    expires_unix_ms: u64,
}

impl Tls {
    /// Of the files that the settings name; `None`: they name none.
    pub(super) fn open(settings: &TlsSettings) -> Result<Option<Arc<Tls>>, String> {
        if !settings.is_on() {
            return Ok(None);
        }
        let files = read(settings)?;
        let now = in_force(settings, &files)?;
        tracing::info!(expires_unix_ms = now.expires_unix_ms, "connections are encrypted");
        let now = Watched::new("the certificate is", files, now);
        Ok(Some(Arc::new(Tls { settings: settings.clone(), now })))
    }

    /// For one more connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.now.now().config.clone()
    }

    /// Whether a client that has shown these certificates might come in now.
    pub(super) fn trusts(&self, shown: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let Some((own, others)) = shown.split_first() else { return true };
        self.now.now().clients.verify_client_cert(own, others, now).is_ok()
    }

    /// The same for a connection on which HTTP/1 is spoken.
    pub(super) fn http1_config(&self) -> Arc<ServerConfig> {
        self.now.now().http1.clone()
    }

    /// When the certificate ends that is shown.
    pub(super) fn expires_unix_ms(&self) -> u64 {
        self.now.now().expires_unix_ms
    }

    /// Why the files as they are now do not count; `None`: they do.
    pub(super) fn problem(&self) -> Option<String> {
        self.now.problem()
    }

    /// Takes the files in if they have changed. Reads the disk.
    pub(super) fn look_again(&self) {
        let make = |files: &[Vec<u8>]| in_force(&self.settings, files);
        self.now.look_again(read(&self.settings), make, |_, now| {
            tracing::info!(
                expires_unix_ms = now.expires_unix_ms,
                "another certificate is in force for new connections"
            );
        });
    }
}

/// What the files hold: cert, key, client_ca, client_crl; without a name that is nothing.
fn read(settings: &TlsSettings) -> Result<Vec<Vec<u8>>, String> {
    let read = |name: &str, path: &Path| match path.as_os_str().is_empty() {
        true => Ok(Vec::new()),
        false => bytes(path).map_err(|error| {
            format!("tls.{name} = {} cannot be read: {error}; name a PEM file that the server may read", path.display())
        }),
    };
    let TlsSettings { cert, key, client_ca, client_crl, .. } = settings;
    let files = [("cert", cert), ("key", key), ("client_ca", client_ca), ("client_crl", client_crl)];
    files.into_iter().map(|(name, path)| read(name, path)).collect()
}

fn in_force(settings: &TlsSettings, files: &[Vec<u8>]) -> Result<InForce, String> {
    let [cert_pem, key_pem, client_ca_pem, client_crl_pem] = files else { return Err("four files are read".into()) };
    let (cert, key) = (settings.cert.display(), settings.key.display());
    let chain = certificates("cert", &settings.cert, cert_pem)?;
    let private = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|error| format!("tls.key = {key} holds no private key ({error}); it begins with BEGIN PRIVATE KEY"))?;
    let expires_unix_ms = certificate::expires_unix_ms(&chain[0]).map_err(|why| format!("tls.cert = {cert}: {why}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = verifier(settings, client_ca_pem, client_crl_pem, provider.clone())?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| format!("TLS cannot be spoken: {error}"))?
        .with_client_cert_verifier(clients.clone());
    let mut config = config.with_single_cert(chain, private).map_err(|error| {
        format!("tls.cert = {cert} and tls.key = {key} do not go together ({error}); the key must be that of the first certificate")
    })?;
    let mut http1 = config.clone();
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(InForce { config: Arc::new(config), http1: Arc::new(http1), clients, expires_unix_ms })
}

fn verifier(
    settings: &TlsSettings,
    ca_pem: &[u8],
    crl_pem: &[u8],
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    if settings.client_ca.as_os_str().is_empty() {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let wrong = |error: &dyn std::fmt::Display| {
        format!("tls.client_ca = {} does not do: {error}", settings.client_ca.display())
    };
    let mut roots = RootCertStore::empty();
    let cas = certificates("client_ca", &settings.client_ca, ca_pem)?;
    let lists = revocations(&settings.client_crl, crl_pem)?;
    revoked::check(&lists, &cas, &provider.signature_verification_algorithms)
        .map_err(|why| format!("tls.client_crl = {} does not do: {why}", settings.client_crl.display()))?;
    for root in cas {
        roots.add(root).map_err(|error| wrong(&error))?;
    }
    // One of several CAs may have a list and the others none.
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(lists)
        .allow_unknown_revocation_status();
    let builder = if settings.client_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| wrong(&error))
}

/// The lists of a file, at least one if a file is named.
fn revocations(path: &Path, pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let wrong = |why: &str| {
        let path = path.display();
        format!(
            "tls.client_crl = {path} holds no list of revoked certificates{why}; it is a PEM file that begins with BEGIN X509 CRL"
        )
    };
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match lists {
        Ok(lists) if lists.is_empty() && !path.as_os_str().is_empty() => Err(wrong("")),
        Ok(lists) => Ok(lists),
        Err(error) => Err(wrong(&format!(" ({error})"))),
    }
}

/// At least one.
fn certificates(name: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: &str| {
        format!(
            "tls.{name} = {} holds no certificate{why}; it is a PEM file that begins with BEGIN CERTIFICATE",
            path.display()
        )
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(wrong("")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(wrong(&format!(" ({error})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    #[test]
    fn files_that_do_not_go_together_keep_the_former_in_force_and_are_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let settings = TlsSettings { cert: cert.clone(), key: key.clone(), ..TlsSettings::default() };
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("written");
        let refused = |told: &str| {
            let why = Tls::open(&settings).err().expect("wrong");
            assert!(why.contains(told), "{why}");
        };
        refused("tls.cert");
        let ((one, one_key), (other, other_key)) = (pair(), pair());
        write(&cert, &one);
        write(&key, &other_key);
        refused("do not go together");
        write(&key, &one);
        refused("holds no private key");
        write(&key, &one_key);
        write(&cert, &one_key);
        refused("holds no certificate");
        write(&cert, &one);
        let tls = Tls::open(&settings).expect("right").expect("on");
        let former = tls.config();
        tls.look_again();
        assert!(Arc::ptr_eq(&former, &tls.config()) && tls.problem().is_none(), "nothing has changed");
        for half in [other.as_str(), &other[..other.len() / 2], ""] {
            write(&cert, half);
            tls.look_again();
            assert!(Arc::ptr_eq(&former, &tls.config()) && tls.problem().is_some_and(|why| why.contains("tls.cert")));
        }
        write(&cert, &other);
        write(&key, &other_key);
        tls.look_again();
        assert!(!Arc::ptr_eq(&former, &tls.config()) && tls.problem().is_none(), "both are there");
    }
}
