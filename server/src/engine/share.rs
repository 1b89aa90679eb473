//! Owns shares: how much one connection, and one user over all of his connections, may have of what is counted for all together.
//!
//! ```text
//!   all of it ├──────────────────────────────────────────┤  sessions.sessions_max, engine.pins_max ...
//!   one conn. ├─────────┤                                   sessions.connection_share_percent of each, one at least
//!   one user  ├─────────────────┤                           what the operator says (`zeolite user limit`), or all of it
//! ```
//! Without them a client that forgets to let go has everything, and everybody else gets `Busy`. What is taken counts until it is gone, also
//! when its connection has gone before: pins and prepared drafts outlive it. What is not taken over a connection has no share to keep to, and
//! neither has what was kept over a restart.
//!
//! Who opens many connections has as many shares of the first kind: without a login everybody is the same one, so a user's bound is what
//! holds him, and `sessions.connections_max` alone whoever is nobody.

use crate::storage::Uploader;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zeolite_proto::{Fault, FaultKind};

/// When to come back.
const RETRY_AFTER_MS: u64 = 1000;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    Sessions,
    LogStreams,
    Pins,
    PreparedDrafts,
    PreparedBytes,
    OpenBlobs,
}

impl Counted {
    pub(crate) const ALL: usize = 6;

    /// In words, and how to have less of it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Counted::Sessions => ("open sessions", "close one"),
            Counted::LogStreams => ("streams of the log", "end one"),
            Counted::Pins => ("pinned snapshots", "unpin some"),
            Counted::PreparedDrafts => ("prepared drafts", "finish or abort some"),
            Counted::PreparedBytes => ("bytes of prepared drafts", "finish or abort some"),
            Counted::OpenBlobs => ("blobs open", "end an upload or a read"),
        }
    }
}

/// The share of a connection, and of the user who acts on it; by default, of nobody's: without a bound.
#[derive(Clone, Debug, Default)]
pub struct Share {
    line: Option<Line>,
    user: Option<Arc<UserShare>>,
}

#[derive(Clone, Debug)]
struct Line {
    counts: Arc<LineCounts>,
    // What was taken does not keep this.
    alive: Arc<()>,
}

/// Each connection has its number.
static LINES: AtomicU64 = AtomicU64::new(1);

type Taken = [AtomicUsize; Counted::ALL];

#[derive(Debug)]
struct LineCounts {
    number: u64,
    percent: usize,
    taken: Arc<Taken>,
}

/// What a user has over all of his connections, and may have; the bounds may change meanwhile.
#[derive(Debug)]
pub(crate) struct UserShare {
    name: Arc<str>,
    taken: Arc<Taken>,
    most: [AtomicUsize; Counted::ALL],
}

impl UserShare {
    /// Of a user who has nothing yet, and may have everything.
    pub(crate) fn new(name: &Arc<str>) -> UserShare {
        UserShare {
            name: name.clone(),
            taken: Arc::default(),
            most: std::array::from_fn(|_| AtomicUsize::new(usize::MAX)),
        }
    }

    /// So much from now on; `None`: everything. What he has already he keeps.
    pub(crate) fn bound(&self, what: Counted, most: Option<u64>) {
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        self.most[what as usize].store(most, Ordering::Relaxed);
    }

    /// Whether he may have so much more.
    pub(crate) fn room(&self, what: Counted, count: usize) -> Result<(), Fault> {
        let of = |all: &[AtomicUsize; Counted::ALL]| all[what as usize].load(Ordering::Relaxed);
        let (taken, most) = (of(&self.taken), of(&self.most));
        if taken.saturating_add(count) <= most {
            return Ok(());
        }
        if what == Counted::PreparedBytes && count > most {
            // To come back would not help.
            return Err(Fault::too_large("size of a prepared draft of this user (zeolite user limit)", count, most));
        }
        let ((things, less), user) = (what.words(), &self.name);
        let message = format!(
            "the user {user} has {taken} {things} over all connections, and may have {most}; {less}, or come back; \
             the operator gives more: zeolite user limit {user}"
        );
        Err(Fault::new(FaultKind::Busy, message).after_ms(RETRY_AFTER_MS))
    }
}

impl LineCounts {
    fn room(&self, what: Counted, count: usize, all: usize) -> Result<(), Fault> {
        let (taken, most) =
            (self.taken[what as usize].load(Ordering::Relaxed), (all.saturating_mul(self.percent) / 100).max(1));
        if taken == 0 || taken.saturating_add(count) <= most {
            return Ok(());
        }
        let ((things, less), percent) = (what.words(), self.percent);
        let message = format!(
            "this connection has {taken} {things}, and may have {most}: {percent} % of what all may have together \
             (sessions.connection_share_percent); {less}, or come back"
        );
        Err(Fault::new(FaultKind::Busy, message).after_ms(RETRY_AFTER_MS))
    }
}

impl Share {
    /// Of a new connection.
    pub(crate) fn new(percent: usize) -> Share {
        let number = LINES.fetch_add(1, Ordering::Relaxed);
        let counts = Arc::new(LineCounts { number, percent, taken: Arc::default() });
        Share { line: Some(Line { counts, alive: Arc::default() }), user: None }
    }

    /// The same where this user acts.
    pub(crate) fn of_user(&self, user: Option<&Arc<UserShare>>) -> Share {
        Share { user: user.cloned(), ..self.clone() }
    }

