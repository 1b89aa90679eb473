//! Owns the registry: the resolvers by class, the judge of read checks, and who replays drafts.

use crate::read_judge::ReadJudge;
use crate::replayer::Replayer;
use crate::resolver::Resolver;
use std::collections::HashMap;
use std::sync::Arc;

/// The resolvers by class.
#[derive(Clone, Default)]
pub struct Registry {
    by_class: HashMap<String, Arc<dyn Resolver>>,
    read_judge: Option<Arc<dyn ReadJudge>>,
    replayer: Option<Arc<dyn Replayer>>,
}

impl Registry {
    /// No resolvers at all: every concurrent write of one cell is a conflict.
    pub fn empty() -> Registry {
        Registry::default()
    }

    /// The built-in resolvers under their class names; see [`crate::resolvers`].
    pub fn built_in() -> Registry {
        let by_class = crate::resolvers::built_in().map(|(class, it)| (class.to_owned(), it)).collect();
        Registry { by_class, read_judge: None, replayer: None }
    }

    /// Registers a resolver for a class; the last one registered counts.
    pub fn register(&mut self, class: impl Into<String>, resolver: Arc<dyn Resolver>) {
        self.by_class.insert(class.into(), resolver);
    }

    /// The resolver of a class.
    pub fn get(&self, class: &str) -> Option<&Arc<dyn Resolver>> {
        self.by_class.get(class)
    }

    /// Lets this one look at read checks that would fail; without one they do.
    pub fn judge_reads(&mut self, judge: Arc<dyn ReadJudge>) {
        self.read_judge = Some(judge);
    }

    /// Who looks at read checks that would fail.
    pub fn read_judge(&self) -> Option<&dyn ReadJudge> {
        self.read_judge.as_deref()
    }

    /// Lets this one make anew what would be a conflict in a first phase; without one it is.
    pub fn replay_with(&mut self, replayer: Arc<dyn Replayer>) {
        self.replayer = Some(replayer);
    }

    /// Who makes anew what would be a conflict.
    pub fn replayer(&self) -> Option<&dyn Replayer> {
        self.replayer.as_deref()
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
