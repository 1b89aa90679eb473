//! Owns the model's rules: what a write becomes when somebody else was faster. Written anew, over plain values.

use crate::support::resolvers::SLOW;
use crate::support::work::encoded;
use bytes::Bytes;
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{class, counter, list};
use zeolite_proto::{Cell, Change, Record, Tid};

/// What the model says of a draft.
pub(super) enum Verdict {
    /// It commits, and these are its writes.
    Fine(Vec<(Cell, Option<Bytes>, bool)>),
    /// It is refused: this cell has a newer revision.
    InTheWay { cell: Cell, newest: Tid, read: bool },
}

/// A write that wants in.
pub(super) struct Wanted<'a> {
    pub(super) change: &'a Change,
    /// Somebody wrote the cell after the write's base.
    pub(super) disturbed: bool,
    pub(super) base: &'a dyn Fn() -> Option<Bytes>,
    pub(super) theirs: Option<Bytes>,
}

impl Wanted<'_> {
    /// The record and whether a resolver made it; an error is a conflict.
    pub(super) fn outcome(self) -> Result<(Option<Bytes>, bool), ()> {
        let theirs = self.theirs.as_ref().map(decoded);
        let made = match self.change {
            Change::Put(record) if !self.disturbed => return Ok((Some(record.clone()), false)),
            Change::Delete if !self.disturbed => return Ok((None, false)),
            Change::Put(record) => merge((self.base)().as_ref().map(decoded), theirs, Some(decoded(record)))?,
            Change::Delete => merge((self.base)().as_ref().map(decoded), theirs, None)?,
            Change::Apply { class, operation } => Some(apply(class, theirs, operation)?),
        };
        Ok((made.as_ref().map(encoded), true))
    }
}

fn decoded(bytes: &Bytes) -> Record {
    Record::decode(bytes).expect("the engine has let in records only")
}

fn number(record: Option<&Record>) -> i64 {
    record.map_or(0, |record| counter::value(record).expect("counters of the trials are whole"))
}

fn items(record: Option<&Record>) -> Vec<Item> {
    record.map_or(Vec::new(), |record| list::items(record).expect("lists of the trials are whole"))
}

fn text(record: Option<&Record>) -> String {
    record.map_or(String::new(), |record| String::from_utf8_lossy(&record.data).into_owned())
}

fn merge(base: Option<Record>, theirs: Option<Record>, ours: Option<Record>) -> Result<Option<Record>, ()> {
    let decides = ours.as_ref().or(theirs.as_ref()).or(base.as_ref()).map_or("", |record| record.class.as_str());
    match decides {
        class::LAST => Ok(ours),
        SLOW => {
            let (base, theirs, ours) = (text(base.as_ref()), text(theirs.as_ref()), text(ours.as_ref()));
            let added = ours.strip_prefix(&base).ok_or(())?;
            Ok(Some(Record::new(SLOW, 1, format!("{theirs}{added}").into_bytes())))
        }
        class::COUNTER | class::LIST => {
            if ours == base {
                return Ok(theirs);
            }
            if theirs == base {
                return Ok(ours);
            }
            let (theirs, ours) = match (&theirs, &ours) {
                (Some(theirs), Some(ours)) => (theirs, ours),
                (None, None) => return Ok(None),
                _ => return Err(()),
            };
            if decides == class::COUNTER {
                let sum = number(Some(theirs)) + number(Some(ours)) - number(base.as_ref());
                return Ok(Some(counter::record(sum)));
            }
            let (base, ours) = (items(base.as_ref()), items(Some(ours)));
            let added = ours.strip_prefix(base.as_slice()).ok_or(())?;
            let all = [items(Some(theirs)).as_slice(), added].concat();
            Ok(Some(list::record(&all).expect("lists of the trials are short")))
        }
        _ => Err(()),
    }
}

fn apply(class: &str, theirs: Option<Record>, operation: &Bytes) -> Result<Record, ()> {
    match class {
        class::COUNTER => {
            let by = counter::value(&Record::new(class::COUNTER, 1, operation.clone())).map_err(|_| ())?;
            Ok(counter::record(number(theirs.as_ref()) + by))
        }
        class::LIST => {
            let mut all = items(theirs.as_ref());
            all.push(Item::new(operation.slice(7..)));
            Ok(list::record(&all).expect("lists of the trials are short"))
        }
        SLOW => {
            let text = format!("{}{}", text(theirs.as_ref()), String::from_utf8_lossy(operation));
            Ok(Record::new(SLOW, 1, text.into_bytes()))
        }
        _ => Err(()),
    }
}
