//! Owns the live traffic: clients that read five synsets, edit one, update the indexes and bump a counter, in one commit.
//!
//! They run the new code: whatever version they read, they write version 2, with the entries of the gloss-word index.
//!
//! ```text
//!   read as      what they know of the index      what they write there
//!   version 2    it has the old gloss's words     the difference between old and new words
//!   version 1    nothing: a worker may be at it   "present" for every new word, "absent" for every old word that is gone
//! ```
//!
//! So no edit waits for the worker and none conflicts with it: if the worker was first, the synset is merged (see
//! `synset`) and the later operations on the index decide; if the edit was first, the worker's read check fails and it
//! steps that one object again. Each client edits its own share of the synsets, so that two glosses never compete.

use super::dictionary::Dictionary;
use super::synset::{self, Synset, VERSION_NEW, WordEntry};
use super::words::words;
use crate::bench::latency::Latency;
use anyhow::{Context, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use zeolite_client::{Db, Error, Ref, Tx};
use zeolite_proto::{Cell, Remedy};

/// Synsets that one transaction reads.
const READS: usize = 5;

/// What the clients have seen in a stretch of time.
#[derive(Clone)]
pub(crate) struct Window {
    pub(crate) commits: u64,
    /// Commits that were refused because of another commit.
    pub(crate) conflicts: u64,
    /// Commits whose synset was merged with a concurrent one.
    pub(crate) merges: u64,
    /// Of the commit alone.
    pub(crate) commit: Latency,
    /// Of the whole transaction: begin, reads, commit.
    pub(crate) transaction: Latency,
    pub(crate) time: Duration,
}

impl Window {
    fn new() -> Window {
        let latency = Latency::new;
        Window { commits: 0, conflicts: 0, merges: 0, commit: latency(), transaction: latency(), time: Duration::ZERO }
    }

    fn take_in(&mut self, other: &Window) {
        self.commits += other.commits;
        self.conflicts += other.conflicts;
        self.merges += other.merges;
        self.commit.merge(&other.commit);
        self.transaction.merge(&other.transaction);
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.commits as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// The running clients.
pub(crate) struct Live {
    windows: Vec<Arc<Mutex<Window>>>,
    tasks: JoinSet<Result<()>>,
    stop: tokio::sync::watch::Sender<bool>,
    since: Instant,
}

impl Live {
    /// Connects the clients and lets them run.
    pub(crate) async fn start(
        url: &str,
        dictionary: &Dictionary,
        synsets: &Arc<Vec<Ref<Synset>>>,
        clients: usize,
    ) -> Result<Live> {
        let stop = tokio::sync::watch::Sender::new(false);
        let mut live = Live { windows: Vec::new(), tasks: JoinSet::new(), stop, since: Instant::now() };
        for number in 0..clients {
            let db = super::connect(url, &format!("live-{number}"), "").await?;
            let window = Arc::new(Mutex::new(Window::new()));
            live.windows.push(window.clone());
            let client = Client {
                db,
                dictionary: dictionary.clone(),
                synsets: synsets.clone(),
                number,
                clients,
                random: fastrand::Rng::with_seed(number as u64 + 1),
                window,
            };
            live.tasks.spawn(client.run(live.stop.subscribe()));
        }
        live.since = Instant::now();
        Ok(live)
    }

    /// Ends the current stretch of time and begins the next.
    pub(crate) fn cut(&mut self) -> Window {
        let mut all = Window::new();
        for window in &self.windows {
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            all.take_in(&std::mem::replace(&mut window, Window::new()));
        }
        all.time = self.since.elapsed();
        self.since = Instant::now();
        all
    }

    /// Commits of the current stretch so far, and its time.
    pub(crate) fn so_far(&self) -> (u64, Duration) {
        let commits = |window: &Arc<Mutex<Window>>| window.lock().unwrap_or_else(PoisonError::into_inner).commits;
        (self.windows.iter().map(commits).sum(), self.since.elapsed())
    }

    /// Gives the error of a client that has failed; waits for ever while all are well.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Ok(()))) => anyhow::anyhow!("a live client stopped before its time"),
            Some(Ok(Err(error))) => error.context("a live client"),
            Some(Err(error)) => anyhow::Error::from(error).context("a live client"),
            None => std::future::pending().await,
        }
    }

    /// Lets every client finish its transaction, then ends them.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a live client")?.context("a live client")?;
        }
        Ok(())
    }
}

struct Client {
    db: Db,
    dictionary: Dictionary,
    synsets: Arc<Vec<Ref<Synset>>>,
    number: usize,
    clients: usize,
    random: fastrand::Rng,
    window: Arc<Mutex<Window>>,
}

