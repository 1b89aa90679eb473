//! Owns the log of slow commits: which ones are told, what is told of them, and how many are left out.
//!
//! ```text
//!   admitted ──queue──> sealed ──hop──> taken by the writer ──write──> ──sync──> ──publish──> told
//!            <──────────────────────────── total, against slow_commit_ms ─────────────────────>
//! ```
//! A disk that stalls makes every commit slow at once, and a log that is written for each of them makes it worse: at
//! most [`TOLD_MAX`] a second are told. How many were left out is told when the second is over.

use crate::engine::note;
use crate::engine::pipeline::ask::Origin;
use crate::storage::Txn;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;
use zeolite_proto::record::Header;

/// Slow commits told in one second.
const TOLD_MAX: u32 = 10;
/// Classes told of one commit; the others are counted together.
const CLASSES_MAX: usize = 5;
/// Characters told of a user and of a description.
const NOTE_CHARS_MAX: usize = 100;
const SECOND: Duration = Duration::from_secs(1);

/// When a transaction reached which stage, by the steady clock, and how long its batch took; all in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Journey {
    pub(crate) sealed_ns: u64,
    pub(crate) taken_ns: u64,
    pub(crate) write_ns: u64,
    pub(crate) sync_ns: u64,
}

/// The log of slow commits.
pub(crate) struct SlowLog {
    /// 0: off.
    limit_ns: u64,
    second: Mutex<Second>,
}

#[derive(Default)]
struct Second {
    begun: Duration,
    told: u32,
    left_out: u64,
}

impl SlowLog {
    /// Tells what takes at least so long; 0: nothing.
    pub(crate) fn new(limit_ms: u64) -> SlowLog {
        SlowLog { limit_ns: limit_ms.saturating_mul(1_000_000), second: Mutex::default() }
    }

    /// Looks at a commit that became durable `now`; true: it was slow.
    pub(crate) fn look(&self, txn: &Txn, origin: &Origin, journey: Journey, now: Duration) -> bool {
        let now_ns = now.as_nanos() as u64;
        let total_ns = now_ns.saturating_sub(origin.came.map_or(now_ns, |came| came.ns));
        let slow = self.limit_ns > 0 && total_ns >= self.limit_ns;
        if slow && self.may_tell(now) {
            tell(txn, origin, journey, total_ns);
        }
        slow
    }

    /// Tells what was left out of a second that is over. The keeper's turn.
    pub(crate) fn turn(&self, now: Duration) {
        let left_out = {
            let mut second = self.second.lock();
            if now.saturating_sub(second.begun) < SECOND {
                return;
            }
            std::mem::take(&mut second.left_out)
        };
        if left_out > 0 {
            tracing::warn!(left_out, "more slow commits than are logged one by one");
        }
    }

    fn may_tell(&self, now: Duration) -> bool {
        let mut second = self.second.lock();
        if now.saturating_sub(second.begun) >= SECOND {
            second.begun = now;
            second.told = 0;
        }
        let room = second.told < TOLD_MAX;
        second.told += u32::from(room);
        second.left_out += u64::from(!room);
        room
    }
}

fn tell(txn: &Txn, origin: &Origin, journey: Journey, total_ns: u64) {
    let queued_ns = origin.came.map_or(journey.sealed_ns, |came| came.ns);
    let ms = |ns: u64| (ns / 10_000) as f64 / 100.0;
    let bytes: usize = txn.writes.iter().map(|write| write.record.as_ref().map_or(0, |record| record.len())).sum();
    let note = note::decode(&txn.note);
    let short = |text: Cow<'_, str>| text.chars().take(NOTE_CHARS_MAX).collect::<String>();
    tracing::warn!(
        tid = %txn.tid,
        key = ?txn.key,
        priority = ?origin.priority,
        total_ms = ms(total_ns),
        queue_ms = ms(journey.sealed_ns.saturating_sub(queued_ns)),
        hop_ms = ms(journey.taken_ns.saturating_sub(journey.sealed_ns)),
        write_ms = ms(journey.write_ns),
        fsync_ms = ms(journey.sync_ns),
        cells = txn.writes.len(),
        bytes,
        classes = classes(txn),
        client = origin.client.to_string(),
        request = origin.mark.id.to_string(),
        user = short(note.user_text()),
        description = short(note.description_text()),
        "slow commit"
    );
}

