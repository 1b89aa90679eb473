//! Owns the sequencer's part in a promotion: with one transaction of the server's own a new term and a new life of the store begin.
//!
//! Both are in one batch: after a crash the copy is a follower as before, or the primary of the new term.

use super::Sequencer;
use crate::engine::answers::Done;
use crate::engine::ids::public;
use crate::engine::keep::term_cell::{self, Term};
use crate::engine::note;
use crate::engine::pipeline::ask::{Answer, Life, Origin};
use crate::engine::pipeline::keys::{Entered, Keyed};
use crate::storage::{Txn, TxnWrite};
use zeolite_proto::{Fault, FaultKind, Note, Receipt, Tid};

impl Sequencer {
    pub(super) fn promote(&mut self, term: u64, done: Done<Receipt>) {
        let seats = &self.engine.copies().seats;
        if term <= seats.met() {
            let message =
                format!("term {term} is not newer than {}, which this copy knows; promote it again", seats.met());
            return done(Err(Fault::new(FaultKind::Busy, message).after_ms(100)));
        }
        let record = match term_cell::record_of(Term { number: term, by: seats.id() }, self.engine.unix_ms()).encode() {
            Ok(record) => record,
            Err(error) => return done(Err(Fault::new(FaultKind::Internal, error.to_string()))),
        };
        let key = self.engine.own_key();
        if !matches!(self.engine.keys().enter(&Keyed::new(key), done), Entered::New) {
            return;
        }
        let timeline = public(self.engine.setup.seed, "timeline", self.engine.steady_ns());
        let write = TxnWrite { cell: term_cell::cell(), record: Some(record), merged: false };
        let note = Note { description: format!("promoted: term {term}").into(), ..Note::default() };
        let txn = Txn {
            tid: self.last.next(),
            key,
            digest: 0,
            own: true,
            note: note::encode(&note),
            writes: vec![write].into(),
        };
        self.promoted = Some((self.epoch, txn.tid));
        self.pass_on(txn, (Some(Life { timeline, packed_to: Tid::NONE }), false), Answer::Key(Origin::own()));
    }
}
