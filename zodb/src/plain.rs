//! Owns plain data as trees: what a state is made of, if Python is not needed to know what it means.
//!
//! `Values` has the graph of a pickle as it stands; here it is unfolded to trees that own their members, within bounds, so
//! that a small pickle cannot become an endless one. What two places share is told apart only for lists, which can be changed:
//! a list at two places is refused, and so is a dict, or what a call makes, unless it is known that it cannot be changed. What is
//! not plain is refused by its name, and so left to the client.
//!
//! ```text
//!   None, bool, int (128 bits), float, text, bytes, tuples, lists, classes by name, strong references
//!   if they are asked for: dicts, and what a call makes (a date), as the call
//! ```

use crate::values::{Call, Id, Value, Values};
use std::borrow::Cow;
use std::collections::HashSet;
use zeolite_proto::resolver::Unresolved;

const MADE: &str = "an object that is made by a call";
const NODES_MAX: usize = 200_000;
const DEPTH_MAX: usize = 32;

/// One value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Plain<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// UTF-8 with lone surrogates, so that the order of the bytes is that of the characters.
    Text(Cow<'a, [u8]>),
    Bytes(Cow<'a, [u8]>),
    Tuple(Vec<Plain<'a>>),
    List(Vec<Plain<'a>>),
    Dict(Vec<(Plain<'a>, Plain<'a>)>),
    Class(Cow<'a, [u8]>, Cow<'a, [u8]>),
    Reference(Box<Reference<'a>>),
    Made(Box<Made<'a>>),
}

/// What a call makes: the same call makes the same.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Made<'a> {
    pub(crate) module: Cow<'a, [u8]>,
    pub(crate) name: Cow<'a, [u8]>,
    pub(crate) args: Plain<'a>,
    /// `cls.__new__(cls, *args)`, not `callable(*args)`.
    pub(crate) is_new: bool,
    pub(crate) state: Option<Plain<'a>>,
}

/// Whether what these calls make cannot be changed, so that two places may have one, or one each. Named one by one: beside `Decimal` there
/// is a `Context`.
fn is_unchangeable(module: &[u8], name: &[u8]) -> bool {
    match module {
        b"builtins" | b"__builtin__" => matches!(name, b"bytes" | b"complex"),
        b"_codecs" => name == b"encode",
        b"datetime" => matches!(name, b"date" | b"datetime" | b"time" | b"timedelta" | b"timezone"),
        b"decimal" => name == b"Decimal",
        // A zone that has a name, UTC, and one that is minutes away from it.
        b"pytz" => matches!(name, b"_p" | b"_UTC" | b"FixedOffset"),
        _ => false,
    }
}

/// A strong reference to an object of the same database.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Reference<'a> {
    pub(crate) oid: [u8; 8],
    /// What the persistent id says of the object's class.
    pub(crate) class: Option<Plain<'a>>,
}

impl Plain<'_> {
    /// The same, of its own.
    pub(crate) fn into_owned(self) -> Plain<'static> {
        let own = |bytes: Cow<'_, [u8]>| Cow::Owned(bytes.into_owned());
        let all = |members: Vec<Plain<'_>>| members.into_iter().map(Plain::into_owned).collect();
        match self {
            Plain::None => Plain::None,
            Plain::Bool(it) => Plain::Bool(it),
            Plain::Int(it) => Plain::Int(it),
            Plain::Float(it) => Plain::Float(it),
            Plain::Text(it) => Plain::Text(own(it)),
            Plain::Bytes(it) => Plain::Bytes(own(it)),
            Plain::Tuple(members) => Plain::Tuple(all(members)),
            Plain::List(members) => Plain::List(all(members)),
            Plain::Dict(pairs) => {
                Plain::Dict(pairs.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
            }
            Plain::Class(module, name) => Plain::Class(own(module), own(name)),
            Plain::Reference(to) => {
                Plain::Reference(Box::new(Reference { oid: to.oid, class: to.class.map(Plain::into_owned) }))
            }
            Plain::Made(made) => Plain::Made(Box::new(Made {
                module: own(made.module),
                name: own(made.name),
                args: made.args.into_owned(),
                is_new: made.is_new,
                state: made.state.map(Plain::into_owned),
            })),
        }
    }
}

/// The server does not decide this: whoever knows Python does.
pub(crate) fn left(what: impl std::fmt::Display) -> Unresolved {
    Unresolved::left(what)
}

/// Unfolds the values of a record.
pub(crate) struct Unfold<'v, 'a> {
    values: &'v Values<'a>,
    nodes: usize,
    /// Lists, dicts, what calls make.
    changeable: HashSet<Id>,
    of_mappings: bool,
}

impl<'v, 'a> Unfold<'v, 'a> {
    pub(crate) fn of(values: &'v Values<'a>) -> Unfold<'v, 'a> {
        Unfold { values, nodes: 0, changeable: HashSet::new(), of_mappings: false }
    }

    /// Dicts are plain, too, and what calls make. They have no order here, so nothing that compares more than equality may meet one.
    pub(crate) fn of_mappings(values: &'v Values<'a>) -> Unfold<'v, 'a> {
        Unfold { of_mappings: true, ..Unfold::of(values) }
    }

    pub(crate) fn plain(&mut self, id: Id) -> Result<Plain<'a>, Unresolved> {
        self.at_depth(id, 0)
    }

    fn at_depth(&mut self, id: Id, depth: usize) -> Result<Plain<'a>, Unresolved> {
        self.nodes += 1;
        if self.nodes > NODES_MAX || depth > DEPTH_MAX {
            return Err(left("a state of too many or too deep values"));
        }
        Ok(match self.values.get(id) {
            Value::None => Plain::None,
            Value::Bool(it) => Plain::Bool(*it),
            Value::Int(it) => Plain::Int(*it),
            Value::Float(it) => Plain::Float(*it),
            Value::Text(it) => Plain::Text(it.clone()),
            Value::Bytes(it) => Plain::Bytes(it.clone()),
            Value::Str(it) if it.is_ascii() => Plain::Text(it.clone()),
            Value::Str(_) => return Err(left("a string of Python 2 that is not ASCII")),
            Value::Tuple(members) => Plain::Tuple(self.members(members, depth)?),
            Value::List(_) if !self.changeable.insert(id) => return Err(left("a list that is at two places")),
            Value::List(members) => Plain::List(self.members(members, depth)?),
            Value::Dict(_) if !self.of_mappings => return Err(left("a dict")),
            Value::Dict(_) if !self.changeable.insert(id) => return Err(left("a dict that is at two places")),
            Value::Dict(pairs) => {
                let mut pair = |id: Id| self.at_depth(id, depth + 1);
                let pairs = pairs.iter().map(|(key, value)| Ok((pair(*key)?, pair(*value)?)));
                Plain::Dict(pairs.collect::<Result<_, Unresolved>>()?)
            }
            Value::Global(module, name) => Plain::Class(module.clone(), name.clone()),
            Value::Persistent(id) => Plain::Reference(Box::new(self.reference(*id, depth)?)),
            Value::Made(_) if !self.of_mappings => return Err(left(MADE)),
            Value::Made(call) => Plain::Made(Box::new(self.made(id, *call, depth)?)),
            Value::Other(what) => return Err(left(what)),
        })
    }

    fn made(&mut self, id: Id, call: Call, depth: usize) -> Result<Made<'a>, Unresolved> {
        let Value::Global(module, name) = self.values.get(call.callable).clone() else { return Err(left(MADE)) };
        if !is_unchangeable(&module, &name) && !self.changeable.insert(id) {
            return Err(left(format!("{MADE} and is at two places")));
        }
        let args = self.at_depth(call.args, depth + 1)?;
        if !matches!(args, Plain::Tuple(_)) {
            return Err(left(MADE));
        }
        let state = call.state.map(|state| self.at_depth(state, depth + 1)).transpose()?;
        Ok(Made { module, name, args, is_new: call.is_new, state })
    }

    fn members(&mut self, ids: &[Id], depth: usize) -> Result<Vec<Plain<'a>>, Unresolved> {
        ids.iter().map(|id| self.at_depth(*id, depth + 1)).collect()
    }

    fn reference(&mut self, id: Id, depth: usize) -> Result<Reference<'a>, Unresolved> {
        let (oid, class) = match self.values.get(id) {
            Value::Tuple(members) => match members.as_slice() {
                [oid, class] => (*oid, Some(self.at_depth(*class, depth + 1)?)),
                _ => return Err(left("a reference that is no pair")),
            },
            Value::List(_) => return Err(left("a weak reference, or one to another database")),
            _ => (id, None),
        };
        let oid = match self.values.get(oid) {
            Value::Bytes(oid) | Value::Str(oid) | Value::Text(oid) => oid.as_ref().try_into().ok(),
            _ => None,
        };
        Ok(Reference { oid: oid.ok_or_else(|| left("a reference without an oid"))?, class })
    }
}

