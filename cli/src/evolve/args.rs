//! Owns the command line of `evolve`.

use crate::mode::Until;
use bytes::Bytes;
use clap::{Args, Subcommand};
use jiff::Span;
use std::path::PathBuf;
use zeolite_proto::Oid;

/// Shown below the help of `evolve run` and `evolve plan`.
const STEP_HELP: &str = "\
The program of --exec gets one line of JSON for each object on standard input:
  {\"oid\":\"2a\",\"key\":\"\",\"class\":\"wiki.Page\",\"version\":1,\"refs\":[\"2b\"],
   \"data\":\"<base64>\"}
and answers with one line, which repeats the oid, and the key of an entry, and
says one of
  {\"oid\":\"2a\",\"data\":\"<base64>\",\"version\":2}
                                    the new record; what is not given stays
  {\"oid\":\"2a\",\"keep\":true}          the object stays as it is
  {\"oid\":\"2a\",\"delete\":true}        the object goes
  {\"oid\":\"2a\",\"error\":\"why not\"}    to the quarantine with it; the job goes on
With --batch N a line is a list of up to N such objects, and the answer a list
with an answer for each, in any order: several times as fast.

An answer but an error may have further writes, committed with the object or
not at all, \"writes\":[...] of
  {\"index\":\"2f\",\"insert\":\"Home\"}       in an index, for the object, or \"of\": OID
  {\"unique\":\"30\",\"insert\":{\"u64\":7}}   in a unique one: refused if another's
  {\"add\":\"31\",\"by\":1}                  to a counter
  {\"create\":\"$a\",\"class\":\"wiki.Note\",\"version\":1,\"refs\":[],\"data\":\"<base64>\"}
                        a new object; \"$a\" is its oid in refs and writes
  {\"set\":\"2f\",\"key\":\"k\",\"class\":\"c\",\"data\":\"<base64>\"}
                        an entry, or without a key an object
  {\"delete\":\"2f\",\"key\":\"k\"}           an entry, or without a key an object
Keys of an index are text, or {\"u64\":7}, also u32, i32, i64, bool; \"remove\" is
the opposite of \"insert\".

Anything else on standard output is no answer, and ends this worker with the \
reason. If the program dies or is silent it is started anew; an object with \
which it fails three times while others are answered goes to the quarantine. \
An object is asked for again when a live write came between. Each task has a \
process of its own, which is to end when its input does; its environment has \
the job's name in ZEOLITE_EVOLVE.

An application may embed its workers with `zeolite_client::evolve`. Any number \
of these and of those may work on one job, with one step.";

#[derive(Subcommand)]
pub(crate) enum EvolveCommand {
    /// All jobs: state, progress, rate, time left
    List,
    /// One job: its state and why, progress, workers, quarantine, and what its snapshot keeps from pack
    Show(ShowArgs),
    /// Plan a job: count what it covers and write it down; or only try its step (--dry-run)
    Plan(PlanArgs),
    /// Work on a job until it ends; Ctrl-C finishes the chunk, running it again goes on there
    Run(RunArgs),
    /// Hold a job: its workers finish their chunks and wait
    Pause(PauseArgs),
    /// Go on with a job that is paused, or that has failed: its quarantine is tried again
    Resume(NameArgs),
    /// Stop a job for good; what it did stays, and can be undone
    Cancel(CancelArgs),
    /// Change settings of a job, also while it runs; without any, show them
    Set(SetArgs),
    /// Read every object of a job's result and check it
    Verify(VerifyArgs),
    /// Take all commits of a job back, newest first, beside live traffic
    Undo(UndoArgs),
    /// Follow a job until it is over
    Watch(NameArgs),
    /// How a job went, as one HTML page with charts: rate, what live commits took, conflicts, what slowed it down
    Report(ReportArgs),
    /// Succeed only if a job is done: for deployment scripts; prints the certificate
    Ensure(EnsureArgs),
    /// Delete the record of a job that is over; what it did stays, and can no longer be undone as a whole
    Forget(NameArgs),
}

#[derive(Args)]
pub(crate) struct NameArgs {
    /// The job
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct EnsureArgs {
    /// The job
    pub(crate) name: String,
    /// Also that no object of its class is above this version: of a job that brings objects back to a former release's
    #[arg(long, value_name = "VERSION")]
    pub(crate) none_above: Option<u32>,
}

#[derive(Args)]
pub(crate) struct ReportArgs {
    /// The job
    pub(crate) name: String,
    /// Where to write it; `-` is standard output. Without it, `evolve-NAME.html` here
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// The job
    pub(crate) name: String,
    /// So many objects of the quarantine, and groups that an undo has left; 0 for all
    #[arg(long, default_value_t = 10)]
    pub(crate) quarantine: u64,
    /// Also show the ranges and the settings
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args)]
#[command(after_long_help = STEP_HELP)]
pub(crate) struct PlanArgs {
    /// A name for the job, not used before
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) what: WhatArgs,
    /// Of the class: only objects below this schema version; the job ends when none is left
    #[arg(long, value_name = "VERSION", requires = "class", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) below: Option<u32>,
    /// Also if there is no object of the class, nothing at the oid, nothing in the list: otherwise that is refused as a mistake
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Also if another job is at work on the same class or collection: otherwise that is refused
    #[arg(long)]
    pub(crate) beside: bool,
    /// When none is left, refuse writes of older versions from then on
    #[arg(long, requires = "below")]
    pub(crate) gate: bool,
    /// Of the collection: first key, inclusive
    #[arg(long, value_name = "KEY", requires = "collection", value_parser = crate::place::key)]
    pub(crate) from: Option<Bytes>,
    /// Of the collection: end, exclusive
    #[arg(long, value_name = "KEY", requires = "collection", value_parser = crate::place::key)]
    pub(crate) to: Option<Bytes>,
    /// A setting of the job (`evolve set` lists them); may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Write nothing, not even the job: run the step on what the plan covers, and tell what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Dry run: step so many objects; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "dry_run")]
    pub(crate) limit: u64,
    /// Dry run: show so many objects before and after
    #[arg(long, value_name = "N", default_value_t = 3, requires = "dry_run")]
    pub(crate) samples: usize,
    #[command(flatten)]
    pub(crate) step: StepArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhatArgs {
    /// All objects of a class
    #[arg(long)]
    pub(crate) class: Option<String>,
    /// The entries of a collection
    #[arg(long, value_name = "OID")]
    pub(crate) collection: Option<Oid>,
    /// Everything that can be reached from an object
    #[arg(long, value_name = "OID")]
    pub(crate) reachable: Option<Oid>,
    /// The objects whose oids are in a file, one per line; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) oids: Option<PathBuf>,
}

/// What is made of each object.
#[derive(Args)]
pub(crate) struct StepArgs {
    /// A program in any language, with its arguments up to `;` or the end of the line
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, value_terminator = ";",
        conflicts_with_all = ["delete", "bump"])]
    pub(crate) exec: Vec<String>,
    /// Delete every object
    #[arg(long, conflicts_with = "bump")]
    pub(crate) delete: bool,
    /// Raise the schema version, nothing else: for shapes that new code reads as they are
    #[arg(long, value_name = "VERSION")]
    pub(crate) bump: Option<u32>,
    /// Give the program lists of up to so many objects, instead of a line for each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000),
        requires = "exec", conflicts_with_all = ["delete", "bump"])]
    pub(crate) batch: Option<u16>,
    /// How long the program may take for one answer (of a list: for all of them)
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    pub(crate) answer_within: Span,
}

#[derive(Args)]
#[command(after_long_help = STEP_HELP)]
pub(crate) struct RunArgs {
    /// The job
    pub(crate) name: String,
    /// Ranges to work on at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) tasks: u16,
    /// Go on with another step than the job was begun with; what was stepped so far stays as it is
    #[arg(long)]
    pub(crate) step_changed: bool,
    /// Give way to the other processes of this machine: 0 (not at all) to 19
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub(crate) nice: i32,
    #[command(flatten)]
    pub(crate) step: StepArgs,
}

#[derive(Args)]
pub(crate) struct PauseArgs {
    /// The job
    pub(crate) name: String,
    /// Shown to whoever looks
    #[arg(long, short = 'm', default_value = "by an operator")]
    pub(crate) message: String,
    /// Goes on by itself at this time: `14:05` (today or tomorrow), or `2026-05-01T12:00:00Z`
    #[arg(long, value_name = "TIME", conflicts_with = "span")]
    pub(crate) until: Option<Until>,
    /// Goes on by itself after this long: `20m`, `1h30m`
    #[arg(long = "for", value_name = "SPAN")]
    pub(crate) span: Option<Span>,
}

#[derive(Args)]
pub(crate) struct CancelArgs {
    /// The job
    pub(crate) name: String,
    /// Shown to whoever looks
    #[arg(long, short = 'm', default_value = "by an operator")]
    pub(crate) message: String,
}

#[derive(Args)]
pub(crate) struct SetArgs {
    /// The job
    pub(crate) name: String,
    /// What to change
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// The job
    pub(crate) name: String,
    /// Also check an index or another collection: whatever an entry refers to must exist
    #[arg(long, value_name = "OID")]
    pub(crate) index: Vec<Oid>,
}

#[derive(Args)]
pub(crate) struct UndoArgs {
    /// The job
    pub(crate) name: String,
    /// Only ask for it; `evolve undo` without this, on any machine, does it
    #[arg(long)]
    pub(crate) no_wait: bool,
}
