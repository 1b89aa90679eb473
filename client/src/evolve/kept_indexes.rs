//! Owns what an operator does about the indexes that are kept with a program's classes: looking at them, and making them right. It is a
//! subcommand of the program itself, since neither the server nor `zeolite` knows its types.
//!
//! ```text
//!   verify     every object, and every entry of every index, at one snapshot                        changes nothing
//!   reindex    an evolve over each class, then one over each of its indexes, then the same look     beside live traffic
//!   exit code  as `zeolite check` has them: 0 they hold, 2 they do not, 3 it could not be found out
//! ```
//! An evolve of this that was interrupted is gone on with; one that is done is forgotten, since the next one has the same name. One that
//! could not mend everything (two objects want one unique key) stays, with its quarantine, and is resumed the next time.

use super::job::{Job, Phase, find, forget, list};
use super::job_name::fitting;
use super::keys_hold::root_of;
use super::ledger::Counts;
use super::plan::{NewJob, Plan, Settings, plan};
use super::reindex::{reindex, verify_indexes};
use super::verify::Verified;
use super::worker::Worker;
use crate::collections::kept::root_name;
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::typed::Persistent;
use futures_util::future::BoxFuture;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Ranges of an evolve that are worked on at once.
const TASKS: usize = 2;
/// Problems that are told of one class; the others are counted.
const TOLD_MAX: usize = 20;

/// The indexes of a program's classes, for its subcommands `verify` and `reindex`.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use zeolite_client::{Db, Error, Options, Persistent, evolve::KeptIndexes};
///
/// #[derive(Serialize, Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page")]
/// struct Page {
///     #[persistent(unique)]
///     title: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let server = zeolite_testing::server();
/// let db = Db::connect_with(server.address(), Options::new().role("evolve")).await?;
/// let told = KeptIndexes::new(&db).class::<Page>().command("verify").await; // the program's first argument
/// assert_eq!((told.to_string().as_str(), told.exit_code()), ("wiki.Page: 0 objects, all indexes hold", 0));
/// # Ok(()) }
/// ```
pub struct KeptIndexes {
    db: Db,
    classes: Vec<Arc<dyn Class>>,
    settings: Settings,
}

/// What [`KeptIndexes::command`] has to say: text for people, and the exit code.
///
/// ```
/// # async fn example(indexes: zeolite_client::evolve::KeptIndexes) -> std::process::ExitCode {
/// let told = indexes.command("reindex").await;
/// eprintln!("{told}");
/// std::process::ExitCode::from(told.exit_code())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct IndexesTold {
    text: String,
    exit_code: u8,
}

impl IndexesTold {
    /// 0: all indexes hold; 2: some do not; 3: it could not be found out, or the word is no command.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for IndexesTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How the indexes of one class stand.
///
/// ```
/// # async fn example(indexes: zeolite_client::evolve::KeptIndexes) -> Result<(), zeolite_client::Error> {
/// for class in indexes.verify().await? {
///     assert!(class.holds(), "{}: {:?}", class.class, class.verified.problems);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IndexesOfClass {
    /// The class.
    pub class: &'static str,
    /// What was found at last.
    pub verified: Verified,
    /// What the evolves have done before; nothing, if it was only looked at.
    pub counts: Counts,
    /// What they could not mend, and why.
    pub unmended: Vec<String>,
}

impl IndexesOfClass {
    /// Whether every object is in every index as it should be, and nothing else is.
    pub fn holds(&self) -> bool {
        self.verified.problems_total == 0 && self.unmended.is_empty()
    }
}

/// A class whose type is not named.
trait Class: Send + Sync {
    fn verify<'a>(&'a self, db: &'a Db) -> BoxFuture<'a, Result<IndexesOfClass>>;
    fn reindex<'a>(&'a self, db: &'a Db, settings: &'a Settings) -> BoxFuture<'a, Result<IndexesOfClass>>;
}

struct Of<T>(PhantomData<fn() -> T>);

