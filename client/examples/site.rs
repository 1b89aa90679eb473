//! A site on axum: it counts its visits, and while the database is read-only it says so in a banner and goes on reading.
//!
//! `cargo run -p zeolite-client --example site -- 127.0.0.1:7878`, then `zeolite mode read-only --banner "back at five"`.

#![expect(clippy::print_stderr, reason = "a program that says what it has done")]

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::time::Duration;
use zeolite_client::collections::Counter;
use zeolite_client::{Db, Error, FaultKind, ModeKind};

#[derive(Clone)]
pub(crate) struct Site {
    db: Db,
    visits: Counter,
}

/// The site's routes: `GET /` shows the visits, `POST /` is one.
pub(crate) async fn router(db: Db) -> Result<Router, Error> {
    let visits = db.run(async |tx| tx.root_or_create("visits").await).await?;
    Ok(Router::new().route("/", get(show).post(visit)).with_state(Site { db, visits }))
}

/// What is above every page.
fn banner(db: &Db) -> String {
    let mode = db.mode();
    match mode.kind {
        ModeKind::Normal => String::new(),
        _ if mode.banner.is_empty() => "(read-only for now)\n".into(),
        _ => format!("({})\n", mode.banner),
    }
}

async fn show(State(site): State<Site>) -> Result<String, (StatusCode, String)> {
    let visits = site.visits.get(&site.db.now()).await.map_err(failed)?;
    Ok(format!("{}{visits} visits\n", banner(&site.db)))
}

async fn visit(State(site): State<Site>) -> Result<String, (StatusCode, String)> {
    // Nobody waits for a page longer than that.
    let transaction = site.db.transaction().timeout(Duration::from_secs(5));
    transaction.run(async |tx| site.visits.add(&tx, 1)).await.map_err(failed)?;
    Ok("thank you\n".into())
}

fn failed(error: Error) -> (StatusCode, String) {
    let status = match &error {
        Error::Fault(fault) if fault.kind == FaultKind::ReadOnly => StatusCode::SERVICE_UNAVAILABLE,
        Error::TimeLimit { .. } | Error::Disconnected { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{error}\n"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7878".into());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    eprintln!("http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router(Db::connect(address).await?).await?).await?)
}
