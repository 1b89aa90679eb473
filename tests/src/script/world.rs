//! Owns the world of a script: the house, its actors, and the commands that are nobody's.
//!
//! ```text
//!   set NAME VALUE                           a setting; counts from the next opening on
//!   turn sequencer|writer|merger|settle|keeper · run · settle
//!   crash [SEED] · kill · restart
//!   copy                                     a new house, into which the whole log of this one is restored
//!   open DIR... (of the fixtures, one over the other) · name NAME OID
//!   disk full · disk room BYTES · disk roomy · disk fails OP PATH [SKIP] · disk edit PATH OFFSET · disk remove PATH
//!   pack [T]                                 of history; the scripts' objects hang from no root, so nothing is garbage
//!   clock +5s · clock wall 1h (set ahead) · clock back 1h
//!   dump · log · times · history CELL · kinds · objects CLASS [BELOW [LIMIT]] · status · poisoned
//! ```

use super::actor::{Actor, Around};
use super::events::{Event, Events, show_fault};
use super::names::Names;
use super::values;
use crate::support::house::{House, HouseSettings, START_UNIX_NANOS};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;
use zeolite_proto::{Cell, Note, PackOptions, Tid};
use zeolite_server::engine::{SYSTEM_OID, Turn};
use zeolite_server::store::disk::sim::{SimDisk, SimOp};
use zeolite_server::store::{Range, Txn};

/// How many oids a script has for its names.
const OIDS: u32 = 1000;

type Lines = Result<Vec<String>, String>;

/// Everything that a script's commands work on.
pub struct World {
    pub(super) settings: HouseSettings,
    house: Option<House>,
    names: Names,
    actors: BTreeMap<String, Actor>,
    events: Events,
}

impl Default for World {
    /// When a script says that the disk is full there is no room in the log either.
    fn default() -> Self {
        let mut settings = HouseSettings::default();
        settings.store.log_room_bytes = 0;
        World { settings, house: None, names: Names::default(), actors: BTreeMap::new(), events: Events::default() }
    }
}

impl World {
    /// Runs one command line; gives the lines that it and everything that it set off print.
    pub fn run(&mut self, line: &str) -> Lines {
        let mut lines = match line.split_once(": ") {
            Some((actor, command)) if !actor.contains(' ') => self.run_actor(actor, &words(command))?,
            _ => self.run_own(&words(line))?,
        };
        lines.extend(self.events.show(&mut self.names));
        Ok(lines)
    }

    fn house(&mut self) -> Result<&mut House, String> {
        if self.house.is_none() {
            let mut house = House::new(self.settings.clone());
            let first = house.oids(OIDS).map_err(|fault| format!("no oids for the script: {fault}"))?;
            self.names.add_oids(first, u64::from(OIDS));
            self.house = Some(house);
        }
        self.house.as_mut().ok_or_else(|| "no house".into())
    }

    fn run_actor(&mut self, name: &str, words: &[&str]) -> Lines {
        self.house()?;
        let actor = self.actors.entry(name.to_owned()).or_insert_with(|| Actor::new(name));
        let house = self.house.as_mut().ok_or("no house")?;
        actor.run(words, &mut Around { house, names: &mut self.names, events: &self.events })
    }

    fn run_own(&mut self, words: &[&str]) -> Lines {
        if let ["set", name, value] = words {
            set(&mut self.settings, name, value)?;
            if let Some(house) = &mut self.house {
                *house.settings_mut() = self.settings.clone();
            }
            return Ok(Vec::new());
        }
        match words {
            ["open", dirs @ ..] => return self.open(dirs),
            ["name", name, oid] => {
                let oid = oid.parse().map_err(|_| format!("{oid} is not an oid"))?;
                self.names.name(name, oid);
                return Ok(Vec::new());
            }
            _ => {}
        }
        let house = self.house()?;
        match words {
            ["turn", which] => {
                let loops = house.loops();
                let turn = match *which {
                    "sequencer" => loops.turn_sequencer(),
                    "writer" => loops.turn_writer(),
                    "merger" => loops.turn_merger(),
                    "settle" => loops.turn_settle(),
                    "keeper" => loops.turn_keeper(),
                    other => return Err(format!("there is no loop {other:?}")),
                };
                Ok(if turn == Turn::Worked { Vec::new() } else { vec!["nothing to do".into()] })
            }
            ["run"] => {
                house.run_dry();
                Ok(Vec::new())
            }
            ["settle"] => {
                house.settle();
                Ok(Vec::new())
            }
            ["crash" | "kill" | "restart", rest @ ..] => self.end_of_life(words[0], rest),
            ["copy"] => self.copy(),
            ["disk", rest @ ..] => self.disk(rest),
            ["clock", rest @ ..] => self.clock(rest),
            ["pack", to @ ..] => self.pack(to),
            _ => self.show(words),
        }
    }

