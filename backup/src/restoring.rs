//! Owns the restoring: from a chain of backups into a database that is empty, up to any moment that it has.
//!
//! ```text
//!   chain with the moment ─> objects, in order, a few ahead ─> checked ─> their blobs up ─> their transactions in
//! ```
//! The database gets a new life (timeline) with the first transaction. A restore that was cut leaves a database that is the beginning of
//! the backup: it is gone on with when that is asked for, and when its newest transaction is, word for word, one of the backup.

use crate::errors::{Error, Result};
use crate::manifest::{LogObject, StoredBlob, load, load_list};
use crate::place::Place;
use crate::sealed::Kind;
use crate::shelf::{Backup, Chain, Shelf};
use crate::writer::pieces;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use zeolite_client::{BlobStanding, Db, LogPiece, Status, Tid};

/// Objects that are fetched ahead of the one that is restored.
const AHEAD: usize = 2;

/// What is restored.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// From which chain.
    pub chain: Chain,
    /// Up to this transaction, inclusive.
    pub to: Tid,
    /// The newest was asked for, and this is damaged: something newer may have been there.
    pub damage: Vec<String>,
    /// Chains of other lives of the database that have the moment as well: what it was then is another thing in each.
    pub others: Vec<String>,
}

/// What was restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Transactions that came.
    pub transactions: u64,
    /// Bytes of them, and of blobs.
    pub bytes: u64,
    /// The newest.
    pub newest: Tid,
    /// It went on behind this.
    pub resumed: Option<Tid>,
}

/// Finds the newest chain that has a moment; none: the newest of all.
pub fn choose(shelf: &Shelf, to: Option<Tid>) -> Result<Chosen> {
    let good = shelf.chains.iter().rev().filter(|chain| !chain.backups.is_empty());
    let newest = good.clone().next().ok_or_else(|| {
        let damage: Vec<String> = shelf.chains.iter().filter_map(|chain| chain.broken.clone()).collect();
        let damage = if damage.is_empty() { String::new() } else { format!("; damaged: {}", damage.join("; ")) };
        Error::Refused(format!("there is no whole backup of {} here{damage}; `zeolite backup list` shows what there is, and --of takes another database's",
            shelf.database))
    })?;
    let Some(to) = to else {
        return Ok(Chosen {
            chain: newest.clone(),
            to: Tid(u64::MAX),
            damage: shelf.damage_from(newest),
            others: Vec::new(),
        });
    };
    let has = |chain: &&Chain| chain.since() <= to && to <= chain.covers();
    match good.clone().find(has) {
        Some(chain) => {
            let others = good.filter(|other| has(other) && other.life() != chain.life());
            let others = others.map(|other| other.name.clone()).collect();
            Ok(Chosen { chain: chain.clone(), to, damage: Vec::new(), others })
        }
        None => {
            let spans = good.map(|chain| {
                format!("{} ({}) to {} ({})", chain.since(), chain.since().utc(), chain.covers(), chain.covers().utc())
            });
            let spans: Vec<String> = spans.collect();
            Err(Error::Refused(format!("no backup here has {to} ({}); there are: {}", to.utc(), spans.join("; "))))
        }
    }
}

impl Chosen {
    /// The backups that have something up to the moment.
    fn backups(&self) -> impl Iterator<Item = &Backup> {
        let to = self.to;
        self.chain.backups.iter().filter(move |backup| backup.manifest.from < to)
    }
}

/// Restores into a database that is empty, or (`resume`) that has the beginning of it; `tell` gets the bytes so far.
pub async fn restore(
    place: &Place,
    chosen: &Chosen,
    db: &Db,
    resume: bool,
    tell: Arc<dyn Fn(u64) + Send + Sync>,
) -> Result<Restored> {
    let status = db.admin().status().await?;
    let mut objects = Vec::new();
    for backup in chosen.backups() {
        objects.extend(backup.manifest.objects(place, &chosen.chain.dir).await?);
    }
    objects.retain(|object| object.first <= chosen.to);
    let resumed = there(place, chosen, &objects, db, &status, resume).await?;
    let behind = resumed.unwrap_or(Tid::NONE);
    objects.retain(|object| object.last > behind);
    let shared = Arc::new(Shared { wrong: Mutex::default(), bytes: AtomicU64::new(0), tell });
    let source =
        Fetching { place: place.clone(), dir: chosen.chain.dir.clone(), db: db.clone(), shared: shared.clone() };
    let stream = transactions(source, objects, behind, chosen.to);
    let sent = db.admin().restore_pieces(stream).await;
    // What went wrong here says why the stream ended.
    if let Some(wrong) = shared.wrong.lock().expect("nobody panics with it").take() {
        return Err(wrong);
    }
    let sent = sent?;
    let (transactions, newest) = (sent.transactions, sent.last);
    let newest = if transactions == 0 { behind } else { newest };
    Ok(Restored { transactions, newest, resumed, bytes: shared.bytes.load(Ordering::Relaxed) })
}

