//! Owns the scan of a record of ZODB: its class, and the objects that keep alive because it refers to them.
//!
//! Garbage collection goes by the references in a record's header. A reference that is not seen here is an object that pack
//! takes away, so what is not understood is an error that names it, and whoever stores the record refuses it: never "no
//! references".
//!
//! ```text
//!   pickle 1   the class       cmod\nName\n.       (class, arguments)   ((module, name), arguments)
//!   pickle 2   the state       ... (oid, class) Q  oid Q                strong: kept
//!                              ['w', (oid,)] Q     [oid] Q              weak: left out
//!                              ['n', (db, oid)] Q  ['m', (db, oid, class)] Q   of another database: left out
//! ```
//!
//! The references are those that ZODB's own `referencesf` gives, in its order, each once. The machine here keeps of every value
//! only whether it can be a persistent id, so a record of any size is scanned in memory of a few times its size, without recursion.

use crate::oids::ZodbOid;
use crate::pickle::{BadPickle, Op, Reader};
use crate::values::{Value, Values};
use std::collections::HashSet;

// A frozenset or a tuple lies on the stack as a whole before it is made: this is the longest one.
const STACK_MAX: usize = 1 << 24;

/// What a record says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scanned {
    /// The class: module and name, with a dot.
    pub class: String,
    /// The objects that it refers to, in the order of the record, each once.
    pub references: Vec<ZodbOid>,
}

/// Why a record was not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScanError {
    /// It is no pickle, or one that cannot be read here.
    #[error(transparent)]
    Pickle(#[from] BadPickle),
    /// The first pickle names no class.
    #[error("the record's first pickle is {0}, which names no class")]
    Class(String),
}

/// The class and the references of a record.
pub fn scan(record: &[u8]) -> Result<Scanned, ScanError> {
    let mut machine = Machine::new(record);
    machine.pickle()?;
    machine.pickle()?;
    Ok(Scanned { class: class_of(record)?, references: machine.references })
}

/// The class of a record alone. An object whose class is an object itself (`ZODB.persistentclass`) has the class `oid:` and that
/// object's id.
pub fn class_of(record: &[u8]) -> Result<String, ScanError> {
    if let Some((module, name)) = plain_class(record) {
        return dotted(module, name);
    }
    let mut values = Values::new(record);
    let top = values.pickle()?;
    let described = match values.get(top) {
        Value::Tuple(members) if !members.is_empty() => values.get(members[0]),
        other => other,
    };
    let name = |id: &u32| match values.get(*id) {
        Value::Text(text) | Value::Str(text) | Value::Bytes(text) => Some(text.as_ref()),
        _ => None,
    };
    match (values.get(top), described) {
        (_, Value::Global(module, name)) => dotted(module, name),
        (_, Value::Persistent(id)) => match oid_of(&values, *id) {
            Some(oid) => Ok(format!("oid:{:016x}", u64::from_be_bytes(oid))),
            None => Err(ScanError::Class("a persistent id that is none".into())),
        },
        (_, Value::Tuple(pair)) | (Value::Tuple(pair), Value::Text(_) | Value::Str(_) | Value::Bytes(_)) => {
            match pair.iter().map(name).collect::<Option<Vec<_>>>().as_deref() {
                Some([module, name]) => dotted(module, name),
                _ => Err(ScanError::Class("a tuple that is no pair of module and name".into())),
            }
        }
        (_, Value::Made(_)) => Err(ScanError::Class("an object that is made by a call".into())),
        (_, Value::Other(what)) => Err(ScanError::Class((*what).into())),
        _ => Err(ScanError::Class("plain data".into())),
    }
}

// The forms that nearly all records have: GLOBAL, or a tuple that begins with it.
fn plain_class(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(record);
    let mut op = reader.next_op().ok()?;
    while matches!(op, Op::Proto(_) | Op::Mark) {
        op = reader.next_op().ok()?;
    }
    match op {
        Op::Global(module, name) => Some((module, name)),
        _ => None,
    }
}

fn dotted(module: &[u8], name: &[u8]) -> Result<String, ScanError> {
    match (std::str::from_utf8(module), std::str::from_utf8(name)) {
        (Ok(module), Ok(name)) => Ok(format!("{module}.{name}")),
        _ => Err(ScanError::Class("a class whose name is no text".into())),
    }
}

/// The oid of a strong persistent id.
pub(crate) fn oid_of(values: &Values<'_>, id: u32) -> Option<ZodbOid> {
    match values.get(id) {
        Value::Bytes(oid) | Value::Str(oid) | Value::Text(oid) => oid.as_ref().try_into().ok(),
        Value::Tuple(members) => match values.get(*members.first()?) {
            Value::Bytes(oid) | Value::Str(oid) | Value::Text(oid) => oid.as_ref().try_into().ok(),
            _ => None,
        },
        _ => None,
    }
}

// What a value can mean as a persistent id.
#[derive(Clone, Copy)]
enum Seen {
    Other,
    // Eight bytes.
    Oid(ZodbOid),
    // A tuple that begins with eight bytes.
    TupleOfOid(ZodbOid),
    List,
}

