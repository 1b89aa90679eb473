//! Owns the events of a transcript: answers and feed, in the order in which the engine gave them.

use super::names::Names;
use super::{operator, values};
use parking_lot::Mutex;
use std::sync::Arc;
use zeolite_proto::{Fault, Merged, Mode, Oid, PreparedDraft, Receipt, StaleCell, Tid};
use zeolite_server::engine::feed::FeedSink;
use zeolite_server::engine::{Closing, Done, FeedBatch, PreparedReceipt, SYSTEM_OID};

/// Something that an actor is told.
pub(super) enum Event {
    /// The answer to a draft, a finish or an undo.
    Receipt(Result<Receipt, Fault>),
    /// The answer to a prepare.
    Prepared(Result<PreparedReceipt, Fault>),
    /// The answer to an abort or a restore.
    Tid(&'static str, Result<Tid, Fault>),
    /// The answer to one transaction of a copy; only a refusal is shown.
    Copied(Result<Tid, Fault>),
    /// The answer to a request for oids, and how many were wanted.
    Oids(Result<Oid, Fault>, u32),
    /// The list of what is prepared.
    List(Result<Vec<PreparedDraft>, Fault>),
    /// The answer to a switch of the mode, or a change of it.
    Mode(Result<Mode, Fault>),
    /// The answer to an attempt to close a gate.
    Gate(Result<Closing, Fault>),
    /// A batch of the feed.
    Feed(FeedBatch),
}

/// Events that were not shown yet. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Events {
    waiting: Arc<Mutex<Vec<(String, Event)>>>,
}

struct Sink {
    events: Events,
    actor: String,
}

impl FeedSink for Sink {
    fn push(&self, batch: &FeedBatch) -> bool {
        self.events.add(&self.actor, Event::Feed(batch.clone()));
        true
    }
}

impl Events {
    pub(super) fn add(&self, actor: &str, event: Event) {
        self.waiting.lock().push((actor.to_owned(), event));
    }

    /// A callback that makes its answer an event of this actor.
    pub(super) fn done<T: Send + 'static>(
        &self,
        actor: &str,
        event: impl FnOnce(Result<T, Fault>) -> Event + Send + 'static,
    ) -> Done<T> {
        let (events, actor) = (self.clone(), actor.to_owned());
        Box::new(move |answer| events.add(&actor, event(answer)))
    }

    /// A sink that makes the feed events of this actor.
    pub(super) fn sink(&self, actor: &str) -> Arc<dyn FeedSink> {
        Arc::new(Sink { events: self.clone(), actor: actor.to_owned() })
    }

    /// The lines of everything that came since the last call.
    pub(super) fn show(&self, names: &mut Names) -> Vec<String> {
        let events = std::mem::take(&mut *self.waiting.lock());
        let line = |(actor, event): (String, Event)| show_one(event, names).map(|text| format!("{actor}: {text}"));
        events.into_iter().filter_map(line).collect()
    }
}

fn show_one(event: Event, names: &mut Names) -> Option<String> {
    Some(match event {
        Event::Receipt(Ok(receipt)) => {
            format!("committed {}{}", names.show_tid(receipt.tid), merged(&receipt.merged, names))
        }
        Event::Prepared(Ok(receipt)) => {
            let merged = merged(&receipt.merged, names);
            format!("prepared {}{merged}{}", names.number(receipt.prepared), stale(&receipt.stale, names))
        }
        Event::Tid(what, Ok(tid)) => format!("{what} {}", names.show_tid(tid)),
        Event::Copied(Ok(_)) => return None,
        Event::List(Ok(all)) => prepared(&all, names),
        Event::Mode(Ok(mode)) => operator::show_mode(&mode),
        Event::Gate(Ok(Closing::Closed(tid))) => format!("closed {}", names.show_tid(tid)),
        Event::Gate(Ok(Closing::Old(count))) => format!("not closed, {count} old"),
        Event::Oids(Ok(first), count) => format!("oids {first}..={}", Oid(first.0 + u64::from(count) - 1)),
        Event::Feed(batch) => {
            let own = |cells: &zeolite_server::engine::Cells| cells.iter().all(|cell| cell.oid == SYSTEM_OID);
            let items: Vec<String> =
                batch.items.iter().filter(|item| !own(&item.cells)).map(|item| feed_item(item, names)).collect();
            if items.is_empty() {
                return None;
            }
            format!("feed {}", items.join(", "))
        }
        Event::Receipt(Err(fault))
        | Event::Prepared(Err(fault))
        | Event::Tid(_, Err(fault))
        | Event::Copied(Err(fault))
        | Event::List(Err(fault))
        | Event::Mode(Err(fault))
        | Event::Gate(Err(fault))
        | Event::Oids(Err(fault), _) => show_fault(&fault, names),
    })
}

fn feed_item(item: &zeolite_server::engine::FeedItem, names: &mut Names) -> String {
    let tid = names.show_tid(item.tid);
    let cells: Vec<String> = item.cells.iter().map(|cell| names.show_cell(cell)).collect();
    format!("{tid} [{}]", cells.join(" "))
}

fn prepared(all: &[PreparedDraft], names: &Names) -> String {
    let one = |draft: &PreparedDraft| {
        let durable = if draft.durable { ", durable" } else { "" };
        let (key, owner) = (names.key_name(draft.key), draft.owner.as_deref().unwrap_or("anonymous"));
        format!("{key} of {owner}: {} cells, {} bytes{durable}", draft.cells, draft.bytes)
    };
    if all.is_empty() { "nothing is prepared".into() } else { all.iter().map(one).collect::<Vec<_>>().join("; ") }
}

fn merged(merged: &[Merged], names: &Names) -> String {
    let one = |merged: &Merged| {
        format!(", merged {} = {}", names.show_cell(&merged.cell), values::show(names, merged.record.as_ref()))
    };
    merged.iter().map(one).collect()
}

fn stale(stale: &[StaleCell], names: &mut Names) -> String {
    let one =
        |stale: &StaleCell| format!(", stale {} since {}", names.show_cell(&stale.cell), names.show_tid(stale.newest));
    stale.iter().map(one).collect()
}

/// A fault as a line: conflicts with their whole report, others with their message.
pub(super) fn show_fault(fault: &Fault, names: &mut Names) -> String {
    let Some(detail) = &fault.conflict else {
        let wait = if fault.retry_after_ms > 0 { " (come back later)" } else { "" };
        return format!("refused, {}: {}{wait}", fault.kind.text(), names.tame(&fault.message));
    };
    let (base, newest) = (names.show_tid(detail.base), names.show_tid(detail.newest));
    let reason = if detail.reason.is_empty() { "-" } else { &detail.reason };
    let mut line = format!(
        "refused, {}: cell {} class {} base {base} newest {newest} reason: {reason}",
        fault.kind.text(),
        names.show_cell(&detail.cell),
        if detail.class.is_empty() { "-" } else { values::short(&detail.class) },
    );
    if detail.base_record.is_some() || detail.newest_record.is_some() {
        let base = detail.base_record.as_ref();
        let base = base.map_or("nothing".to_owned(), |record| values::show(names, Some(record)));
        let newest = values::show(names, detail.newest_record.as_ref());
        line.push_str(&format!("; {base} became {newest}"));
    }
    for other in &fault.others {
        line.push_str(&format!("; also {}", names.show_cell(&other.cell)));
    }
    line
}
