//! Owns the class Synset: its two schema versions, the upgrade between them, and how two concurrent edits of one merge.
//!
//! ```text
//!   version 1   name, lemmas, gloss, relations, edits
//!   version 2   the same, and `words`: how many different words the gloss has
//! ```
//!
//! `words` follows from the gloss, so whoever changes the gloss counts again, and so does a merge: a worker that adds the
//! field to the old gloss and a client that edits the gloss at the same time end as the new gloss with its own count.

use super::wordnet::{Pos, Relation};
use super::words::words;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use zeolite_client::collections::Index;
use zeolite_client::typed::{decode_record, encode_record};
use zeolite_client::{Error, Handle, Persistent, Ref, Tx, keys};
use zeolite_proto::record::Header;
use zeolite_proto::resolver::{Resolver, Unresolved};
use zeolite_proto::{Cell, Oid, Record};

/// Before the migration.
pub(crate) const VERSION_OLD: u32 = 1;
/// After it.
pub(crate) const VERSION_NEW: u32 = 2;

/// A set of synonyms, as new code sees it, whatever version is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Synset {
    pub(crate) pos: Pos,
    pub(crate) offset: u32,
    pub(crate) lemmas: Vec<String>,
    pub(crate) gloss: String,
    pub(crate) relations: Vec<(Relation, Ref<Synset>)>,
    /// How often it was edited: the sum over all is what the counters of edits say.
    pub(crate) edits: u64,
    /// The different words of the gloss; since version 2.
    pub(crate) words: u32,
}

/// The same as old code sees it, which knows version 1 only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OldSynset {
    pub(crate) pos: Pos,
    pub(crate) offset: u32,
    pub(crate) lemmas: Vec<String>,
    pub(crate) gloss: String,
    pub(crate) relations: Vec<(Relation, Ref<Synset>)>,
    pub(crate) edits: u64,
}

impl Persistent for OldSynset {
    const CLASS: &str = Synset::CLASS;
    const VERSION: u32 = VERSION_OLD;
}

impl Persistent for Synset {
    const CLASS: &str = "wordnet.Synset";
    const VERSION: u32 = VERSION_NEW;

    fn upgrade(version: u32, data: &[u8]) -> Result<Synset, Error> {
        if version != VERSION_OLD {
            return Err(Synset::no_upgrade(version));
        }
        let old: OldSynset = Synset::old_shape(version, data)?;
        let OldSynset { pos, offset, lemmas, gloss, relations, edits } = old;
        let mut new = Synset { pos, offset, lemmas, gloss, relations, edits, words: 0 };
        new.count_words();
        Ok(new)
    }
}

impl Synset {
    /// Makes the new field agree with the gloss.
    pub(crate) fn count_words(&mut self) {
        self.words = words(&self.gloss).len() as u32;
    }
}

/// A synset with the schema version in which it is stored; upgraded if that is the old one.
pub(crate) fn read(reference: Ref<Synset>, record: &Bytes) -> Result<(u32, Synset), Error> {
    let cell = reference.cell();
    let version = Header::parse(record).map_err(|bad| Error::app(format!("synset {cell}: {bad}")))?.version;
    Ok((version, decode_record(&cell, record)?))
}

/// Merges concurrent edits of one synset, field by field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MergeSynsets;

impl Resolver for MergeSynsets {
    fn description(&self) -> &str {
        "synsets: field by field, lemmas as a set, edits added up, words counted again"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let (Some(base), Some(theirs), Some(ours)) = (base, theirs, ours) else {
            return Err(Unresolved::because("a synset was made or deleted by one of two concurrent commits"));
        };
        if theirs.version < VERSION_NEW && ours.version < VERSION_NEW {
            return Err(Unresolved::because("two writers of the old version; only the new one is merged"));
        }
        let (base, theirs, ours) = (new(base)?, new(theirs)?, new(ours)?);
        let mut merged = Synset {
            pos: one("part of speech", base.pos, theirs.pos, ours.pos)?,
            offset: one("offset", base.offset, theirs.offset, ours.offset)?,
            gloss: one("gloss", base.gloss, theirs.gloss, ours.gloss)?,
            relations: one("relations", base.relations, theirs.relations, ours.relations)?,
            lemmas: both(&base.lemmas, &theirs.lemmas, &ours.lemmas),
            edits: (theirs.edits + ours.edits).saturating_sub(base.edits),
            words: 0,
        };
        merged.count_words();
        let encoded = encode_record(&merged).map_err(unresolved)?;
        Ok(Some(Record::decode(&encoded)?))
    }
}

