//! Owns the taking of a backup: full or incremental, from the log as the wire gives it, beside live traffic.
//!
//! ```text
//!   what is there ─> full or incremental ─> pin ─> log, piece by piece ─> objects ─> list ─> manifest
//!                                            └── what is not whole is gone on with
//! ```
//! The log has one order, so a backup is what the database was at its newest transaction, whatever is written meanwhile. A pack
//! between two backups takes history that the chain has already; one that has gone further than the last backup has taken what nobody
//! told the chain of, and a new one begins. While a backup reads, its pin keeps packs from overtaking it.
//!
//! One at a time is taken ([`Turn`]). The manifest is put last, and only where there is none: so if two run at once all the same, one is
//! told that the other was first, and what a cut leaves is never taken for a backup. How far it has come is said now and then (`.progress`), after an eighth more each time.

use crate::errors::{Error, Result};
use crate::manifest::{Extent, FORMAT, LogObject, Manifest, load_list, store_list};
use crate::place::Place;
use crate::shelf::{Backup, Chain, NUMBER_MAX, Progress, Shelf, manifest_name, new_chain};
use crate::turn::Turn;
use crate::writer::{Numbers, Writer};
use std::collections::HashSet;
use std::time::Duration;
use zeolite_client::evolve::Beside;
use zeolite_client::{BlobId, Db, FaultKind, Status, Tid};

/// A pack that overtakes the reading of what it packs makes it begin anew, so often.
const BEGUN_ANEW_MAX: u32 = 3;
/// A commit may be so long on its way before it is visible: what was not seen of a moment that is older was not there.
const ON_ITS_WAY_MS: u64 = 10_000;
/// How often it is looked whether that pack has ended.
const PACK_LOOK_EVERY: Duration = Duration::from_secs(1);
/// So often in a row a lost connection may bring nothing new.
const LOST_MAX: u32 = 3;

/// How a backup is taken.
#[derive(Clone, Debug)]
pub struct How {
    /// A full one, whatever there is.
    pub full: bool,
    /// A full one when the last full one is older than this.
    pub full_every: Duration,
    /// The 99th percentile of live commits may be this many times what it is without.
    pub live_ratio_max: f64,
    /// Bytes of one stored object, about, before they are compressed.
    pub object_bytes: usize,
    /// The machine's clock, in milliseconds since 1970.
    pub now_unix_ms: fn() -> u64,
}

/// How far one is.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Full, and why; empty: incremental.
    pub why_full: String,
    /// Gone on with behind this transaction.
    pub resumed: Option<Tid>,
    /// The newest transaction that is in it.
    pub last: Tid,
    /// That which it goes up to, at least.
    pub to: Tid,
    /// Bytes read.
    pub bytes: u64,
    /// What slows it down; empty: nothing.
    pub slowed: String,
}

/// What was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The chain that it is in.
    pub chain: String,
    /// What is said of it.
    pub manifest: Manifest,
    /// Gone on with behind this transaction.
    pub resumed: Option<Tid>,
}

/// One backup that is being taken.
struct Taking<'a> {
    db: &'a Db,
    place: &'a Place,
    how: &'a How,
    database: &'a str,
    status: Status,
    pace: Beside,
    course: Course,
    tell: &'a mut (dyn FnMut(&Course) + Send + Sync),
}

/// What is to be taken.
struct Goal<'a> {
    chain: String,
    /// The backup that it follows; none: it is a full one.
    behind: Option<&'a Backup>,
    /// What was begun of it.
    begun: Option<&'a Progress>,
    run: String,
}

impl Goal<'_> {
    fn number(&self) -> u32 {
        self.behind.map_or(0, |last| last.manifest.number) + 1
    }

    fn from(&self) -> Tid {
        self.behind.map_or(Tid::NONE, |last| last.manifest.to)
    }
}