    /// Whose its uploads are.
    pub(crate) fn uploader(&self) -> Uploader {
        let line = self.line.as_ref();
        line.map(|line| Uploader::new(line.counts.number, line.counts.percent, &line.alive)).unwrap_or_default()
    }

    /// Takes a part of what is `all` together, unless it has its share; the first thing of a connection fits in any case.
    pub(crate) fn take(&self, what: Counted, count: usize, all: usize) -> Result<Place, Fault> {
        self.room(what, count, all).map(|()| self.have(what, count))
    }

    /// Whether it may take that.
    pub(crate) fn room(&self, what: Counted, count: usize, all: usize) -> Result<(), Fault> {
        let of_line = self.line.as_ref().map_or(Ok(()), |line| line.counts.room(what, count, all));
        of_line.and_then(|()| self.user.as_ref().map_or(Ok(()), |user| user.room(what, count)))
    }

    /// Takes it, whether there is room or not.
    pub(crate) fn have(&self, what: Counted, count: usize) -> Place {
        let line = self.line.as_ref().map(|line| line.counts.taken.clone());
        let place = Place { of: [line, self.user.as_ref().map(|user| user.taken.clone())], what, count };
        place.add(count);
        place
    }
}

/// Shares are those of the same connection and user or not.
impl PartialEq for Share {
    fn eq(&self, other: &Share) -> bool {
        let of = |share: &Share| {
            (share.line.as_ref().map(|line| Arc::as_ptr(&line.counts)), share.user.as_ref().map(Arc::as_ptr))
        };
        of(self) == of(other)
    }
}

impl Eq for Share {}

/// Something that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: [Option<Arc<Taken>>; 2],
    what: Counted,
    count: usize,
}

impl Place {
    fn counters(&self) -> impl Iterator<Item = &AtomicUsize> {
        self.of.iter().flatten().map(|taken| &taken[self.what as usize])
    }

    fn add(&self, count: usize) {
        for counter in self.counters() {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// It is of this share's user as well.
    pub(crate) fn also(&mut self, share: &Share) -> Result<(), Fault> {
        let Some(user) = &share.user else { return Ok(()) };
        user.room(self.what, self.count)?;
        user.taken[self.what as usize].fetch_add(self.count, Ordering::Relaxed);
        self.of[1] = Some(user.taken.clone());
        Ok(())
    }

    /// It is more now.
    pub(crate) fn grow(&mut self, count: usize) {
        self.add(count);
        self.count += count;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for counter in self.counters() {
            counter.fetch_sub(self.count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_part_of_all_and_free_again_when_its_places_are_gone() {
        let share = Share::new(25);
        let places: Vec<Place> = (0..3).map(|_| share.take(Counted::Pins, 1, 12).expect("room")).collect();
        let fault = share.take(Counted::Pins, 1, 12).map(|_| ()).expect_err("a quarter of 12 is 3");
        assert!(fault.kind == FaultKind::Busy && fault.retry_after_ms > 0, "{fault}");
        assert!(fault.message.contains("3 pinned snapshots") && fault.message.contains("unpin some"), "{fault}");
        assert!(share.take(Counted::Sessions, 1, 2).is_ok(), "others are counted apart, and one there always is");
        assert!(Share::new(25).take(Counted::Pins, 1, 12).is_ok(), "another connection has its own");
        drop(places);
        let mut large = share.take(Counted::PreparedBytes, 500, 1000).expect("the first fits, whatever its size");
        assert!(share.room(Counted::PreparedBytes, 1, 1000).is_err());
        large.grow(10);
        drop(large);
        assert!(share.room(Counted::PreparedBytes, 250, 1000).is_ok());
        let nobodys = Share::default();
        assert!((0..100).all(|_| nobodys.take(Counted::Pins, 1, 12).is_ok()));
    }
    #[test]
    fn a_user_has_his_bound_over_all_connections_and_it_may_change() {
        let user = Arc::new(UserShare::new(&"shop".into()));
        let shares: Vec<Share> = (0..3).map(|_| Share::new(100).of_user(Some(&user))).collect();
        let take = |line: usize| shares[line].take(Counted::Pins, 1, 100);
        let kept = take(0).expect("no bound yet");
        user.bound(Counted::Pins, Some(2));
        let second = take(1).expect("the second");
        let fault = take(2).map(|_| ()).expect_err("two, whichever the connection");
        assert!(fault.kind == FaultKind::Busy && fault.retry_after_ms > 0, "{fault}");
        assert!(fault.message.contains("shop has 2 pinned") && fault.message.contains("user limit shop"), "{fault}");
        assert!(shares[2].take(Counted::Sessions, 1, 100).is_ok(), "others are counted apart");
        assert!(Share::new(100).take(Counted::Pins, 1, 100).is_ok(), "and so is who is somebody else");
        user.bound(Counted::Pins, Some(0));
        drop((kept, second));
        assert!(take(0).is_err(), "none at all");
        user.bound(Counted::PreparedBytes, Some(100));
        let kind = |bytes| shares[0].room(Counted::PreparedBytes, bytes, 1000).map_err(|fault| fault.kind);
        assert_eq!((kind(100), kind(101)), (Ok(()), Err(FaultKind::TooLarge)), "waiting would not help");
        user.bound(Counted::Pins, None);
        assert!((0..50).map(|_| take(0)).collect::<Result<Vec<_>, _>>().is_ok());
    }
}