/// The classes of the cells with their numbers, as `Page 3, User 1`; most cells first.
fn classes(txn: &Txn) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for write in &txn.writes {
        let class = write.record.as_deref().map_or("(deleted)", |record| Header::parse(record).map_or("", |h| h.class));
        *counts.entry(class).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut text = String::new();
    for (class, count) in counts.iter().take(CLASSES_MAX) {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing into a string cannot fail.
        let _ = write!(text, "{separator}{class} {count}");
    }
    if counts.len() > CLASSES_MAX {
        let _ = write!(text, ", {} more classes", counts.len() - CLASSES_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::caller::{Client, Mark, RequestId};
    use crate::engine::pipeline::way::Came;
    use crate::storage::TxnWrite;
    use std::sync::Arc;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record as SpanRecord};
    use tracing::{Event, Metadata, Subscriber};
    use zeolite_proto::{Cell, CommitKey, Note, Oid, Priority, Record, Tid};

    /// Keeps what is logged, one text per event.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &SpanRecord<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().push(text.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            self.0 += &format!("{field}={value:?} ");
        }
    }

    fn txn() -> Txn {
        let write = |n: u64, class: &str| {
            let record =
                Record { class: class.into(), version: 1, refs: Vec::new(), blobs: Vec::new(), data: "12345".into() };
            let record = Some(record.encode().expect("small"));
            TxnWrite { cell: Cell::object(Oid(n)), record, merged: false }
        };
        let note = Note { user: "amy".into(), description: "é".repeat(200).into(), ..Note::default() };
        let writes = vec![write(1, "Page"), write(2, "User"), write(3, "Page")];
        Txn {
            tid: Tid(7),
            key: CommitKey([1; 16]),
            digest: 0,
            own: false,
            note: note::encode(&note),
            writes: writes.into(),
        }
    }

    fn origin() -> Origin {
        Origin {
            priority: Priority::Live,
            came: Some(Came { ns: 1_000_000, beside_bulk: false }),
            client: Client::new("shop web 3", None),
            mark: Mark { id: RequestId::Numbered { session: 3, id: 9 }, trace: None },
            _blobs: None,
        }
    }

    fn look(log: &SlowLog, now_ms: u64) -> bool {
        let journey = Journey { sealed_ns: 3_000_000, taken_ns: 8_000_000, write_ns: 250_000, sync_ns: 90_000_000 };
        log.look(&txn(), &origin(), journey, Duration::from_millis(now_ms))
    }

    fn told(work: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        // While there is only one, a place in the code that another test's thread comes to first is asked about there, and is off for good.
        let _second = tracing::Dispatch::new(Kept::default());
        tracing::subscriber::with_default(kept.clone(), work);
        kept.0.lock().clone()
    }

    #[test]
    fn a_slow_commit_is_told_with_its_stages_and_a_quick_one_is_not() {
        let told = told(|| {
            let log = SlowLog::new(100);
            assert!(!look(&log, 100), "99 ms");
            assert!(look(&log, 101), "100 ms");
        });
        assert_eq!(told.len(), 1, "{told:?}");
        for part in [
            "total_ms=100.0",
            "queue_ms=2.0",
            "hop_ms=5.0",
            "write_ms=0.25",
            "fsync_ms=90.0",
            "cells=3",
            "classes=\"Page 2, User 1\"",
            "user=\"amy\"",
            "priority=Live",
            "client=\"shop web 3\"",
            "request=\"3-9\"",
        ] {
            assert!(told[0].contains(part), "no {part} in {}", told[0]);
        }
        assert!(told[0].contains(&"é".repeat(100)) && !told[0].contains(&"é".repeat(101)));
    }

    #[test]
    fn more_than_a_few_in_a_second_are_counted_and_told_together() {
        let told = told(|| {
            let log = SlowLog::new(1);
            (0..25).for_each(|_| assert!(look(&log, 5_000)));
            log.turn(Duration::from_millis(5_999));
            log.turn(Duration::from_millis(6_000));
            log.turn(Duration::from_millis(6_200));
            assert!(look(&log, 6_300));
        });
        assert_eq!(told.len(), 10 + 1 + 1, "{told:?}");
        assert!(told[10].contains("left_out=15"), "{}", told[10]);
        assert!(told[11].contains("slow commit"), "{}", told[11]);
    }

    #[test]
    fn zero_is_off() {
        assert!(told(|| assert!(!look(&SlowLog::new(0), 1_000_000))).is_empty());
    }
}
