//! Owns the question whether a request is meant: whether it came to this listener under a name that is its own, and whether its own page made
//! it, not that of another site in the same browser. Pure.
//!
//! ```text
//!   other site ── its name now leads to 127.0.0.1 (rebinding) ──> Host: evil.example          refused on loopback
//!   other site ── a form, a script ─────────────────────────────> POST without x-zeolite      refused: a script of another
//!                                                                 Origin: http://evil.example  site may not send that header
//! ```
//! On loopback nobody has to log in unless there are users, so there these two are all that stands between a site that somebody looks at and
//! the buttons of the page.

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderName, ORIGIN};
use std::net::IpAddr;
use zeolite_proto::{Fault, FaultKind};

/// What the page's own requests carry. A script of another site may not send it without asking first, and nobody answers that question.
const OWN: HeaderName = HeaderName::from_static("x-zeolite");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that came under another name than the listener has. Programs that send none are no browsers.
pub(super) fn check_host(headers: &HeaderMap, host_name: &str) -> Result<(), Fault> {
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    let host = host.to_str().map(host_of).unwrap_or_default();
    let is_local = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok();
    if is_local || (!host_name.is_empty() && host.eq_ignore_ascii_case(host_name)) {
        return Ok(());
    }
    let message = "this listener is on loopback and answers to localhost or an address alone; a name that leads here is set as \
                   metrics.host_name";
    Err(Fault::new(FaultKind::Denied, message))
}

/// Refuses to change anything for a request that the page did not make.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Fault> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_own = text(OWN).is_some();
    let is_of_here = text(FETCH_SITE).is_none_or(|site| site == "same-origin");
    let origin_is_here = text(ORIGIN).is_none_or(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some() && authority == text(HOST)
    });
    if is_own && is_of_here && origin_is_here {
        return Ok(());
    }
    Err(Fault::new(
        FaultKind::Denied,
        "only the page itself changes anything: send the header x-zeolite, from this origin",
    ))
}

/// The host of `host:port`; addresses of version 6 stand in brackets.
fn host_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(host, _)| host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_name_that_is_not_the_listeners_is_refused() {
        let taken = |host, own| check_host(&headers(&[("host", host)]), own).is_ok();
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "127.0.0.1", "[::1]:9464", "[::1]"] {
            assert!(taken(host, ""), "{host}");
        }
        for host in
            ["evil.example", "evil.example:9464", "localhost.evil.example", "", "127.0.0.1.evil.example", "[evil]"]
        {
            assert!(!taken(host, ""), "{host}");
        }
        assert!(taken("db.example:443", "db.example") && !taken("evil.example", "db.example"));
        assert!(check_host(&headers(&[]), "").is_ok(), "no browser");
    }

    #[test]
    fn only_the_page_changes_anything() {
        let taken = |pairs: &[(&'static str, &'static str)]| check_origin(&headers(pairs)).is_ok();
        let host = ("host", "localhost:9464");
        assert!(taken(&[host, ("x-zeolite", "page")]));
        assert!(taken(&[
            host,
            ("x-zeolite", "page"),
            ("origin", "http://localhost:9464"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!taken(&[host]), "a form of another site");
        assert!(!taken(&[host, ("origin", "http://localhost:9464")]));
        for origin in ["http://evil.example", "http://localhost:1", "null", "localhost:9464"] {
            assert!(!taken(&[host, ("x-zeolite", "page"), ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "none"] {
            assert!(!taken(&[host, ("x-zeolite", "page"), ("sec-fetch-site", site)]), "{site}");
        }
    }
}
