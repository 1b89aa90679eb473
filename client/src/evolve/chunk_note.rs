//! Owns what the note of a chunk's commit says in its extension, so that an undo finds the chunk and its groups.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeolite_proto::{Note, Oid};

/// Extensions of chunks begin so.
const MARK: &[u8] = b"zeolite.evolve.1\0";

/// What of a note it may take; notes are limited to 65,535 bytes in all.
const EXTENSION_BYTES_MAX: usize = 60_000;

/// Where a commit of a job came from.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChunkNote {
    /// The job's object.
    pub(crate) job: u64,
    /// The range.
    pub(crate) range: u32,
    /// How many writes each group of steps made, in the order of the commit's writes, the ledger's own left out.
    pub(crate) groups: Vec<u32>,
}

impl ChunkNote {
    /// Of a whole plan in one commit: one group, whatever the server will have made of its order.
    pub(crate) fn of_everything(job: Oid, range: u32) -> ChunkNote {
        ChunkNote { job: job.0, range, groups: vec![u32::MAX] }
    }

    /// The note of the chunk's commit. More groups than a note can tell (a whole plan in one commit) are told as one: an undo
    /// then takes all of them back, or none.
    pub(crate) fn note(&self, name: &str, what: &str) -> Note {
        let mut extension = self.encoded();
        if extension.len() > EXTENSION_BYTES_MAX {
            extension = ChunkNote { groups: vec![self.groups.iter().sum()], ..self.clone() }.encoded();
        }
        Note { user: "evolve".into(), description: format!("{name}: {what}").into(), extension: extension.into() }
    }

    fn encoded(&self) -> Vec<u8> {
        postcard::to_extend(self, MARK.to_vec()).unwrap_or_else(|_| MARK.to_vec())
    }

    /// As a note tells it; none: the commit is not a chunk of this job.
    pub(crate) fn of(extension: &Bytes, job: Oid) -> Option<ChunkNote> {
        let note: ChunkNote = postcard::from_bytes(extension.strip_prefix(MARK)?).ok()?;
        (note.job == job.0).then_some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_leads_back_to_its_job() {
        let chunk = ChunkNote { job: 7, range: 3, groups: vec![1, 1, 300] };
        let note = chunk.note("titles", "301 objects");
        assert_eq!(ChunkNote::of(&note.extension, Oid(7)), Some(chunk));
        assert_eq!(ChunkNote::of(&note.extension, Oid(8)), None);
        assert_eq!(ChunkNote::of(&Bytes::from_static(b"other"), Oid(7)), None);
        assert_eq!(ChunkNote::of(&note.extension.slice(..MARK.len() + 2), Oid(7)), None);
    }

    #[test]
    fn more_groups_than_a_note_can_tell_are_one() {
        let chunk = ChunkNote { job: 7, range: 3, groups: vec![2; 117_659] };
        let note = chunk.note("titles", "117659 objects");
        assert!(note.extension.len() < 100, "{}", note.extension.len());
        assert_eq!(ChunkNote::of(&note.extension, Oid(7)), Some(ChunkNote { groups: vec![235_318], ..chunk }));
    }
}
