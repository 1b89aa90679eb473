//! Owns what an evolve stores: the records of a job and its ledger, their classes, and where they lie.
//!
//! ```text
//!   root entry "zeolite.evolves"  ──> a map: name ──> job      (each entry refers to its job)
//!   job                 JobRecord     plan, target, settings, phase
//!     range/NNNN        RangeRecord   a part of the plan and how far it is; number `ranges` is for the end of the job
//!     list/NNNNNN       ListRecord    oids that a plan covers, or KeysRecord: keys of its collection
//!     bad/OID[/KEY]     Bad           what a step failed on
//!     owed/TID/OID[/KEY] Owed         a live draft was committed over this write of a chunk: to be stepped anew
//!     paid/TID/OID[/KEY] Owed         the step of this cell in that chunk was taken back
//!     undo/TID/NNNNNN   NotUndone     what could not be taken back
//!     course/NNNN       CourseRecord  how the numbers of a range went over time
//! ```
//!
//! Workers and operators write these records with the client library; the server reads them to tell how jobs are. Only data
//! and sums of it are here: what a worker does is the client's. docs/format.md has the bytes; those of a version do not change.

mod chunk_note;
mod course;
mod job;
mod ledger;
#[cfg(test)]
mod samples;
mod settings;
mod standing;
mod stored;
#[cfg(test)]
mod tests;

pub use chunk_note::{ChunkNote, OperationNote, StepNote, SteppedNote};
pub use course::{CourseRecord, CourseSample, SAMPLES_MAX as COURSE_SAMPLES_MAX, course_cell};
pub use job::{Certificate, JobRecord, Pause, Phase, Plan, ROOT_NAME, Target};
pub use ledger::{
    Bad, Counts, Cursor, KeysRecord, ListRecord, NotUndone, OWED, Owed, PAID, Part, RangeRecord, UNDO_RANGE, bad_cell,
    counts, is_owed, list_cell, not_undone_cell, owed_cell, owed_keys, paid_cell, range_cell,
};
pub use settings::Settings;
pub use standing::{LOW_DISK, Standing, State, silent};
pub use stored::{Kept, Stored};
