//! Owns the writing of the server's own cells (`keep`), through the same pipeline as everything else.

use crate::engine::Engine;
use crate::engine::answers::Done;
use crate::engine::ids::public;
use crate::engine::pipeline::admission::Admitted;
use crate::engine::pipeline::ask::Ask;
use crate::engine::pipeline::intake::Bringer;
use crate::engine::pipeline::keys::{Entered, Keyed, Standing};
use crate::engine::pipeline::way::Line;
use std::sync::Arc;
use zeolite_proto::{Cell, Change, CommitKey, Draft, Fault, FaultKind, Note, Priority, Receipt, Record, Tid, Write};

impl Engine {
    /// Writes one of the server's own cells; `None` deletes it. The write is blind: callers see to it that two writes of
    /// the same cell are not on their way at once, or that it does not matter which comes last.
    pub(in crate::engine) fn write_system(
        self: &Arc<Self>,
        cell: Cell,
        record: Option<Record>,
        why: &str,
        done: Done<Receipt>,
    ) {
        let change = match record.map(|record| record.encode()).transpose() {
            Ok(record) => record.map_or(Change::Delete, Change::Put),
            Err(error) => return done(Err(Fault::new(FaultKind::Internal, error.to_string()))),
        };
        // Newest of all times: nothing can be newer, so nothing conflicts.
        let write = Write { cell, base: Tid::MAX, change, stamped: false };
        let key = self.own_key();
        let draft = Draft {
            key,
            key_since: Tid::MAX,
            priority: Priority::Live,
            read_cells: Vec::new(),
            read_ranges: Vec::new(),
            writes: vec![write],
            note: Note { description: why.to_owned().into(), ..Note::default() },
        };
        if !matches!(self.keys().enter(&Keyed::new(key), done), Entered::New) {
            return;
        }
        let bytes = 128;
        let admitted = Admitted::new(draft, bytes);
        if let Err(not_taken) = self.intake().push(Ask::Commit(admitted), (Line::Live, bytes), Bringer::Leaves) {
            self.keys().complete(key, Err(not_taken.fault));
        }
    }

    /// A commit key that no client makes and that no other life of this server made.
    pub(in crate::engine) fn own_key(&self) -> CommitKey {
        loop {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&public(self.setup.seed, "own commit keys", 0).to_le_bytes());
            key[8..].copy_from_slice(&self.keep.next_own_key().to_le_bytes());
            // A restored log has keys of another server's own.
            if self.keys().standing(&Keyed::new(CommitKey(key))) == Standing::Unknown {
                return CommitKey(key);
            }
        }
    }
}