    /// A house on a copy of the files of some fixtures; those of a later one replace those of an earlier one.
    fn open(&mut self, dirs: &[&str]) -> Lines {
        let disk = SimDisk::new();
        for dir in dirs {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(dir);
            for part in ["", "log/"] {
                let Ok(entries) = std::fs::read_dir(root.join(part)) else { continue };
                let files = entries.filter_map(Result::ok).filter(|entry| entry.path().is_file());
                for entry in files {
                    let path = format!("{part}{}", entry.file_name().to_string_lossy());
                    let bytes = std::fs::read(entry.path()).map_err(|error| format!("{path}: {error}"))?;
                    disk.put(&path, bytes);
                }
            }
        }
        self.house = None;
        match House::open(self.settings.clone(), disk) {
            Ok(house) => {
                let visible = house.engine().visible();
                let own = |txn: &Txn| txn.writes.iter().all(|write| write.cell.oid == SYSTEM_OID);
                let log = house.engine().log_page(Tid(1), Tid::NONE, 0).unwrap_or_default();
                log.iter().filter(|txn| !own(txn)).for_each(|txn| self.names.learn(txn.tid));
                self.house = Some(house);
                Ok(vec![format!("open at {}", self.names.show_tid(visible))])
            }
            Err(error) => Ok(vec![format!("does not open: {}", self.names.tame(&error.to_string()))]),
        }
    }

    fn end_of_life(&mut self, how: &str, rest: &[&str]) -> Lines {
        let seed = rest.first().map_or(Ok(1), |seed| seed.parse()).map_err(|_| "crash [SEED]".to_owned())?;
        let house = self.house()?;
        let ended = match how {
            "crash" => house.crash(seed),
            "kill" => house.kill(),
            _ => house.restart(),
        };
        if let Err(error) = ended {
            return Ok(vec![format!("does not open: {}", self.names.tame(&error.to_string()))]);
        }
        let visible = house.engine().visible();
        let system = house.engine().log_page(visible, visible, 1).ok();
        let own = system.is_some_and(|txns| txns.iter().all(|txn| txn.writes.iter().all(|w| w.cell.oid == SYSTEM_OID)));
        Ok(if own { Vec::new() } else { vec![format!("open at {}", self.names.show_tid(visible))] })
    }

    /// The copy is not quite fresh: it has handed out oids before anything is restored into it.
    fn copy(&mut self) -> Lines {
        let engine = self.house()?.engine();
        let (log, packed_to) = (engine.log_page(Tid(1), Tid::NONE, 0), engine.packed_to());
        let log = log.map_err(|fault| fault.to_string())?;
        let mut copy = House::new(self.settings.clone());
        copy.oids(1).map_err(|fault| fault.to_string())?;
        let restoring = copy.engine().restoring().map_err(|fault| fault.to_string())?;
        for txn in log {
            restoring.add(txn, packed_to, self.events.done("copy", Event::Copied));
        }
        copy.run_dry();
        self.house = Some(copy);
        Ok(Vec::new())
    }

    fn disk(&mut self, rest: &[&str]) -> Lines {
        let disk = self.house()?.disk().clone();
        let number = |text: &&str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        match rest {
            ["full"] => disk.set_room(Some(0)),
            ["room", bytes] => disk.set_room(Some(number(bytes)?)),
            ["roomy"] => disk.set_room(None),
            ["fails", op, path, skip @ ..] => {
                let skip = skip.first().map_or(Ok(0), number)?;
                disk.fail(sim_op(op)?, path, skip, ErrorKind::Other);
            }
            ["lacks", "room", "once"] => disk.fail(SimOp::Write, "log", 0, ErrorKind::StorageFull),
            ["edit", path, offset] => {
                let offset = number(offset)? as usize;
                let flip = |bytes: &mut Vec<u8>| bytes.iter_mut().skip(offset).take(1).for_each(|byte| *byte ^= 0xff);
                if !disk.edit(path, flip) {
                    return Err(format!("there is no file {path}"));
                }
            }
            ["remove", path] => {
                use zeolite_server::store::disk::Disk as _;
                disk.remove(path).map_err(|error| error.to_string())?;
            }
            _ => return Err("the disk cannot do that".into()),
        }
        Ok(Vec::new())
    }

