//! Owns where everything of the demo is stored: the dictionary object, its indexes, its counters and its ledger.
//!
//! ```text
//!   root "wordnet" ─> dictionary ─┬─> lemmas    index  lemma ─> synsets
//!                                 ├─> words     index  word of a gloss ─> synsets     (filled by the migration)
//!                                 ├─> synsets   4 counters, one per part of speech
//!                                 ├─> edits     4 counters, one per part of speech
//!                                 ├─> migrated  counter of the synsets that the migration has stepped
//!                                 └─> ledger    how far the load is
//! ```
//!
//! Everything is reachable from the root: synsets through their lemmas.

use super::synset::Synset;
use super::wordnet::Pos;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use zeolite_client::collections::{Counter, Create, Index};
use zeolite_client::{Db, Persistent, Ref, View};
use zeolite_proto::Oid;

const NAME: &str = "wordnet";

/// Where the parts are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Dictionary {
    pub(crate) lemmas: Index<String, Synset>,
    pub(crate) words: Index<String, Synset>,
    synsets: [Counter; 4],
    edits: [Counter; 4],
    pub(crate) migrated: Counter,
    pub(crate) ledger: Ref<Ledger>,
}

impl Persistent for Dictionary {
    const CLASS: &str = "wordnet.Dictionary";
    const VERSION: u32 = 2;
}

/// How far the work is; written in the commit of the work itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Every how many-th synset of WordNet is loaded; 1: all.
    pub(crate) stride: u64,
    /// The oids of the synsets, in their order: first oid, count.
    pub(crate) oids: Vec<(u64, u64)>,
    /// Synsets stored so far, without their relations.
    pub(crate) stored: u64,
    /// Synsets whose relations were put in so far.
    pub(crate) related: u64,
}

impl Persistent for Ledger {
    const CLASS: &str = "wordnet.Ledger";
    const VERSION: u32 = 2;
}

impl Ledger {
    /// Of nothing yet.
    pub(crate) fn begin(stride: u64) -> Ledger {
        Ledger { stride, ..Ledger::default() }
    }

    /// How many synsets there are to be.
    pub(crate) fn total(&self) -> u64 {
        self.oids.iter().map(|(_, count)| count).sum()
    }

    /// The synsets, in their order, which is that of their oids.
    pub(crate) fn synsets(&self) -> Vec<Ref<Synset>> {
        self.oids.iter().flat_map(|(first, count)| (*first..first + count).map(|oid| Ref::new(Oid(oid)))).collect()
    }

    /// Adds an oid to the list.
    pub(crate) fn push(&mut self, oid: Oid) {
        match self.oids.last_mut() {
            Some((first, count)) if *first + *count == oid.0 => *count += 1,
            _ => self.oids.push((oid.0, 1)),
        }
    }

    /// Whether the load is over.
    pub(crate) fn is_loaded(&self) -> bool {
        self.related == self.total()
    }
}

impl Dictionary {
    /// Finds the dictionary of a database; `None` in one that has none yet.
    pub(crate) async fn find(view: &View) -> Result<Option<Dictionary>> {
        let root: Option<Ref<Dictionary>> = view.root(NAME).await?;
        match root {
            Some(root) => Ok(Some(view.load(root).await?)),
            None => Ok(None),
        }
    }

    /// Makes an empty dictionary, in one commit with its ledger.
    pub(crate) async fn make(db: &Db, ledger: &Ledger) -> Result<Dictionary> {
        let tx = db.begin().await?;
        let mut counters = Vec::new();
        for _ in 0..8 {
            counters.push(Counter::create(&tx).await?);
        }
        let four = |from: usize| [0, 1, 2, 3].map(|at| counters[from + at]);
        let dictionary = Dictionary {
            lemmas: Index::create(&tx).await?,
            words: Index::create(&tx).await?,
            synsets: four(0),
            edits: four(4),
            migrated: Counter::create(&tx).await?,
            ledger: tx.create(ledger).await?,
        };
        let root = tx.create(&dictionary).await?;
        tx.set_root(NAME, &root).await?;
        tx.commit().await?;
        Ok(dictionary)
    }

    /// The counter of the synsets of a part of speech.
    pub(crate) fn synset_counter(&self, pos: Pos) -> Counter {
        self.synsets[pos as usize]
    }

    /// The counter of the edits of synsets of a part of speech.
    pub(crate) fn edit_counter(&self, pos: Pos) -> Counter {
        self.edits[pos as usize]
    }
}

/// How many synsets there are in a schema version, exactly, as the server counts them.
pub(crate) async fn synsets_of_version(db: &Db, version: u32) -> Result<u64> {
    let kinds = db.admin().kinds().await?;
    Ok(kinds
        .kinds
        .iter()
        .filter(|kind| kind.class == Synset::CLASS && kind.version == version)
        .map(|kind| kind.objects)
        .sum())
}
