//! Owns the merge of `persistent.mapping.PersistentMapping`: a dict that is one record, merged key by key.
//!
//! ```text
//!   state    {'data': {key: value, ...}}
//!   old      a: 1   b: 2          theirs   a: 1   b: 3   c: 4          ours   b: 2   d: 5
//!   merged   b: 3   c: 4   d: 5   what ours has changed is done to theirs, in the order in which a dict keeps what was added
//! ```
//!
//! ZODB has no rule for these: two that write one mapping conflict, whatever they wrote. So this is opt-in, and careful. A key of both is a conflict,
//! and so is a mapping that one side has emptied, or that both together empty: whoever sees that it is empty may throw it away.
//!
//! Only plain values are understood: numbers, text, bytes, tuples, lists, dicts, classes, references, and what a call makes of such (dates, sets). Their writer
//! writes them anew, so what a pickle shares by its memo need not be known, but for what can be changed: a list that is at two places is the same one there,
//! and is left to the client. So is what is no text, bytes or integer as a key (Python says whether 1 is `True`), and a mapping that has attributes beside its keys.
//! `-0.0` and `0.0` count as one value, as they do in Python: a change from one to the other is none.

use crate::btrees::{Rules, record, three};
use crate::plain::{Plain, Unfold, left};
use crate::values::{Id, Value, Values};
use crate::write;
use std::collections::HashMap;
use std::sync::Arc;
use zeolite_proto::Record;
use zeolite_proto::resolver::{Resolver, Unresolved};

/// The classes: one, by the names that it has had.
const CLASSES: [&str; 2] = ["persistent.mapping.PersistentMapping", "persistent.dict.PersistentDict"];

/// The classes that are merged here, with their resolvers.
pub fn resolvers(rules: Rules) -> impl Iterator<Item = (String, Arc<dyn Resolver>)> {
    CLASSES.into_iter().map(move |class| (class.to_owned(), Arc::new(Mapping { rules }) as Arc<dyn Resolver>))
}

/// Merges mappings.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    rules: Rules,
}

impl Resolver for Mapping {
    fn description(&self) -> &str {
        "a mapping of ZODB: changes of different keys are merged"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let sides = three(base, theirs, ours)?;
        let [(_, old), (_, theirs), (class, ours)] = [read(sides[0])?, read(sides[1])?, read(sides[2])?];
        let merged = self.merged(&Keys::of(&old)?, &Keys::of(&theirs)?, &Keys::of(&ours)?)?;
        let mut data = class.to_vec();
        write::mapping(merged.into_iter(), &mut data);
        record(sides, class, data).map(Some)
    }

    // A mapping is one record, whatever its size.
    fn expensive(&self, bytes: usize) -> bool {
        bytes > crate::btrees::CHEAP_BYTES
    }
}

type Pair<'a> = (Plain<'a>, Plain<'a>);

/// The class's pickle, and the pairs.
fn read(record: &Record) -> Result<(&[u8], Vec<Pair<'_>>), Unresolved> {
    let mut values = Values::new(&record.data);
    values.pickle().map_err(left)?;
    let class = &record.data[..values.at()];
    let top = values.pickle().map_err(left)?;
    if values.at() != record.data.len() {
        return Err(left("a record with something behind its two pickles"));
    }
    match Unfold::of_mappings(&values).plain(data_of(&values, top)?)? {
        Plain::Dict(pairs) => Ok((class, pairs)),
        other => Err(left(format!("{other} in the place of a mapping's keys"))),
    }
}

fn data_of(values: &Values<'_>, top: Id) -> Result<Id, Unresolved> {
    let Value::Dict(attributes) = values.get(top) else { return Err(left("a state that is none of a mapping")) };
    match attributes.as_slice() {
        [(name, data)] => match values.get(*name) {
            Value::Text(name) | Value::Str(name) if name.as_ref() == b"data" => Ok(*data),
            _ => Err(left("a mapping without keys of its own")),
        },
        _ => Err(left("a mapping with attributes beside its keys")),
    }
}

/// A key that Python takes for equal to no other than one with these bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Key<'k> {
    None,
    Int(i128),
    Text(&'k [u8]),
    Bytes(&'k [u8]),
    Tuple(Vec<Key<'k>>),
}

impl<'k> Key<'k> {
    fn of(key: &'k Plain<'_>) -> Result<Key<'k>, Unresolved> {
        Ok(match key {
            Plain::None => Key::None,
            Plain::Int(it) => Key::Int(*it),
            Plain::Text(it) => Key::Text(it),
            Plain::Bytes(it) => Key::Bytes(it),
            Plain::Tuple(members) => Key::Tuple(members.iter().map(Key::of).collect::<Result<_, _>>()?),
            other => return Err(left(format!("{other} as the key of a mapping"))),
        })
    }
}

/// The pairs by their keys.
struct Keys<'k, 'a> {
    pairs: &'k [Pair<'a>],
    by_key: HashMap<Key<'k>, &'k Plain<'a>>,
}

impl<'k, 'a> Keys<'k, 'a> {
    fn of(pairs: &'k [Pair<'a>]) -> Result<Keys<'k, 'a>, Unresolved> {
        let mut by_key = HashMap::with_capacity(pairs.len());
        for (key, value) in pairs {
            if by_key.insert(Key::of(key)?, value).is_some() {
                return Err(left(format!("a mapping with its key {key} twice")));
            }
        }
        Ok(Keys { pairs, by_key })
    }
}

impl Mapping {
    fn merged<'k, 'a>(
        &self,
        old: &Keys<'k, 'a>,
        theirs: &Keys<'k, 'a>,
        ours: &Keys<'k, 'a>,
    ) -> Result<Vec<(&'k Plain<'a>, &'k Plain<'a>)>, Unresolved> {
        let emptied = |side: &Keys<'_, '_>| side.pairs.is_empty() && !old.pairs.is_empty();
        if emptied(theirs) || emptied(ours) {
            return Err(Unresolved::because("one of the commits has emptied the mapping"));
        }
        let mut merged = Vec::with_capacity(theirs.pairs.len());
        for (key, value) in theirs.pairs {
            merged.extend(self.value(key, (old, Some(value), ours))?.map(|value| (key, value)));
        }
        for (key, _) in ours.pairs {
            if !theirs.by_key.contains_key(&Key::of(key)?) {
                merged.extend(self.value(key, (old, None, ours))?.map(|value| (key, value)));
            }
        }
        for (key, _) in old.pairs {
            let name = Key::of(key)?;
            if !theirs.by_key.contains_key(&name) && !ours.by_key.contains_key(&name) && !self.rules.same_changes {
                return Err(both(key));
            }
        }
        match merged.is_empty() && !old.pairs.is_empty() {
            true => Err(Unresolved::because("the two commits together leave the mapping empty")),
            false => Ok(merged),
        }
    }

    /// What a key becomes; none: it is removed.
    fn value<'k, 'a>(
        &self,
        key: &Plain<'a>,
        (old, theirs, ours): (&Keys<'k, 'a>, Option<&'k Plain<'a>>, &Keys<'k, 'a>),
    ) -> Result<Option<&'k Plain<'a>>, Unresolved> {
        let name = Key::of(key)?;
        let (old, ours) = (old.by_key.get(&name).copied(), ours.by_key.get(&name).copied());
        if ours == old {
            Ok(theirs)
        } else if theirs == old || (self.rules.same_changes && theirs == ours) {
            Ok(ours)
        } else {
            Err(both(key))
        }
    }
}

fn both(key: &Plain<'_>) -> Unresolved {
    Unresolved::because(format!("both commits changed one key of the mapping ({key})"))
}
