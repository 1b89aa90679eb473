//! Owns evolves: changing all the data of a live site, beside its traffic, without a conflict for anybody.
//!
//! ```text
//!   plan      what is covered, counted, in ranges           by class and version, collection, reachability, list
//!   job       an object of the database: record and ledger  looked at and steered by `Job`
//!   worker    a client that steps chunk after chunk         as many as you like, anywhere; any may be killed
//!   step      the application's function, old to new        yours
//! ```
//!
//! What a job covers is fixed by its plan (`coverage`), and with its first run it is bound to one step (`together`). Every error is
//! judged in one place (`outcome`): it is waited for, an object goes to the quarantine, the job fails, or this worker ends; all but
//! the first with the reason in the ledger.
//!
//! A chunk commits the objects that it stepped together with its place in the ledger, so every object is stepped exactly once,
//! whatever is killed when. A live write that comes between makes that one object be stepped again; the live writer never
//! waits and never conflicts. The worker watches what live commits feel, and slows itself down.
//!
//! ```no_run
//! use zeolite_client::{Db, Error, Options, evolve};
//! # use serde::{Serialize, Deserialize};
//! # #[derive(Serialize, Deserialize)] struct Page;
//! # impl zeolite_client::Persistent for Page { const CLASS: &str = "wiki.Page"; const VERSION: u32 = 2; }
//! # async fn example() -> Result<(), Error> {
//! let db = Db::connect_with("127.0.0.1:7878", Options::new().role("evolve")).await?;
//! let job = evolve::plan(&db, evolve::NewJob::new("pages-2", evolve::Plan::below("wiki.Page", 2))).await?;
//! let report = evolve::Worker::new(&job).tasks(4).run(evolve::upgrade::<Page>()).await?;
//! println!("{} after {} objects", report.phase.text(), report.counts.done);
//! # Ok(()) }
//! ```

mod amendment;
mod assembly;
mod atomic;
mod beside;
mod chunk;
mod claim;
mod course;
mod coverage;
mod cuts;
mod dependents;
mod dry_run;
mod earlier;
mod eta;
mod finisher;
mod job;
mod job_name;
mod joint;
mod kept_indexes;
mod keys_hold;
mod known;
mod lease;
mod ledger;
mod outcome;
mod own_gate;
mod own_records;
mod pace;
mod plan;
mod progress;
mod quantiles;
mod reindex;
mod shape;
mod sizing;
mod source;
#[cfg(test)]
mod staged_samples;
mod step;
mod step_notes;
mod stepping;
mod sweep;
mod task;
mod throttle;
mod together;
mod undo;
mod verify;
mod worker;

pub use beside::Beside;
pub use course::{Course, CourseSample};
pub use dry_run::{DryRun, DryRunOptions, ErrorKind, Sample, dry_run};
pub use earlier::OWED_MAX;
pub use eta::Eta;
pub use job::{Certificate, Job, JobRecord, Pause, Phase, ROOT_NAME, Target, find, forget, list};
pub use kept_indexes::{IndexesOfClass, IndexesTold, KeptIndexes};
pub use keys_hold::{index_holds, kept_indexes_hold, unique_index_holds};
pub use known::class_is_known;
pub use ledger::{Bad, Counts, Cursor, NotUndone, Part, RangeRecord};
pub use plan::{NewJob, Plan, Settings, plan};
pub use progress::{JobWatch, Progress};
pub use reindex::{reindex, verify_indexes};
pub use shape::merge_upgrades;
pub use step::{AnyStep, JointObject, JointStep, JointWork, Share, Step, Stepped, map, typed, upgrade, with};
pub use verify::{Check, Problems, Verified};
pub use worker::{Report, Stop, Worker};
pub use zeolite_proto::evolve::{LOW_DISK, State};
