//! Owns whose turn it is: of one database, one backup at a time is taken into a place.
//!
//! ```text
//!   DATABASE/taking    who takes one now: put where there is none, said again every 15 s, removed at the end
//!                      of a process of this machine that is gone, or not said again for a minute: got over, and that is told
//! ```
//! Two at once would read the log twice, and two first ones would make two chains. What keeps a place right does not rest on this: a
//! manifest is put only where there is none. So a store without conditional puts, or a machine that stood still for a minute, costs work
//! and no backup.

use crate::errors::{Error, Result};
use crate::place::Place;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TAKING: &str = "taking";
const SAID_EVERY: Duration = Duration::from_secs(15);
const SILENT_MAX_MS: u64 = 60_000;

/// What is said of one that is being taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Said {
    run: String,
    pid: u32,
    /// Of the machine's life and its numbering of processes: in another one the pid says nothing.
    machine: String,
    host: String,
    /// By the clock of that machine.
    at_unix_ms: u64,
}

impl Said {
    fn now(run: &str, now_unix_ms: u64) -> Said {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let pids = std::fs::read_link("/proc/self/ns/pid").map(|name| name.display().to_string()).unwrap_or_default();
        Said {
            run: run.to_owned(),
            pid: std::process::id(),
            machine: format!("{} {pids}", read("/proc/sys/kernel/random/boot_id")),
            host: read("/proc/sys/kernel/hostname"),
            at_unix_ms: now_unix_ms,
        }
    }

    /// Why whoever has said this does not take one any more; none: he may.
    fn is_over(&self, now: &Said) -> Option<&'static str> {
        let is_here = self.machine == now.machine && !now.machine.starts_with(' ');
        if is_here && !Path::new(&format!("/proc/{}", self.pid)).exists() {
            return Some("its process is gone");
        }
        // Clocks differ, and are set: one of the future is as silent as one of the past.
        (now.at_unix_ms.abs_diff(self.at_unix_ms) > SILENT_MAX_MS).then_some("it has said nothing for a minute")
    }

    fn bytes(&self) -> Result<Bytes> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Refused(format!("{error}")))?;
        Ok(text.into())
    }
}

/// The turn that one has, as long as this lives; [`Turn::end`] gives it back, and without that the next one gets over it.
pub(crate) struct Turn {
    place: Place,
    name: String,
    run: String,
    /// Dropped, it ends the other one.
    stop: oneshot::Sender<()>,
    saying: JoinHandle<()>,
}

impl Turn {
    /// Takes it; refused while somebody else has it.
    pub(crate) async fn take(place: &Place, database: &str, run: &str, clock: fn() -> u64) -> Result<Turn> {
        // A bucket that is not there is told by a look, and may be made by a write.
        place.listing(database).await?;
        let name = format!("{database}/{TAKING}");
        let mine = Said::now(run, clock());
        if !place.put_new(&name, mine.bytes()?).await? {
            get_over(place, &name, &mine).await?;
            remove_staged(place, database);
            if !place.put_new(&name, mine.bytes()?).await? {
                return Err(Error::Refused("another backup of this database was begun at the same moment".into()));
            }
        }
        let (stop, stopped) = oneshot::channel();
        let saying = tokio::spawn(say(place.clone(), name.clone(), mine, clock, stopped));
        Ok(Turn { place: place.clone(), name, run: run.to_owned(), stop, saying })
    }

    /// Gives it back.
    pub(crate) async fn end(self) {
        // It must not be said again behind its removal.
        drop(self.stop);
        drop(self.saying.await);
        if is_others(&self.place, &self.name, &self.run).await {
            return;
        }
        if let Err(error) = self.place.remove(&self.name).await {
            tracing::warn!(%error, "that a backup is over cannot be said; the next one gets over it");
        }
    }
}

/// Another one has taken the turn, because this one had said nothing for too long: what is there is its.
async fn is_others(place: &Place, name: &str, run: &str) -> bool {
    let there = place.get(name).await.ok().flatten();
    there.and_then(|bytes| serde_json::from_slice::<Said>(&bytes).ok()).is_some_and(|said| said.run != run)
}

