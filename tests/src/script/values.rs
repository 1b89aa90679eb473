//! Owns the text form of records and operations in scripts: `Page "hello"`, `Counter 5`, `Set {a, b}`.
//!
//! Built-in classes are written without their prefix, and their data as what it means. A class may carry a schema version
//! (`Page.2`), a record its references (`-> leaf twig`) and its blobs (`with talk`, at the end of the line). `Blob 9000` is that many bytes.

use super::blobs;
use super::names::Names;
use bytes::Bytes;
use std::collections::BTreeSet;
use zeolite_proto::evolve::{JobRecord, Stored};
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{bounded, collection, counter, extreme, last, list, queue, set, unique, value};
use zeolite_proto::{BadRecord, Oid, Record};

const PREFIX: &str = "zeolite.";
const BUILT_IN: [&str; 15] = [
    "Counter",
    "Bounded",
    "Min",
    "Max",
    "Last",
    "Set",
    "List",
    "Entry",
    "Unique",
    "QueueItem",
    "Map",
    "Index",
    "Queue",
    "Members",
    "Sequence",
];

/// The full class name of a script's short one.
pub(super) fn class(short: &str) -> String {
    if BUILT_IN.contains(&short) { format!("{PREFIX}{short}") } else { short.to_owned() }
}

/// The short form of a class name.
pub(super) fn short(class: &str) -> &str {
    class.strip_prefix(PREFIX).unwrap_or(class)
}

/// Reads `Class[.version] value... [-> reference...] [with blob...]`.
pub(super) fn record(names: &mut Names, words: &[&str]) -> Result<Record, String> {
    let (words, blobs) = match words.iter().position(|word| *word == "with") {
        Some(at) => (&words[..at], words[at + 1..].iter().map(|name| blobs::id(name)).collect::<Result<_, _>>()?),
        None => (words, Vec::new()),
    };
    let (words, refs) = match words.iter().position(|word| *word == "->") {
        Some(at) => (&words[..at], words[at + 1..].iter().map(|name| names.oid(name)).collect()),
        None => (words, Vec::new()),
    };
    let [kind, data @ ..] = words else { return Err("a record needs a class".into()) };
    let (kind, version) = match kind.split_once('.') {
        Some((kind, version)) => (kind, version.parse().map_err(|_| format!("bad version in {kind}.{version}"))?),
        None => (*kind, 1),
    };
    let text = data.join(" ");
    let items = || data.iter().map(|word| Item::new(word.as_bytes().to_vec()));
    let bad = |error: BadRecord| error.to_string();
    let mut record = match kind {
        "Counter" => counter::record(number(&text)?),
        "Min" => extreme::min_record(number(&text)?),
        "Max" => extreme::max_record(number(&text)?),
        "Bounded" => {
            let numbers: Vec<i64> = data.iter().map(|word| number(word)).collect::<Result<_, _>>()?;
            let [value, low, high] = numbers[..] else { return Err("Bounded VALUE LOW HIGH".into()) };
            bounded::record(bounded::Bounded { value, low, high }).map_err(bad)?
        }
        "Set" => set::record(&items().collect::<BTreeSet<_>>()).map_err(bad)?,
        "List" => list::record(&items().collect::<Vec<_>>()).map_err(bad)?,
        "Last" | "Entry" | "Unique" | "QueueItem" => value::record(&class(kind), text.as_bytes(), Vec::new()),
        "Map" | "Index" | "Queue" | "Members" | "Sequence" => collection::record(&class(kind)),
        "Job" => Record::new(JobRecord::CLASS, 1, text.into_bytes()),
        "Blob" => Record::new(kind, 1, vec![b'x'; number(&text)?.unsigned_abs() as usize]),
        other => Record::new(other, 1, text.into_bytes()),
    };
    record.version = version;
    record.refs.extend::<Vec<Oid>>(refs);
    record.blobs = blobs;
    Ok(record)
}

/// Reads the arguments of an operation of a class.
pub(super) fn operation(kind: &str, words: &[&str]) -> Result<Bytes, String> {
    let text = words.join(" ");
    let item = |word: &str| Item::new(word.as_bytes().to_vec());
    let bad = |error: BadRecord| error.to_string();
    match kind {
        "Counter" | "Bounded" => Ok(counter::add(number(&text)?)),
        "Min" | "Max" => Ok(extreme::offer(number(&text)?)),
        "Set" => {
            let change = |word: &&str| match word.split_at(1) {
                ("+", member) => Ok(set::Change::Add(item(member))),
                ("-", member) => Ok(set::Change::Remove(item(member))),
                _ => Err(format!("{word}: write +member or -member")),
            };
            set::change(&words.iter().map(change).collect::<Result<Vec<_>, _>>()?).map_err(bad)
        }
        "List" => list::append(&words.iter().map(|word| item(word)).collect::<Vec<_>>()).map_err(bad),
        "Last" => last::put(&last::record(text.as_bytes(), Vec::new())).map_err(bad),
        "Unique" => unique::insert(&unique::record(text.as_bytes(), Vec::new())).map_err(bad),
        "QueueItem" => Ok(queue::take()),
        _ => Ok(Bytes::from(text.into_bytes())),
    }
}

/// The text of an encoded record; `None`: deleted.
pub(super) fn show(names: &Names, record: Option<&Bytes>) -> String {
    let Some(bytes) = record else { return "deleted".into() };
    let record = match Record::decode(bytes) {
        Ok(record) => record,
        Err(error) => return format!("unreadable ({error})"),
    };
    let data = data(&record).unwrap_or_else(|error| format!("unreadable ({error})"));
    let version = if record.version == 1 { String::new() } else { format!(".{}", record.version) };
    let refs: Vec<String> = record.refs.iter().map(|oid| names.object(*oid)).collect();
    let refs = if refs.is_empty() { String::new() } else { format!(" -> {}", refs.join(" ")) };
    let blobs: Vec<String> = record.blobs.iter().map(|id| blobs::name(*id)).collect();
    let blobs = if blobs.is_empty() { String::new() } else { format!(" with {}", blobs.join(" ")) };
    format!("{}{version}{data}{refs}{blobs}", short(&record.class))
}

fn data(record: &Record) -> Result<String, BadRecord> {
    let joined = |items: &mut dyn Iterator<Item = Item>| {
        items.map(|item| item.bytes.escape_ascii().to_string()).collect::<Vec<_>>().join(", ")
    };
    Ok(match short(&record.class) {
        "Counter" => format!(" {}", counter::value(record)?),
        "Min" | "Max" => format!(" {}", extreme::value(record)?),
        "Bounded" => {
            let bounded = bounded::read(record)?;
            format!(" {} in {}..={}", bounded.value, bounded.low, bounded.high)
        }
        "Set" => format!(" {{{}}}", joined(&mut set::members(record)?.into_iter())),
        "List" => format!(" [{}]", joined(&mut list::items(record)?.into_iter())),
        "Last" | "Entry" | "Unique" | "QueueItem" => format!(" \"{}\"", value::read(record)?.escape_ascii()),
        "Map" | "Index" | "Queue" | "Members" | "Sequence" => String::new(),
        _ if record.data.len() > 60 => format!(" ({} bytes)", record.data.len()),
        _ => format!(" \"{}\"", record.data.escape_ascii()),
    })
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}