/// Takes a backup of the database that a client is connected to, with the role `replicate`.
pub async fn take(
    db: &Db,
    place: &Place,
    database: &str,
    how: &How,
    tell: &mut (dyn FnMut(&Course) + Send + Sync),
) -> Result<Taken> {
    let turn = Turn::take(place, database, &dice()?, how.now_unix_ms).await?;
    let taken = take_now(db, place, database, how, tell).await;
    turn.end().await;
    taken
}

async fn take_now(
    db: &Db,
    place: &Place,
    database: &str,
    how: &How,
    tell: &mut (dyn FnMut(&Course) + Send + Sync),
) -> Result<Taken> {
    let status = db.admin().status().await?;
    let pace = Beside::new(how.live_ratio_max);
    let mut taking = Taking { db, place, how, database, status, pace, course: Course::default(), tell };
    let mut anew = 0;
    loop {
        match taking.once().await {
            Err(Error::Client(error)) if is_packed(&error) && anew < BEGUN_ANEW_MAX => {
                anew += 1;
                tracing::info!(%error, "a pack has overtaken the backup, which begins anew behind it");
                taking.status = unpacking(db).await?;
            }
            done => return done,
        }
    }
}

/// Overtaken by a pack, or one is at work in what is to be read.
fn is_packed(error: &zeolite_client::Error) -> bool {
    let kinds = [FaultKind::SnapshotPacked, FaultKind::Busy];
    matches!(error, zeolite_client::Error::Fault(fault) if kinds.contains(&fault.kind))
}

/// The status when no pack is at work.
async fn unpacking(db: &Db) -> Result<Status> {
    loop {
        let status = db.admin().status().await?;
        if status.pack.is_none() {
            return Ok(status);
        }
        tokio::time::sleep(PACK_LOOK_EVERY).await;
    }
}