struct Machine<'a> {
    reader: Reader<'a>,
    stack: Vec<Seen>,
    marks: Vec<usize>,
    memo: Vec<Option<Seen>>,
    references: Vec<ZodbOid>,
    known: HashSet<ZodbOid>,
}

impl<'a> Machine<'a> {
    fn new(record: &'a [u8]) -> Machine<'a> {
        Machine {
            reader: Reader::new(record),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            references: Vec::new(),
            known: HashSet::new(),
        }
    }

    fn pickle(&mut self) -> Result<(), BadPickle> {
        self.stack.clear();
        self.marks.clear();
        loop {
            match self.reader.next_op()? {
                Op::Stop => return self.pop().map(drop),
                op => self.step(op)?,
            }
        }
    }

    fn step(&mut self, op: Op<'a>) -> Result<(), BadPickle> {
        match op {
            Op::Proto(_) | Op::Frame | Op::Stop => Ok(()),
            Op::Mark => {
                self.room()?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            Op::Pop if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
                Ok(())
            }
            Op::Pop | Op::Append | Op::Build => self.pop().map(drop),
            Op::PopMark | Op::Appends | Op::SetItems | Op::AddItems => self.down_to_mark().map(drop),
            Op::SetItem => self.pops(2),
            Op::Dup => self.top().and_then(|top| self.push(top)),
            Op::None | Op::Bool(_) | Op::Int(_) | Op::Long(_) | Op::Digits(_) | Op::Float(_) => self.push(Seen::Other),
            Op::ByteArray(_) | Op::EmptyDict | Op::EmptySet | Op::Global(..) | Op::Ext(_) => self.push(Seen::Other),
            Op::Str(text) | Op::Text(text) => self.string(&text),
            Op::Bytes(bytes) => self.string(bytes),
            Op::EmptyList => self.push(Seen::List),
            Op::TupleOf(len) => self.tuple(self.stack.len().saturating_sub(len.into())),
            Op::Tuple => self.marked_tuple(),
            Op::List => self.of_mark(Seen::List),
            Op::Dict | Op::FrozenSet | Op::Inst(..) | Op::Obj => self.of_mark(Seen::Other),
            Op::StackGlobal | Op::Reduce | Op::NewObj => self.pops(2).and_then(|()| self.push(Seen::Other)),
            Op::NewObjEx => self.pops(3).and_then(|()| self.push(Seen::Other)),
            Op::PersId(line) => self.string(line).and_then(|()| self.persistent()),
            Op::BinPersId => self.persistent(),
            Op::Put(number) => self.put(number as usize),
            Op::Memoize => self.put(self.memo.len()),
            Op::Get(number) => self.recall(number),
        }
    }

    fn room(&self) -> Result<(), BadPickle> {
        if self.stack.len().max(self.marks.len()) < STACK_MAX {
            return Ok(());
        }
        self.reader.bad(format!("more than {STACK_MAX} values at once; store it as several objects"))
    }

    fn push(&mut self, seen: Seen) -> Result<(), BadPickle> {
        self.room()?;
        self.stack.push(seen);
        Ok(())
    }

    fn string(&mut self, text: &[u8]) -> Result<(), BadPickle> {
        self.push(text.try_into().map_or(Seen::Other, Seen::Oid))
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Seen, BadPickle> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(*top),
            _ => self.reader.bad("a value is taken that is not there"),
        }
    }

    fn pop(&mut self) -> Result<Seen, BadPickle> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pops(&mut self, count: usize) -> Result<(), BadPickle> {
        (0..count).try_for_each(|_| self.pop().map(drop))
    }

    fn down_to_mark(&mut self) -> Result<Option<Seen>, BadPickle> {
        let Some(mark) = self.marks.pop() else { return self.reader.bad("a mark is taken that is not there") };
        let first = self.stack.get(mark).copied();
        self.stack.truncate(mark);
        Ok(first)
    }

    fn of_mark(&mut self, made: Seen) -> Result<(), BadPickle> {
        self.down_to_mark()?;
        self.push(made)
    }

    fn marked_tuple(&mut self) -> Result<(), BadPickle> {
        match self.marks.pop() {
            Some(mark) => self.tuple(mark),
            None => self.reader.bad("a mark is taken that is not there"),
        }
    }

    fn tuple(&mut self, from: usize) -> Result<(), BadPickle> {
        if from < self.floor() {
            return self.reader.bad("a value is taken that is not there");
        }
        let made = match self.stack.get(from) {
            Some(Seen::Oid(oid)) => Seen::TupleOfOid(*oid),
            _ => Seen::Other,
        };
        self.stack.truncate(from);
        self.push(made)
    }

    fn persistent(&mut self) -> Result<(), BadPickle> {
        match self.pop()? {
            Seen::Oid(oid) | Seen::TupleOfOid(oid) => {
                if self.known.insert(oid) {
                    self.references.push(oid);
                }
            }
            Seen::List => {}
            Seen::Other => {
                return self
                    .reader
                    .bad("a persistent id that is neither an oid of 8 bytes, nor (oid, class), nor a list");
            }
        }
        self.push(Seen::Other)
    }

