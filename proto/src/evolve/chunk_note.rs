//! Owns what the note of a chunk's commit says in its extension: which job and range it is of, which steps it was made of, and
//! whether it *yields*.
//!
//! ```text
//!   groups       1 1 3 ...             so many of the commit's writes belong together: an undo takes all of them back, or none
//!   steps        object, its writes    which writes came from the step of which object: what one step has made can be taken back
//! ```
//!
//! The writes of a chunk that tells its steps yield: a live draft that was made on the revision just before one of them is no
//! conflict, is committed over it, and the server notes in the job's ledger that the job owes a step ([`super::Owed`]). A chunk
//! that does not tell its steps (a whole plan in one commit, more steps than a note can tell) does not yield.

use crate::ids::{Cell, Oid};
use crate::note::Note;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Extensions of chunks that do not yield begin so.
const MARK: &[u8] = b"zeolite.evolve.1\0";
/// Extensions of those that do.
const MARK_YIELDS: &[u8] = b"zeolite.evolve.2\0";

/// What of a note it may take; notes are limited to 65,535 bytes in all.
const EXTENSION_BYTES_MAX: usize = 60_000;

/// Where a commit of a job came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkNote {
    /// The job's object.
    pub job: u64,
    /// The range.
    pub range: u32,
    /// How many writes each group of steps made, in the order of the commit's writes, the ledger's own left out.
    pub groups: Vec<u32>,
    /// The steps that wrote something; empty: the chunk does not tell, and does not yield.
    pub steps: Vec<StepNote>,
    /// The different operations that steps made, by which [`StepNote::applied`] names them.
    pub operations: Vec<OperationNote>,
}

/// What one step has written.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct StepNote {
    /// The object, or the entry, that was stepped.
    pub of: SteppedNote,
    /// Its puts and deletes, by their places among the commit's writes, the ledger's own left out.
    pub writes: Vec<u32>,
    /// Its operations: the place of the write, and the operation's.
    pub applied: Vec<(u32, u32)>,
    /// It has read more than that object and what it wrote.
    pub reads: bool,
    /// Chunks whose step of the same cell was taken back before this one was made.
    pub after: Vec<u64>,
}

/// A stepped cell: mostly one that its step has written.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub enum SteppedNote {
    /// The write at this place.
    Written(u32),
    /// This one, which its step left as it is.
    Cell(u64, Vec<u8>),
}