impl Taking<'_> {
    async fn once(&mut self) -> Result<Taken> {
        let shelf = Shelf::look(self.place, self.database).await?;
        let run = dice()?;
        let goal = self.goal(&shelf, &run);
        let chain = format!("{}/{}", self.database, goal.chain);
        let begun_unix_ms = (self.how.now_unix_ms)();
        let known = self.known(&shelf, &goal, &chain).await?;
        let begun = self.begun(&goal, &chain).await?;
        self.course.resumed = begun.0.last().map(|object| object.last);
        let run = format!("{:04}-{run}", goal.number());
        let mut known = known;
        known.extend(self.blobs_of(&chain, &begun.0).await?);
        let mut writer = Writer::new((self.place, &chain), run.clone(), self.how.object_bytes, known, begun);
        let from = self.course.resumed.unwrap_or_else(|| goal.from());
        // What it reads is neither packed meanwhile, nor is what it goes on behind.
        let pinned = from.max(self.status.packed_to).max(Tid(1));
        let pin = match self.status.visible > Tid::NONE {
            true => Some(self.db.pin_at(pinned).await?),
            false => None,
        };
        self.course.to = self.status.visible;
        let draft = self.draft(&goal, begun_unix_ms);
        self.read(&mut writer, from, &draft, &run).await?;
        writer.close().await?;
        let manifest = self.finish(&goal, &chain, &run, writer, draft).await?;
        if let Some(pin) = pin {
            // What it kept may be packed now; if that cannot be said, the lease ends.
            drop(pin.release().await);
        }
        Ok(Taken { chain: goal.chain, manifest, resumed: self.course.resumed })
    }

    /// What is to be taken: it follows the newest backup, if nothing speaks against that.
    fn goal<'s>(&mut self, shelf: &'s Shelf, run: &str) -> Goal<'s> {
        let newest = shelf.newest();
        let why = self.why_full(shelf, newest);
        self.course.why_full = why.unwrap_or_default();
        if let (true, Some((chain, last))) = (self.course.why_full.is_empty(), newest) {
            let begun = further(chain, last.manifest.number + 1, &self.status);
            return Goal { chain: chain.name.clone(), behind: Some(last), begun, run: run.to_owned() };
        }
        // One that was begun before the newest would come before it in the order of chains.
        let behind =
            shelf.chains.iter().rev().take_while(|chain| newest.is_none_or(|(newest, _)| newest.name != chain.name));
        let begun = behind.filter(|chain| chain.backups.is_empty() && chain.broken.is_none());
        let begun = begun.filter_map(|chain| Some((chain, further(chain, 1, &self.status)?))).next();
        match begun {
            Some((chain, begun)) => {
                Goal { chain: chain.name.clone(), behind: None, begun: Some(begun), run: run.to_owned() }
            }
            None => {
                let chain = new_chain(shelf, (self.how.now_unix_ms)(), run);
                Goal { chain, behind: None, begun: None, run: run.to_owned() }
            }
        }
    }

    fn why_full(&self, shelf: &Shelf, newest: Option<(&Chain, &Backup)>) -> Option<String> {
        let (status, Some((chain, last))) = (&self.status, newest) else { return Some("it is the first one".into()) };
        let (full, last) = (&chain.backups[0].manifest, &last.manifest);
        let damage = shelf.damage_from(chain);
        if self.how.full {
            Some("it was asked for".into())
        } else if let Some(broken) = damage.first() {
            Some(format!("there is damage: {broken}"))
        } else if status.store_id != last.store_id || status.timeline != last.timeline {
            Some("the database has another life since the last backup: it was restored or put back".into())
        } else if status.visible < last.to {
            Some("the database is behind the last backup".into())
        } else if status.packed_to > last.to {
            Some(format!("history is packed up to {}, and the last backup ends at {}", status.packed_to, last.to))
        } else if is_old(full.done_unix_ms, (self.how.now_unix_ms)(), self.how.full_every) {
            Some("the last full one is old enough".into())
        } else if last.number >= NUMBER_MAX {
            Some(format!("the chain has {NUMBER_MAX} backups"))
        } else {
            None
        }
    }

    /// The blobs of what it follows.
    async fn known(&self, shelf: &Shelf, goal: &Goal<'_>, dir: &str) -> Result<HashSet<BlobId>> {
        let mut known = HashSet::new();
        if goal.behind.is_some() {
            let chain = shelf.chains.iter().find(|chain| chain.name == goal.chain);
            let backups = chain.iter().flat_map(|chain| &chain.backups);
            for backup in backups.filter(|backup| backup.manifest.blobs > 0) {
                let objects = backup.manifest.objects(self.place, dir).await?;
                known.extend(self.blobs_of(dir, &objects).await?);
            }
        }
        Ok(known)
    }

    async fn blobs_of(&self, chain: &str, objects: &[LogObject]) -> Result<Vec<BlobId>> {
        let mut all = Vec::new();
        for list in objects.iter().filter_map(|object| object.blobs.as_ref()) {
            let blobs: Vec<crate::manifest::StoredBlob> = load_list(self.place, chain, list).await?;
            all.extend(blobs.into_iter().map(|blob| blob.id));
        }
        Ok(all)
    }

    /// What is there of a backup that was cut, if it can be gone on with: nothing of what follows was packed.
    async fn begun(&self, goal: &Goal<'_>, chain: &str) -> Result<(Vec<LogObject>, Numbers)> {
        let Some(begun) = goal.begun.and_then(|begun| begun.manifest.as_ref()) else { return Ok(Default::default()) };
        if self.status.packed_to > begun.to {
            return Ok(Default::default());
        }
        let objects = match begun.objects(self.place, chain).await {
            Ok(objects) => objects,
            Err(Error::Damaged { name, why }) => {
                tracing::warn!(name, why, "a cut backup is not gone on with");
                return Ok(Default::default());
            }
            Err(error) => return Err(error),
        };
        let Manifest { transactions, revisions, blobs, blob_bytes, stored_bytes, .. } = *begun;
        Ok((objects, Numbers { transactions, revisions, blobs, blob_bytes, stored_bytes }))
    }

    /// What is known of the backup before it is read.
    fn draft(&self, goal: &Goal<'_>, begun_unix_ms: u64) -> Manifest {
        let status = &self.status;
        Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            database: self.database.to_owned(),
            store_id: status.store_id,
            timeline: status.timeline,
            number: goal.number(),
            extent: if goal.behind.is_none() { Extent::Full } else { Extent::Incremental },
            why: self.course.why_full.clone(),
            before: goal.behind.map(|last| last.sum.clone()),
            from: goal.from(),
            to: goal.from(),
            covers: Tid::from_unix_nanos(i128::from(status.unix_ms.saturating_sub(ON_ITS_WAY_MS)) * 1_000_000),
            packed_to: status.packed_to,
            begun_unix_ms,
            done_unix_ms: 0,
            transactions: 0,
            revisions: 0,
            blobs: 0,
            blob_bytes: 0,
            stored_bytes: 0,
            objects: None,
        }
    }

    /// Reads the log to what is visible now; a connection that is lost is made again.
    async fn read(&mut self, writer: &mut Writer<'_>, from: Tid, draft: &Manifest, run: &str) -> Result<()> {
        let (mut lost, mut reached, mut told) = (0, from, writer.objects.len());
        self.pace.took(0, &self.db.admin()).await?;
        while reached < self.course.to {
            let error = match self.read_on(writer, reached, draft, run, &mut told).await {
                Ok(()) => return has_ended(writer.last().max(from), self.course.to, self.status.packed_to),
                Err(Error::Client(error @ zeolite_client::Error::Disconnected { .. })) => error,
                Err(error) => return Err(error),
            };
            writer.drop_unfinished();
            let last = writer.last().max(reached);
            lost = if last > reached { 0 } else { lost + 1 };
            // What is packed is read in one go, or from its beginning.
            let can_go_on = last >= self.status.packed_to;
            if lost > LOST_MAX || !can_go_on {
                return Err(error.into());
            }
            tracing::info!(%error, %last, "the backup goes on in another connection");
            reached = last;
        }
        Ok(())
    }

    async fn read_on(
        &mut self,
        writer: &mut Writer<'_>,
        behind: Tid,
        draft: &Manifest,
        run: &str,
        told: &mut usize,
    ) -> Result<()> {
        let from = if behind == Tid::NONE { Tid::NONE } else { behind.next() };
        let mut pages = self.db.admin().log_pieces(from).await?;
        while let Some(page) = pages.next().await? {
            for piece in page {
                if piece.timeline() != self.status.timeline {
                    return Err(Error::Refused(
                        "the database was restored or put back meanwhile; take the backup again".into(),
                    ));
                }
                let bytes = writer.add(self.db, &piece).await?;
                self.course.bytes += bytes as u64;
                self.course.last = piece.tid();
                self.pace.took(bytes, &self.db.admin()).await?;
                self.place.be_gentle(self.pace.is_slowed());
                if writer.objects.len() >= *told + (*told / 8).max(2) {
                    self.say(writer, draft, run).await?;
                    *told = writer.objects.len();
                }
            }
            self.course.slowed = self.pace.why().to_owned();
            (self.tell)(&self.course);
        }
        Ok(())
    }

    /// Says how far it has come, for whoever goes on with it.
    async fn say(&self, writer: &Writer<'_>, draft: &Manifest, run: &str) -> Result<()> {
        let name = format!("{run}.progress");
        let chain = writer.chain();
        let so_far = self.filled(writer, draft.clone(), run).await?;
        self.place.put(&format!("{chain}/{name}"), so_far.sealed(self.place, &name)?).await
    }

    async fn filled(&self, writer: &Writer<'_>, draft: Manifest, run: &str) -> Result<Manifest> {
        let Numbers { transactions, revisions, blobs, blob_bytes, stored_bytes } = writer.numbers;
        let (count, to) = (writer.objects.len(), writer.stored().max(draft.from));
        let name = format!("{run}/objects-{count:06}");
        let objects = match count {
            0 => None,
            _ => Some(store_list(self.place, writer.chain(), name, &writer.objects).await?),
        };
        let stored_bytes = stored_bytes + objects.as_ref().map_or(0, |list| list.bytes);
        Ok(Manifest { to, transactions, revisions, blobs, blob_bytes, stored_bytes, objects, ..draft })
    }

    /// Makes it a backup: with its manifest it is there.
    async fn finish(
        &self,
        goal: &Goal<'_>,
        chain: &str,
        run: &str,
        writer: Writer<'_>,
        draft: Manifest,
    ) -> Result<Manifest> {
        let filled = self.filled(&writer, draft, run).await?;
        let covers = filled.covers.max(filled.to);
        let manifest = Manifest { covers, done_unix_ms: (self.how.now_unix_ms)(), ..filled };
        let name = manifest_name(goal.number());
        // Somebody who took this run for a dead one has removed it.
        if let Some(first) = writer.objects.iter().find(|object| object.stored.name.starts_with(run))
            && !self.place.is_there(&format!("{chain}/{}", first.stored.name)).await?
        {
            return Err(Error::Refused(
                "what was stored of this backup is gone: it stood still for too long; take it again".into(),
            ));
        }
        if !self.place.put_new(&format!("{chain}/{name}"), manifest.sealed(self.place, &name)?).await? {
            return Err(Error::Refused(format!(
                "another backup has finished {chain}/{name} meanwhile; this one is left out"
            )));
        }
        let begun = goal.begun.map(|begun| begun.run.as_str());
        for run in [Some(run), begun].into_iter().flatten() {
            self.place.remove(&format!("{chain}/{run}.progress")).await?;
        }
        tracing::debug!(chain, name, run = goal.run, "a backup is whole");
        Ok(manifest)
    }
}