/// What the fetching tasks have together.
struct Shared {
    wrong: Mutex<Option<Error>>,
    bytes: AtomicU64,
    tell: Arc<dyn Fn(u64) + Send + Sync>,
}

/// Behind which transaction it goes on, if the database has some: only where they are those of the backup.
async fn there(
    place: &Place,
    chosen: &Chosen,
    objects: &[LogObject],
    db: &Db,
    status: &Status,
    resume: bool,
) -> Result<Option<Tid>> {
    // The server's own bookkeeping takes no time: a database that has nothing else is empty.
    if status.objects == 0 && status.visible.unix_nanos() < 0 {
        return Ok(None);
    }
    let newest = status.visible;
    let holds = format!(
        "the database is not empty: it has {} objects, the newest commit is {newest} ({})",
        status.objects,
        newest.utc()
    );
    if !resume {
        return Err(Error::Refused(format!(
            "{holds}; restore into a new one, or say --resume if this is what a restore has left that was cut"
        )));
    }
    let object = objects.iter().find(|object| object.first <= newest && newest <= object.last);
    let stored = match object {
        Some(object) => {
            let plain = load(place, &chosen.chain.dir, &object.stored, Kind::Log).await?;
            of(pieces(&object.stored.name, plain)?, newest)
        }
        None => Vec::new(),
    };
    let mut here = Vec::new();
    let mut pages = db.admin().log_pieces_left(newest).await?;
    while let Some(page) = pages.next().await? {
        here.extend(page);
    }
    if stored.is_empty() || !LogPiece::tell_the_same(&stored, &here) {
        return Err(Error::Refused(format!(
            "{holds}, and that is not what this backup has there; restore into a new one"
        )));
    }
    Ok(Some(newest))
}

fn of(pieces: Vec<LogPiece>, tid: Tid) -> Vec<LogPiece> {
    pieces.into_iter().filter(|piece| piece.tid() == tid).collect()
}

/// Fetches objects, with their blobs.
#[derive(Clone)]
struct Fetching {
    place: Place,
    dir: String,
    db: Db,
    shared: Arc<Shared>,
}

impl Fetching {
    async fn fetch(&self, object: &LogObject) -> Result<Vec<LogPiece>> {
        if let Some(list) = &object.blobs {
            let blobs: Vec<StoredBlob> = load_list(&self.place, &self.dir, list).await?;
            for blob in blobs {
                self.put(blob).await?;
            }
        }
        let plain = load(&self.place, &self.dir, &object.stored, Kind::Log).await?;
        self.count(plain.len());
        pieces(&object.stored.name, plain)
    }

    async fn put(&self, blob: StoredBlob) -> Result<()> {
        if matches!(self.db.blob_standing(blob.id).await?, BlobStanding::Whole(_)) {
            return Ok(());
        }
        let wrong = Arc::new(Mutex::new(None));
        let (fetching, told) = (self.clone(), wrong.clone());
        let parts = stream::iter(blob.parts).then(move |part| {
            let (fetching, told) = (fetching.clone(), told.clone());
            async move {
                let part = load(&fetching.place, &fetching.dir, &part, Kind::BlobPart).await.map_err(|error| {
                    let text = error.to_string();
                    told.lock().expect("nobody panics with it").replace(error);
                    std::io::Error::other(text)
                })?;
                fetching.count(part.len());
                Ok(part)
            }
        });
        let put = self.db.put_blob_of(blob.id, Box::pin(parts)).await;
        match wrong.lock().expect("nobody panics with it").take() {
            Some(wrong) => Err(wrong),
            None => Ok(put?),
        }
    }

    fn count(&self, bytes: usize) {
        let bytes = bytes as u64;
        (self.shared.tell)(self.shared.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes);
    }
}

/// The transactions of these objects, behind one and up to one. What goes wrong ends the stream, and is noted.
fn transactions(
    source: Fetching,
    objects: Vec<LogObject>,
    behind: Tid,
    to: Tid,
) -> impl Stream<Item = LogPiece> + Send + 'static {
    let shared = source.shared.clone();
    let fetched = stream::iter(objects).map(move |object| {
        let source = source.clone();
        async move { source.fetch(&object).await }
    });
    let pieces = fetched.buffered(AHEAD).map_ok(|pieces| stream::iter(pieces).map(Ok::<_, Error>)).try_flatten();
    let wanted = pieces.try_filter(move |piece| std::future::ready(piece.tid() > behind && piece.tid() <= to));
    wanted.scan(shared, |shared, piece| {
        std::future::ready(
            piece.map_err(|error| shared.wrong.lock().expect("nobody panics with it").replace(error)).ok(),
        )
    })
}
