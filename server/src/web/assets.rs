//! Owns the page's files. They are in the binary, there is no build step, and a browser asks each time whether they have changed.

use super::reply;
use axum::body::Body;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{Response, StatusCode};

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! assets {
    ($($name:literal as $kind:expr),* $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("assets/", $name)))),*]
    };
}

const ASSETS: &[(&str, &str, &str)] = assets![
    "index.html" as "text/html; charset=utf-8",
    "style.css" as STYLE,
    "page.js" as SCRIPT,
    "ask.js" as SCRIPT,
    "words.js" as SCRIPT,
    "dom.js" as SCRIPT,
    "health.js" as SCRIPT,
    "plots.js" as SCRIPT,
    "evolves.js" as SCRIPT,
    "mode.js" as SCRIPT,
    "sessions.js" as SCRIPT,
    "facts.js" as SCRIPT,
    "icon.svg" as "image/svg+xml",
    "uplot.js" as SCRIPT,
    "uplot.css" as STYLE,
];

/// A file by its name; there are no directories.
pub(super) fn answer(name: &str) -> Response<Body> {
    let Some((_, kind, text)) = ASSETS.iter().find(|(known, ..)| *known == name) else {
        return reply::text(StatusCode::NOT_FOUND, "the page has no such file");
    };
    let mut response = reply::of(StatusCode::OK, kind, *text);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