/// The synset in a record, upgraded if it is old.
fn new(record: &Record) -> Result<Synset, Unresolved> {
    decode_record(&Cell::object(Oid::ROOT), &record.encode()?).map_err(unresolved)
}

fn unresolved(error: Error) -> Unresolved {
    Unresolved(error.to_string())
}

/// The side that changed; it must not be both.
fn one<T: PartialEq>(field: &str, base: T, theirs: T, ours: T) -> Result<T, Unresolved> {
    if ours == base || ours == theirs {
        Ok(theirs)
    } else if theirs == base {
        Ok(ours)
    } else {
        Err(Unresolved(format!("both commits changed the {field}")))
    }
}

/// Theirs, without what ours removed, with what ours added.
fn both(base: &[String], theirs: &[String], ours: &[String]) -> Vec<String> {
    let kept = theirs.iter().filter(|lemma| ours.contains(lemma) || !base.contains(lemma));
    let added = ours.iter().filter(|lemma| !base.contains(lemma) && !theirs.contains(lemma));
    kept.chain(added).cloned().collect()
}

/// The class of the entries of the gloss-word index.
pub(crate) const WORD_CLASS: &str = "wordnet.Word";

/// An entry of the gloss-word index is there or not; whoever commits last decides, and no live client conflicts.
///
/// The entry's cell is the pair of a word and a synset, and only who commits that synset writes it, so the order of the
/// commits of entries is the order of the commits of glosses. Live clients, who cannot know whether a worker is at the
/// synset, send operations. The worker, whose reads are checked, puts records: that is cheaper to put in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WordEntry;

impl WordEntry {
    const ABSENT: u8 = 0;
    const PRESENT: u8 = 1;

    /// Makes an entry that is not there at the snapshot.
    pub(crate) fn make(tx: &Tx, words: Index<String, Synset>, word: &str, synset: Ref<Synset>) -> Result<(), Error> {
        tx.put(WordEntry::cell(words, word, synset), &WordEntry::record(WORD_CLASS, synset.oid()))
    }

    fn record(class: &str, synset: Oid) -> Record {
        Record { class: class.to_owned(), version: 1, refs: vec![synset], blobs: Vec::new(), data: Bytes::new() }
    }

    /// Whatever is there, afterwards the synset is under the word.
    pub(crate) fn put(tx: &Tx, words: Index<String, Synset>, word: &str, synset: Ref<Synset>) -> Result<(), Error> {
        let mut operation = vec![WordEntry::PRESENT];
        operation.extend_from_slice(&synset.oid().0.to_be_bytes());
        tx.apply(WordEntry::cell(words, word, synset), WORD_CLASS, operation.into())
    }

    /// Whatever is there, afterwards the synset is not under the word.
    pub(crate) fn take(tx: &Tx, words: Index<String, Synset>, word: &str, synset: Ref<Synset>) -> Result<(), Error> {
        tx.apply(WordEntry::cell(words, word, synset), WORD_CLASS, Bytes::from_static(&[WordEntry::ABSENT]))
    }

    /// Where the client's own `Index` has the entry, so that it can be read as such.
    fn cell(words: Index<String, Synset>, word: &str, synset: Ref<Synset>) -> Cell {
        Cell::entry(words.oid(), keys::encode(&(word, synset)))
    }
}

impl Resolver for WordEntry {
    fn description(&self) -> &str {
        "an entry of the gloss-word index: there or not, as the last commit says"
    }

    fn merge(
        &self,
        _base: Option<&Record>,
        _theirs: Option<&Record>,
        _ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        Err(Unresolved::because("two commits put this entry; read the synset again"))
    }

    fn apply(&self, class: &str, _current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        match operation.split_first() {
            Some((&WordEntry::ABSENT, [])) => Ok(None),
            Some((&WordEntry::PRESENT, oid)) if oid.len() == 8 => {
                let oid = oid.iter().fold(0, |oid, byte| oid << 8 | u64::from(*byte));
                Ok(Some(WordEntry::record(class, Oid(oid))))
            }
            _ => Err(Unresolved::because("unknown operation on an entry of the gloss-word index")),
        }
    }

