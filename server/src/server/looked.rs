//! Owns what can be known of a server before there is one: its open files, its certificate, its users. Nothing is opened to stay, nothing written.

use super::{Server, files, tls::Tls};
use crate::auth::authority::Authority;
use crate::clock::SystemClock;
use crate::settings::{AuthSettings, Settings, TlsSettings};
use std::sync::Arc;

impl Server {
    /// How many files a server with these settings may want open, and how many this process may have; none: there is no limit.
    pub fn open_files(settings: &Settings) -> Result<(u64, Option<u64>), String> {
        let kept = files::kept(&settings.plans()?, &settings.metrics);
        Ok((kept.saturating_add(settings.sessions.connections_max) as u64, files::limit()))
    }

    /// When the certificate ends, in milliseconds since 1970; an error: with these files no server starts. Only with `tls` on.
    pub fn look_at_certificate(tls: &TlsSettings) -> Result<u64, String> {
        Ok(Tls::open(tls)?.map_or(u64::MAX, |tls| tls.expires_unix_ms()))
    }

    /// How many users there are; none: nobody is asked who he is; an error: with this file no server starts.
    pub fn look_at_users(auth: &AuthSettings) -> Result<Option<u64>, String> {
        let file = auth.has_users().then(|| auth.users_file.clone());
        Ok(Authority::open(auth.anonymous(), file, Arc::new(SystemClock::new()))?.users())
    }
}
