//! Owns the sequencer's part in the closing of a gate: it sees to it that nothing old is sealed while others count.

use super::Sequencer;
use crate::engine::answers::{Closing, Done};
use crate::engine::keep::gates;
use crate::engine::pipeline::ask::{Answer, Ask, Errand, Hop, Origin};
use crate::engine::pipeline::keys::Keyed;
use zeolite_proto::{Fault, FaultKind, Gate, Note, Receipt};

impl Sequencer {
    /// From here on old shapes are sent away; what was sealed before becomes visible first.
    pub(super) fn try_gate(&mut self, gate: Gate, done: Done<Closing>) {
        let engine = self.engine.clone();
        let tell = Box::new(move |refused: Option<Fault>| match refused {
            None => engine.push_control(Ask::CountGate { gate, done }),
            Some(why) => {
                engine.give_up_gate(&gate.class);
                done(Err(why));
            }
        });
        self.send_on(Hop::After { epoch: self.epoch, rests_on: self.newest, tell });
    }

    /// What is stored is counted elsewhere. What is held in the old shape now is all that will ever be: since the attempt began
    /// nothing of it is prepared.
    pub(super) fn count_gate(&mut self, gate: Gate, done: Done<Closing>) {
        let held = self.promised().flat_map(|prepared| &prepared.writes);
        let held = held.filter(|write| gates::is_below(&gate, write)).count() as u64;
        if let Err(Errand::CountGate { gate, done, .. }) = self.send_errand(Errand::CountGate { gate, held, done }) {
            self.engine.give_up_gate(&gate.class);
            let message = "the server is busy with other questions; close the gate again in a moment";
            done(Err(Fault::new(FaultKind::Busy, message).after_ms(50)));
        }
    }

    /// Nothing below it was there, and nothing below it was sealed since.
    pub(super) fn close_gate(&mut self, gate: &Gate, done: Done<Closing>) {
        let write = match gates::write_of(gate) {
            Ok(write) => write,
            Err(fault) => {
                self.engine.give_up_gate(&gate.class);
                return done(Err(fault));
            }
        };
        let (engine, class, key) = (self.engine.clone(), gate.class.clone(), self.engine.own_key());
        let told = Box::new(move |result: Result<Receipt, Fault>| {
            if result.is_err() {
                engine.give_up_gate(&class);
            }
            done(result.map(|receipt| Closing::Closed(receipt.tid)));
        });
        // An own key is new, so this never finds it taken.
        self.engine.keys().enter(&Keyed::new(key), told);
        let note =
            Note { description: format!("gate of {} at {}", gate.class, gate.min_version).into(), ..Note::default() };
        self.seal(key, &note, vec![write], Answer::Key(Origin::own()));
    }
}
