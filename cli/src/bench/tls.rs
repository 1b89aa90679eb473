//! Owns the measurement of TLS: the same commits and loads with encryption and without it, in turns.
//!
//! ```text
//!   plain server ─┐                       ┌─ one client: commit, load, p50
//!                 ├─ turn and turn about ─┤
//!   TLS server ───┘                       └─ many clients: commits in a second
//! ```
//! Both servers and their clients share this process, so what encryption costs both ends counts. A handshake is measured by itself: it
//! is paid once for a connection.

use super::Setting;
use super::TURNS;
use super::commits::{disjoint, own_objects};
use super::latency::Latency;
use super::reads::one_by_one;
use super::report::{Aim, Report, Row};
use super::traffic::Seen;
use crate::host::Host;
use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeolite_client::{Db, Options, Tls};
use zeolite_proto::{Oid, Registry};

/// One of the two servers, and what was seen at it.
struct Side {
    url: String,
    options: Options,
    host: Host,
    clients: Vec<Db>,
    oids: Arc<Vec<Oid>>,
    one: Latency,
    loads: Latency,
    connecting: Latency,
    many: Seen,
}

/// Measures both.
pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("commits with TLS and without");
    let (plain_dir, tls_dir, files) = (setting.scratch()?, setting.scratch()?, setting.scratch()?);
    let ca = certificate(files.path())?;
    let mut plain = Side::start(setting, plain_dir.path(), None).await?;
    let mut tls = Side::start(setting, tls_dir.path(), Some((files.path(), &ca))).await?;
    for _ in 0..TURNS {
        for side in [&mut plain, &mut tls] {
            side.turn(setting.time / TURNS).await?;
        }
    }
    let clients = setting.clients;
    let mut row = |name: String, unit, with: f64, without: f64, aim: Option<Aim>| {
        let row = Row::new(setting.name(&name), with, unit).against("plain", without);
        report.add(match aim {
            Some(aim) => row.aim(aim),
            None => row,
        });
    };
    let at_most = Some(Aim::RatioAtMost(1.25));
    row("TLS: commit of 1 KiB, 1 client, p50".into(), "µs", tls.one.p50_us(), plain.one.p50_us(), at_most);
    row("TLS: load of 1 KiB, 1 client, p50".into(), "µs", tls.loads.p50_us(), plain.loads.p50_us(), at_most);
    let (with, without) = (tls.many.per_second(), plain.many.per_second());
    row(format!("TLS: commits of 1 KiB, {clients} clients"), "commits/s", with, without, Some(Aim::RatioAtLeast(0.85)));
    row("TLS: to connect, p50".into(), "µs", tls.connecting.p50_us(), plain.connecting.p50_us(), None);
    drop(doing);
    plain.stop().await?;
    tls.stop().await
}

/// A certificate for this machine, its key, and the file of its CA: itself.
fn certificate(dir: &Path) -> Result<std::path::PathBuf> {
    let key = KeyPair::generate().context("no key can be made")?;
    let made = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    let cert = dir.join("cert.pem");
    std::fs::write(&cert, made.pem())?;
    std::fs::write(dir.join("key.pem"), key.serialize_pem())?;
    Ok(cert)
}

impl Side {
    async fn start(setting: &Setting<'_>, dir: &Path, tls: Option<(&Path, &std::path::PathBuf)>) -> Result<Side> {
        let host = Host::start(dir, Registry::built_in(), |settings| {
            if let Some((files, cert)) = tls {
                (settings.tls.cert, settings.tls.key) = (cert.clone(), files.join("key.pem"));
            }
        })
        .await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", host.address());
        let ca = tls.map(|(_, cert)| cert.clone());
        let options = Options::new().cache_bytes(1).tls(Tls::new().ca(ca));
        let mut clients = Vec::new();
        for _ in 0..setting.clients {
            clients.push(Db::connect_with(&*url, options.clone()).await?);
        }
        let oids = own_objects(&clients[0], setting.clients).await?;
        let latency = Latency::new;
        let (one, loads, connecting, many) = (latency(), latency(), latency(), Seen::new());
        Ok(Side { url, options, host, clients, oids, one, loads, connecting, many })
    }

    async fn turn(&mut self, time: Duration) -> Result<()> {
        self.one.merge(&disjoint(&self.clients[..1], time, &self.oids).await?.latency);
        self.loads.merge(&one_by_one(&self.clients[0], &self.oids, time).await?);
        self.many.take_in(&disjoint(&self.clients, time, &self.oids).await?);
        let begun = Instant::now();
        Db::connect_with(&*self.url, self.options.clone()).await?;
        self.connecting.add(begun.elapsed());
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        drop(self.clients);
        self.host.stop().await
    }
}
