//! Owns the actor: a named client of a script, with its snapshot and its draft, and the commands that it knows.
//!
//! ```text
//!   begin [serializable] [at t3]     a snapshot and an empty draft
//!   get CELL · scan OBJECT [FROM [TO]] · rscan ...    reads; in a serializable draft they will be checked
//!   put CELL RECORD · stamped CELL RECORD · delete CELL · apply CELL CLASS ARGS · add CELL N
//!   note USER TEXT · batch · key NAME                 more about the draft
//!   chunk JOB [as-one | of CELL] [reads]              it is one of an evolve's job: each write is a step (or all of them are the first one's,
//!                                                     or of a cell that is left as it is), which has read more than its cell
//!   owed JOB                                          what live drafts went over
//!   since T                                           the key exists since then (without: since the snapshot)
//!   submit (queue only) · commit (and run)            under a new key, or the one that was named
//!   submit prepare|amend|finish|abort ...            the same, queued only
//!   prepare [durable] [hold] [MS] · amend NUMBER [withdraw CELL...] · finish NUMBER [KEY] · abort NUMBER [KEY] (or: key KEY) · outcome [KEY] · undo T
//!   pin [T] [MS] · renew N [MS] · unpin N · feed · oids N
//!   restore T+N CELL RECORD (or now+N) · restore-packed T+N T+N CELL RECORD: of a source that is packed up to the first
//!   upload NAME TEXT · upload-part · blob               see `blobs`
//!   role, mode, watch, gate, open, gates, heat, prepared, resolve      see `operator`
//! ```

use super::events::{Event, Events, show_fault};
use super::names::Names;
use super::{blobs, operator, values};
use crate::support::house::House;
use crate::support::work::{self, Steps, Work};
use bytes::Bytes;
use std::time::Duration;
use zeolite_proto::evolve::{Owed, Stored, owed_keys};
use zeolite_proto::{Cell, CommitKey, Fault, Note, Tid};
use zeolite_server::engine::clock::Clock;
use zeolite_server::engine::{Caller, Outcome, Owner, PinInfo, Preparing};
use zeolite_server::store::{Range, Revision, Txn, TxnWrite};

/// One client.
pub(super) struct Actor {
    name: String,
    caller: Caller,
    snapshot: Tid,
    serializable: bool,
    work: Work,
    drafts: u64,
    key_name: Option<String>,
    since: Tid,
    prepared_key: Option<CommitKey>,
    last_key: Option<CommitKey>,
}

/// What a command may touch.
pub(super) struct Around<'a> {
    /// The engine.
    pub(super) house: &'a mut House,
    /// The names so far.
    pub(super) names: &'a mut Names,
    /// Where answers go.
    pub(super) events: &'a Events,
}

type Lines = Result<Vec<String>, String>;

impl Actor {
    /// A client that has done nothing yet.
    pub(super) fn new(name: &str) -> Actor {
        Actor {
            name: name.to_owned(),
            caller: Caller::default(),
            snapshot: Tid::NONE,
            serializable: false,
            work: Work::new(CommitKey([0; 16])),
            drafts: 0,
            key_name: None,
            since: Tid::NONE,
            prepared_key: None,
            last_key: None,
        }
    }

    /// Runs one command; gives the lines that it prints itself.
    pub(super) fn run(&mut self, words: &[&str], around: &mut Around<'_>) -> Lines {
        let [verb, rest @ ..] = words else { return Err("a command is missing".into()) };
        match *verb {
            "begin" => self.begin(rest, around),
            "get" | "scan" | "rscan" | "read" | "range" => self.read(verb, rest, around),
            "put" | "stamped" | "delete" | "apply" | "add" => self.write(verb, rest, around).map(|()| Vec::new()),
            "note" => {
                let [user, text @ ..] = rest else { return Err("note USER TEXT".into()) };
                self.work = self.work.clone().note(user, &text.join(" "));
                Ok(Vec::new())
            }
            "chunk" => {
                const HOW: &str = "chunk JOB [as-one | of CELL] [reads]";
                let [job, how @ ..] = rest else { return Err(HOW.into()) };
                let reads = how.last() == Some(&"reads");
                let steps = match &how[..how.len() - usize::from(reads)] {
                    [] => Steps::OfEach,
                    ["as-one"] => Steps::OfTheFirst,
                    ["of", cell] => Steps::OfAnother(around.names.cell(cell)?),
                    _ => return Err(HOW.into()),
                };
                self.work = self.work.clone().chunk(around.names.oid(job), steps, reads);
                Ok(Vec::new())
            }
            "owed" => self.owed(around.names.oid(rest.first().ok_or("which job?")?), around),
            "batch" => {
                self.work = self.work.clone().batch();
                Ok(Vec::new())
            }
            "key" => {
                self.key_name = rest.first().map(|name| (*name).to_owned());
                Ok(Vec::new())
            }
            "since" => {
                self.since = around.names.tid(rest.first().ok_or("since which tid?")?)?;
                Ok(Vec::new())
            }
            "role" => {
                self.caller.role = rest.first().ok_or("which role?")?.parse()?;
                Ok(Vec::new())
            }
            "owner" => {
                self.caller.owner = Owner::named(rest.first().ok_or("whose name?")?);
                Ok(Vec::new())
            }
            "mode" | "watch" | "gate" | "gates" | "open" | "heat" | "prepared" | "resolve" => {
                operator::run(&self.name, words, around)
            }
            "upload" | "upload-part" | "blob" => blobs::run(&self.caller, words, around),
            "submit" if rest.first() == Some(&"gate") => operator::run(&self.name, words, around),
            "submit" | "commit" | "prepare" | "amend" | "finish" | "abort" | "undo" => {
                self.conclude(verb, rest, around)
            }
            _ => self.ask(verb, rest, around),
        }
    }

