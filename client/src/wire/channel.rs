//! Owns the making of a connection: address, windows, signs of life, TLS; and what is said when it fails because one side speaks TLS and
//! the other does not, or does not know the other.

use super::{Acting, chain, why};
use crate::credentials::{Tls, read};
use crate::errors::{Error, Result};
use std::error::Error as _;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Bytes that one HTTP/2 stream, and the whole connection, may have on the way. Small or adaptive windows stall a
/// stream of large replies.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Between pings of an idle connection, and how long to wait for their answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What a failure of TLS says in the words of its library, and what is to be done about it.
const REMEDIES: &[(&str, &str)] = &[
    ("InvalidContentType", "the server there does not speak TLS: write http://, or set tls.cert and tls.key there"),
    ("UnknownIssuer", "its certificate is not of a CA that is known here: give the CA (ca, ZEOLITE_CA)"),
    ("not valid for name", "its certificate is for another name: connect by that name, or give it (server_name)"),
    ("NotValidForName", "its certificate is for another name: connect by that name, or give it (server_name)"),
    (
        "CertificateRequired",
        "the server wants a certificate of the client: give cert and key (ZEOLITE_CERT, ZEOLITE_KEY)",
    ),
    (
        "UnknownCA",
        "the server does not know the CA of this client's certificate: use another, or add the CA to tls.client_ca there",
    ),
    ("Expired", "a certificate has expired: renew it"),
];

/// With TLS 1.3 a client believes that it is in before the server has looked at its certificate, and hears of a refusal, if at all, by the end of
/// the connection.
const HUNG_UP: &str = "the server has hung up at once, as it does where it wants a certificate of the client and is shown none, or one \
                       that has expired or is of a CA that it does not know: give cert and key (ZEOLITE_CERT, ZEOLITE_KEY)";

/// Connects.
pub(super) async fn connect(url: &str, connect_timeout: Duration, acting: &Acting) -> Result<Channel> {
    let bad = |error| {
        let one = if url.contains(',') { "; one address goes here" } else { "" };
        Error::invalid(format!("{url:?} is not an address: {error}; use http://host:port or https://host:port{one}"))
    };
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(bad)?
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_adaptive_window(false)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    // Without one another server would be asked, at port 80, and one that is too large is none.
    if acting.inside.is_none() && endpoint.uri().port_u16().is_none() {
        return Err(Error::invalid(format!("{url:?} names no port up to 65535; write host:port, as in db1:7878")));
    }
    let is_tls = url.starts_with("https://");
    if is_tls {
        let failed = |error| Error::invalid(format!("TLS to {url} cannot be spoken: {}", chain(&error)));
        endpoint = endpoint.tls_config(tls(&acting.tls)?).map_err(failed)?;
    } else if acting.tls.is_given() {
        let message = format!(
            "{url} is not encrypted, and a CA or a certificate is given for it; write https://, or leave them out"
        );
        return Err(Error::invalid(message));
    }
    let connected = match &acting.inside {
        Some(inside) => endpoint.connect_with_connector(inside.clone()).await,
        None => endpoint.connect().await,
    };
    let channel = connected.map_err(|error| lost(url, &error))?;
    if is_tls {
        is_let_in(url, channel.clone(), connect_timeout).await?;
    }
    Ok(channel)
}

/// Asks for something that everybody may know: who is refused by his certificate is told so here, and not in the middle of his work.
async fn is_let_in(url: &str, channel: Channel, within: Duration) -> Result<()> {
    let mut health = HealthClient::new(channel);
    let asked = tokio::time::timeout(within, health.check(HealthCheckRequest::default())).await;
    let reason = match asked {
        Ok(Err(status)) if status.source().is_some() => why(&status),
        // Whatever the server itself answers says that we are in.
        Ok(_) => return Ok(()),
        Err(_) => {
            return Err(lost(
                url,
                &std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer in time"),
            ));
        }
    };
    let reason = if remedy(&reason).is_some() { explained(reason) } else { format!("{reason}; {HUNG_UP}") };
    Err(Error::Disconnected { url: url.to_owned(), reason })
}

/// No connection, with what to do about it.
pub(super) fn lost(url: &str, error: &dyn std::error::Error) -> Error {
    Error::Disconnected { url: url.to_owned(), reason: explained(chain(error)) }
}

/// A reason with its remedy, if it is one of TLS.
pub(super) fn explained(reason: String) -> String {
    match remedy(&reason) {
        Some(remedy) => format!("{reason}; {remedy}"),
        None => reason,
    }
}

fn remedy(reason: &str) -> Option<&'static str> {
    REMEDIES.iter().find(|(words, _)| reason.contains(words)).map(|(_, remedy)| *remedy)
}

fn tls(tls: &Tls) -> Result<ClientTlsConfig> {
    let config = match &tls.ca {
        Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("the CA", ca)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    let config = match (&tls.cert, &tls.key) {
        (None, None) => config,
        (Some(cert), Some(key)) => {
            config.identity(Identity::from_pem(read("the certificate", cert)?, read("the private key", key)?))
        }
        _ => {
            return Err(Error::invalid(
                "a client's certificate and its private key belong together; give both (cert, key)",
            ));
        }
    };
    Ok(match &tls.server_name {
        Some(name) => config.domain_name(name),
        None => config,
    })
}
