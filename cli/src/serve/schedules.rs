//! Owns what a server does by itself from time to time: backups and packs of each database, one at a time.
//!
//! ```text
//!   what has been (the newest backup, what is packed) ──> when each is due ──> the first one due ──> done, or failed ──> board, log
//! ```
//! When something is due follows from what has been, so a restart neither forgets nor repeats it. What has failed is tried again
//! after an eighth of its interval, a minute at least and an hour at most. The work itself goes through the server's own door as a
//! client's would, with the same limits; what stops with the server is gone on with later.
//!
//! Clocks are set: what was done in the future says nothing, and nothing is due later than an interval from now. A directory for
//! backups is never made here: one that is missing is a disk that is not mounted.

use super::place;
use crate::backup::now_unix_ms;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use zeolite_backup::{How, Keep, OBJECT_BYTES, Shelf, take, tidy};
use zeolite_client::{Db, Inside, Options, PackOptions, Schedule, Seat, Tid};
use zeolite_server::schedules::Board;
use zeolite_server::server::Server;
use zeolite_server::settings::{BackupSettings, PackSettings, Settings};

/// The clock may be set: so long is slept at most before it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const RETRY_MS: (u64, u64) = (60_000, 3_600_000);

/// The task that does it; it ends with this.
pub(super) struct Schedules(JoinHandle<()>);

impl Drop for Schedules {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Backup,
    Pack,
}

/// One work on one database, and how it has gone.
struct Item {
    work: Work,
    database: String,
    state: Schedule,
}

struct Runner {
    door: Inside,
    board: Arc<Board>,
    backup: BackupSettings,
    pack: PackSettings,
    items: Vec<Item>,
}

/// Begins; none: nothing is scheduled.
pub(super) fn start(server: &Server, settings: &Settings) -> Option<Schedules> {
    let inside = server.inside();
    let door = Inside::new(move || {
        let inside = inside.clone();
        async move { inside.open().await }
    });
    let (backup, pack) = (settings.backup.clone(), settings.pack.clone());
    let mut items = Vec::new();
    for database in settings.database_names() {
        let mut add = |work, name: &str, every_s: u64| {
            // What has been is looked for first, and a place that is not reached takes minutes to say so.
            let state = Schedule {
                work: name.to_owned(),
                every_ms: every_s * 1000,
                since_unix_ms: now_unix_ms(),
                running: true,
                ..Schedule::default()
            };
            server.board().tell(database, state.clone());
            items.push(Item { work, database: database.to_owned(), state });
        };
        if backup.is_on() {
            add(Work::Backup, "backup", backup.every_s);
        }
        if pack.every_s > 0 {
            add(Work::Pack, "pack", pack.every_s);
        }
    }
    let grace = Duration::from_secs(settings.engine.pin_grace_s);
    let runner = Runner { door, board: server.board(), backup, pack, items };
    (!runner.items.is_empty()).then(|| Schedules(tokio::spawn(runner.run(grace))))
}

impl Runner {
    async fn run(mut self, grace: Duration) {
        for at in 0..self.items.len() {
            let been = self.been(&self.items[at]).await;
            let Item { work, database, state } = &mut self.items[at];
            state.running = false;
            match been {
                Ok(been) => state.done_unix_ms = if been > now_unix_ms() { 0 } else { been },
                Err(error) => tracing::warn!(
                    database,
                    work = state.work,
                    error = format!("{error:#}"),
                    "when it was last done is not known"
                ),
            }
            // Before that nothing is packed.
            let earliest = if *work == Work::Pack { state.since_unix_ms + grace.as_millis() as u64 + 1000 } else { 0 };
            state.next_unix_ms =
                earliest.max(if state.done_unix_ms == 0 { 0 } else { state.done_unix_ms + state.every_ms });
            self.board.tell(database, state.clone());
        }
        let grace_ms = grace.as_millis() as u64 + 1000;
        loop {
            let now = now_unix_ms();
            for Item { database, state, .. } in &mut self.items {
                if is_set_right(state, now, grace_ms) {
                    tracing::warn!(
                        database,
                        work = state.work,
                        "the clock was ahead when this was last done, and was set"
                    );
                    self.board.tell(database, state.clone());
                }
            }
            let Some(at) = (0..self.items.len()).min_by_key(|at| self.items[*at].state.next_unix_ms) else { return };
            let wait = self.items[at].state.next_unix_ms.saturating_sub(now);
            if wait > 0 {
                tokio::time::sleep(LOOK_EVERY.min(Duration::from_millis(wait))).await;
                continue;
            }
            self.one(at).await;
        }
    }

