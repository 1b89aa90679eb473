//! Owns the followers of a primary: who there is, what each has on its disk, and up to where enough of them have it.
//!
//! A follower is known by the id of its copy, so that one that comes back on a second connection, while the first seems to live still,
//! counts once. What it has said to have it has, whether it is there now or not: so what enough followers have never runs back. History that
//! one of them needs stays for `replication.keep_s` after it was last heard of.
//!
//! After a start a primary with `replication.sync` does not know what of its log was acknowledged: until enough followers have all
//! of it, nothing is told at all. Who they were and what they had it knows from the file `seat`, so that a pack leaves them what they need;
//! what they had then counts for nothing else.

use super::seat_file::Known;
use super::settings::ReplicationSettings;
use crate::clock::Clock;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use zeolite_proto::{Behind, Fault, FaultKind, FollowerInfo, Tid};

/// More copies are not followed with.
const FOLLOWERS_MAX: usize = 32;
/// What they have is kept for the next life of the server so often, and who they are at once.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// Called with the state locked: it must not ask for it.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// The followers of a database.
pub(crate) struct Followers {
    sync: usize,
    keep: Duration,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Enough of them have everything up to here.
    confirmed: AtomicU64,
    /// Until they have this, nothing is told.
    start: AtomicU64,
    connected: AtomicU64,
    waiting: AtomicU64,
    waiting_since_ms: AtomicU64,
    /// Wakes the writer.
    ring: (Sender<()>, Receiver<()>),
    is_ending: AtomicBool,
}

#[derive(Default)]
struct State {
    all: HashMap<[u8; 16], Follower>,
    next: u64,
    /// One has come or gone since they were kept.
    is_new: bool,
    kept: Duration,
    /// What was to be kept was not: to be tried again after a while, also if nobody follows any more.
    is_owed: bool,
}

struct Follower {
    name: String,
    have: Tid,
    /// Of its newest connection; 0: none.
    connection: u64,
    wake: Option<Wake>,
    seen: Duration,
    /// How long it had been away when this life of the primary began.
    away_before: Duration,
    /// The life of its process, and the one before it.
    life: u64,
    life_before: u64,
    /// It has said what it has, to this life of the primary.
    has_said: bool,
}

impl Follower {
    /// For how long nothing was heard of it.
    fn away(&self, now: Duration) -> Duration {
        self.away_before + now.saturating_sub(self.seen)
    }
}

/// Two servers follow under the id of one copy: this one is there already, under this name.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Twice(pub(crate) String);

impl Followers {
    pub(crate) fn new(settings: &ReplicationSettings, clock: Arc<dyn Clock>, start: Tid) -> Followers {
        Followers {
            sync: settings.sync as usize,
            keep: Duration::from_secs(settings.keep_s),
            clock,
            state: Mutex::default(),
            confirmed: AtomicU64::new(0),
            start: AtomicU64::new(if settings.sync > 0 { start.0 } else { 0 }),
            connected: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            waiting_since_ms: AtomicU64::new(0),
            ring: bounded(1),
            is_ending: AtomicBool::new(false),
        }
    }

    /// A follower is there, and has everything up to a tid. An older connection of the same one ends. Gives the number of this one, for
    /// `has` and `left`.
    pub(crate) fn join(
        &self,
        (id, life): ([u8; 16], u64),
        (name, have): (&str, Tid),
        wake: Wake,
    ) -> Result<Result<u64, Twice>, Fault> {
        let now = self.clock.steady();
        let mut state = self.state.lock();
        let keep = self.keep;
        // A process that has ended does not come back: if the one before the newest does, both are there.
        let before = state.all.get(&id);
        if let Some(other) = before.filter(|it| life != 0 && it.life != life && it.life_before == life) {
            return Ok(Err(Twice(other.name.clone())));
        }
        let life_before = before.map_or(0, |it| if it.life == life { it.life_before } else { it.life });
        if state.all.len() >= FOLLOWERS_MAX && !state.all.contains_key(&id) {
            state.all.retain(|_, one| one.connection != 0 || one.away(now) < keep);
            if state.all.len() >= FOLLOWERS_MAX {
                let message = format!(
                    "{FOLLOWERS_MAX} copies follow this server or did lately, and no more may; follow another one"
                );
                return Err(Fault::new(FaultKind::Busy, message).after_ms(1000));
            }
        }
        state.next += 1;
        let number = state.next;
        let name: String = name.chars().take(64).collect();
        let (wake, away_before) = (Some(wake), Duration::ZERO);
        let (connection, seen, has_said) = (number, now, true);
        let follower = Follower { name, have, connection, wake, seen, away_before, life, life_before, has_said };
        let before = state.all.insert(id, follower);
        state.is_new = true;
        self.count(&state);
        drop(state);
        if let Some(Follower { wake: Some(wake), .. }) = before {
            wake();
        }
        self.confirm();
        Ok(Ok(number))
    }

