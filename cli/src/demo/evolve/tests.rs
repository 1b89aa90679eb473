//! Owns the test of the worker's read check: what a live client changes between the worker's snapshot and its commit.

use super::*;
use crate::demo::synset::{OldSynset, VERSION_OLD};
use crate::demo::{connect, live, load, registry, wordnet};
use crate::host::Host;
use crate::output::Out;
use crate::progress::Progress;

/// Three synsets of the old version: the glosses of two have a word that nobody else has.
async fn loaded(db: &Db) -> Result<(Dictionary, Ledger)> {
    let mut source: Vec<wordnet::Synset> = wordnet::load()?.into_iter().take(3).collect();
    source[0].gloss = "a thing; edited as stale".to_owned();
    source[1].gloss = "a unicorn".to_owned();
    let (dictionary, mut ledger) = load::begin(db, &source, 0).await?;
    let progress = Progress::new(&Out::new(true));
    let bars = (progress.bar("load", "", 0), progress.bar("relate", "", 0));
    load::load(db, &dictionary, &source, &mut ledger, (&bars.0, &bars.1)).await?;
    Ok((dictionary, ledger))
}

/// New code edits the first synset, which also brings it to the new version; old code edits the second.
async fn live_clients_edit(db: &Db, dictionary: &Dictionary, synsets: &[Ref<Synset>]) -> Result<()> {
    // The load was another client's.
    let tx = db.transaction().fresh().begin().await?;
    let first = tx.load(synsets[0]).await?;
    live::edit(&tx, dictionary, synsets[0], VERSION_OLD, &first, "fresh")?;
    let Synset { pos, offset, lemmas, relations, edits, .. } = tx.load(synsets[1]).await?;
    let second = OldSynset { pos, offset, lemmas, gloss: "quite another animal".to_owned(), relations, edits };
    tx.put_encoded(synsets[1].cell(), encode_record(&second)?)?;
    tx.commit().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_live_client_changes_before_the_commit_is_stepped_again_and_not_overwritten() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let host = Host::start(dir.path(), registry(), |_| {}).await?;
    let (db, live) = (connect(&host.url(), "worker", "evolve").await?, connect(&host.url(), "live", "").await?);
    let (dictionary, mut ledger) = loaded(&db).await?;
    let synsets = ledger.synsets();
    let oids: Vec<Oid> = synsets.iter().map(Ref::oid).collect();
    let (worked, size) = (Worked::default(), chunk::OBJECTS_START);
    let mut worker = Worker { db: &db, dictionary: &dictionary, ledger: &mut ledger, worked, size };

    let mut steps = HashMap::new();
    let attempt = worker.attempt(&oids, true, &mut steps).await?;
    live_clients_edit(&live, &dictionary, &synsets).await?;
    assert!(!worker.commit(&oids, attempt).await?, "what it has read is no longer so");
    let attempt = worker.attempt(&oids, true, &mut steps).await?;
    assert!(worker.commit(&oids, attempt).await?);
    let Worked { objects, chunks, refused, stepped_again, found_new, .. } = worker.worked;
    assert_eq!((objects, chunks, refused, stepped_again, found_new), (3, 1, 1, 2, 1));

    let view = live.transaction().fresh().begin().await?;
    let mut found = Vec::new();
    for synset in &synsets {
        let record = view.get_encoded(&synset.cell()).await?.context("is there")?;
        let (version, value) = synset::read(*synset, &record)?;
        assert_eq!((version, value.words as usize), (VERSION_NEW, words(&value.gloss).len()), "{value:?}");
        for word in words(&value.gloss) {
            assert!(dictionary.words.contains(&view, &word, *synset).await?, "{word} of {value:?}");
        }
        found.push(value);
    }
    assert_eq!((found[0].gloss.as_str(), found[0].edits), ("a thing; edited as fresh", 1));
    assert_eq!(found[1].gloss, "quite another animal");
    for gone in ["stale", "unicorn"] {
        assert!(dictionary.words.find(&view, gone).await?.is_empty(), "the index still has {gone}");
    }
    assert!(view.load(dictionary.ledger).await?.migrated);
    host.stop().await
}
