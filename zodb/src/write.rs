//! Owns the writing of plain data as a pickle of protocol 3, the one that ZODB writes.
//!
//! Classes are remembered under memo numbers, since a node names the class of each of its children; nothing else is, so what two
//! places share is written twice. That is the same to whoever loads it, as nothing that is written here can be changed, but lists
//! and dicts, and `plain` takes care of these.

use crate::plain::Plain;
use std::collections::HashMap;

/// Appends a pickle of this value.
pub(crate) fn pickle(value: &Plain<'_>, out: &mut Vec<u8>) {
    out.extend(b"\x80\x03");
    Writer { out, classes: HashMap::new() }.value(value);
    out.push(b'.');
}

/// Appends the pickle `((values...), next)`, or `((values...),)`, in so many tuples of one.
pub(crate) fn state<'p, 'a: 'p>(
    values: impl Iterator<Item = &'p Plain<'a>>,
    next: Option<&'p Plain<'a>>,
    wrapped: usize,
    out: &mut Vec<u8>,
) {
    out.extend(b"\x80\x03(");
    let mut writer = Writer { out, classes: HashMap::new() };
    values.for_each(|value| writer.value(value));
    writer.out.push(b't');
    if let Some(next) = next {
        writer.value(next);
    }
    out.push(if next.is_some() { 0x86 } else { 0x85 });
    out.extend(std::iter::repeat_n(0x85, wrapped));
    out.push(b'.');
}

/// Appends the pickle of a mapping's state.
pub(crate) fn mapping<'p, 'a: 'p>(pairs: impl Iterator<Item = (&'p Plain<'a>, &'p Plain<'a>)>, out: &mut Vec<u8>) {
    out.extend(b"\x80\x03}X\x04\0\0\0data");
    let mut writer = Writer { out, classes: HashMap::new() };
    writer.dict(pairs);
    writer.out.extend(b"s.");
}

struct Writer<'o, 'p> {
    out: &'o mut Vec<u8>,
    classes: HashMap<(&'p [u8], &'p [u8]), u32>,
}

impl<'p> Writer<'_, 'p> {
    fn value<'a: 'p>(&mut self, value: &'p Plain<'a>) {
        match value {
            Plain::None => self.out.push(b'N'),
            Plain::Bool(true) => self.out.push(0x88),
            Plain::Bool(false) => self.out.push(0x89),
            Plain::Int(it) => self.int(*it),
            Plain::Float(it) => {
                self.out.push(b'G');
                self.out.extend(it.to_be_bytes());
            }
            Plain::Text(it) => {
                self.out.push(b'X');
                self.out.extend((it.len() as u32).to_le_bytes());
                self.out.extend(it.as_ref());
            }
            Plain::Bytes(it) => self.bytes(it),
            Plain::Tuple(members) => self.tuple(members),
            Plain::List(members) => {
                self.out.extend(b"](");
                members.iter().for_each(|member| self.value(member));
                self.out.push(b'e');
            }
            Plain::Dict(pairs) => self.dict(pairs.iter().map(|(key, value)| (key, value))),
            Plain::Class(module, name) => self.class(module, name),
            Plain::Made(made) => {
                self.class(&made.module, &made.name);
                self.value(&made.args);
                self.out.push(if made.is_new { 0x81 } else { b'R' });
                if let Some(state) = &made.state {
                    self.value(state);
                    self.out.push(b'b');
                }
            }
            Plain::Reference(to) => {
                self.bytes(&to.oid);
                if let Some(class) = &to.class {
                    self.value(class);
                    self.out.push(0x86);
                }
                self.out.push(b'Q');
            }
        }
    }

    fn dict<'a: 'p>(&mut self, pairs: impl Iterator<Item = (&'p Plain<'a>, &'p Plain<'a>)>) {
        self.out.extend(b"}(");
        pairs.for_each(|(key, value)| {
            self.value(key);
            self.value(value);
        });
        self.out.push(b'u');
    }

    fn tuple<'a: 'p>(&mut self, members: &'p [Plain<'a>]) {
        if members.len() > 3 {
            self.out.push(b'(');
        }
        members.iter().for_each(|member| self.value(member));
        self.out.push(match members.len() {
            0 => b')',
            few @ 1..=3 => 0x84 + few as u8,
            _ => b't',
        });
    }

    fn int(&mut self, int: i128) {
        if let Ok(int) = u8::try_from(int) {
            self.out.extend([b'K', int]);
        } else if let Ok(int) = u16::try_from(int) {
            self.out.push(b'M');
            self.out.extend(int.to_le_bytes());
        } else if let Ok(int) = i32::try_from(int) {
            self.out.push(b'J');
            self.out.extend(int.to_le_bytes());
        } else {
            let bytes = int.to_le_bytes();
            let sign = if int < 0 { 0xff } else { 0 };
            let spare = bytes.iter().rev().take_while(|byte| **byte == sign).count();
            let mut len = bytes.len() - spare;
            if len == 0 || (bytes[len - 1] ^ sign) & 0x80 != 0 {
                len += 1;
            }
            self.out.extend([0x8a, len as u8]);
            self.out.extend(&bytes[..len.min(16)]);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(len) => self.out.extend([b'C', len]),
            Err(_) => {
                self.out.push(b'B');
                self.out.extend((bytes.len() as u32).to_le_bytes());
            }
        }
        self.out.extend(bytes);
    }

    fn class(&mut self, module: &'p [u8], name: &'p [u8]) {
        let next = self.classes.len() as u32;
        match self.classes.entry((module, name)) {
            std::collections::hash_map::Entry::Occupied(known) => {
                self.out.push(b'j');
                self.out.extend(known.get().to_le_bytes());
            }
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(next);
                self.out.push(b'c');
                self.out.extend(module);
                self.out.push(b'\n');
                self.out.extend(name);
                self.out.extend(b"\nr");
                self.out.extend(next.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::{Reference, Unfold};
    use crate::values::Values;

    #[test]
    fn what_is_written_is_read_again() {
        let class = || Plain::Class(b"m"[..].into(), b"C"[..].into());
        let reference = |n, class| Plain::Reference(Box::new(Reference { oid: [0, 0, 0, 0, 0, 0, 0, n], class }));
        let ints = [0, 255, 256, 65_535, 65_536, -1, i128::from(i32::MIN), 1 << 31, -(1 << 40), 1 << 63, 1 << 64];
        let ints = ints.into_iter().chain([i128::MAX, i128::MIN, -(1 << 63), -(1 << 63) - 1, 0x80_0000_0000]);
        let members = [
            Plain::Tuple(ints.map(Plain::Int).collect()),
            Plain::List(vec![Plain::None, Plain::Bool(true), Plain::Bool(false), Plain::Float(-1.5)]),
            Plain::Tuple(vec![]),
            Plain::Tuple(vec![Plain::Text("ä".as_bytes().into()), Plain::Bytes(vec![7; 300].into())]),
            reference(1, Some(class())),
            reference(2, Some(class())),
            reference(3, None),
        ];
        let whole = Plain::Tuple(members.to_vec());
        let mut out = Vec::new();
        pickle(&whole, &mut out);
        let mut values = Values::new(&out);
        let top = values.pickle().expect("is a pickle");
        assert_eq!(Unfold::of(&values).plain(top), Ok(whole));
    }
}