async fn get_over(place: &Place, name: &str, mine: &Said) -> Result<()> {
    let Some(bytes) = place.get(name).await? else { return Ok(()) };
    let Ok(said) = serde_json::from_slice::<Said>(&bytes) else {
        tracing::warn!(name, "what says who takes a backup cannot be read, and is written anew");
        return place.remove(name).await;
    };
    let Some(why) = said.is_over(mine) else {
        return Err(Error::Refused(format!(
            "another backup of this database is being taken there, by process {} of {}: wait for its end. If that one is dead, it is got \
             over a minute after it has last said that it lives ({}/{name})",
            said.pid,
            said.host,
            place.shown()
        )));
    };
    tracing::warn!(pid = said.pid, host = said.host, "another backup was begun and is over: {why}");
    place.remove(name).await
}

/// What a dead one was just writing, in a directory: the store does not list it.
fn remove_staged(place: &Place, database: &str) {
    let Some(root) = place.dir() else { return };
    for entry in std::fs::read_dir(root.join(database)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(TAKING)?.strip_prefix('#'));
        if number.is_some_and(|number| number.parse::<u64>().is_ok()) {
            // One that stays harms nobody.
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

async fn say(place: Place, name: String, mut mine: Said, clock: fn() -> u64, mut stopped: oneshot::Receiver<()>) {
    while tokio::time::timeout(SAID_EVERY, &mut stopped).await.is_err() {
        if is_others(&place, &name, &mine.run).await {
            tracing::warn!(
                "this backup had said nothing for too long, and another one was begun; both go on, each in files of its own"
            );
            return;
        }
        mine.at_unix_ms = clock();
        let said = match mine.bytes() {
            Ok(bytes) => place.put(&name, bytes).await,
            Err(error) => Err(error),
        };
        if let Err(error) = said {
            tracing::warn!(%error, "that a backup is being taken cannot be said; another one might be begun");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Reach;

    const NOW: u64 = 1_800_000_000_000;

    fn clock() -> u64 {
        NOW
    }

    #[tokio::test]
    async fn one_at_a_time_and_whoever_is_dead_or_silent_is_got_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::open(dir.path().to_str().expect("plain"), Reach::default()).expect("opens");
        let take = |run: &'static str| Turn::take(&place, "main", run, clock);
        let first = take("a").await.expect("free");
        let Err(Error::Refused(why)) = take("b").await else { panic!("two at once") };
        assert!(why.contains(&format!("process {}", std::process::id())), "{why}");
        first.end().await;
        take("c").await.expect("free again").end().await;
        let mine = Said::now("d", NOW);
        let dead = Said { pid: 4_194_305, ..mine.clone() };
        let silent = Said { at_unix_ms: NOW - SILENT_MAX_MS - 1, ..mine.clone() };
        let ahead = Said { at_unix_ms: NOW + SILENT_MAX_MS + 1, ..mine.clone() };
        let elsewhere = Said { machine: "another".into(), ..dead.clone() };
        for (said, is_over) in [(dead, true), (silent, true), (ahead, true), (mine, false), (elsewhere, false)] {
            place.put("main/taking", said.bytes().expect("written")).await.expect("puts");
            match take("e").await {
                Ok(turn) if is_over => turn.end().await,
                Err(Error::Refused(_)) if !is_over => place.remove("main/taking").await.expect("removes"),
                _ => panic!("{said:?}"),
            }
        }
        // One that had said nothing for too long leaves the turn to the one that has taken it.
        let late = take("g").await.expect("free");
        let taker = Said::now("h", NOW).bytes().expect("written");
        place.put("main/taking", taker.clone()).await.expect("puts");
        late.end().await;
        assert_eq!(place.get("main/taking").await.expect("reads"), Some(taker));
        place.put("main/taking", Bytes::from_static(b"half")).await.expect("puts");
        take("f").await.expect("what is nonsense is written anew").end().await;
        let left = std::fs::read_dir(dir.path().join("main")).into_iter().flatten().count();
        assert_eq!(left, 0);
    }
}
