//! Owns plain values: what a pickle says when nothing in it is run.
//!
//! Numbers, strings, tuples, lists, dicts, names of classes and persistent ids are understood; of what is made by a call is known what is
//! called with what, and which state it is given then. Everything else is one opaque value. The values of a record lie in one list and name each other by their
//! place in it, so that what is deep or knows itself needs no recursion here, and what was remembered in one pickle is there in
//! the next: ZODB's two pickles of a record have one memo.
//!
//! Meant for class descriptions and for small states: there are at most [`VALUES_MAX`] of them.

use crate::pickle::{BadPickle, Op, Reader};
use std::borrow::Cow;

/// How many values a record may have here.
pub(crate) const VALUES_MAX: usize = 1 << 20;

/// The place of a value.
pub(crate) type Id = u32;

/// One value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// Text of any Python: UTF-8 with lone surrogates.
    Text(Cow<'a, [u8]>),
    Bytes(Cow<'a, [u8]>),
    /// A string of Python 2.
    Str(Cow<'a, [u8]>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Pairs, as they were set: of a key that is there twice the last one counts.
    Dict(Vec<(Id, Id)>),
    /// A class or function: module and name.
    Global(Cow<'a, [u8]>, Cow<'a, [u8]>),
    /// A persistent id.
    Persistent(Id),
    /// What a call has made.
    Made(Call),
    /// Anything else, and what it is.
    Other(&'static str),
}

/// A call, with what was done to its result.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Call {
    pub(crate) callable: Id,
    pub(crate) args: Id,
    /// `cls.__new__(cls, *args)`, not `callable(*args)`.
    pub(crate) is_new: bool,
    pub(crate) state: Option<Id>,
}

/// The values of one record, pickle by pickle.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    reader: Reader<'a>,
    values: Vec<Value<'a>>,
    memo: Vec<Option<Id>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(record: &'a [u8]) -> Values<'a> {
        Values {
            reader: Reader::new(record),
            values: Vec::new(),
            memo: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
        }
    }

    pub(crate) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    /// How far the record has been read.
    pub(crate) fn at(&self) -> usize {
        self.reader.at()
    }

    /// Reads the next pickle to its end.
    pub(crate) fn pickle(&mut self) -> Result<Id, BadPickle> {
        self.stack.clear();
        self.marks.clear();
        loop {
            let op = self.reader.next_op()?;
            if op == Op::Stop {
                return self.pop();
            }
            self.step(op)?;
        }
    }

    fn step(&mut self, op: Op<'a>) -> Result<(), BadPickle> {
        match op {
            Op::Proto(_) | Op::Frame | Op::Stop => {}
            Op::Mark => self.marks.push(self.stack.len()),
            Op::Pop if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            Op::Pop => drop(self.pop()?),
            Op::PopMark => drop(self.down_to_mark()?),
            Op::Dup => {
                let top = self.top()?;
                self.stack.push(top);
            }
            Op::None => self.push(Value::None)?,
            Op::Bool(it) => self.push(Value::Bool(it))?,
            Op::Int(it) => self.push(Value::Int(it.into()))?,
            Op::Long(bytes) => self.push(long(bytes))?,
            Op::Digits(digits) => self.push(decimal(digits))?,
            Op::Float(it) => self.push(Value::Float(it))?,
            Op::Str(it) => self.push(Value::Str(it))?,
            Op::Bytes(it) => self.push(Value::Bytes(it.into()))?,
            Op::ByteArray(_) => self.push(Value::Other("a bytearray"))?,
            Op::Text(it) => self.push(Value::Text(it))?,
            Op::Global(module, name) => self.push(Value::Global(module.into(), name.into()))?,
            Op::Ext(_) => self.push(Value::Other("a class by its extension code"))?,
            Op::PersId(line) => {
                self.push(Value::Str(line.into()))?;
                self.persistent()?;
            }
            Op::BinPersId => self.persistent()?,
            Op::Put(number) => self.put(number as usize)?,
            Op::Memoize => self.put(self.memo.len())?,
            Op::Get(number) => self.recall(number)?,
            other => self.gather(other)?,
        }
        Ok(())
    }

    // What takes several values together.
    fn gather(&mut self, op: Op<'a>) -> Result<(), BadPickle> {
        match op {
            Op::EmptyList => self.push(Value::List(Vec::new())),
            Op::List => self.of_mark(Value::List),
            Op::Tuple => self.of_mark(Value::Tuple),
            Op::TupleOf(len) => {
                let mut members = (0..len).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                members.reverse();
                self.push(Value::Tuple(members))
            }
            Op::Append => {
                let member = self.pop()?;
                self.append(vec![member])
            }
            Op::Appends => {
                let members = self.down_to_mark()?;
                self.append(members)
            }
            Op::StackGlobal => self.stack_global(),
            Op::EmptyDict => self.push(Value::Dict(Vec::new())),
            Op::EmptySet => self.push(Value::Other("a set")),
            Op::Dict => {
                let members = self.down_to_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.set_items(&members)
            }
            Op::FrozenSet => self.of_mark(|_| Value::Other("a frozenset")),
            Op::Inst(..) => self.of_mark(|_| Value::Other("an instance")),
            Op::Obj => self.of_mark(|_| Value::Other("an instance")),
            Op::SetItem => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            Op::SetItems => {
                let members = self.down_to_mark()?;
                self.set_items(&members)
            }
            Op::AddItems => {
                self.down_to_mark()?;
                self.changed()
            }
            Op::Build => self.build(),
            Op::Reduce => self.made(false),
            Op::NewObj => self.made(true),
            // A class, arguments, keywords.
            _ => {
                for _ in 0..3 {
                    self.pop()?;
                }
                self.push(Value::Other("an object that is made by a call"))
            }
        }
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), BadPickle> {
        if self.values.len() >= VALUES_MAX {
            return self.reader.bad(format!("more than {VALUES_MAX} values"));
        }
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, BadPickle> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(*top),
            _ => self.reader.bad("a value is taken that is not there"),
        }
    }

    fn pop(&mut self) -> Result<Id, BadPickle> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn down_to_mark(&mut self) -> Result<Vec<Id>, BadPickle> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => self.reader.bad("a mark is taken that is not there"),
        }
    }

    fn of_mark(&mut self, make: impl FnOnce(Vec<Id>) -> Value<'a>) -> Result<(), BadPickle> {
        let members = self.down_to_mark()?;
        self.push(make(members))
    }

    fn append(&mut self, members: Vec<Id>) -> Result<(), BadPickle> {
        let list = self.top()?;
        match &mut self.values[list as usize] {
            Value::List(already) => already.extend(members),
            _ => return self.changed(),
        }
        Ok(())
    }

    // Of what is no dict something is not kept here.
    fn set_items(&mut self, members: &[Id]) -> Result<(), BadPickle> {
        if !members.len().is_multiple_of(2) {
            return self.reader.bad("a key without a value");
        }
        let object = self.top()?;
        match &mut self.values[object as usize] {
            Value::Dict(already) => already.extend(members.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return self.changed(),
        }
        Ok(())
    }

    // The topmost object has something that is not kept here.
    fn changed(&mut self) -> Result<(), BadPickle> {
        let object = self.top()?;
        self.values[object as usize] = Value::Other("an object with a state");
        Ok(())
    }

    fn made(&mut self, is_new: bool) -> Result<(), BadPickle> {
        let (args, callable) = (self.pop()?, self.pop()?);
        self.push(Value::Made(Call { callable, args, is_new, state: None }))
    }

    fn build(&mut self) -> Result<(), BadPickle> {
        let state = self.pop()?;
        let object = self.top()?;
        match &mut self.values[object as usize] {
            Value::Made(call) if call.state.is_none() => call.state = Some(state),
            _ => return self.changed(),
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), BadPickle> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (self.get(module), self.get(name)) {
            (Value::Text(module), Value::Text(name)) => self.push(Value::Global(module.clone(), name.clone())),
            _ => self.reader.bad("a class whose name is no text"),
        }
    }

    fn persistent(&mut self) -> Result<(), BadPickle> {
        let id = self.pop()?;
        self.push(Value::Persistent(id))
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
            Some(Some(id)) => self.stack.push(*id),
            _ => return self.reader.bad(format!("nothing is remembered under memo number {number}")),
        }
        Ok(())
    }
}

const LARGE: Value<'static> = Value::Other("an integer of more than 128 bits");

// Little endian, two's complement.
fn long(bytes: &[u8]) -> Value<'static> {
    if bytes.len() > 16 {
        return LARGE;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i128::from_le_bytes(whole))
}

fn decimal(digits: &[u8]) -> Value<'static> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.map_or(LARGE, Value::Int)
}