    /// A connection has ended.
    pub(crate) fn left(&self, id: [u8; 16], number: u64) {
        let mut state = self.state.lock();
        if let Some(one) = state.all.get_mut(&id).filter(|one| one.connection == number) {
            (one.connection, one.wake, one.seen) = (0, None, self.clock.steady());
            one.away_before = Duration::ZERO;
            state.is_new = true;
        }
        self.count(&state);
    }

    /// It says what it has; false: it has come anew since.
    pub(crate) fn has(&self, id: [u8; 16], number: u64, have: Tid) -> bool {
        let mut state = self.state.lock();
        let Some(one) = state.all.get_mut(&id).filter(|one| one.connection == number) else { return false };
        (one.have, one.seen) = (one.have.max(have), self.clock.steady());
        drop(state);
        self.confirm();
        true
    }

    /// What one has said to have, as long as the connection is its newest.
    pub(crate) fn have(&self, id: [u8; 16], number: u64) -> Option<Tid> {
        self.state.lock().all.get(&id).filter(|one| one.connection == number).map(|one| one.have)
    }

    fn count(&self, state: &State) {
        let connected = state.all.values().filter(|one| one.connection != 0).count() as u64;
        self.connected.store(connected, Ordering::Release);
    }

    fn confirm(&self) {
        if self.sync == 0 {
            return;
        }
        let mut have: Vec<Tid> =
            self.state.lock().all.values().filter(|one| one.has_said).map(|one| one.have).collect();
        have.sort_by(|a, b| b.cmp(a));
        if let Some(enough) = have.get(self.sync - 1) {
            self.need_not_confirm(*enough);
        }
    }

    /// Nobody is waited for any more up to here.
    pub(crate) fn need_not_confirm(&self, tid: Tid) {
        self.confirmed.fetch_max(tid.0, Ordering::AcqRel);
        if self.confirmed() >= Tid(self.start.load(Ordering::Acquire)) {
            self.start.store(0, Ordering::Release);
        }
        self.wake_writer();
    }

    /// Enough followers have everything up to here; without `replication.sync`, everything there is.
    pub(crate) fn confirmed(&self) -> Tid {
        if self.sync == 0 { Tid::MAX } else { Tid(self.confirmed.load(Ordering::Acquire)) }
    }

    /// They have not said yet that they have what the log had at the start.
    pub(crate) fn awaits_start(&self) -> bool {
        self.start.load(Ordering::Acquire) != 0
    }

    /// There is somebody to send to.
    pub(crate) fn is_followed(&self) -> bool {
        self.connected.load(Ordering::Acquire) > 0
    }

    /// Everybody looks whether there is something new.
    pub(crate) fn wake(&self) {
        if !self.is_followed() {
            return;
        }
        self.state.lock().all.values().filter_map(|one| one.wake.as_ref()).for_each(|wake| wake());
    }

    /// The writer looks at what it holds.
    pub(crate) fn wake_writer(&self) {
        // One that is there already is enough.
        self.ring.0.try_send(()).ok();
    }

    /// What wakes the writer.
    pub(crate) fn ring(&self) -> Receiver<()> {
        self.ring.1.clone()
    }