impl<T: Persistent + Send + 'static> Class for Of<T> {
    fn verify<'a>(&'a self, db: &'a Db) -> BoxFuture<'a, Result<IndexesOfClass>> {
        Box::pin(async move {
            let verified = verify_indexes::<T>(db).await?;
            Ok(IndexesOfClass { class: T::CLASS, verified, counts: Counts::default(), unmended: Vec::new() })
        })
    }

    fn reindex<'a>(&'a self, db: &'a Db, settings: &'a Settings) -> BoxFuture<'a, Result<IndexesOfClass>> {
        Box::pin(async move {
            let (mut counts, mut unmended) = (Counts::default(), Vec::new());
            let mut whole = async |name: String, plan: Plan| {
                let name = fitting(name);
                let job = begun(db, &name, plan, settings).await?;
                let report = Worker::new(&job).tasks(TASKS).run(reindex::<T>()).await?;
                counts = counts.plus(report.counts);
                match report.phase {
                    Phase::Done => forget(db, &name).await.map(drop)?,
                    _ => unmended.extend(why_not(&job).await?),
                }
                Ok::<_, Error>(())
            };
            whole(format!("indexes of {}", T::CLASS), Plan::class(T::CLASS)).await?;
            for index in T::INDEXES {
                if let Some(oid) = root_of::<T>(&db.now(), *index).await? {
                    whole(format!("entries of {}", root_name(T::CLASS, *index)), Plan::entries(oid)).await?;
                }
            }
            let verified = verify_indexes::<T>(db).await?;
            Ok(IndexesOfClass { class: T::CLASS, verified, counts, unmended })
        })
    }
}

/// The evolve of that name: as it was left, or a new one.
async fn begun(db: &Db, name: &str, covered: Plan, settings: &Settings) -> Result<Job> {
    if list(db).await?.iter().any(|job| job.name() == name) {
        let job = find(db, name).await?;
        match job.record().await?.phase {
            Phase::Failed => job.resume().await?,
            phase if phase.is_over() => forget(db, name).await.map(drop)?,
            _ => {}
        }
        if !job.record().await?.phase.is_over() {
            return Ok(job);
        }
    }
    let mut new = NewJob::new(name, covered);
    (new.allow_empty, new.settings) = (true, settings.clone());
    plan(db, new).await
}

async fn why_not(job: &Job) -> Result<Vec<String>> {
    let (record, bad) = (job.record().await?, job.quarantine(TOLD_MAX as u64).await?);
    let mut told = vec![format!("the evolve {:?} is {}: {}", job.name(), record.phase.text(), record.reason)];
    told.extend(bad.into_iter().map(|bad| format!("object {:x}: {}", bad.oid, bad.error)));
    Ok(told)
}

impl fmt::Debug for KeptIndexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptIndexes").field("classes", &self.classes.len()).finish_non_exhaustive()
    }
}

impl KeptIndexes {
    /// Of no class yet. The client should have the role `evolve`, so that it gives way to live traffic.
    pub fn new(db: &Db) -> KeptIndexes {
        KeptIndexes { db: db.clone(), classes: Vec::new(), settings: Settings::default() }
    }

    /// Those of this class as well.
    #[must_use]
    pub fn class<T: Persistent + Send + 'static>(mut self) -> KeptIndexes {
        self.classes.push(Arc::new(Of::<T>(PhantomData)));
        self
    }

    /// How the evolves of [`KeptIndexes::reindex`] are run.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> KeptIndexes {
        self.settings = settings;
        self
    }

    /// Looks at every object and every entry, class after class.
    pub async fn verify(&self) -> Result<Vec<IndexesOfClass>> {
        let mut all = Vec::with_capacity(self.classes.len());
        for class in &self.classes {
            all.push(class.verify(&self.db).await?);
        }
        Ok(all)
    }

    /// Writes what is missing and takes out what is too much, beside live traffic, then looks.
    pub async fn reindex(&self) -> Result<Vec<IndexesOfClass>> {
        let mut all = Vec::with_capacity(self.classes.len());
        for class in &self.classes {
            all.push(class.reindex(&self.db, &self.settings).await?);
        }
        Ok(all)
    }

    /// Does what a word of the command line says: `verify` or `reindex`.
    pub async fn command(&self, word: &str) -> IndexesTold {
        let done = match word {
            "verify" => self.verify().await,
            "reindex" => self.reindex().await,
            other => Err(Error::invalid(format!("there is no command {other:?}; there are verify and reindex"))),
        };
        match done {
            Err(error) => IndexesTold { text: error.to_string(), exit_code: 3 },
            Ok(classes) => IndexesTold {
                text: classes.iter().map(told).collect::<Vec<_>>().join("\n"),
                exit_code: if classes.iter().all(IndexesOfClass::holds) { 0 } else { 2 },
            },
        }
    }
}

fn told(of: &IndexesOfClass) -> String {
    let (class, objects, problems) = (of.class, of.verified.objects, of.verified.problems_total);
    let mended = match of.counts.done {
        0 => String::new(),
        done => format!(", {done} objects and entries were stepped"),
    };
    if of.holds() {
        return format!("{class}: {objects} objects{mended}, all indexes hold");
    }
    let mut lines = vec![format!("{class}: {objects} objects{mended}, {problems} problems")];
    let problems = of.verified.problems.iter().chain(&of.unmended).take(TOLD_MAX);
    lines.extend(problems.map(|problem| format!("  {problem}")));
    lines.join("\n")
}
