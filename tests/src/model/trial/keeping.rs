//! Owns durable prepared drafts in a trial: who was told that one is prepared finds it so in the next life, until it is ended.

use super::{Holding, Trial};
use crate::support::told::Told;
use zeolite_proto::{CommitKey, Fault, FaultKind, PreparedDraft};
use zeolite_server::engine::PreparedReceipt;

impl Trial {
    /// Whether a draft was refused because of a durable one; that may have been ended since.
    pub(super) fn is_held(&self, fault: &Fault) -> bool {
        let named = |key: &CommitKey| fault.message.contains(&format!("is held by the prepared transaction {key} "));
        self.durable_keys.iter().any(named)
    }

    /// Who would owe waits for what is prepared and owes as well.
    pub(super) fn holds_a_ledger(&self, fault: &Fault) -> bool {
        let is_prepared = !self.durable_keys.is_empty() || !self.holding.is_empty();
        is_prepared && fault.message.contains("holds the ledger of an evolve")
    }

    /// A prepare, or an end, of which this life will not tell what became of it.
    pub(super) fn doubt(&mut self, holding: Holding, kind: FaultKind) {
        if holding.durable && kind == FaultKind::OutcomeUnknown {
            self.doubtful.push(holding);
        }
    }

    /// An abort that was refused: it finds no room for now, or the next life will tell.
    pub(super) fn not_aborted(&mut self, holding: Holding, fault: &Fault) -> Result<(), String> {
        match fault.kind {
            // What was being finished when the log failed may be on the disk.
            FaultKind::Poisoned if self.harm.log && !holding.durable => {}
            _ if !holding.durable => return Err(format!("an abort was refused: {fault}")),
            FaultKind::OutcomeUnknown | FaultKind::Poisoned if self.harm.log => self.doubtful.push(holding),
            kind if self.excuses_a_finish(kind) => self.holding.push(holding),
            _ => return Err(format!("an abort of a durable draft was refused: {fault}")),
        }
        Ok(())
    }

    /// Shut down in order: what is prepared stays, unless a part of it is stale or its time is over; what is durable in any case.
    pub(super) fn keep_the_durable(&mut self) {
        let mut all: Vec<Holding> = self.holding.drain(..).collect();
        let refused = |holding: &mut Holding| match holding.told.take() {
            Some(Err(fault)) => fault.kind == FaultKind::ShuttingDown,
            Some(Ok(receipt)) => {
                holding.given = Some(receipt);
                false
            }
            None => false,
        };
        all.retain_mut(|holding| !refused(holding));
        for mut holding in all {
            if !holding.durable {
                let is_whole = holding.given.as_ref().is_some_and(|given| given.stale.is_empty());
                if !is_whole || self.steady >= holding.until {
                    continue;
                }
                holding.durable = true;
                self.durable_keys.push(holding.draft.key);
                self.count("kept over a restart");
                if self.harm.log {
                    // What is not written is not kept.
                    holding.given = None;
                }
            }
            self.holding.push(holding);
        }
    }

    /// Another life has begun: what it has prepared is what was promised, and nothing that nobody asked for.
    pub(super) fn find_the_durable(&mut self) -> Result<(), String> {
        let before: Vec<Holding> = self.holding.drain(..).filter(|holding| holding.durable).collect();
        let doubtful = std::mem::take(&mut self.doubtful);
        let mut listed = self.list_prepared()?;
        for mut holding in before.into_iter().chain(doubtful.into_iter().map(doubted)) {
            let key = holding.draft.key;
            let at = listed.iter().position(|prepared| prepared.key == key);
            match (at, &holding.given) {
                (Some(at), _) => {
                    if !listed.swap_remove(at).durable || self.beside.model.by_key(key).is_some() {
                        return Err(format!("{key} is prepared, but not durable or committed as well"));
                    }
                    self.count("prepared in the next life");
                    let merged = holding.given.take().map_or(Vec::new(), |given| given.merged);
                    holding.given = Some(PreparedReceipt { prepared: 0, merged, stale: Vec::new() });
                    self.holding.push(holding);
                }
                // One in the usual strength that was kept over a restart has its time limit still.
                (None, Some(_)) if self.steady >= holding.until => {}
                (None, Some(_)) => return Err(format!("{key} was prepared durably, and is gone")),
                (None, None) => {}
            }
        }
        match listed.first() {
            None => Ok(()),
            Some(prepared) => Err(format!("{} is prepared, but nobody asked for it, or it was ended", prepared.key)),
        }
    }

    fn list_prepared(&mut self) -> Result<Vec<PreparedDraft>, String> {
        let (done, told) = Told::pair();
        self.beside.house.engine().prepared(done);
        self.run_dry()?;
        told.expect().map_err(|fault| format!("what is prepared was not told: {fault}"))
    }
}

// Nothing is promised of it.
fn doubted(holding: Holding) -> Holding {
    Holding { given: None, heard: false, ..holding }
}
