//! Owns the threads on which expensive resolvers run: bytes in, candidates out.
//!
//! A merger knows nothing of the order. It answers the sequencer's questions (base, theirs, the write itself) and sends the
//! draft back; the sequencer uses a candidate only while its `theirs` is still the newest revision.

use crate::engine::Engine;
use crate::engine::pipeline::admission::Candidate;
use crate::engine::pipeline::ask::{MergeOut, ROUNDS_MAX};
use crate::engine::pipeline::merge;
use crate::engine::pipeline::merge::Sides;
use crate::engine::turn::Turn;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;

/// One of the mergers.
pub(crate) struct Merger {
    pub(crate) engine: Arc<Engine>,
    pub(crate) from_sequencer: Receiver<MergeOut>,
}

impl Merger {
    /// Works off one draft.
    pub(crate) fn turn(&mut self, wait: bool) -> Turn {
        let at_most = if wait { Duration::from_millis(500) } else { Duration::ZERO };
        match self.from_sequencer.recv_timeout(at_most) {
            Ok(out) => {
                self.work(out);
                Turn::Worked
            }
            Err(RecvTimeoutError::Timeout) => Turn::Idle,
            Err(RecvTimeoutError::Disconnected) => Turn::Ended,
        }
    }

    fn work(&self, out: MergeOut) {
        let MergeOut { mut ask, questions } = out;
        let admitted = ask.admitted_mut();
        admitted.rounds += 1;
        for question in questions {
            let Some(write) = admitted.draft.writes.get(question.position) else { continue };
            let sides = Sides { base: question.base.as_ref(), theirs: question.theirs.as_ref() };
            match merge::resolve(self.engine.registry(), self.engine.limits(), &write.change, sides) {
                Ok(record) => {
                    let candidate = Candidate { position: question.position, theirs: question.theirs_tid, record };
                    admitted.candidates.retain(|old| old.position != candidate.position);
                    admitted.candidates.push(candidate);
                }
                // The refusal may be of yesterday's revision: the sequencer decides it on today's.
                Err(_) => admitted.rounds = ROUNDS_MAX,
            }
        }
        self.engine.push_control(ask.into_ask());
        self.engine.pipeline.merging_ended();
    }
}
