//! The worker of an evolve: brings all pages of the wiki to their second version, and into its indexes, beside the site. Run as many as you
//! like, and stop them at any time.
//!
//! `cargo run -p zeolite-client --example evolve_worker -- 127.0.0.1:7878`
//!
//! With `verify` or `reindex` behind the address it looks at the indexes that are kept with the pages, or makes them right; exit codes as
//! `zeolite check` has them: 0 they hold, 2 they do not, 3 it could not be found out.

#![expect(clippy::print_stderr, reason = "a program that says what it has done")]

// A program would name its own crate of types here.
#[path = "wiki.rs"]
#[expect(dead_code, reason = "only its types are needed")]
pub(crate) mod wiki;

use std::process::ExitCode;
use wiki::Page;
use zeolite_client::evolve::{self, IndexesTold, KeptIndexes, NewJob, Plan, Settings, Worker};
use zeolite_client::{Db, Error, Options, Persistent};

/// Plans the job, if nobody has, and works until it is done. Gives how many objects were looked at, and what is wrong with the indexes.
pub(crate) async fn run(address: &str, name: &str, settings: Settings) -> Result<(u64, Vec<String>), Error> {
    let db = Db::connect_with(address, Options::new().role("evolve")).await?;
    let job = match evolve::find(&db, name).await {
        Ok(job) => job,
        Err(_) => {
            let plan = Plan::below(Page::CLASS, Page::VERSION);
            // Also where there is no old page: a new site has its gate from the beginning.
            evolve::plan(&db, NewJob::new(name, plan).gate(true).allow_empty(true).settings(settings)).await?
        }
    };
    Worker::new(&job).tasks(2).run(evolve::upgrade::<Page>()).await?;
    job.ensure_done().await?;
    let verified = evolve::verify_indexes::<Page>(&db).await?;
    Ok((verified.objects, verified.problems))
}

/// What an operator asks for of the indexes: `verify`, `reindex`.
pub(crate) async fn indexes(address: &str, word: &str, settings: Settings) -> Result<IndexesTold, Error> {
    let db = Db::connect_with(address, Options::new().role("evolve")).await?;
    Ok(KeptIndexes::new(&db).class::<Page>().settings(settings).command(word).await)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7878".into());
    if let Some(word) = std::env::args().nth(2) {
        let told = indexes(&address, &word, Settings::default()).await?;
        eprintln!("{told}");
        return Ok(ExitCode::from(told.exit_code()));
    }
    let (pages, problems) = run(&address, "pages-2", Settings::default()).await?;
    eprintln!("{pages} pages, {} problems", problems.len());
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    Ok(ExitCode::from(if problems.is_empty() { 0 } else { 2 }))
}