impl Client {
    async fn run(mut self, stop: tokio::sync::watch::Receiver<bool>) -> Result<()> {
        while !*stop.borrow() {
            // A share may be empty when there are more clients than synsets.
            let share = self.synsets.len().saturating_sub(self.number).div_ceil(self.clients);
            if share == 0 {
                return std::future::pending().await;
            }
            let edited = self.synsets[self.random.usize(0..share) * self.clients + self.number];
            let mut chosen = vec![edited];
            chosen.extend((1..READS).map(|_| self.synsets[self.random.usize(0..self.synsets.len())]));
            let begun = Instant::now();
            while !self.attempt(&chosen, begun).await? {}
        }
        Ok(())
    }

    /// One transaction; false: it was refused because of another commit, which is counted.
    async fn attempt(&mut self, chosen: &[Ref<Synset>], begun: Instant) -> Result<bool> {
        let word = format!("w{}", self.random.u32(0..1000));
        let tx = self.db.begin().await?;
        let cells: Vec<Cell> = chosen.iter().map(Ref::cell).collect();
        let mut read = Vec::with_capacity(READS);
        for (synset, record) in chosen.iter().zip(tx.get_many(&cells).await?) {
            let record = record.with_context(|| format!("synset {} is missing", synset.cell()))?;
            read.push(synset::read(*synset, &record)?);
        }
        let (version, old) = &read[0];
        edit(&tx, &self.dictionary, chosen[0], *version, old, &word)?;
        let sent = Instant::now();
        let committed = tx.commit().await;
        let (commit, transaction) = (sent.elapsed(), begun.elapsed());
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        match committed {
            Ok(receipt) => {
                window.commits += 1;
                window.merges += u64::from(receipt.merged.iter().any(|merged| merged.cell == cells[0]));
                window.commit.add(commit);
                window.transaction.add(transaction);
                Ok(true)
            }
            Err(error) if error.remedy() == Remedy::Retry => {
                window.conflicts += 1;
                Ok(false)
            }
            Err(error) => Err(Error::into(error)),
        }
    }
}

/// Edits a synset: another last remark in the gloss, another alias among the lemmas, and all that follows from it.
fn edit(
    tx: &Tx,
    dictionary: &Dictionary,
    synset: Ref<Synset>,
    version: u32,
    old: &Synset,
    word: &str,
) -> Result<(), Error> {
    let new = edited(old, word);
    tx.set(synset, &new)?;
    for lemma in old.lemmas.iter().filter(|lemma| !new.lemmas.contains(lemma)) {
        dictionary.lemmas.remove(tx, lemma, synset)?;
    }
    for lemma in new.lemmas.iter().filter(|lemma| !old.lemmas.contains(lemma)) {
        dictionary.lemmas.insert(tx, lemma, synset)?;
    }
    let (old_words, new_words) = (words(&old.gloss), words(&new.gloss));
    let indexed = version >= VERSION_NEW;
    for word in new_words.iter().filter(|word| !(indexed && old_words.contains(word))) {
        WordEntry::put(tx, dictionary.words, word, synset)?;
    }
    for word in old_words.iter().filter(|word| !new_words.contains(word)) {
        WordEntry::take(tx, dictionary.words, word, synset)?;
    }
    dictionary.edit_counter(old.pos).add(tx, 1)
}

const REMARK: &str = "; edited as ";
const ALIAS: char = '~';

fn edited(old: &Synset, word: &str) -> Synset {
    let original = old.gloss.split(REMARK).next().unwrap_or_default();
    let mut new = old.clone();
    new.gloss = format!("{original}{REMARK}{word}");
    new.edits += 1;
    new.count_words();
    new.lemmas.retain(|lemma| !lemma.contains(ALIAS));
    let alias = format!("{}{ALIAS}{}", new.lemmas.first().map_or("", String::as_str), new.edits);
    new.lemmas.push(alias);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::wordnet::Pos;

    #[test]
    fn edits_replace_each_other() {
        let lemmas = vec!["dog".to_owned()];
        let old =
            Synset { pos: Pos::Noun, offset: 1, lemmas, gloss: "a x".into(), relations: vec![], edits: 0, words: 2 };
        let twice = edited(&edited(&old, "w1"), "w2");
        assert_eq!(twice.gloss, "a x; edited as w2");
        assert_eq!((twice.lemmas, twice.edits, twice.words), (vec!["dog".to_owned(), "dog~2".to_owned()], 2, 5));
    }
}
