//! Owns the threads that answer what the sequencer cannot: expensive resolvers (bytes in, candidates out), and what only the disk
//! knows: heads and bases, how much is below a gate, what was committed under a key.
//!
//! A merger knows nothing of the order. It answers the sequencer's questions (base, theirs, the write itself) and sends the
//! draft back; the sequencer uses a candidate only while its `theirs` is still the newest revision.

use crate::engine::Engine;
use crate::engine::answers::{Closing, Done};
use crate::engine::pipeline::admission::{Admitted, Candidate};
use crate::engine::pipeline::ahead::Depth;
use crate::engine::pipeline::ask::{Ask, DraftAsk, Errand, Question, ROUNDS_MAX};
use crate::engine::pipeline::merge;
use crate::engine::pipeline::merge::Sides;
use crate::engine::turn::Turn;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, Gate};

/// One of the mergers.
pub(crate) struct Merger {
    pub(crate) engine: Arc<Engine>,
    pub(crate) from_sequencer: Receiver<Errand>,
}

impl Merger {
    /// Works off one errand.
    pub(crate) fn turn(&mut self, wait: bool) -> Turn {
        let at_most = if wait { Duration::from_millis(500) } else { Duration::ZERO };
        match self.from_sequencer.recv_timeout(at_most) {
            Ok(errand) => {
                self.run(errand);
                Turn::Worked
            }
            Err(RecvTimeoutError::Timeout) => Turn::Idle,
            Err(RecvTimeoutError::Disconnected) => Turn::Ended,
        }
    }

    fn run(&self, errand: Errand) {
        match errand {
            Errand::Draft { ask, questions } => self.answer(*ask, questions),
            Errand::CountGate { gate, held, done } => self.count(gate, held, done),
            Errand::ByKey { key, since, done } => self.engine.answer_by_key(key, since, done),
        }
        self.engine.pipeline.merging_ended();
    }

    fn count(&self, gate: Gate, held: u64, done: Done<Closing>) {
        let answer = match self.engine.count_old(&gate) {
            Ok(0) if held == 0 => return self.engine.push_control(Ask::CloseGate { gate, done }),
            counted => counted.map(|stored| Closing::Old(stored + held)),
        };
        self.engine.give_up_gate(&gate.class);
        done(answer);
    }

    fn answer(&self, mut ask: DraftAsk, questions: Vec<Question>) {
        let looked = self.look(ask.admitted_mut(), &questions);
        self.merge(ask.admitted_mut(), questions);
        match looked {
            Ok(()) => self.engine.push_control(ask.into_ask()),
            Err(fault) => self.engine.refuse_draft(ask, fault),
        }
    }

    fn look(&self, admitted: &mut Admitted, questions: &[Question]) -> Result<(), Fault> {
        let parts = questions.iter().filter_map(|question| match question {
            Question::Look(part) => Some(*part),
            Question::Merge { .. } | Question::Judge(_) | Question::Replay(_) => None,
        });
        self.engine.look(&admitted.draft, &parts.collect::<Vec<_>>(), Depth::All, &mut admitted.looked_ahead)?;
        for question in questions {
            match question {
                Question::Judge(position) => {
                    let judged = self.engine.judge_read(&admitted.draft, *position)?;
                    admitted.judged.extend(judged.map(|judged| (*position, judged)));
                }
                Question::Replay(conflicts) => self.engine.replay(admitted, conflicts)?,
                Question::Look(_) | Question::Merge { .. } => {}
            }
        }
        Ok(())
    }

    fn merge(&self, admitted: &mut Admitted, questions: Vec<Question>) {
        let mut merges = 0;
        for question in questions {
            let Question::Merge { position, base, theirs_tid, theirs } = question else { continue };
            let Some(write) = admitted.draft.writes.get(position) else { continue };
            merges += 1;
            let sides = Sides { base: base.as_ref(), theirs: theirs.as_ref() };
            match merge::resolve(self.engine.registry(), self.engine.limits(), &write.change, sides) {
                Ok(record) => {
                    let candidate = Candidate { position, theirs: theirs_tid, record };
                    admitted.candidates.retain(|old| old.position != candidate.position);
                    admitted.candidates.push(candidate);
                }
                // The refusal may be of yesterday's revision: the sequencer decides it on today's.
                Err(_) => admitted.rounds = ROUNDS_MAX,
            }
        }
        if merges > 0 {
            admitted.rounds = admitted.rounds.saturating_add(1);
        } else {
            admitted.looks = admitted.looks.saturating_add(1);
        }
    }
}