    /// How many commits wait for followers, and since when, as the writer tells.
    pub(crate) fn wait(&self, commits: u64, since: Option<Duration>) {
        self.waiting.store(commits, Ordering::Release);
        self.waiting_since_ms.store(since.map_or(0, |since| since.as_millis() as u64), Ordering::Release);
    }

    /// The same, and for how long the oldest has waited.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        let waiting = self.waiting.load(Ordering::Acquire);
        let since = Duration::from_millis(self.waiting_since_ms.load(Ordering::Acquire));
        let waited = self.clock.steady().saturating_sub(since).as_millis() as u64;
        (waiting, if waiting == 0 { 0 } else { waited })
    }

    /// History from here on is needed by one of them.
    pub(crate) fn needed(&self) -> Option<Tid> {
        let now = self.clock.steady();
        let state = self.state.lock();
        let known = state.all.values().filter(|one| one.connection != 0 || one.away(now) < self.keep);
        known.map(|one| one.have).min()
    }

    /// Takes up those that the life before this one knew.
    pub(super) fn take_up(&self, known: Vec<Known>, unix_ms: u64) {
        let now = self.clock.steady();
        let mut state = self.state.lock();
        for Known { id, name, have, seen_unix_ms } in known.into_iter().take(FOLLOWERS_MAX) {
            let away_before = Duration::from_millis(unix_ms.saturating_sub(seen_unix_ms));
            let (connection, wake, seen, has_said) = (0, None, now, false);
            let (life, life_before) = (0, 0);
            let one = Follower { name, have, connection, wake, seen, away_before, life, life_before, has_said };
            state.all.insert(id, one);
        }
    }

    /// Those that the next life should know, if that is not what was kept last.
    pub(super) fn to_keep(&self, unix_ms: u64, at_once: bool) -> Option<Vec<Known>> {
        let now = self.clock.steady();
        let mut state = self.state.lock();
        let is_wanted = self.is_followed() || state.is_owed;
        let is_due = is_wanted && (at_once || now.saturating_sub(state.kept) >= KEEP_EVERY);
        if !state.is_new && !is_due {
            return None;
        }
        (state.is_new, state.is_owed, state.kept) = (false, false, now);
        let keep = self.keep;
        let all = state.all.iter().filter(|(_, one)| one.connection != 0 || one.away(now) < keep);
        let known = |(id, one): (&[u8; 16], &Follower)| {
            let away = if one.connection == 0 { one.away(now) } else { Duration::ZERO };
            let seen_unix_ms = unix_ms.saturating_sub(away.as_millis() as u64);
            Known { id: *id, name: one.name.clone(), have: one.have, seen_unix_ms }
        };
        let mut all: Vec<Known> = all.map(known).collect();
        all.sort_by_key(|one| one.id);
        Some(all)
    }

    /// They could not be kept.
    pub(super) fn not_kept(&self) {
        self.state.lock().is_owed = true;
    }

    /// All of them, by name; `behind`: how far one is that has everything up to a tid.
    pub(crate) fn told(&self, behind: &dyn Fn(Tid) -> Behind) -> Vec<FollowerInfo> {
        let now = self.clock.steady();
        let state = self.state.lock();
        let one = |(id, one): (&[u8; 16], &Follower)| FollowerInfo {
            id: super::seat_file::hex(id),
            name: one.name.clone(),
            connected: one.connection != 0,
            have: one.have,
            behind: Behind::default(),
            seen_ms: one.away(now).as_millis() as u64,
        };
        let mut all: Vec<FollowerInfo> = state.all.iter().map(one).collect();
        drop(state);
        all.iter_mut().for_each(|one| one.behind = behind(one.have));
        all.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        all
    }

    /// The server stops: streams end.
    pub(crate) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.wake();
        self.wake_writer();
    }

    /// Whether it does.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;

    fn followers(sync: u64, start: u64) -> (Followers, Arc<HandClock>) {
        let clock = Arc::new(HandClock::at(0));
        let settings = ReplicationSettings { sync, keep_s: 10, ..ReplicationSettings::default() };
        (Followers::new(&settings, clock.clone(), Tid(start)), clock)
    }

    fn join_as(followers: &Followers, id: u8, life: u64, have: u64) -> Result<u64, Twice> {
        followers.join(([id; 16], life), ("f", Tid(have)), Arc::new(|| ())).expect("joins")
    }

    fn join(followers: &Followers, id: u8, have: u64) -> u64 {
        join_as(followers, id, 0, have).expect("one server")
    }

    #[test]
    fn enough_is_counted_by_copies_and_never_runs_back() {
        let (followers, _) = followers(2, 5);
        assert_eq!((followers.confirmed(), followers.awaits_start()), (Tid(0), true));
        let first = join(&followers, 1, 9);
        // The same copy on another connection, while the first seems to live.
        let again = join(&followers, 1, 9);
        assert_eq!(followers.confirmed(), Tid(0), "one copy on two connections is one copy");
        assert!(!followers.has([1; 16], first, Tid(20)), "the first is over");
        let other = join(&followers, 2, 4);
        assert_eq!((followers.confirmed(), followers.awaits_start()), (Tid(4), true));
        assert!(followers.has([2; 16], other, Tid(7)));
        assert_eq!((followers.confirmed(), followers.awaits_start()), (Tid(7), false));
        followers.left([1; 16], first);
        followers.left([2; 16], other);
        assert!(followers.has([1; 16], again, Tid(12)));
        assert_eq!(followers.confirmed(), Tid(7), "what it had said to have it has");
        assert!(followers.is_followed());
        followers.left([1; 16], again);
        assert!(!followers.is_followed());
    }

    #[test]
    fn history_stays_for_one_that_is_away_but_not_for_ever() {
        let (followers, clock) = followers(0, 0);
        assert_eq!((followers.needed(), followers.confirmed()), (None, Tid::MAX));
        let connection = join(&followers, 1, 9);
        clock.advance(Duration::from_secs(100));
        assert_eq!(followers.needed(), Some(Tid(9)), "as long as it is there");
        followers.left([1; 16], connection);
        clock.advance(Duration::from_secs(9));
        assert_eq!(followers.needed(), Some(Tid(9)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(followers.needed(), None);
    }

    #[test]
    fn the_next_life_keeps_history_for_as_long_and_waits_for_what_they_have_then() {
        let (before, clock) = followers(1, 0);
        assert_eq!(before.to_keep(0, true), None, "there is nobody");
        let connection = join(&before, 1, 9);
        assert!(before.has([1; 16], connection, Tid(12)));
        assert_eq!(before.to_keep(1000, false).expect("one has come")[0].have, Tid(12));
        assert_eq!(before.to_keep(1000, false), None);
        clock.advance(KEEP_EVERY);
        let known = before.to_keep(2000, false).expect("once in a while");
        assert_eq!(known[0].seen_unix_ms, 2000, "it is there");
        before.left([1; 16], connection);
        clock.advance(Duration::from_secs(4));
        let known = before.to_keep(6000, false).expect("one has gone");
        assert_eq!(known[0].seen_unix_ms, 2000);
        clock.advance(KEEP_EVERY);
        assert_eq!(before.to_keep(7000, true), None, "of one that is away there is nothing new");
        let (now, clock) = followers(1, 12);
        now.take_up(known, 7000);
        assert_eq!((now.needed(), now.confirmed(), now.awaits_start()), (Some(Tid(12)), Tid(0), true));
        clock.advance(Duration::from_secs(5));
        assert_eq!(now.needed(), None, "ten seconds, of which five were in the life before");
        join(&now, 1, 12);
        assert_eq!((now.confirmed(), now.awaits_start()), (Tid(12), false));
    }

    #[test]
    fn a_copied_data_directory_is_told_from_a_restart() {
        let (followers, _) = followers(0, 0);
        for life in [5, 5, 6, 6, 7] {
            join_as(&followers, 1, life, 9).expect("it connects again, or was started again");
        }
        assert_eq!(join_as(&followers, 1, 6, 9), Err(Twice("f".into())), "the one before is there still");
        join_as(&followers, 2, 6, 9).expect("it has got an id of its own");
    }
}