    /// On a thread of its own, which waits for the loops.
    fn pack(&mut self, to: &[&str]) -> Lines {
        self.house()?;
        let to = to.first().map(|to| self.names.tid(to)).transpose()?;
        let house = self.house()?;
        let engine = house.engine().clone();
        let work = std::thread::spawn(move || engine.pack(PackOptions::new().to(to), &mut |_| true));
        while !work.is_finished() {
            house.run_dry();
            std::thread::yield_now();
        }
        house.run_dry();
        Ok(match work.join().map_err(|_| "the pack has panicked")? {
            Err(fault) => vec![show_fault(&fault, &mut self.names)],
            Ok(report) => {
                let (to, removed) = (self.names.up_to(report.packed_to), report.revisions_removed);
                let mut lines = vec![format!("packed to {to}, {removed} revisions removed")];
                lines.extend(report.held_back.map(|why| format!("less far than asked: {why}")));
                lines
            }
        })
    }

    fn clock(&mut self, rest: &[&str]) -> Lines {
        let clock = self.house()?.clock();
        match rest {
            ["back", by] => {
                let now = zeolite_server::engine::clock::Clock::unix_nanos(clock);
                clock.set_wall(now - duration(by)?.as_nanos() as i128);
            }
            ["wall", by] => {
                let now = zeolite_server::engine::clock::Clock::unix_nanos(clock);
                clock.set_wall(now + duration(by)?.as_nanos() as i128);
            }
            [by] => clock.advance(duration(by.trim_start_matches('+'))?),
            _ => return Err("clock +5s, clock wall 5s (set ahead), or clock back 5s".into()),
        }
        Ok(Vec::new())
    }

    fn show(&mut self, words: &[&str]) -> Lines {
        self.house()?;
        let house = self.house.as_mut().ok_or("no house")?;
        let (engine, names) = (house.engine().clone(), &mut self.names);
        let faulty = |fault: zeolite_proto::Fault, names: &mut Names| vec![show_fault(&fault, names)];
        match words {
            ["dump"] => Ok(dump(house, names)),
            ["log"] => Ok(log(house, names)),
            ["times"] => Ok(times(house, names)),
            ["history", cell] => {
                let cell = names.cell(cell)?;
                let (revisions, more) = match engine.history(&cell, Tid::NONE, 0) {
                    Ok(history) => history,
                    Err(fault) => return Ok(faulty(fault, names)),
                };
                let mut lines = Vec::new();
                for (revision, note) in revisions {
                    let (tid, record) = (names.show_tid(revision.tid), values::show(names, revision.record.as_ref()));
                    lines.push(format!("{tid} {record}{}", show_note(&note)));
                }
                lines.extend(more.then(|| "more".to_owned()));
                Ok(lines)
            }
            ["kinds"] => {
                let kinds = engine.kinds().map_err(|fault| fault.to_string())?.0;
                let mut lines: Vec<String> = kinds
                    .iter()
                    .filter(|kind| kind.objects > 0)
                    .map(|kind| format!("{}.{} {}", values::short(&kind.class), kind.version, kind.objects))
                    .collect();
                lines.sort();
                Ok(lines)
            }
            ["objects", class, bounds @ ..] => {
                let bound = |at: usize| bounds.get(at).map_or(Ok(0), |text| text.parse::<u32>());
                let bad = |_| "objects CLASS [BELOW [LIMIT]]".to_owned();
                let (below, limit) = (bound(0).map_err(bad)?, bound(1).map_err(bad)? as usize);
                match engine.objects(Some(&values::class(class)), below, None, limit, Tid::NONE) {
                    Err(fault) => Ok(faulty(fault, names)),
                    Ok(page) => {
                        let oids = page.oids.iter().map(|oid| names.object(*oid));
                        Ok(oids.chain(page.more.then(|| "more".to_owned())).collect())
                    }
                }
            }
            ["status"] => Ok(status(&engine.status(), names)),
            ["poisoned"] => Ok(vec![engine.poisoned().unwrap_or("no").to_owned()]),
            _ => Err(format!("there is no command {:?}", words.join(" "))),
        }
    }
}

fn dump(house: &mut House, names: &mut Names) -> Vec<String> {
    let objects: Vec<(String, zeolite_proto::Oid)> =
        names.objects().map(|(name, oid)| (name.to_owned(), oid)).collect();
    let mut lines = Vec::new();
    for (name, oid) in objects {
        match house.engine().load(Tid::NONE, &[Cell::object(oid)]) {
            Err(fault) => lines.push(format!("{name}: {}", show_fault(&fault, names))),
            Ok(loaded) => {
                let record = loaded.revisions.first().and_then(|revision| revision.as_ref()?.record.as_ref());
                lines.extend(record.map(|record| format!("{name} = {}", values::show(names, Some(record)))));
            }
        }
        let range = Range { oid, from: Bytes::new(), to: Bytes::new(), reverse: false, keys_only: false };
        for entry in house.engine().scan(Tid::NONE, &range, 0).map(|page| page.entries).unwrap_or_default() {
            lines.push(format!("{name}/{} = {}", names.key(&entry.key), values::show(names, Some(&entry.record))));
        }
    }
    lines
}