/// A value as it is shown to people, cut where it is long.
impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 60;
        match self {
            Plain::None => write!(f, "None"),
            Plain::Bool(it) => write!(f, "{}", if *it { "True" } else { "False" }),
            Plain::Int(it) => write!(f, "{it}"),
            Plain::Float(it) => write!(f, "{it:?}"),
            Plain::Text(it) => {
                let text = String::from_utf8_lossy(it);
                let cut = text.chars().nth(SHOWN).is_some();
                write!(f, "{:?}{}", text.chars().take(SHOWN).collect::<String>(), if cut { "..." } else { "" })
            }
            Plain::Bytes(it) => {
                let cut = if it.len() > SHOWN { "..." } else { "" };
                write!(f, "b\"{}\"{cut}", it[..it.len().min(SHOWN)].escape_ascii())
            }
            Plain::Tuple(members) => {
                write!(f, "(")?;
                members.iter().take(4).try_for_each(|member| write!(f, "{member}, "))?;
                write!(f, "{})", if members.len() > 4 { "..." } else { "" })
            }
            Plain::List(_) => write!(f, "a list"),
            Plain::Dict(_) => write!(f, "a dict"),
            Plain::Class(..) => write!(f, "a class"),
            Plain::Made(_) => write!(f, "{MADE}"),
            Plain::Reference(to) => write!(f, "object {:x}", u64::from_be_bytes(to.oid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two places of a dict have what one call makes: Python 2's `c`, a call without arguments, put down and got again.
    fn shared(class: &str) -> Result<(), Unresolved> {
        let pickle = format!("(dS'a'\nc{}\n(tRp1\nsS'b'\ng1\ns.", class.replace(' ', "\n"));
        let mut values = Values::new(pickle.as_bytes());
        let top = values.pickle().unwrap_or_else(|bad| panic!("{bad}: {pickle}"));
        let plain = Unfold::of_mappings(&values).plain(top)?;
        assert!(matches!(&plain, Plain::Dict(pairs) if pairs.len() == 2 && pairs[0].1 == pairs[1].1), "{plain:?}");
        Ok(())
    }

    #[test]
    fn what_a_call_makes_is_at_two_places_only_where_it_cannot_be_changed() {
        let same = ["date", "datetime", "time", "timedelta", "timezone"].map(|name| format!("datetime {name}"));
        let others =
            ["decimal Decimal", "_codecs encode", "pytz _p", "pytz _UTC", "pytz FixedOffset", "__builtin__ complex"];
        for class in same.iter().map(String::as_str).chain(others) {
            shared(class).unwrap_or_else(|why| panic!("{class}: {}", why.0));
        }
        for class in [
            "decimal Context",
            "pytz LazyDict",
            "datetime tzinfo",
            "_codecs lookup",
            "__builtin__ set",
            "app.kinds Decimal",
        ] {
            let why = shared(class).expect_err(class);
            assert!(why.0.contains("two places"), "{class}: {}", why.0);
        }
    }
}