/// An operation of a class.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
pub struct OperationNote {
    /// The class whose resolver applies it.
    pub class: String,
    /// Its bytes.
    pub operation: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Groups {
    job: u64,
    range: u32,
    groups: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct Told {
    groups: Groups,
    steps: Vec<StepNote>,
    operations: Vec<OperationNote>,
}

impl ChunkNote {
    /// Of a whole plan in one commit: one group, whatever the server will have made of its order.
    pub fn of_everything(job: Oid, range: u32) -> ChunkNote {
        ChunkNote { job: job.0, range, groups: vec![u32::MAX], steps: Vec::new(), operations: Vec::new() }
    }

    /// The note of the chunk's commit. What a note has no room for is not told: the steps first (then the chunk does not
    /// yield), then the groups (then an undo takes all of them back, or none).
    pub fn note(&self, name: &str, what: &str) -> Note {
        let alone = ChunkNote { steps: Vec::new(), operations: Vec::new(), ..self.clone() };
        let one = ChunkNote {
            groups: vec![self.groups.iter().fold(0, |sum, group| sum.saturating_add(*group))],
            ..alone.clone()
        };
        let mut told = [self, &alone, &one].into_iter().map(ChunkNote::encoded);
        let extension = told.find(|bytes| bytes.len() <= EXTENSION_BYTES_MAX).unwrap_or_default();
        Note { user: "evolve".into(), description: format!("{name}: {what}").into(), extension: extension.into() }
    }

    /// Whether a note has room for all of it.
    pub fn fits(&self) -> bool {
        self.encoded().len() <= EXTENSION_BYTES_MAX
    }

    fn encoded(&self) -> Vec<u8> {
        let groups = Groups { job: self.job, range: self.range, groups: self.groups.clone() };
        let bytes = if self.steps.is_empty() {
            postcard::to_extend(&groups, MARK.to_vec())
        } else {
            let told = Told { groups, steps: self.steps.clone(), operations: self.operations.clone() };
            postcard::to_extend(&told, MARK_YIELDS.to_vec())
        };
        bytes.unwrap_or_default()
    }

    /// As a note tells it; none: the commit is not a chunk of this job.
    pub fn of(extension: &Bytes, job: Oid) -> Option<ChunkNote> {
        ChunkNote::of_any(extension).filter(|note| note.job == job.0)
    }

    /// The same, of whatever job.
    pub fn of_any(extension: &[u8]) -> Option<ChunkNote> {
        if let Some(bytes) = extension.strip_prefix(MARK_YIELDS) {
            let Told { groups: Groups { job, range, groups }, steps, operations } = postcard::from_bytes(bytes).ok()?;
            return Some(ChunkNote { job, range, groups, steps, operations });
        }
        let Groups { job, range, groups } = postcard::from_bytes(extension.strip_prefix(MARK)?).ok()?;
        Some(ChunkNote { job, range, groups, steps: Vec::new(), operations: Vec::new() })
    }

    /// Whether a note with this extension says that its commit yields; not looked at closer.
    pub fn says_yields(extension: &[u8]) -> bool {
        extension.starts_with(MARK_YIELDS)
    }

    /// The steps that wrote at a place.
    pub fn steps_at(&self, place: usize) -> impl Iterator<Item = &StepNote> {
        self.steps.iter().filter(move |step| step.places().any(|at| at == place))
    }
}

impl StepNote {
    /// The places of all its writes.
    pub fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let applied = self.applied.iter().map(|(place, _)| place);
        self.writes.iter().chain(applied).map(|place| *place as usize)
    }

    /// The stepped cell; `written`: the commit's writes, the ledger's own left out.
    pub fn cell(&self, written: &[Cell]) -> Option<Cell> {
        match &self.of {
            SteppedNote::Written(place) => written.get(*place as usize).cloned(),
            SteppedNote::Cell(oid, key) => Some(Cell::entry(Oid(*oid), key.clone())),
        }
    }

    /// Whether it wrote anything but the cell that was stepped.
    pub fn writes_elsewhere(&self) -> bool {
        let own = |place: usize| self.of == SteppedNote::Written(place as u32);
        self.places().any(|place| !own(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk() -> ChunkNote {
        let step = StepNote {
            of: SteppedNote::Written(0),
            writes: vec![0, 2],
            applied: vec![(3, 0)],
            reads: true,
            after: vec![5],
        };
        let kept = StepNote {
            of: SteppedNote::Cell(9, b"k".to_vec()),
            writes: Vec::new(),
            applied: vec![(3, 0)],
            reads: false,
            after: vec![5],
        };
        let operations = vec![OperationNote { class: "Counter".into(), operation: vec![1] }];
        ChunkNote { job: 7, range: 3, groups: vec![1, 300], steps: vec![step, kept], operations }
    }

    #[test]
    fn a_note_leads_back_to_its_job_and_its_steps() {
        let chunk = chunk();
        let note = chunk.note("titles", "301 objects");
        assert_eq!(ChunkNote::of(&note.extension, Oid(7)), Some(chunk.clone()));
        assert_eq!(ChunkNote::of(&note.extension, Oid(8)), None);
        assert_eq!(ChunkNote::of(&Bytes::from_static(b"other"), Oid(7)), None);
        assert_eq!(ChunkNote::of(&note.extension.slice(..MARK.len() + 2), Oid(7)), None);
        assert!(ChunkNote::says_yields(&note.extension));
        let at = |place| chunk.steps_at(place).count();
        assert_eq!([at(0), at(1), at(2), at(3)], [1, 0, 1, 2]);
        let written = [Cell::object(Oid(5))];
        assert_eq!(chunk.steps[0].cell(&written), Some(Cell::object(Oid(5))));
        assert_eq!(chunk.steps[1].cell(&written), Some(Cell::entry(Oid(9), "k")));
        assert!(chunk.steps.iter().all(StepNote::writes_elsewhere));
    }

    /// A line per note, in hexadecimal: jobs outlive the programs that worked on them.
    const FIXTURE: &str = include_str!("../../../tests/fixtures/chunk-notes-1.txt");

    #[test]
    fn every_note_has_the_bytes_that_it_always_had() {
        let silent = ChunkNote { steps: Vec::new(), operations: Vec::new(), ..chunk() };
        let hex = |note: &ChunkNote| note.encoded().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let lines: Vec<&str> = FIXTURE.lines().collect();
        assert_eq!(lines, [hex(&silent), hex(&chunk())]);
        let bytes = |line: &str| -> Vec<u8> {
            let digits = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal");
            (0..line.len()).step_by(2).map(digits).collect()
        };
        let read: Vec<_> = lines.iter().map(|line| ChunkNote::of_any(&bytes(line))).collect();
        assert_eq!(read, [Some(silent), Some(chunk())]);
    }

    #[test]
    fn a_chunk_without_steps_does_not_yield_and_is_read_as_it_always_was() {
        let chunk = ChunkNote { steps: Vec::new(), operations: Vec::new(), ..chunk() };
        let note = chunk.note("titles", "301 objects");
        assert!(!ChunkNote::says_yields(&note.extension));
        assert_eq!(&note.extension[..], b"zeolite.evolve.1\0\x07\x03\x02\x01\xac\x02");
        assert_eq!(ChunkNote::of(&note.extension, Oid(7)), Some(chunk));
    }

    #[test]
    fn what_a_note_has_no_room_for_is_not_told() {
        let step = StepNote {
            of: SteppedNote::Written(70_000),
            writes: vec![70_000],
            applied: Vec::new(),
            reads: false,
            after: Vec::new(),
        };
        let many = ChunkNote { steps: vec![step; 30_000], ..chunk() };
        assert!(!many.fits() && chunk().fits());
        assert_eq!(ChunkNote::of_any(&many.note("t", "").extension).map(|note| note.steps.len()), Some(0));
        let wide = ChunkNote { groups: vec![2; 117_659], steps: Vec::new(), operations: Vec::new(), ..chunk() };
        let note = wide.note("titles", "117659 objects");
        assert!(note.extension.len() < 100, "{}", note.extension.len());
        assert_eq!(ChunkNote::of(&note.extension, Oid(7)), Some(ChunkNote { groups: vec![235_318], ..wide }));
    }
}