fn log(house: &mut House, names: &mut Names) -> Vec<String> {
    let mut lines = Vec::new();
    for txn in house.engine().log_page(Tid(1), Tid::NONE, 0).unwrap_or_default() {
        if txn.writes.iter().all(|write| write.cell.oid == SYSTEM_OID) && !txn.writes.is_empty() {
            continue;
        }
        let note = zeolite_server::engine::note::decode(&txn.note);
        let tid = names.show_tid(txn.tid);
        lines.push(format!("{tid}{}", show_note(&note)));
        for write in &txn.writes {
            let merged = if write.merged { " (merged)" } else { "" };
            let (cell, record) = (names.show_cell(&write.cell), values::show(names, write.record.as_ref()));
            lines.push(format!("  {cell} = {record}{merged}"));
        }
    }
    lines
}

fn times(house: &mut House, names: &mut Names) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last = Tid::NONE;
    for txn in house.engine().log_page(Tid(1), Tid::NONE, 0).unwrap_or_default() {
        let order = if txn.tid > last { "" } else { " OUT OF ORDER" };
        last = txn.tid;
        if txn.writes.iter().any(|write| write.cell.oid != SYSTEM_OID) {
            let nanos = txn.tid.unix_nanos() - START_UNIX_NANOS;
            lines.push(format!("{} {:+.3} s{order}", names.show_tid(txn.tid), nanos as f64 / 1e9));
        }
    }
    lines
}

fn status(status: &zeolite_proto::Status, names: &mut Names) -> Vec<String> {
    let oldest = status.oldest_pin.map(|tid| format!(" (oldest {})", names.show_tid(tid))).unwrap_or_default();
    let ahead =
        (status.ahead_ms >= 60_000).then(|| format!("newest is {} s ahead of the clock", status.ahead_ms / 1000));
    let mut lines = vec![
        format!("waiting {} live {} batch, prepared {}", status.queue_live, status.queue_batch, status.prepared),
        format!("pins {}{oldest}, conflicts {}, merges {}", status.pins, status.conflicts, status.merges),
    ];
    let long = |what: &str, ms: u64| (ms >= 60_000).then(|| format!("{what} {} s", ms / 1000));
    lines.extend(ahead);
    lines.extend(long("the oldest pin holds history of", status.oldest_pin_ms));
    lines.extend(long("the oldest prepared draft is as old as", status.oldest_prepared_ms));
    lines
}

fn show_note(note: &Note) -> String {
    let (user, description) = (note.user_text(), note.description_text());
    if user.is_empty() && description.is_empty() { String::new() } else { format!(" ({user}: {description})") }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or("a duration has a unit: ms, s, h")?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| format!("{text}: not a duration"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err(format!("{text}: the units are ms, s, h")),
    }
}

fn sim_op(text: &str) -> Result<SimOp, String> {
    Ok(match text {
        "read" => SimOp::Read,
        "write" => SimOp::Write,
        "set_len" => SimOp::SetLen,
        "sync" => SimOp::Sync,
        "create" => SimOp::Create,
        "rename" => SimOp::Rename,
        "remove" => SimOp::Remove,
        "sync_dir" => SimOp::SyncDir,
        other => return Err(format!("the disk has no call {other:?}")),
    })
}

fn set(settings: &mut HouseSettings, name: &str, value: &str) -> Result<(), String> {
    let value: u64 = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    let size = value as usize;
    match name {
        "live_queue_max" => settings.engine.live_queue_max = size,
        "batch_queue_max" => settings.engine.batch_queue_max = size,
        "live_per_batch" => settings.engine.live_per_batch = value as u32,
        "hop_max" => settings.engine.hop_max = size,
        "batch_txns_max" => settings.engine.batch_txns_max = size,
        "recent_cells_max" => settings.engine.recent_cells_max = size,
        "recent_bytes_max" => settings.engine.recent_bytes_max = size,
        "pins_max" => settings.engine.pins_max = size,
        "prepared_bytes_max" => settings.engine.prepared_bytes_max = size,
        "record_bytes_max" => settings.limits.record_bytes_max = size,
        "draft_writes_max" => settings.limits.draft_writes_max = size,
        "key_bytes_max" => settings.limits.key_bytes_max = size,
        "segment_bytes_max" => settings.store.segment_bytes_max = value,
        "read_only_below_free_bytes" => settings.engine.read_only_below_free_bytes = value,
        "pin_grace_s" => settings.engine.pin_grace_s = value,
        "history_min_s" => settings.engine.history_min_s = value,
        "keys_count_max" => settings.store.keys_count_max = value,
        "keys_age_s" => settings.store.keys_age_s = value,
        other => return Err(format!("there is no setting {other:?} for scripts; add it")),
    }
    Ok(())
}
