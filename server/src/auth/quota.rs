//! Owns quotas: what one user may have and do at most, over all of his connections and databases.
//!
//! ```text
//!   users.toml: limits ──> Quota ─┬─ UserShare: sessions, pins, prepared drafts ... how many at once (engine/share.rs)
//!                                 └─ Rate: commits and written bytes, how many in a second
//! ```
//! A rate is the generic cell rate algorithm, the virtual scheduling of ITU-T I.371: each spending moves a point in time on by
//! its cost, and one that finds the point more than a second ahead of now is refused with the time to wait. So a user may spend a second's
//! worth at once, and one thing of any size, for which what comes behind it waits.
//!
//! What is not bounded here: reads (they are short, and a connection's share of memory bounds how many are on their way), and those who
//! have shown nothing (they are nobody in particular).

use super::seldom::Seldom;
use super::users::{Limits, User};
use crate::clock::Clock;
use crate::engine::UserShare;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind};

/// What may be spent at once.
const BURST: Duration = Duration::from_secs(1);

/// How long an upload rests before it looks again.
const REST_MAX: Duration = Duration::from_secs(1);

/// Between two lines of the log about one user.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Those of all users who have come since the start.
pub(crate) struct Quotas {
    clock: Arc<dyn Clock>,
    of: Mutex<HashMap<Arc<str>, Arc<Quota>>>,
}

impl Quotas {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Quotas {
        Quotas { clock, of: Mutex::default() }
    }

    /// A user's, with these limits from now on. There are no more of them than there were users.
    pub(crate) fn of(&self, name: &str, limits: &Limits) -> Arc<Quota> {
        let mut all = self.of.lock();
        if let Some(quota) = all.get(name) {
            return quota.clone();
        }
        let quota = Arc::new(Quota::new(&name.into(), self.clock.clone()));
        quota.bound(limits);
        all.insert(quota.user.clone(), quota.clone());
        quota
    }

    /// The file of users has changed.
    pub(crate) fn look_again(&self, users: &BTreeMap<String, User>) {
        for (name, quota) in &*self.of.lock() {
            quota.bound(&users.get(&**name).map(|user| user.limits).unwrap_or_default());
        }
    }
}

/// One user's.
pub(crate) struct Quota {
    user: Arc<str>,
    share: Arc<UserShare>,
    commits: Rate,
    written_bytes: Rate,
    clock: Arc<dyn Clock>,
    told: Seldom,
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Quota").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Quota {
    fn new(user: &Arc<str>, clock: Arc<dyn Clock>) -> Quota {
        Quota {
            user: user.clone(),
            share: Arc::new(UserShare::new(user)),
            commits: Rate::default(),
            written_bytes: Rate::default(),
            clock,
            told: Seldom::new(TOLD_EVERY),
        }
    }

    fn bound(&self, limits: &Limits) {
        for (what, most) in limits.counted() {
            self.share.bound(what, most);
        }
        self.commits.bound(limits.commits_per_s);
        self.written_bytes.bound(limits.written_bytes_per_s);
    }

    /// How many of each thing he has, and may have.
    pub(crate) fn share(&self) -> &Arc<UserShare> {
        &self.share
    }

    /// A commit of so many bytes, or a refusal that says when to come again.
    pub(crate) fn commit(&self, bytes: usize) -> Result<(), Fault> {
        let now = self.clock.steady();
        let room = self.written_bytes.room(now).and_then(|()| self.commits.spend(now, 1));
        room.map_err(|wait| self.refusal(now, wait))?;
        self.written_bytes.add(now, bytes as u64);
        Ok(())
    }

    /// Whether bytes that are written count for anything.
    pub(crate) fn counts_bytes(&self) -> bool {
        self.written_bytes.0.lock().per_s.is_some()
    }

    /// Bytes of an upload, which have come already.
    pub(crate) fn uploaded(&self, bytes: usize) {
        self.written_bytes.add(self.clock.steady(), bytes as u64);
    }

    /// How long to rest before more bytes are taken, at most a second: then the limits may be others.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.written_bytes.room(self.clock.steady()).err().map(|wait| wait.min(REST_MAX))
    }

    fn refusal(&self, now: Duration, wait: Duration) -> Fault {
        let user = &self.user;
        let message = format!(
            "the user {user} writes faster than he may; send it again later; the operator gives more: zeolite user limit {user}"
        );
        if let Some(untold) = self.told.may_tell(now) {
            tracing::warn!(user = &**user, untold, "a user writes faster than his limits");
        }
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Fault::new(FaultKind::Busy, message).after_ms(wait_ms.max(1))
    }
}

