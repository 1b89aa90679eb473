//! Owns the lease on a range: claiming it, keeping it, giving it back, and finding out that it was lost.

use super::job::newest_view;
use super::ledger::{Kept, RangeRecord, alone, encoded, kept, range_cell};
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::tx::Place;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::{Cell, Change, Oid, Tid, Write, hash};

/// The lease on a range that this worker holds.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    db: Db,
    job: Oid,
    pub(crate) number: u32,
    /// As this worker has written it last.
    pub(crate) record: RangeRecord,
    /// The commit that did.
    pub(crate) tid: Tid,
    /// When.
    at: Instant,
}

impl Lease {
    /// Takes a range as it was seen; none: another worker was faster.
    pub(crate) async fn claim(
        db: &Db,
        job: Oid,
        number: u32,
        seen: Kept<RangeRecord>,
        who: (&str, u64),
    ) -> Result<Option<Lease>> {
        let mut held = Lease { db: db.clone(), job, number, tid: seen.tid, record: seen.record, at: Instant::now() };
        let take = |next: &mut RangeRecord| {
            (next.holder, next.nonce) = (who.0.to_owned(), who.1);
            (next.rate, next.waits_for) = (0.0, String::new());
        };
        Ok(held.put(take).await?.then_some(held))
    }

    pub(crate) fn cell(&self) -> Cell {
        range_cell(self.job, self.number)
    }

    /// The write of the next revision, for a draft; conflicts if the range was taken over.
    pub(crate) fn write(&self, next: &RangeRecord) -> Result<Write> {
        Ok(Write { cell: self.cell(), base: self.tid, change: Change::Put(encoded(next)?), stamped: false })
    }

    /// The draft with that write was committed.
    pub(crate) fn written(&mut self, next: RangeRecord, tid: Tid) {
        (self.record, self.tid, self.at) = (next, tid, Instant::now());
    }

    /// Writes the next revision in a commit of its own; false: the range was lost.
    ///
    /// The change is made anew on whatever is stored, if an own chunk got through late.
    pub(crate) async fn put(&mut self, change: impl Fn(&mut RangeRecord)) -> Result<bool> {
        loop {
            let mut next = self.record.clone();
            change(&mut next);
            next.beat += 1;
            let at = Place::newest(&self.db);
            let draft = alone(&self.db, at, self.write(&next)?);
            let error = match at.at(at.snapshot.max(self.tid)).send(&self.db, &draft).await {
                Ok(receipt) => {
                    self.written(next, receipt.tid);
                    return Ok(true);
                }
                Err(error) => error,
            };
            let unknown = matches!(error, Error::OutcomeUnknown { .. });
            if !unknown && !error.is_conflict() {
                return Err(error);
            }
            let Some(now) = self.stored().await? else { return Ok(false) };
            // A chunk of one's own that got through late has raised the beat as well: only what was sent is what was meant.
            let happened = now.record == next;
            let late = now.tid != self.tid && now.record.nonce == self.record.nonce && now.record.nonce == next.nonce;
            let lost_on_its_way = unknown && now.tid == self.tid;
            // What another worker has written is none of this one's: its counts stay its own.
            if !(happened || late || lost_on_its_way) {
                return Ok(false);
            }
            (self.record, self.tid) = (now.record, now.tid);
            if happened {
                return Ok(true);
            }
        }
    }

    /// The cell as it is on the server; none: it is gone.
    async fn stored(&self) -> Result<Option<Kept<RangeRecord>>> {
        kept(&newest_view(&self.db).await?, &self.cell()).await
    }

    /// After a conflict or an unknown outcome: true if the range is still this worker's. Then its record is what is stored,
    /// perhaps with a chunk that got through late.
    pub(crate) async fn is_still_mine(&mut self) -> Result<bool> {
        let Some(now) = self.stored().await? else { return Ok(false) };
        if now.record.nonce != self.record.nonce || now.record.holder != self.record.holder {
            return Ok(false);
        }
        (self.record, self.tid) = (now.record, now.tid);
        Ok(true)
    }

    /// Raises the beat if it is time; false: the range was lost.
    pub(crate) async fn beat(&mut self, lease: Duration, waits_for: &str) -> Result<bool> {
        if self.at.elapsed() < lease / 3 && self.record.waits_for == waits_for {
            return Ok(true);
        }
        self.put(|next| waits_for.clone_into(&mut next.waits_for)).await
    }

    /// Gives it back, so that others need not wait for the lease to run out.
    pub(crate) async fn release(mut self) -> Result<()> {
        let give = |next: &mut RangeRecord| {
            next.holder.clear();
            (next.rate, next.waits_for) = (0.0, String::new());
        };
        self.put(give).await.map(|_| ())
    }
}

/// Tells one lease from any other.
pub(crate) fn nonce() -> u64 {
    u64::from_be_bytes(crate::commit_keys::new().0.last_chunk::<8>().copied().unwrap_or_default())
}

/// Since when each range shows no change, by this worker's steady clock.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    seen: hash::Map<u32, (u64, u64, Instant)>,
}

impl Stale {
    /// Whether a range may be taken; if not, when at the earliest.
    pub(crate) fn is_free(&mut self, number: u32, range: &RangeRecord, lease: Duration) -> Result<(), Instant> {
        if range.holder.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let seen = self.seen.entry(number).or_insert((range.nonce, range.beat, now));
        if (seen.0, seen.1) != (range.nonce, range.beat) {
            *seen = (range.nonce, range.beat, now);
        }
        let free_at = seen.2 + lease;
        if now >= free_at { Ok(()) } else { Err(free_at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::ledger::Part;
    use zeolite_proto::Registry;
    use zeolite_server::server::Server;
    use zeolite_server::settings::Settings;

    /// A chunk of one's own that gets through late has raised the beat as far as the change would have: the change is made all the same.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_is_made_on_what_a_late_chunk_has_left() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut settings = Settings { data_dir: directory.path().join("data"), ..Settings::default() };
        settings.sessions.shutdown_grace_ms = 200;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = Server::start(settings, Registry::built_in(), listener).await.expect("starts");
        let db = Db::connect(server.address().to_string()).await.expect("connects");
        let job = db.new_oid().await.expect("an oid");
        let free = encoded(&RangeRecord::new(Part::Lists { first: 0, end: 1 }, 9)).expect("encodes");
        db.run(async |tx| tx.put_unchecked(range_cell(job, 0), free.clone())).await.expect("writes");
        db.newest().await.expect("answers");
        let seen = kept::<RangeRecord>(&db.now(), &range_cell(job, 0)).await.expect("reads").expect("is there");
        let mut held = Lease::claim(&db, job, 0, seen, ("w", 7)).await.expect("answers").expect("is free");

        let mut late = held.record.clone();
        (late.beat, late.counts.done) = (late.beat + 1, 5);
        let late = encoded(&late).expect("encodes");
        let chunk = db.transaction().fresh().run(async |tx| tx.put_unchecked(range_cell(job, 0), late.clone()));
        chunk.await.expect("writes");
        assert!(held.put(|next| next.finished = true).await.expect("answers"), "it is this worker's still");
        let stored = held.stored().await.expect("reads").expect("is there").record;
        assert_eq!((stored.finished, stored.counts.done), (true, 5));
        assert_eq!(stored, held.record);
        drop((held, db));
        server.stop().await.expect("stops");
    }
}
