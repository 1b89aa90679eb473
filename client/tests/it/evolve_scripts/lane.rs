//! Owns the lane: how far a script lets the steps of one worker go, and how far they are.

use crate::site::Page;
use tokio::sync::watch;
use zeolite_client::collections::Counter;
use zeolite_client::evolve::{Step, Stepped};
use zeolite_client::{Cell, Error, Persistent, Record, Ref, Tx};

/// What a worker's steps have done.
#[derive(Default)]
pub(crate) struct Steps {
    permits: usize,
    /// A step stands here: its object was read, and nothing was made of it.
    pub(crate) at: Option<Cell>,
    /// Since the script was told last.
    pub(crate) made: Vec<(Cell, bool)>,
    /// The worker is gone, and said this.
    pub(crate) ended: Option<String>,
}

impl Steps {
    /// Nothing moves any more, unless the script lets it.
    pub(crate) fn rest(&self) -> bool {
        self.ended.is_some() || (self.at.is_some() && self.permits == 0)
    }
}

/// Between the script and the steps of one worker.
pub(crate) struct Lane {
    steps: watch::Sender<Steps>,
}

impl Lane {
    pub(crate) fn new(permits: usize) -> Lane {
        Lane { steps: watch::Sender::new(Steps { permits, ..Steps::default() }) }
    }

    pub(crate) fn let_pass(&self, steps: usize) {
        self.steps.send_modify(|lane| lane.permits = lane.permits.saturating_add(steps));
    }

    pub(crate) fn end(&self, said: String) {
        self.steps.send_modify(|lane| lane.ended = Some(said));
    }

    pub(crate) async fn until(&self, reached: impl FnMut(&Steps) -> bool) {
        self.steps.subscribe().wait_for(reached).await.expect("the lane is there");
    }

    /// What was made since the last time, where a step stands, what the worker said when it ended.
    pub(crate) fn take(&self) -> (Vec<(Cell, bool)>, Option<Cell>, Option<String>) {
        let mut taken = None;
        self.steps.send_modify(|lane| {
            taken = Some((std::mem::take(&mut lane.made), lane.at.clone(), lane.ended.take()));
        });
        taken.expect("taken above")
    }

    /// Stands at a cell until there is a permit; a step that is dropped meanwhile stands nowhere.
    async fn pass(&self, cell: &Cell) {
        let here = Here(self);
        self.steps.send_modify(|lane| lane.at = Some(cell.clone()));
        let mut steps = self.steps.subscribe();
        steps.wait_for(|lane| lane.permits > 0).await.expect("the lane is there");
        self.steps.send_modify(|lane| {
            lane.at = None;
            if lane.permits < usize::MAX {
                lane.permits -= 1;
            }
        });
        drop(here);
    }
}

struct Here<'l>(&'l Lane);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.steps.send_modify(|lane| lane.at = None);
    }
}

/// Tells that a step was made, also if it panics.
struct Told<'l> {
    lane: &'l Lane,
    cell: &'l Cell,
    well: bool,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.lane.steps.send_modify(|lane| lane.made.push((self.cell.clone(), self.well)));
    }
}

/// What the steps of a job do. Neither may happen twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Brings a page to version 2, and adds one to the counter; fails where the text begins with `bad`, panics at `terrible`.
    Upgrade,
    /// Adds one to the page's own edits.
    Touch,
}

/// A step that goes as far as the script lets it.
pub(crate) struct Stepwise {
    pub(crate) lane: std::sync::Arc<Lane>,
    pub(crate) kind: Kind,
    pub(crate) counter: Counter,
}

impl Stepwise {
    async fn make(&self, tx: &Tx, cell: &Cell, old: &Record) -> Result<Stepped, Error> {
        let reference: Ref<Page> = Ref::new(cell.oid);
        if self.kind == Kind::Touch {
            tx.update(reference, |page| page.edits += 1).await?;
            return Ok(Stepped::Keep);
        }
        let page = Page::upgrade(old.version, &old.data)?;
        if page.text.starts_with("bad") {
            return Err(Error::app(format!("cannot stand {:?}", page.text)));
        }
        assert!(!page.text.starts_with("terrible"), "{} is too much", page.text);
        tx.set(reference, &page)?;
        self.counter.add(tx, 1)?;
        Ok(Stepped::Keep)
    }
}

impl Step for Stepwise {
    fn name(&self) -> String {
        "as the script says".into()
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        self.lane.pass(cell).await;
        let mut told = Told { lane: &self.lane, cell, well: false };
        let made = self.make(tx, cell, &old).await;
        told.well = made.is_ok();
        made
    }
}
