//! Owns the `Resolver` trait and the registry that finds the resolver of a class.
//!
//! A resolver decides what two concurrent writes of one cell become. It is a pure function: bytes in, bytes out, no
//! clock, no I/O, no state, so that client and server, first run and replay, always agree.
//!
//! ```text
//!   merge(base, theirs, ours)     base ──> theirs (committed first)
//!                                     └──> ours   (wants to commit)     => one record, or a reason why not
//!   apply(current, operation)     whatever is there now, changed        => one record, or a reason why not
//! ```
//!
//! `apply` is the stronger form: the draft carries no value, so it needs no base and never conflicts by itself.

use crate::record::Record;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// Why a resolver refuses; ends up in the conflict's `reason`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unresolved(pub String);

impl Unresolved {
    /// A refusal for this reason.
    pub fn because(reason: impl Into<String>) -> Unresolved {
        Unresolved(reason.into())
    }
}

/// Merges concurrent writes of one cell. `None` stands for "does not exist" on each of the three sides.
pub trait Resolver: Send + Sync + 'static {
    /// One line for people.
    fn description(&self) -> &str;

    /// What both writes together mean. `Ok(None)`: the cell is deleted.
    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved>;

    /// The record after the operation; `class` is the draft's, for a cell that does not exist yet.
    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        let _ = (current, operation);
        Err(Unresolved(format!("class {class:?} has no apply operations; put a record instead")))
    }

    /// Whether `apply` does anything.
    fn applies(&self) -> bool {
        false
    }

    /// True for a resolver too slow to run where commits are put in order; it then runs in parallel before that.
    fn expensive(&self) -> bool {
        false
    }
}

/// The resolvers by class.
#[derive(Clone, Default)]
pub struct Registry {
    by_class: HashMap<String, Arc<dyn Resolver>>,
}

impl Registry {
    /// No resolvers at all: every concurrent write of one cell is a conflict.
    pub fn empty() -> Registry {
        Registry::default()
    }

    /// The built-in resolvers under their class names; see [`crate::resolvers`].
    pub fn built_in() -> Registry {
        let mut registry = Registry::default();
        crate::resolvers::register(&mut registry);
        registry
    }

    /// Registers a resolver for a class; the last one registered counts.
    pub fn register(&mut self, class: impl Into<String>, resolver: Arc<dyn Resolver>) {
        self.by_class.insert(class.into(), resolver);
    }

    /// The resolver of a class.
    pub fn get(&self, class: &str) -> Option<&Arc<dyn Resolver>> {
        self.by_class.get(class)
    }

    /// The resolver for a merge: that of the class which all sides that exist have; none when their classes differ.
    ///
    /// It is asked whenever both sides wrote the cell since the base, also when both deleted it: an item of a queue may
    /// be deleted by one only.
    pub fn of_sides(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Option<&Arc<dyn Resolver>> {
        let mut classes = [theirs, ours, base].into_iter().flatten().map(|record| record.class.as_str());
        let class = classes.next()?;
        if classes.all(|other| other == class) { self.get(class) } else { None }
    }

    /// All, sorted by class.
    pub fn list(&self) -> Vec<(&str, &dyn Resolver)> {
        let mut all: Vec<_> = self.by_class.iter().map(|(class, r)| (class.as_str(), r.as_ref())).collect();
        all.sort_by_key(|(class, _)| *class);
        all
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list().iter().map(|(class, _)| class)).finish()
    }
}
