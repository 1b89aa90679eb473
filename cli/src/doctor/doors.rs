//! Owns what `doctor` says of the ways in: ports, the certificate, the users.

use super::Finding;
use crate::backup::now_unix_ms;
use crate::moment;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use zeolite_server::server::Server;
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::holder::Holder;

const DAY_MS: u64 = 86_400_000;
/// As `check` has them.
const EXPIRES_DAYS: (u64, u64) = (14, 3);

/// The database's own, and that of the numbers.
pub(super) fn ports(settings: &Settings, holder: Option<Holder>) -> Vec<Finding> {
    let served = holder.filter(|holder| holder.serves);
    let metrics = settings.metrics.listen_addr().ok().flatten();
    let own = settings.listen_addr().ok().map(|address| ("listen", address));
    let all = own.into_iter().chain(metrics.map(|address| ("metrics.listen", address)));
    all.map(|(name, address)| port(name, address, served)).collect()
}

fn port(name: &str, address: SocketAddr, served: Option<Holder>) -> Finding {
    const WHAT: &str = "port";
    let error = match TcpListener::bind(address) {
        Ok(_) => return Finding::ok(WHAT, format!("{name} = {address} is free")),
        Err(error) => error,
    };
    let seen = format!("{name} = {address}: {error}");
    match (error.kind(), served) {
        (ErrorKind::AddrInUse, Some(holder)) => {
            Finding::ok(WHAT, format!("{name} = {address} is taken, and the server of process {} runs", holder.pid))
        }
        (ErrorKind::AddrInUse, None) => Finding::critical(
            WHAT,
            seen,
            format!(
                "`ss -ltnp` shows who has it; a socket of the service manager for this server (zeolite.socket) is as it should be, otherwise set {name}"
            ),
        ),
        (ErrorKind::PermissionDenied, _) => Finding::critical(
            WHAT,
            seen,
            "a port from 1024 on, or the right to take lower ones (AmbientCapabilities=CAP_NET_BIND_SERVICE)",
        ),
        (ErrorKind::AddrNotAvailable, _) => {
            Finding::critical(WHAT, seen, "no interface of this machine has that address: name one that has")
        }
        _ => Finding::critical(WHAT, seen, format!("set {name}")),
    }
}

/// None: there is to be none.
pub(super) fn certificate(settings: &Settings) -> Option<Finding> {
    const WHAT: &str = "certificate";
    if !settings.tls.is_on() {
        return None;
    }
    let expires = match Server::look_at_certificate(&settings.tls) {
        Ok(expires) => expires,
        Err(why) => return Some(Finding::critical(WHAT, why, "without it no server starts")),
    };
    let (now, remedy) =
        (now_unix_ms(), "write a new one to tls.cert and tls.key; a running server takes it in by itself");
    let shown = moment::shown_unix_ms(expires);
    let days = expires.saturating_sub(now) / DAY_MS;
    Some(match days {
        _ if expires <= now => Finding::critical(WHAT, format!("it has ended {shown}"), remedy),
        days if days < EXPIRES_DAYS.1 => Finding::critical(WHAT, format!("it ends {shown}"), remedy),
        days if days < EXPIRES_DAYS.0 => Finding::warning(WHAT, format!("it ends {shown}"), remedy),
        days => Finding::ok(WHAT, format!("certificate and key go together; it ends in {days} days")),
    })
}

pub(super) fn users(settings: &Settings) -> Finding {
    const WHAT: &str = "users";
    let role = settings.auth.anonymous().map_or_else(|| "nothing".to_owned(), |role| role.to_string());
    match Server::look_at_users(&settings.auth) {
        Ok(None) => {
            Finding::ok(WHAT, format!("there is no file of them: whoever reaches the port has the role {role}"))
        }
        Ok(Some(0)) => Finding::warning(
            WHAT,
            "the file of users has none: nobody can come in by a token",
            "`zeolite user add NAME --role admin`",
        ),
        Ok(Some(count)) => Finding::ok(WHAT, format!("{count} in {}", settings.auth.users_file.display())),
        Err(why) => Finding::critical(WHAT, why, "without it no server starts"),
    }
}