/// How much of something in a second.
#[derive(Default)]
struct Rate(Mutex<Spending>);

#[derive(Default)]
struct Spending {
    /// `None`: any.
    per_s: Option<u64>,
    /// By when all that was spent would have been spent evenly.
    until: Duration,
}

impl Spending {
    fn room(&self, now: Duration) -> Result<(), Duration> {
        match self.until.checked_sub(now + BURST) {
            Some(wait) if self.per_s.is_some() && !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    fn add(&mut self, now: Duration, cost: u64) {
        let Some(per_s) = self.per_s else { return };
        let nanos = u128::from(cost) * 1_000_000_000 / u128::from(per_s.max(1));
        let took = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.until = self.until.max(now).saturating_add(took);
    }
}

impl Rate {
    fn bound(&self, per_s: Option<u64>) {
        let mut spending = self.0.lock();
        if spending.per_s != per_s {
            // What was spent at another rate says nothing now.
            *spending = Spending { per_s, until: Duration::ZERO };
        }
    }

    fn room(&self, now: Duration) -> Result<(), Duration> {
        self.0.lock().room(now)
    }

    fn add(&self, now: Duration, cost: u64) {
        self.0.lock().add(now, cost);
    }

    fn spend(&self, now: Duration, cost: u64) -> Result<(), Duration> {
        let mut spending = self.0.lock();
        spending.room(now)?;
        spending.add(now, cost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use crate::engine::Counted;

    fn quota(limits: Limits) -> (Arc<HandClock>, Arc<Quota>, Quotas) {
        let clock = Arc::new(HandClock::at(0));
        let quotas = Quotas::new(clock.clone());
        (clock, quotas.of("shop", &limits), quotas)
    }

    fn wait_ms(result: Result<(), Fault>) -> u64 {
        result.map_or_else(|fault| fault.retry_after_ms, |()| 0)
    }

    #[test]
    fn commits_of_a_second_may_come_at_once_and_the_next_ones_at_their_pace() {
        let (clock, quota, _) = quota(Limits { commits_per_s: Some(10), ..Limits::default() });
        let at_once = (0..20).filter(|_| quota.commit(1).is_ok()).count();
        assert_eq!(at_once, 11, "a second's worth, and the one that goes over it");
        assert_eq!(wait_ms(quota.commit(1)), 100);
        clock.advance(Duration::from_millis(99));
        assert_eq!(wait_ms(quota.commit(1)), 1);
        clock.advance(Duration::from_millis(1));
        assert_eq!((wait_ms(quota.commit(1)), wait_ms(quota.commit(1))), (0, 100));
        clock.advance(Duration::from_secs(1000));
        assert_eq!((0..20).filter(|_| quota.commit(1).is_ok()).count(), 11, "rest is not saved up");
    }

    #[test]
    fn one_thing_of_any_size_goes_and_what_comes_behind_it_waits() {
        let (clock, quota, _) = quota(Limits { written_bytes_per_s: Some(1000), ..Limits::default() });
        assert_eq!(wait_ms(quota.commit(5000)), 0);
        assert_eq!(wait_ms(quota.commit(1)), 4000);
        clock.advance(Duration::from_secs(4));
        quota.uploaded(1500);
        assert_eq!(quota.rest(), Some(REST_MAX), "what has come already is not refused, it waits");
        assert_eq!(wait_ms(quota.commit(1)), 1500);
        clock.advance(Duration::from_millis(1500));
        assert_eq!(quota.rest(), None);
    }

    #[test]
    fn limits_that_change_count_at_once_and_a_user_who_comes_back_has_what_he_had() {
        let (_, quota, quotas) = quota(Limits { commits_per_s: Some(1), pins: Some(1), ..Limits::default() });
        let share = crate::engine::Share::default().of_user(Some(quota.share()));
        let pinned = share.take(Counted::Pins, 1, 100).expect("one");
        assert!((0..3).any(|_| quota.commit(1).is_err()));
        let mut users = BTreeMap::from([("shop".to_owned(), User::default())]);
        quotas.look_again(&users);
        assert!((0..1000).all(|_| quota.commit(1 << 30).is_ok()));
        users.get_mut("shop").expect("there").limits.pins = Some(1);
        quotas.look_again(&users);
        assert!(share.take(Counted::Pins, 1, 100).is_err());
        assert!(Arc::ptr_eq(&quotas.of("shop", &Limits::default()), &quota));
        drop(pinned);
        assert!(share.take(Counted::Pins, 1, 100).is_ok());
    }
}
