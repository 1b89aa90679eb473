//! Owns the load: WordNet into the database, in chunks, each with the ledger in its own commit.
//!
//! Two passes, so that at any moment every reference leads somewhere: first the synsets without relations, with their
//! lemmas and the counters; then each again with its relations. Whoever stops it between two commits loses the chunk
//! that was under way, nothing else; the next run goes on at the ledger.

use super::dictionary::{Dictionary, Ledger};
use super::synset::{OldSynset, Synset};
use super::wordnet::{self, Name, Pos};
use crate::progress::Bar;
use anyhow::Result;
use std::collections::HashMap;
use zeolite_client::typed::encode_record;
use zeolite_client::{Db, Ref};

const SYNSETS_PER_COMMIT: usize = 1000;

/// Begins a dictionary of about so many synsets (0: all) with oids for all of them.
pub(crate) async fn begin(db: &Db, source: &[wordnet::Synset], synsets: usize) -> Result<(Dictionary, Ledger)> {
    let stride = if synsets == 0 { 1 } else { source.len().div_ceil(synsets).max(1) };
    let mut ledger = Ledger::begin(stride as u64);
    for _ in source.iter().step_by(stride) {
        ledger.push(db.new_oid().await?);
    }
    let dictionary = Dictionary::make(db, &ledger).await?;
    Ok((dictionary, ledger))
}

/// Goes on where the ledger says.
pub(crate) async fn load(
    db: &Db,
    dictionary: &Dictionary,
    source: &[wordnet::Synset],
    ledger: &mut Ledger,
    bars: (&Bar, &Bar),
) -> Result<()> {
    let chosen: Vec<&wordnet::Synset> = source.iter().step_by(ledger.stride.max(1) as usize).collect();
    let synsets = ledger.synsets();
    let by_name: HashMap<Name, Ref<Synset>> =
        chosen.iter().map(|synset| synset.name).zip(synsets.iter().copied()).collect();
    let total = chosen.len() as u64;
    bars.0.set(ledger.stored, total);
    bars.1.set(ledger.related, total);
    let done = ledger.stored as usize;
    for (chunk, synsets) in chosen[done..].chunks(SYNSETS_PER_COMMIT).zip(synsets[done..].chunks(SYNSETS_PER_COMMIT)) {
        store(db, dictionary, chunk, synsets, ledger).await?;
        bars.0.set(ledger.stored, total);
    }
    bars.0.finish();
    let done = ledger.related as usize;
    for (chunk, synsets) in chosen[done..].chunks(SYNSETS_PER_COMMIT).zip(synsets[done..].chunks(SYNSETS_PER_COMMIT)) {
        relate(db, dictionary, chunk, synsets, &by_name, ledger).await?;
        bars.1.set(ledger.related, total);
    }
    bars.1.finish();
    Ok(())
}

/// First pass: the synsets of a chunk, their lemmas, the counters, the ledger; one commit.
async fn store(
    db: &Db,
    dictionary: &Dictionary,
    chunk: &[&wordnet::Synset],
    synsets: &[Ref<Synset>],
    ledger: &mut Ledger,
) -> Result<()> {
    let tx = db.begin().await?;
    for (source, synset) in chunk.iter().zip(synsets) {
        tx.put_encoded(synset.cell(), encode_record(&object(source, &HashMap::new()))?)?;
        for lemma in &source.lemmas {
            dictionary.lemmas.insert(&tx, lemma, *synset)?;
        }
    }
    for pos in Pos::ALL {
        let synsets = chunk.iter().filter(|synset| synset.name.pos == pos).count();
        if synsets > 0 {
            dictionary.synset_counter(pos).add(&tx, synsets as i64)?;
        }
    }
    let next = Ledger { stored: ledger.stored + chunk.len() as u64, ..ledger.clone() };
    tx.set(dictionary.ledger, &next)?;
    tx.commit().await?;
    *ledger = next;
    Ok(())
}

/// Second pass: the relations of a chunk's synsets, the ledger; one commit.
async fn relate(
    db: &Db,
    dictionary: &Dictionary,
    chunk: &[&wordnet::Synset],
    synsets: &[Ref<Synset>],
    by_name: &HashMap<Name, Ref<Synset>>,
    ledger: &mut Ledger,
) -> Result<()> {
    let tx = db.begin().await?;
    for (source, synset) in chunk.iter().zip(synsets).filter(|(source, _)| !source.pointers.is_empty()) {
        tx.put_encoded(synset.cell(), encode_record(&object(source, by_name))?)?;
    }
    let next = Ledger { related: ledger.related + chunk.len() as u64, ..ledger.clone() };
    tx.set(dictionary.ledger, &next)?;
    tx.commit().await?;
    *ledger = next;
    Ok(())
}

/// A synset of the source as old code stores it. Relations to what was left out are left out.
fn object(synset: &wordnet::Synset, by_name: &HashMap<Name, Ref<Synset>>) -> OldSynset {
    let target = |(relation, name): &(wordnet::Relation, Name)| by_name.get(name).map(|synset| (*relation, *synset));
    OldSynset {
        pos: synset.name.pos,
        offset: synset.name.offset,
        lemmas: synset.lemmas.clone(),
        gloss: synset.gloss.clone(),
        relations: synset.pointers.iter().filter_map(target).collect(),
        edits: 0,
    }
}
