//! Owns the stage of a script: the server, the pages on it, and who plays.
//!
//! ```text
//!   site N pages [merging]     begins: a server with so many old pages, page1 on (`merging`: it merges edits and upgrades)
//!   site                       pages by version, and what must never be wrong: edits, and the counter of the steps
//!   page PAGE                  one of them
//!   server restart | stop | start | read-only BANNER | evolve-only BANNER | normal
//!   server gates | open-gate | close-gate VERSION [JOB]     of pages
//! ```

use super::live::Live;
use super::names::Names;
use super::operator::{Lines, Operator, Planned};
use super::worker::{Task, Worker};
use crate::site::{OldPage, Page, Site};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use zeolite_client::{Cell, CloseAttempt, Db, Error, ModeEnd, ModeKind, Record, Ref, View};

/// No fact takes this long to come.
const STUCK_AFTER: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Stage {
    set: Option<Set>,
}

struct Set {
    site: Site,
    /// The runner's own client, and the operators'.
    db: Db,
    names: Names,
    planned: Option<Planned>,
    workers: HashMap<String, Worker>,
    live: HashMap<String, Live>,
}

impl Stage {
    /// Runs one command; gives the lines that it prints.
    pub(crate) async fn run(&mut self, line: &str) -> Lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["site", count, "pages", rest @ ..] = words.as_slice() {
            let count = count.parse().map_err(|_| "site N pages".to_owned())?;
            self.set = Some(Set::new(count, rest == ["merging"]).await);
            return Ok(Vec::new());
        }
        let set = self.set.as_mut().ok_or("a script begins with `site N pages`")?;
        let running = async {
            match words.as_slice() {
                [] => Ok(Vec::new()),
                [first, rest @ ..] => match first.strip_suffix(':') {
                    Some(actor) => set.act(actor, rest).await,
                    None => set.run(&words).await,
                },
            }
        };
        tokio::time::timeout(STUCK_AFTER, running).await.unwrap_or_else(|_| Ok(vec!["STUCK".into()]))
    }
}

impl Set {
    async fn new(count: usize, merging: bool) -> Set {
        let site = if merging { Site::merging(0).await } else { Site::with_pages(0).await };
        let db = site.worker_db().await;
        let mut names = Names::new(site.counter);
        let make = db.run(async |tx| {
            let mut made = Vec::new();
            for number in 1..=count {
                made.push(tx.create(&OldPage { text: format!("text {number}"), edits: 0 }).await?);
            }
            Ok(made)
        });
        for (number, page) in (1..).zip(make.await.expect("creates")) {
            names.name(&format!("page{number}"), page.oid());
        }
        Set { site, db, names, planned: None, workers: HashMap::new(), live: HashMap::new() }
    }

    async fn act(&mut self, actor: &str, words: &[&str]) -> Lines {
        let lines: Vec<String> = if actor.starts_with("op") {
            let (db, planned, names, counter) = (&self.db, &mut self.planned, &self.names, self.site.counter);
            Operator { db, planned, names, counter }.run(words).await?
        } else if actor.starts_with('w') {
            self.work(actor, words).await?.into_iter().collect()
        } else {
            if !self.live.contains_key(actor) {
                self.live.insert(actor.to_owned(), Live::connect(&self.site.world, actor).await);
            }
            let live = self.live.get_mut(actor).expect("inserted above");
            live.run(words, &mut self.names, self.site.counter).await?.into_iter().collect()
        };
        Ok(lines.into_iter().map(|line| format!("{actor}: {line}")).collect())
    }

    async fn work(&mut self, actor: &str, words: &[&str]) -> Result<Option<String>, String> {
        let undo = match words {
            ["start" | "begin"] => false,
            ["start", "undo"] => true,
            words => {
                let worker = self.workers.get_mut(actor).ok_or("start it first")?;
                return worker.run(words, &self.names).await;
            }
        };
        let planned = self.planned.as_ref().ok_or("nothing was planned so far")?;
        let task = Task { job: planned.job.name(), kind: planned.kind, counter: self.site.counter, undo };
        let worker = Worker::start(&self.site.world, actor, task).await.map_err(|error| error.to_string())?;
        let worker = self.workers.entry(actor.to_owned()).insert_entry(worker).into_mut();
        // An undo has no step in which it could stand.
        Ok(if undo || words == ["begin"] { None } else { Some(worker.begin(&self.names).await) })
    }