    fn begin(&mut self, rest: &[&str], around: &mut Around<'_>) -> Lines {
        let (serializable, rest) = match rest {
            ["serializable", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        self.snapshot = match rest {
            [] => around.house.engine().visible(),
            ["at", tid] => around.names.tid(tid)?,
            _ => return Err("begin [serializable] [at T]".into()),
        };
        self.serializable = serializable;
        self.work = Work::new(CommitKey([0; 16]));
        self.key_name = None;
        self.since = self.snapshot;
        Ok(Vec::new())
    }

    fn read(&mut self, verb: &str, rest: &[&str], around: &mut Around<'_>) -> Lines {
        let [target, limits @ ..] = rest else { return Err(format!("{verb} needs a cell or an object")) };
        let bound = |at: usize| limits.get(at).map_or(Bytes::new(), |key| Bytes::copy_from_slice(key.as_bytes()));
        let cell = around.names.cell(target)?;
        if self.serializable || verb == "read" || verb == "range" {
            let work = self.work.clone();
            self.work = match verb {
                "get" | "read" => work.read(cell.clone(), self.snapshot),
                _ => work.range(cell.oid, &bound(0), &bound(1), self.snapshot),
            };
        }
        match verb {
            "get" => {
                let loaded = around.house.engine().load(self.snapshot, std::slice::from_ref(&cell));
                let revision = loaded.map(|loaded| loaded.revisions.into_iter().next().flatten());
                Ok(vec![match revision {
                    Ok(revision) => show_revision(revision, around.names),
                    Err(fault) => show_fault(&fault, around.names),
                }])
            }
            "scan" | "rscan" => {
                let reverse = verb == "rscan";
                let range = Range { oid: cell.oid, from: bound(0), to: bound(1), reverse, keys_only: false };
                Ok(self.scan(&range, around))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn scan(&self, range: &Range, around: &mut Around<'_>) -> Vec<String> {
        let page = match around.house.engine().scan(self.snapshot, range, 0) {
            Ok(page) => page,
            Err(fault) => return vec![show_fault(&fault, around.names)],
        };
        let line = |entry: zeolite_server::store::Entry| {
            let tid = around.names.show_tid(entry.tid);
            let record = values::show(around.names, Some(&entry.record));
            format!("{} = {record} of {tid}", around.names.key(&entry.key))
        };
        let mut lines: Vec<String> = page.entries.into_iter().map(line).collect();
        lines.extend(page.next.map(|next| format!("more at {}", around.names.key(&next))));
        if lines.is_empty() { vec!["no entries".into()] } else { lines }
    }

    fn owed(&self, job: zeolite_proto::Oid, around: &mut Around<'_>) -> Lines {
        let (from, to) = owed_keys();
        let range = Range { oid: job, from, to, reverse: false, keys_only: false };
        let page =
            around.house.engine().scan(around.house.engine().visible(), &range, 0).map_err(|fault| fault.message)?;
        let mut lines = Vec::new();
        for entry in page.entries {
            let owed = Owed::decode(&entry.record).map_err(|bad| bad.to_string())?;
            let (cell, chunk) = (around.names.show_cell(&owed.cell()), around.names.show_tid(Tid(owed.chunk)));
            lines.push(format!("{cell} of {chunk}, since {}", around.names.show_tid(entry.tid)));
        }
        Ok(if lines.is_empty() { vec!["nothing".into()] } else { lines })
    }

    fn write(&mut self, verb: &str, rest: &[&str], around: &mut Around<'_>) -> Result<(), String> {
        let [target, rest @ ..] = rest else { return Err(format!("{verb} needs a cell")) };
        let cell = around.names.cell(target)?;
        let (work, base) = (self.work.clone(), self.snapshot);
        self.work = match (verb, rest) {
            ("put", _) => work.put(cell, base, &values::record(around.names, rest)?),
            ("stamped", _) => work.stamped(cell, &values::record(around.names, rest)?),
            ("delete", _) => work.delete(cell, base),
            ("add", _) => work.apply(cell, &values::class("Counter"), values::operation("Counter", rest)?),
            ("apply", [kind, args @ ..]) => work.apply(cell, &values::class(kind), values::operation(kind, args)?),
            _ => return Err("apply CELL CLASS ARGS".into()),
        };
        Ok(())
    }

    fn next_key(&mut self, names: &mut Names) -> CommitKey {
        self.drafts += 1;
        let name = self.key_name.take().unwrap_or_else(|| format!("{}#{}", self.name, self.drafts));
        let key = names.commit_key(&name);
        self.last_key = Some(key);
        key
    }

    fn conclude(&mut self, verb: &str, rest: &[&str], around: &mut Around<'_>) -> Lines {
        let engine = around.house.engine().clone();
        let told = around.events.done(&self.name, Event::Receipt);
        match (verb, rest) {
            ("submit", ["prepare" | "amend" | "finish" | "abort", ..]) => {
                self.two_phase(rest[0], &rest[1..], around)?;
            }
            ("submit" | "commit", []) => {
                let mut draft = self.work.clone().draft();
                draft.key = self.next_key(around.names);
                draft.key_since = self.since;
                engine.commit_as(self.caller.clone(), draft, told);
            }
            ("undo", [tid]) => {
                let (tid, key) = (around.names.tid(tid)?, self.next_key(around.names));
                let note = Note::new(&self.name, "undo");
                engine.undo(self.caller.clone(), tid, (key, tid), note, told);
            }
            _ => self.two_phase(verb, rest, around)?,
        }
        if verb != "submit" {
            around.house.run_dry();
        }
        Ok(Vec::new())
    }

    fn two_phase(&mut self, verb: &str, rest: &[&str], around: &mut Around<'_>) -> Result<(), String> {
        let engine = around.house.engine().clone();
        match (verb, rest) {
            ("prepare", how) => {
                let (durable, how) = how.strip_prefix(&["durable"][..]).map_or((false, how), |how| (true, how));
                let (hold, limit) = how.strip_prefix(&["hold"][..]).map_or((false, how), |limit| (true, limit));
                let limit = limit.first().map_or(Ok(0), |ms| ms.parse());
                let time_limit_ms = limit.map_err(|_| "prepare [durable] [hold] [MS]".to_owned())?;
                let mut draft = self.work.clone().draft();
                draft.key = self.next_key(around.names);
                draft.key_since = self.since;
                self.prepared_key = Some(draft.key);
                let told = around.events.done(&self.name, Event::Prepared);
                engine.prepare(self.caller.clone(), draft, Preparing { time_limit_ms, durable, hold }, told);
            }
            ("amend", [number, rest @ ..]) => {
                let withdrawn = match rest {
                    ["withdraw", cells @ ..] => {
                        cells.iter().map(|cell| around.names.cell(cell)).collect::<Result<_, _>>()?
                    }
                    [] => Vec::new(),
                    _ => return Err("amend NUMBER [withdraw CELL...]".into()),
                };
                let mut draft = self.work.clone().draft();
                let prepared;
                (prepared, draft.key) = self.which(&[number], around)?;
                let told = around.events.done(&self.name, Event::Prepared);
                engine.amend(self.caller.clone(), prepared, draft, withdrawn, told);
            }
            ("finish", rest) => {
                let (prepared, key) = self.which(rest, around)?;
                let told = around.events.done(&self.name, Event::Receipt);
                engine.finish(&self.caller.owner, prepared, key, Some(self.since), told);
            }
            ("abort", rest) => {
                let (prepared, key) = self.which(rest, around)?;
                let told = around.events.done(&self.name, |tid| Event::Tid("aborted, visible", tid));
                engine.abort(&self.caller.owner, prepared, (Some(key), Some(self.since)), told);
            }
            _ => return Err(format!("{verb} takes no such arguments")),
        }
        Ok(())
    }

    /// The prepared draft of this number; its key is the actor's last prepared one, or is named.
    fn which(&self, rest: &[&str], around: &mut Around<'_>) -> Result<(u64, CommitKey), String> {
        let (number, key) = match rest {
            [number] => (number, self.prepared_key.ok_or("nothing was prepared")?),
            ["key", name] => return Ok((0, around.names.commit_key(name))),
            [number, name] => (number, around.names.commit_key(name)),
            _ => return Err("name the number of what was prepared".into()),
        };
        Ok((around.names.id(number)?, key))
    }

    fn ask(&mut self, verb: &str, rest: &[&str], around: &mut Around<'_>) -> Lines {
        let engine = around.house.engine().clone();
        let number = |text: &&str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        let lease = |text: Option<&&str>| text.map_or(Ok(0), number);
        match verb {
            "outcome" => {
                let named = rest.first().map(|name| around.names.commit_key(name));
                let key = named.or(self.last_key).ok_or("no key so far")?;
                Ok(vec![match engine.outcome(key, Some(self.since)) {
                    Ok(outcome) => show_outcome(outcome, around.names),
                    Err(fault) => show_fault(&fault, around.names),
                }])
            }
            "pin" => {
                let tid = rest.first().map_or(Ok(Tid::NONE), |tid| around.names.tid(tid))?;
                let pin = engine.pin(&self.caller, tid, lease(rest.get(1))?);
                Ok(vec![show_pin(pin, around.names)])
            }
            "renew" | "unpin" => {
                let id = around.names.id(rest.first().ok_or("which pin?")?)?;
                if verb == "unpin" {
                    engine.unpin(&self.caller.owner, id);
                    return Ok(Vec::new());
                }
                let pin = engine.renew(&self.caller.owner, id, lease(rest.get(1))?, None);
                Ok(vec![show_pin(pin, around.names)])
            }
            "feed" => {
                let from = engine.subscribe(around.events.sink(&self.name));
                Ok(vec![format!("feed after {}", around.names.show_tid(from))])
            }
            "oids" => {
                let count = number(rest.first().ok_or("how many?")?)? as u32;
                engine.new_oids(count, around.events.done(&self.name, move |first| Event::Oids(first, count)));
                around.house.run_dry();
                Ok(Vec::new())
            }
            "restore" => self.restore(rest, Tid::NONE, around),
            "restore-packed" => {
                let [packed_to, rest @ ..] = rest else {
                    return Err("restore-packed T+SECONDS T+SECONDS CELL RECORD".into());
                };
                self.restore(rest, later(packed_to, around)?, around)
            }
            _ => Err(format!("an actor knows no command {verb:?}")),
        }
    }

    fn restore(&mut self, rest: &[&str], packed_to: Tid, around: &mut Around<'_>) -> Lines {
        let [when, cell, words @ ..] = rest else { return Err("restore T+SECONDS CELL RECORD".into()) };
        let tid = later(when, around)?;
        let cell: Cell = around.names.cell(cell)?;
        let record = Some(work::encoded(&values::record(around.names, words)?));
        let key = self.next_key(around.names);
        let writes = vec![TxnWrite { cell, record, merged: false }];
        let txn = Txn { tid, key, digest: 0, own: false, note: Bytes::new(), writes: writes.into() };
        let done = around.events.done(&self.name, |tid| Event::Tid("restored", tid));
        match around.house.engine().restoring() {
            Ok(restoring) => restoring.add(txn, packed_to, done),
            Err(fault) => done(Err(fault)),
        }
        around.house.run_dry();
        Ok(Vec::new())
    }
}

/// A tid that is so many seconds after another one, or after the clock: `T+N`, `now+N`.
fn later(text: &str, around: &Around<'_>) -> Result<Tid, String> {
    let (from, seconds) = text.split_once('+').ok_or("T+SECONDS")?;
    let seconds: u64 = seconds.parse().map_err(|_| "T+SECONDS".to_owned())?;
    let from = match from {
        "now" => Clock::unix_nanos(around.house.clock()),
        tid => around.names.tid(tid)?.unix_nanos(),
    };
    Ok(Tid::from_unix_nanos(from + Duration::from_secs(seconds).as_nanos() as i128))
}

fn show_revision(revision: Option<Revision>, names: &mut Names) -> String {
    let Some(revision) = revision else { return "nothing".into() };
    let end = revision.end.map(|end| format!(", until {}", names.show_tid(end))).unwrap_or_default();
    let tid = names.show_tid(revision.tid);
    format!("{} of {tid}{end}", values::show(names, revision.record.as_ref()))
}

fn show_outcome(outcome: Outcome, names: &mut Names) -> String {
    match outcome {
        Outcome::Unknown => "unknown".into(),
        Outcome::Forgotten => "forgotten".into(),
        Outcome::InFlight => "in flight".into(),
        Outcome::Committed(receipt) => {
            let show = |m: &zeolite_proto::Merged| {
                format!(", merged {} = {}", names.show_cell(&m.cell), values::show(names, m.record.as_ref()))
            };
            let merged: String = receipt.merged.iter().map(show).collect();
            format!("committed {}{merged}", names.show_tid(receipt.tid))
        }
    }
}

fn show_pin(pin: Result<PinInfo, Fault>, names: &mut Names) -> String {
    match pin {
        Ok(pin) => format!("pin {} at {} for {} ms", names.number(pin.pin), names.show_tid(pin.snapshot), pin.lease_ms),
        Err(fault) => show_fault(&fault, names),
    }
}