    fn applies(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synset() -> Synset {
        let relations = vec![(Relation::Hypernym, Ref::new(Oid(7))), (Relation::Antonym, Ref::new(Oid(9)))];
        let (lemmas, gloss) = (vec!["dog".to_owned()], "a member of the genus".to_owned());
        let mut synset = Synset { pos: Pos::Noun, offset: 1740, lemmas, gloss, relations, edits: 3, words: 0 };
        synset.count_words();
        synset
    }

    fn record(synset: &Synset, version: u32) -> Record {
        let Synset { pos, offset, lemmas, gloss, relations, edits, .. } = synset.clone();
        let encoded = match version {
            VERSION_OLD => encode_record(&OldSynset { pos, offset, lemmas, gloss, relations, edits }),
            _ => encode_record(synset),
        };
        Record::decode(&encoded.expect("encodes")).expect("decodes")
    }

    #[test]
    fn both_versions_read_as_the_same_synset() {
        for version in [VERSION_OLD, VERSION_NEW] {
            let record = record(&synset(), version);
            assert_eq!((record.version, &record.refs), (version, &vec![Oid(7), Oid(9)]));
            let encoded = record.encode().expect("encodes");
            assert_eq!(read(Ref::new(Oid(1)), &encoded).expect("reads"), (version, synset()));
        }
        let unknown = Record { version: 3, ..record(&synset(), VERSION_NEW) }.encode().expect("encodes");
        assert!(read(Ref::new(Oid(1)), &unknown).is_err());
    }

    #[test]
    fn a_new_field_and_a_live_edit_merge_whoever_comes_first() {
        let (base, migrated) = (record(&synset(), VERSION_OLD), record(&synset(), VERSION_NEW));
        let mut edited = synset();
        edited.gloss += ", tame";
        edited.lemmas = vec!["dog".into(), "hound".into()];
        edited.edits += 1;
        edited.count_words();
        for version in [VERSION_OLD, VERSION_NEW] {
            let live = record(&edited, version);
            for (theirs, ours) in [(&migrated, &live), (&live, &migrated)] {
                let merged = MergeSynsets.merge(Some(&base), Some(theirs), Some(ours));
                assert_eq!(merged, Ok(Some(record(&edited, VERSION_NEW))));
            }
        }
        let old = record(&edited, VERSION_OLD);
        assert!(MergeSynsets.merge(Some(&base), Some(&old), Some(&old)).is_err());
    }

    #[test]
    fn two_glosses_are_a_real_conflict_and_lemmas_are_not() {
        let base = record(&synset(), VERSION_NEW);
        let with = |gloss: &str, lemma: &str| {
            let mut synset = synset();
            synset.gloss = gloss.into();
            synset.lemmas.push(lemma.into());
            synset.edits += 1;
            record(&synset, VERSION_NEW)
        };
        let refused = MergeSynsets.merge(Some(&base), Some(&with("x", "a")), Some(&with("y", "b")));
        assert_eq!(refused, Err(Unresolved::because("both commits changed the gloss")));
        let merged = MergeSynsets.merge(Some(&base), Some(&with("x", "a")), Some(&with("x", "b")));
        let merged = new(&merged.expect("merges").expect("is there")).expect("reads");
        assert_eq!((merged.lemmas, merged.edits, merged.words), (["dog", "a", "b"].map(String::from).to_vec(), 5, 1));
    }

    #[test]
    fn an_entry_is_there_or_not() {
        let (present, absent) = (Bytes::from_static(b"\x01\0\0\0\0\0\0\x12\x34"), Bytes::from_static(b"\0"));
        let there = WordEntry.apply(WORD_CLASS, None, &present).expect("applies");
        assert_eq!(there.as_ref().expect("is there").refs, [Oid(0x1234)]);
        assert_eq!(WordEntry.apply(WORD_CLASS, there.as_ref(), &present), Ok(there.clone()));
        assert_eq!(WordEntry.apply(WORD_CLASS, there.as_ref(), &absent), Ok(None));
        assert_eq!(WordEntry.apply(WORD_CLASS, None, &absent), Ok(None));
        for wrong in ["", "\x07", "\0x", "\x01short"] {
            assert!(WordEntry.apply(WORD_CLASS, None, &Bytes::from_static(wrong.as_bytes())).is_err());
        }
    }
}