    async fn run(&mut self, words: &[&str]) -> Lines {
        let told = |error: Error| error.to_string();
        match words {
            ["site"] => self.look().await.map_err(told),
            ["page", page] => {
                let oid = self.names.page(page)?;
                let view = self.view().await.map_err(told)?;
                Ok(vec![format!("{page}: {}", show_page(&view, oid).await.map_err(told)?.0)])
            }
            ["server", what @ ("restart" | "stop" | "start")] => {
                if *what != "start" {
                    self.site.world.stop().await;
                }
                if *what != "stop" {
                    self.site.world.start_again().await;
                    self.workers.values().for_each(Worker::call_again);
                }
                Ok(Vec::new())
            }
            ["server", "gates"] => {
                let gates = self.db.admin().gates().await.map_err(told)?;
                Ok(gates
                    .iter()
                    .map(|gate| format!("{} from {} on ({})", gate.class, gate.min_version, gate.job))
                    .collect())
            }
            ["server", "open-gate"] => {
                self.db.admin().open_gate("Page").await.map_err(told)?;
                Ok(Vec::new())
            }
            ["server", "close-gate", version, job @ ..] => {
                let version = version.parse().map_err(|_| "server close-gate VERSION [JOB]".to_owned())?;
                let attempt = self.db.admin().close_gate("Page", version, &job.concat()).await.map_err(told)?;
                Ok(match attempt {
                    CloseAttempt::Closed(_) => Vec::new(),
                    CloseAttempt::Left(old) => vec![format!("{old} are older")],
                })
            }
            ["server", mode, banner @ ..] => {
                let kind = match *mode {
                    "read-only" => ModeKind::ReadOnly,
                    "evolve-only" => ModeKind::EvolveOnly,
                    "normal" => ModeKind::Normal,
                    other => return Err(format!("the server knows no command {other:?}")),
                };
                // Not as a worker: that takes the role of an operator.
                let operator = self.site.world.db().await;
                operator.admin().set_mode(kind, &banner.join(" "), ModeEnd::Never).await.map_err(told)?;
                Ok(Vec::new())
            }
            _ => Err(format!("there is no command {:?}", words.join(" "))),
        }
    }

    async fn view(&self) -> Result<View, Error> {
        self.db.newest().await?;
        Ok(self.db.now())
    }

    async fn look(&self) -> Result<Vec<String>, Error> {
        let view = self.view().await?;
        let (mut versions, mut edits, mut wrong) = (BTreeMap::<u32, u64>::new(), 0, Vec::new());
        for (name, oid) in self.names.pages() {
            let (text, page) = show_page(&view, oid).await?;
            let Some((version, page)) = page else { continue };
            *versions.entry(version).or_default() += 1;
            edits += page.edits;
            if page.length != page.text.len() as u64 {
                wrong.push(format!("WRONG LENGTH in {name}: {text}"));
            }
        }
        let pages: Vec<String> =
            versions.iter().map(|(version, count)| format!("{count} of version {version}")).collect();
        let stepped = self.site.counter.get(&view).await?;
        let mut lines = vec![format!("pages: {}; edits {edits}, counter {stepped}", pages.join(", "))];
        lines.append(&mut wrong);
        Ok(lines)
    }
}

/// A page in words, its version, and what new code sees.
async fn show_page(view: &View, oid: zeolite_client::Oid) -> Result<(String, Option<(u32, Page)>), Error> {
    let record: Option<Record> = view.get(&Cell::object(oid)).await?;
    let Some(record) = record else { return Ok(("gone".into(), None)) };
    let page = if record.version == 1 {
        let OldPage { text, edits } = view.load(Ref::new(oid)).await?;
        Page { length: text.len() as u64, text, edits }
    } else {
        view.load(Ref::new(oid)).await?
    };
    let text = format!("version {}, {:?}, edits {}", record.version, page.text, page.edits);
    Ok((text, Some((record.version, page))))
}