    // Picklers count up by one, so a record has no number beyond its length.
    fn put(&mut self, number: usize) -> Result<(), BadPickle> {
        if number > self.reader.len() {
            return self.reader.bad(format!("memo number {number} in a record of {} bytes", self.reader.len()));
        }
        let top = self.top()?;
        if self.memo.len() <= number {
            self.memo.resize(number + 1, None);
        }
        self.memo[number] = Some(top);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Result<(), BadPickle> {
        match self.memo.get(number as usize) {
            Some(Some(seen)) => self.push(*seen),
            _ => self.reader.bad(format!("nothing is remembered under memo number {number}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(n: u8) -> ZodbOid {
        [0, 0, 0, 0, 0, 0, 0, n]
    }

    fn record(state: &[u8]) -> Vec<u8> {
        [&b"\x80\x03cmy.pages\nPage\nq\x01.\x80\x03"[..], state, b"."].concat()
    }

    fn references(state: &[u8]) -> Vec<ZodbOid> {
        scan(&record(state)).expect("is understood").references
    }

    #[test]
    fn strong_references_are_kept_in_order_and_once() {
        let twice = b"(C\x08\0\0\0\0\0\0\0\x02q\x02h\x01\x86QC\x08\0\0\0\0\0\0\0\x01Qh\x02Qt";
        assert_eq!(references(twice), [oid(2), oid(1)]);
        assert_eq!(references(b"U\x08\0\0\0\0\0\0\0\x07Q"), [oid(7)], "of Python 2");
        assert_eq!(references(b"X\x08\0\0\0\0\0\0\0\0\0\0\x07Q"), [oid(7)], "of ASCII bytes only");
        assert_eq!(references(b"Pabcdefgh\n"), [*b"abcdefgh"], "of protocol 0");
        assert_eq!(references(b"}q\x02U\x01aU\x08\0\0\0\0\0\0\0\x01h\x01\x86Qs"), [oid(1)]);
    }

    #[test]
    fn weak_references_and_those_of_other_databases_are_left_out() {
        let others = b"(]q\x02(U\x01wU\x08\0\0\0\0\0\0\0\x02\x85eQ]C\x08\0\0\0\0\0\0\0\x03aQ(U\x01nlQ]K\x01at";
        assert_eq!(references(others), [] as [ZodbOid; 0]);
    }

    #[test]
    fn a_class_is_named_in_every_form() {
        let state = b"\x80\x03N.";
        for (class, name) in [
            (&b"\x80\x03cBTrees.OOBTree\nOOBTree\n."[..], "BTrees.OOBTree.OOBTree"),
            (b"(cmy\nC\nN\x86.", "my.C"),
            (b"\x80\x03(cmy\nC\n(K\x01tt.", "my.C"),
            (b"((S'my'\nS'C'\ntNt.", "my.C"),
            (b"\x80\x02U\x02myU\x01C\x86.", "my.C"),
            (b"\x80\x04\x95\x09\0\0\0\0\0\0\0\x8c\x02my\x94\x8c\x01C\x94\x93.", "my.C"),
            (b"\x80\x03C\x08\0\0\0\0\0\0\0\x0aQN\x86.", "oid:000000000000000a"),
            (b"\x80\x03cmy\nC\n)\x86.", "my.C"),
        ] {
            assert_eq!(scan(&[class, state].concat()).expect("is understood").class, name, "{class:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (bytes, word) in [
            (&b""[..], "ends"),
            (b"cmy\nC\n.", "ends"),
            (b"cmy\nC\n.K\x01Q.", "persistent id"),
            (b"cmy\nC\n.C\x03abcQ.", "persistent id"),
            (b"cmy\nC\n.h\x07.", "memo number 7"),
            (b"cmy\nC\n.r\xff\xff\xff\xffN.", "memo number"),
            (b"cmy\nC\n.K\x01(\x86.", "value is taken"),
            (b"cmy\nC\n.t.", "mark"),
            (b"cmy\nC\n.(0t.", "mark"),
            (b"\x82\x05.N.", "extension code"),
            (b"K\x01.N.", "plain data"),
            (b"c\xff\nC\n.N.", "no text"),
            (b".sxor", "value is taken"),
        ] {
            let error = scan(bytes).expect_err("is refused").to_string();
            assert!(error.contains(word), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn whatever_the_bytes_nothing_panics_and_cuts_are_refused() {
        let mut rng = fastrand::Rng::with_seed(7);
        let state = b"(C\x08\0\0\0\0\0\0\0\x02q\x02h\x01\x86Q}q\x03(X\x01\0\0\0aK\x01U\x01b]q\x04(K\x02eucm\nf\n)R}bt";
        let whole = record(state);
        scan(&whole).unwrap_or_else(|error| panic!("{error}"));
        for cut in 0..whole.len() {
            assert!(scan(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for round in 0..100_000 {
            let mut bytes = whole.clone();
            for _ in 0..rng.usize(1..6) {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            let caught = std::panic::catch_unwind(|| scan(&bytes).is_ok());
            assert!(caught.is_ok(), "round {round}: {bytes:?}");
        }
    }
}
