//! Owns the check at the end: every invariant of the dictionary, read at one snapshot.
//!
//! Nothing here trusts the others: it reads every synset and every entry of both indexes, and computes what must be.

use super::dictionary::{Dictionary, Ledger, synsets_of_version};
use super::migration;
use super::synset::{self, Synset, VERSION_NEW, VERSION_OLD};
use super::wordnet::Pos;
use super::words::words;
use crate::output::{Out, Table, count};
use crate::progress::Bar;
use anyhow::{Context, Result};
use bytes::Bytes;
use std::collections::HashSet;
use zeolite_client::collections::Index;
use zeolite_client::{Db, Handle, Range, Ref, View, keys};
use zeolite_proto::{Cell, Record};

const LOAD_CELLS: usize = 5000;

/// One invariant: what must be, and what is.
pub(crate) struct Finding {
    what: String,
    expected: String,
    found: String,
}

impl Finding {
    fn new(what: impl Into<String>, expected: u64, found: u64) -> Finding {
        Finding { what: what.into(), expected: count(expected), found: count(found) }
    }

    pub(crate) fn holds(&self) -> bool {
        self.expected == self.found
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "what": self.what, "expected": self.expected, "found": self.found, "holds": self.holds() })
    }
}

/// Prints them as a table.
pub(crate) fn tell(out: &Out, findings: &[Finding]) {
    let mut table = Table::new(&["invariant", ">must be", ">is", ""]);
    for finding in findings {
        let verdict = out.verdict(finding.holds(), if finding.holds() { "holds" } else { "BROKEN" });
        table.add([finding.what.clone(), finding.expected.clone(), finding.found.clone(), verdict]);
    }
    out.table(&table);
}

/// What the synsets say must be.
#[derive(Default)]
struct Tally {
    synsets: [u64; 4],
    edits: [u64; 4],
    old: u64,
    miscounted: u64,
    lemmas: HashSet<Bytes>,
    words: HashSet<Bytes>,
}

/// Reads everything. No client may be writing: the counts by kind are those of now, not of the snapshot.
pub(crate) async fn check(db: &Db, dictionary: &Dictionary, ledger: &Ledger, bar: &Bar) -> Result<Vec<Finding>> {
    db.newest().await?;
    let view = db.begin().await?;
    let synsets = ledger.synsets();
    let mut tally = Tally::default();
    for (at, part) in synsets.chunks(LOAD_CELLS).enumerate() {
        bar.set((at * LOAD_CELLS) as u64, synsets.len() as u64);
        tally.read(&view, part).await?;
    }
    bar.set(synsets.len() as u64, synsets.len() as u64);
    bar.finish();

    let total = synsets.len() as u64;
    let mut findings = vec![
        Finding::new(
            "synsets of version 2, as the server counts them",
            total,
            synsets_of_version(db, VERSION_NEW).await?,
        ),
        Finding::new("synsets of version 1, as the server counts them", 0, synsets_of_version(db, VERSION_OLD).await?),
        Finding::new("synsets stored in the old version", 0, tally.old),
        Finding::new("synsets whose new field does not fit the gloss", 0, tally.miscounted),
    ];
    let migrated = u64::try_from(dictionary.migrated.get(&view).await?).unwrap_or(u64::MAX);
    if let Some(job) = migration::earlier(db).await? {
        let shown = job.show().await?;
        let changed = shown.counts.changed.saturating_sub(shown.taken_back);
        findings.push(Finding::new("counter of migrated synsets, against the job's ledger", changed, migrated));
    }
    findings.push(Finding::new("closed gates", 1, db.admin().gates().await?.len() as u64));
    for pos in Pos::ALL {
        let (synsets, edits) = (dictionary.synset_counter(pos), dictionary.edit_counter(pos));
        let at = pos as usize;
        let counter = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
        findings.push(Finding::new(
            format!("counter of {}s", pos.name()),
            tally.synsets[at],
            counter(synsets.get(&view).await?),
        ));
        findings.push(Finding::new(
            format!("counter of edits of {}s", pos.name()),
            tally.edits[at],
            counter(edits.get(&view).await?),
        ));
    }
    for (what, index, expected) in
        [("lemma", dictionary.lemmas, &tally.lemmas), ("gloss-word", dictionary.words, &tally.words)]
    {
        let (missing, surplus, wrong) = compare(&view, index, expected).await?;
        findings.push(Finding::new(
            format!("{what} index: entries"),
            expected.len() as u64,
            expected.len() as u64 - missing + surplus,
        ));
        findings.push(Finding::new(format!("{what} index: missing entries"), 0, missing));
        findings.push(Finding::new(format!("{what} index: stale entries"), 0, surplus));
        findings.push(Finding::new(format!("{what} index: entries that lead elsewhere"), 0, wrong));
    }
    Ok(findings)
}

impl Tally {
    async fn read(&mut self, view: &View, synsets: &[Ref<Synset>]) -> Result<()> {
        let cells: Vec<Cell> = synsets.iter().map(Ref::cell).collect();
        for (reference, record) in synsets.iter().zip(view.get_many(&cells).await?) {
            let record = record.with_context(|| format!("synset {} is missing", reference.cell()))?;
            let (version, synset) = synset::read(*reference, &record)?;
            let words = words(&synset.gloss);
            self.synsets[synset.pos as usize] += 1;
            self.edits[synset.pos as usize] += synset.edits;
            self.old += u64::from(version < VERSION_NEW);
            self.miscounted += u64::from(synset.words as usize != words.len());
            self.lemmas.extend(synset.lemmas.iter().map(|lemma| keys::encode(&(lemma, *reference))));
            self.words.extend(words.iter().map(|word| keys::encode(&(word, *reference))));
        }
        Ok(())
    }
}

/// Walks over an index: entries that are missing, that should not be, and that refer to another object than their key says.
async fn compare(view: &View, index: Index<String, Synset>, expected: &HashSet<Bytes>) -> Result<(u64, u64, u64)> {
    let (mut found, mut surplus, mut wrong) = (0u64, 0u64, 0u64);
    let mut scan = view.scan(index.oid(), Range::all());
    while let Some(entries) = scan.next_page().await? {
        for entry in entries {
            match expected.contains(&entry.key) {
                true => found += 1,
                false => surplus += 1,
            }
            let record = Record::decode(&entry.record)?;
            let oid = record.refs.first().map(|oid| oid.0.to_be_bytes());
            wrong += u64::from(oid.is_none_or(|oid| !entry.key.ends_with(&oid)));
        }
    }
    Ok((expected.len() as u64 - found, surplus, wrong))
}