    async fn one(&mut self, at: usize) {
        self.items[at].state.running = true;
        self.board.tell(&self.items[at].database, self.items[at].state.clone());
        let outcome = match self.items[at].work {
            Work::Backup => self.backup(&self.items[at].database).await,
            Work::Pack => self.pack(&self.items[at].database).await,
        };
        let Item { database, state, .. } = &mut self.items[at];
        let now = now_unix_ms();
        state.running = false;
        match outcome {
            Ok(()) => {
                (state.done_unix_ms, state.next_unix_ms) = (now, now + state.every_ms);
                state.error.clear();
                tracing::info!(database, work = state.work, "what is scheduled was done");
            }
            Err(error) => {
                state.error = format!("{error:#}");
                (state.failed_unix_ms, state.next_unix_ms) =
                    (now, now + (state.every_ms / 8).clamp(RETRY_MS.0, RETRY_MS.1));
                tracing::error!(
                    database,
                    work = state.work,
                    error = state.error,
                    "what is scheduled has failed; it is tried again"
                );
            }
        }
        self.board.tell(database, state.clone());
    }

    /// When it was last done, in milliseconds since 1970; 0: never, or nobody knows.
    async fn been(&self, item: &Item) -> Result<u64> {
        match item.work {
            Work::Backup => {
                let shelf = Shelf::look(&place(&self.backup)?, &item.database).await?;
                Ok(shelf.newest().map_or(0, |(_, newest)| newest.manifest.done_unix_ms))
            }
            Work::Pack => {
                let packed_to = self.client(&item.database).await?.admin().status().await?.packed_to;
                let unix_ms = u64::try_from(packed_to.unix_nanos() / 1_000_000).unwrap_or(0);
                Ok(if unix_ms == 0 { 0 } else { unix_ms + self.pack.keep_s * 1000 })
            }
        }
    }

    async fn client(&self, database: &str) -> Result<Db> {
        let options = Options::new()
            .name("zeolite schedule")
            .database(database)
            .inside(Some(self.door.clone()))
            .feed(false)
            .cache_bytes(0);
        Ok(Db::connect_with("http://inside", options).await?)
    }

    async fn backup(&self, database: &str) -> Result<()> {
        let keep: Keep = self.backup.keep.parse().map_err(anyhow::Error::msg).context("backup.keep")?;
        let (to, db) = (place(&self.backup)?, self.client(database).await?);
        let how = How {
            full: false,
            full_every: Duration::from_secs(self.backup.full_every_s),
            live_ratio_max: self.backup.live_ratio_max,
            object_bytes: OBJECT_BYTES,
            now_unix_ms,
        };
        let taken = take(&db, &to, database, &how, &mut |_| {}).await?;
        let backup = format!("{}/{:04}", taken.chain, taken.manifest.number);
        let (transactions, bytes) = (taken.manifest.transactions, taken.manifest.stored_bytes);
        tracing::info!(database, backup, transactions, bytes, "a backup was taken");
        // The backup is there, whatever becomes of old ones; the next one tries again to remove them.
        match tidy(&to, database, keep, now_unix_ms()).await {
            Ok(tidied) if tidied.backups > 0 => {
                tracing::info!(database, removed = tidied.backups, "old backups were removed")
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(database, %error, "old backups could not be removed"),
        }
        Ok(())
    }

    async fn pack(&self, database: &str) -> Result<()> {
        let db = self.client(database).await?;
        let status = db.admin().status().await?;
        // A copy takes history away when its primary has.
        if status.replication.seat != Seat::Primary {
            return Ok(());
        }
        let keep_ms = self.pack.keep_s.saturating_mul(1000);
        let then = Tid::from_unix_nanos(i128::from(status.unix_ms.saturating_sub(keep_ms)) * 1_000_000);
        let to = then.min(status.visible);
        if to <= status.packed_to {
            return Ok(());
        }
        // Of several databases one may refer into another, and no server sees that.
        let keep_garbage = self.items.iter().filter(|item| item.work == Work::Pack).count() > 1;
        let mut messages =
            db.admin().pack(PackOptions::new().to(Some(to)).keep_garbage(keep_garbage).dry_run(false)).await?;
        let mut last = None;
        while let Some(message) = messages.next().await? {
            last = Some(message);
        }
        last.filter(|message| message.done).context("the pack has ended without its result")?;
        Ok(())
    }
}

/// Takes back what a clock has said that was ahead; false: it has said nothing. `grace_ms`: the first pack waits for so long.
fn is_set_right(state: &mut Schedule, now: u64, grace_ms: u64) -> bool {
    let (done, next) = (state.done_unix_ms.min(now), state.next_unix_ms.min(now + state.every_ms.max(grace_ms)));
    let is_set = (done, next) != (state.done_unix_ms, state.next_unix_ms);
    (state.done_unix_ms, state.next_unix_ms) = (done, next);
    is_set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_ahead_stops_nothing() {
        let mut state = Schedule { every_ms: 50, done_unix_ms: 900, next_unix_ms: 950, ..Schedule::default() };
        assert!(is_set_right(&mut state, 100, 10));
        assert_eq!((state.done_unix_ms, state.next_unix_ms), (100, 150));
        assert!(!is_set_right(&mut state, 101, 10), "once");
        assert_eq!((state.done_unix_ms, state.next_unix_ms), (100, 150), "what is due does not move away");
    }
}
