//! Owns the batch: what one sync covers, and who is told after it.

use crate::engine::Engine;
use crate::engine::numbers::slow::Journey;
use crate::engine::pipeline::ask::{Answer, Life};
use crate::engine::pipeline::way::OnItsWay;
use crate::storage::Txn;
use std::sync::Arc;
use zeolite_proto::{Fault, Tid};

/// What one fsync covers, and who is told after it.
pub(super) struct Batch {
    pub(super) epoch: u64,
    /// The new life of the store that begins with it.
    pub(super) life: Option<Life>,
    /// Something in it may be written by a primary only.
    pub(super) of_primary: bool,
    /// Followers are sent the same.
    pub(super) txns: Arc<Vec<Txn>>,
    pub(super) answers: Vec<Told>,
    /// For what is slow; the same for all of them but the time of sealing.
    pub(super) times: Journey,
}

pub(super) enum Told {
    /// The next transaction's committer.
    Txn { answer: Answer, sealed_ns: u64, on_its_way: OnItsWay },
    /// Somebody who had to wait for what was sealed before.
    After(Tid, Box<dyn FnOnce(Option<Fault>) + Send>),
}

impl Batch {
    pub(super) fn last(&self) -> Tid {
        self.txns.last().map_or(Tid::NONE, |txn| txn.tid)
    }

    pub(super) fn tell(self, engine: &Engine) {
        self.conclude(engine, None);
    }

    pub(super) fn refuse(self, engine: &Engine, why: &Fault) {
        self.conclude(engine, Some(why));
    }

    /// Whoever waits for a commit of it waits no longer; the commit stays on its way.
    pub(super) fn let_go(&self, engine: &Engine, why: &Fault) {
        self.txns.iter().for_each(|txn| engine.keys().refuse_waiting(txn.key, why));
    }

    fn conclude(self, engine: &Engine, refused: Option<&Fault>) {
        let mut txns = self.txns.iter();
        for told in self.answers {
            match told {
                Told::Txn { answer, sealed_ns, on_its_way } => {
                    let txn = txns.next().expect("each answer was drained together with its transaction");
                    let journey = Journey { sealed_ns, ..self.times };
                    engine.answer(txn, answer, journey, refused.map_or(Ok(()), |why| Err(why.clone())));
                    drop(on_its_way);
                }
                Told::After(rests_on, tell) => tell(refused.filter(|_| rests_on > engine.visible()).cloned()),
            }
        }
    }
}
