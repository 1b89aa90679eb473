//! A counter that many add to at once: no conflict, the exact sum.
//!
//! `cargo run -p zeolite-client --example counter -- 127.0.0.1:7878`

#![expect(clippy::print_stderr, reason = "a program that says what it has done")]

use zeolite_client::collections::Counter;
use zeolite_client::{Db, Error, Tx};

/// So many tasks add so often; gives what the counter says afterwards.
pub(crate) async fn run(address: &str, tasks: usize, times: usize) -> Result<i64, Error> {
    let db = Db::connect(address).await?;
    let visits: Counter = db.run(async |tx| tx.root_or_create("visits").await).await?;
    let visit = async |_task: usize| {
        for _ in 0..times {
            db.run(async |tx: Tx| visits.add(&tx, 1)).await?;
        }
        Ok::<_, Error>(())
    };
    futures_util::future::try_join_all((0..tasks).map(visit)).await?;
    visits.get(&db.now()).await
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7878".into());
    let visits = run(&address, 64, 100).await?;
    eprintln!("{visits} visits");
    Ok(())
}