/// Whether a full backup is older than that. The clock may have been ahead when it was made: of a far future is as good as old.
fn is_old(done_unix_ms: u64, now_unix_ms: u64, than: Duration) -> bool {
    u128::from(now_unix_ms.abs_diff(done_unix_ms)) > than.as_millis()
}

/// The log has ended without an error: it has to have what was visible before it was read. Of what is packed the newest may be gone.
fn has_ended(last: Tid, visible: Tid, packed_to: Tid) -> Result<()> {
    if last >= visible || visible <= packed_to {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the server ended its log at {last}, and there is a commit {visible} already; take the backup again, and verify the database if this is told again"
    )))
}

/// The backup of this number that was cut and has come the furthest, in the life that the database has.
fn further<'s>(chain: &'s Chain, number: u32, status: &Status) -> Option<&'s Progress> {
    let is_its = |begun: &&Progress| {
        let of = begun.manifest.as_ref().map(|manifest| (manifest.store_id, manifest.timeline));
        begun.number == number && of == Some((status.store_id, status.timeline))
    };
    chain.begun.iter().filter(is_its).max_by_key(|begun| begun.manifest.as_ref().map(|manifest| manifest.to))
}

/// Eight digits that no other run has.
fn dice() -> Result<String> {
    let thrown = getrandom::u32().map_err(|error| Error::Refused(format!("no randomness: {error}")))?;
    Ok(format!("{thrown:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_backup_of_the_future_is_followed_by_another() {
        let than = Duration::from_millis(10);
        assert_eq!(
            [80, 89, 90, 100, 110, 111, 9000].map(|done| is_old(done, 100, than)),
            [true, true, false, false, false, true, true]
        );
    }

    #[test]
    fn a_log_that_ends_early_is_not_believed() {
        assert!(
            has_ended(Tid(8), Tid(9), Tid(3)).is_err_and(|error| error.to_string().contains("take the backup again"))
        );
        assert!(has_ended(Tid(9), Tid(9), Tid(3)).is_ok() && has_ended(Tid(12), Tid(9), Tid(3)).is_ok());
        assert!(has_ended(Tid(8), Tid(9), Tid(9)).is_ok(), "what was the newest is packed");
    }
}
