//! Owns the registry: the resolvers by class.

use crate::resolver::Resolver;
use std::collections::HashMap;
use std::sync::Arc;

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
        Registry { by_class: crate::resolvers::built_in().map(|(class, it)| (class.to_owned(), it)).collect() }
    }

    /// Registers a resolver for a class; the last one registered counts.
    pub fn register(&mut self, class: impl Into<String>, resolver: Arc<dyn Resolver>) {
        self.by_class.insert(class.into(), resolver);
    }

    /// The resolver of a class.
    pub fn get(&self, class: &str) -> Option<&Arc<dyn Resolver>> {
        self.by_class.get(class)
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
