//! Owns what `doctor` says of what is around a server: the place of its backups, and the server itself if it runs.

use super::Finding;
use super::disk::there;
use crate::backup::now_unix_ms;
use crate::check::State;
use crate::exit::CannotConnect;
use crate::moment;
use crate::serve;
use crate::server::{ADDRESS, Server};
use rustix::fs::Access;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeolite_backup::{Place, Shelf};
use zeolite_client::Status;
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::holder::Holder;

const BACKUPS: &str = "backups";
const OVERDUE: &str = "`zeolite status` says why none came since; see that a server runs that takes them";

pub(super) async fn backups(settings: &Settings) -> Vec<Finding> {
    let backup = &settings.backup;
    if !backup.is_on() {
        return vec![Finding::ok(BACKUPS, "this server takes none by itself (backup.to); see that somebody does")];
    }
    let place = match serve::place(backup) {
        Ok(place) => place,
        Err(error) => {
            let remedy = "put backup.to, or what it names, right";
            return vec![Finding::critical(BACKUPS, format!("{error:#}"), remedy)];
        }
    };
    let mut findings: Vec<Finding> = directory(settings).into_iter().collect();
    if findings.iter().all(|finding| finding.state != State::Critical) {
        for database in settings.database_names() {
            findings.push(newest(settings, &place, database).await);
        }
    }
    findings
}

/// What there is of a database, and whether it is older than `check` would be content with.
async fn newest(settings: &Settings, place: &Place, database: &str) -> Finding {
    let backup = &settings.backup;
    let made = match tokio::time::timeout(crate::check::TIMEOUT, newest_unix_ms(place, database)).await {
        Ok(Ok(Some(made))) => made,
        Ok(Ok(None)) => {
            let seen = format!("{} can be reached, and has no backup of {database} yet", backup.to);
            return Finding::ok(BACKUPS, seen);
        }
        Ok(Err(error)) => {
            return Finding::critical(BACKUPS, format!("{error}"), "see that this machine reaches it, and may");
        }
        Err(_) => {
            let seen = format!("{} does not answer within {} s", backup.to, crate::check::TIMEOUT.as_secs());
            return Finding::critical(BACKUPS, seen, "see that this machine reaches it");
        }
    };
    let seen = format!("{} has one of {database}, made {}", backup.to, moment::shown_unix_ms(made));
    let age_ms = now_unix_ms().abs_diff(made) as f64;
    match crate::check::standing("backup_intervals", age_ms / (backup.every_s * 1000) as f64) {
        None => Finding::ok(BACKUPS, seen),
        Some((state, why)) => Finding { what: BACKUPS, state, seen: format!("{seen}; {why}"), remedy: OVERDUE.into() },
    }
}

/// What can be wrong with a directory; none: nothing, or it is none.
fn directory(settings: &Settings) -> Option<Finding> {
    let to = &settings.backup.to;
    if to.contains("://") {
        return None;
    }
    let dir = Path::new(to);
    if let Err(error) = rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK) {
        return Some(Finding::critical(
            BACKUPS,
            format!("this user may not write in {to}: {error}"),
            "give it to the user of the server (chown), and name it in ReadWritePaths= of a unit",
        ));
    }
    let device = |dir: &Path| dir.metadata().map(|data| data.dev()).ok();
    if device(dir) == device(&there(&settings.data_dir)) {
        let seen = format!(
            "{to} is on the same file system as the data: they are lost together (or its own disk is not mounted)"
        );
        return Some(Finding::warning(
            BACKUPS,
            seen,
            "mount another disk there, or name another machine's place (s3://)",
        ));
    }
    None
}

async fn newest_unix_ms(place: &Place, database: &str) -> zeolite_backup::Result<Option<u64>> {
    let shelf = Shelf::look(place, database).await?;
    Ok(shelf.newest().map(|(_, newest)| newest.manifest.done_unix_ms))
}

pub(super) async fn running(server: &Server, settings: &Settings, holder: Option<Holder>) -> Finding {
    const WHAT: &str = "server";
    // Who names an address means that one.
    let is_named = server.address != ADDRESS;
    let address =
        if is_named { server.address.clone() } else { own_address(settings).unwrap_or_else(|| server.address.clone()) };
    if holder.is_none() && !is_named {
        return Finding::ok(WHAT, "none runs on this data directory");
    }
    let who = holder.map_or_else(String::new, |holder| format!("process {} at ", holder.pid));
    let server = server.at(&address);
    let asked = async { Ok(server.admin().await?.status().await?) };
    match tokio::time::timeout(server.timeout, asked).await {
        Ok(Ok(status)) => stands(&format!("{who}{address}"), &status),
        Ok(Err(error)) => said(&format!("{who}{address}"), &error),
        Err(_) => Finding::critical(
            WHAT,
            format!("{who}{address} does not answer within {} s", server.timeout.as_secs()),
            "look at its log; stop it and start it again",
        ),
    }
}

fn own_address(settings: &Settings) -> Option<String> {
    let address = settings.listen_addr().ok()?;
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    let plain = SocketAddr::new(ip, address.port());
    Some(if settings.tls.is_on() { format!("https://{plain}") } else { plain.to_string() })
}

fn said(who: &str, error: &anyhow::Error) -> Finding {
    const WHAT: &str = "server";
    // It has answered, and only wants to know who asks.
    let refused = error
        .downcast_ref::<zeolite_client::Error>()
        .is_some_and(|error| matches!(error, zeolite_client::Error::Fault(_)));
    if refused && !error.is::<CannotConnect>() {
        return Finding::warning(
            WHAT,
            format!("{who} answers, and tells nothing: {error:#}"),
            "name a token of an operator (--token-file), and --ca for its certificate",
        );
    }
    Finding::critical(
        WHAT,
        format!("{who}: {error:#}"),
        "look at its log; with port 0 name where it listens (--server)",
    )
}

fn stands(who: &str, status: &Status) -> Finding {
    const WHAT: &str = "server";
    let seen = format!("{who} answers, version {}, up {}", status.version, moment::duration(status.uptime_ms));
    let automatic = status.mode.automatic.as_ref().map(|why| format!("it has made itself read-only: {why}"));
    let bad = status.poisoned.as_ref().map(|why| format!("it is poisoned: {why}")).or(automatic);
    let bad = bad.or(status.index_down.as_ref().map(|why| format!("its index has failed: {why}")));
    if let Some(bad) = bad {
        return Finding::critical(WHAT, format!("{seen}; {bad}"), "docs/operations.md has each of these words");
    }
    match &status.security_problem {
        Some(why) => Finding::warning(WHAT, format!("{seen}; {why}"), "put the file right"),
        None => Finding::ok(WHAT, seen),
    }
}
