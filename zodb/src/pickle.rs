//! Owns the reader of pickles: bytes in, one operation after the other out, nothing built and nothing run.
//!
//! A pickle is a program for a machine with a stack: operations push values, and take them together to larger ones. Python's
//! unpickler runs it, with whatever code it names. Nothing of that is wanted here, so the program is only *read*, and each of its
//! readers is a small machine of its own that knows what it needs: `scan` the persistent ids, `values` plain data.
//!
//! ```text
//!   80 03 63 'm\nC\n' 71 01 2e  ──>  Proto(3)  Global(m, C)  Put(1)  Stop
//! ```
//!
//! Protocols 0 to 5, and what only Python 2 wrote. Strings are left as bytes, since what they mean is up to who asks. Nothing is
//! allocated but for escaped strings of protocol 0, and those are not longer than what they were read from. Not done: buffers
//! that are kept outside of the pickle (protocol 5), which no record of ZODB can have.

use std::borrow::Cow;

/// Why bytes are no pickle that can be read here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("byte {at} of the record: {what}")]
pub struct BadPickle {
    /// Where.
    pub at: usize,
    /// What was found there.
    pub what: String,
}

/// One operation of a pickle.
#[derive(Clone, PartialEq, Debug)]
pub enum Op<'a> {
    /// The protocol's number.
    Proto(u8),
    /// The length of what follows: nothing to do.
    Frame,
    /// The pickle ends, its value is on top.
    Stop,
    /// Marks a place in the stack.
    Mark,
    /// Drops the topmost value, or mark.
    Pop,
    /// Drops everything down to the mark, and the mark.
    PopMark,
    /// Once more what is on top.
    Dup,
    /// `None`.
    None,
    /// `True`, `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A larger integer: little endian, two's complement.
    Long(&'a [u8]),
    /// An integer in decimal digits that has more than 64 bits.
    Digits(&'a [u8]),
    /// A float.
    Float(f64),
    /// A string of Python 2: text or bytes, nobody knows.
    Str(Cow<'a, [u8]>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A bytearray.
    ByteArray(&'a [u8]),
    /// Text: UTF-8, but lone surrogates may be in it.
    Text(Cow<'a, [u8]>),
    /// `[]`
    EmptyList,
    /// `{}`
    EmptyDict,
    /// `set()`
    EmptySet,
    /// A list of everything down to the mark.
    List,
    /// A dict of everything down to the mark.
    Dict,
    /// A tuple of everything down to the mark.
    Tuple,
    /// A frozenset of everything down to the mark.
    FrozenSet,
    /// A tuple of so many values.
    TupleOf(u8),
    /// The topmost value into the list below it.
    Append,
    /// Everything down to the mark into the list below.
    Appends,
    /// A key and its value into the dict below.
    SetItem,
    /// Keys and values down to the mark into the dict below.
    SetItems,
    /// Everything down to the mark into the set below.
    AddItems,
    /// A class or function, by module and name.
    Global(&'a [u8], &'a [u8]),
    /// The same, of two strings on the stack.
    StackGlobal,
    /// A class or function by its number in Python's registry of extensions.
    Ext(u32),
    /// An instance of a class, of everything down to the mark.
    Inst(&'a [u8], &'a [u8]),
    /// The same, with the class above the mark.
    Obj,
    /// A call: function and arguments become the result.
    Reduce,
    /// `cls.__new__(cls, *args)`
    NewObj,
    /// `cls.__new__(cls, *args, **kwargs)`
    NewObjEx,
    /// The topmost value is the state of the object below.
    Build,
    /// A persistent id of one line.
    PersId(&'a [u8]),
    /// The topmost value is a persistent id.
    BinPersId,
    /// Remembers the topmost value under a number.
    Put(u32),
    /// Remembers it under the next number.
    Memoize,
    /// What was remembered under a number.
    Get(u32),
}

/// Reads operations off a record.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// From the first byte on.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// How far it has read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes there are in all.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// An error at this place.
    pub fn bad<T>(&self, what: impl Into<String>) -> Result<T, BadPickle> {
        Err(BadPickle { at: self.at, what: what.into() })
    }

    /// The next operation. A pickle's last one is `Stop`; another pickle may follow it.
    pub fn next_op(&mut self) -> Result<Op<'a>, BadPickle> {
        let [code] = self.fixed()?;
        Ok(match code {
            b'(' => Op::Mark,
            b'.' => Op::Stop,
            b'0' => Op::Pop,
            b'1' => Op::PopMark,
            b'2' => Op::Dup,
            b'N' => Op::None,
            0x88 => Op::Bool(true),
            0x89 => Op::Bool(false),
            b']' => Op::EmptyList,
            b'}' => Op::EmptyDict,
            b')' => Op::TupleOf(0),
            0x8f => Op::EmptySet,
            b'l' => Op::List,
            b'd' => Op::Dict,
            b't' => Op::Tuple,
            0x91 => Op::FrozenSet,
            0x85..=0x87 => Op::TupleOf(code - 0x84),
            b'a' => Op::Append,
            b'e' => Op::Appends,
            b's' => Op::SetItem,
            b'u' => Op::SetItems,
            0x90 => Op::AddItems,
            0x93 => Op::StackGlobal,
            b'o' => Op::Obj,
            b'R' => Op::Reduce,
            0x81 => Op::NewObj,
            0x92 => Op::NewObjEx,
            b'b' => Op::Build,
            b'Q' => Op::BinPersId,
            0x94 => Op::Memoize,
            0x80 => Op::Proto(self.fixed::<1>()?[0]),
            0x95 => self.fixed::<8>().map(|_| Op::Frame)?,
            _ => return self.with_argument(code),
        })
    }

    fn with_argument(&mut self, code: u8) -> Result<Op<'a>, BadPickle> {
        Ok(match code {
            b'J' => Op::Int(i32::from_le_bytes(self.fixed()?).into()),
            b'K' => Op::Int(self.number(1)? as i64),
            b'M' => Op::Int(self.number(2)? as i64),
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'I' => self.decimal()?,
            b'L' => self.decimal_long()?,
            b'G' => Op::Float(f64::from_be_bytes(self.fixed()?)),
            b'F' => self.float()?,
            b'U' => Op::Str(self.counted(1)?.into()),
            b'T' => Op::Str(self.counted(4)?.into()),
            b'S' => self.quoted()?,
            b'C' => Op::Bytes(self.counted(1)?),
            b'B' => Op::Bytes(self.counted(4)?),
            0x8e => Op::Bytes(self.counted(8)?),
            0x96 => Op::ByteArray(self.counted(8)?),
            b'X' => Op::Text(self.counted(4)?.into()),
            0x8c => Op::Text(self.counted(1)?.into()),
            0x8d => Op::Text(self.counted(8)?.into()),
            b'V' => Op::Text(raw_unicode(self.line()?)),
            b'c' => Op::Global(self.line()?, self.line()?),
            b'i' => Op::Inst(self.line()?, self.line()?),
            0x82 => Op::Ext(self.number(1)? as u32),
            0x83 => Op::Ext(self.number(2)? as u32),
            0x84 => Op::Ext(self.number(4)? as u32),
            b'P' => Op::PersId(self.line()?),
            b'q' => Op::Put(self.number(1)? as u32),
            b'r' => Op::Put(self.number(4)? as u32),
            b'p' => Op::Put(self.memo_number()?),
            b'h' => Op::Get(self.number(1)? as u32),
            b'j' => Op::Get(self.number(4)? as u32),
            b'g' => Op::Get(self.memo_number()?),
            0x97 | 0x98 => return self.bad("a buffer outside of the pickle (protocol 5), which a record cannot have"),
            other => return self.bad(format!("operation {other:#04x} is none that pickles have")),
        })
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], BadPickle> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let Some(taken) = taken else { return self.bad("the pickle ends in the middle") };
        self.at += taken.len();
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], BadPickle> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    // Little endian, of at most 8 bytes.
    fn number(&mut self, len: usize) -> Result<u64, BadPickle> {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(self.take(len as u64)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn counted(&mut self, len: usize) -> Result<&'a [u8], BadPickle> {
        let count = self.number(len)?;
        self.take(count)
    }

    fn line(&mut self) -> Result<&'a [u8], BadPickle> {
        let rest = &self.bytes[self.at..];
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else {
            return self.bad("the pickle ends in the middle of a line");
        };
        self.at += len + 1;
        Ok(&rest[..len])
    }

    fn text_line(&mut self) -> Result<&'a str, BadPickle> {
        let line = self.line()?;
        std::str::from_utf8(line).or_else(|_| self.bad("a number whose digits are no text"))
    }

    fn long(&mut self, len: usize) -> Result<Op<'a>, BadPickle> {
        let bytes = self.counted(len)?;
        if bytes.len() > 8 {
            return Ok(Op::Long(bytes));
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        Ok(Op::Int(i64::from_le_bytes(whole)))
    }

    // Protocol 0 writes booleans as 00 and 01.
    fn decimal(&mut self) -> Result<Op<'a>, BadPickle> {
        Ok(match self.text_line()? {
            "00" => Op::Bool(false),
            "01" => Op::Bool(true),
            digits => self.integer(digits)?,
        })
    }

    fn decimal_long(&mut self) -> Result<Op<'a>, BadPickle> {
        let digits = self.text_line()?;
        self.integer(digits.strip_suffix('L').unwrap_or(digits))
    }

    fn integer(&self, digits: &'a str) -> Result<Op<'a>, BadPickle> {
        if let Ok(number) = digits.parse() {
            return Ok(Op::Int(number));
        }
        let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
        if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.bad("an integer that is none");
        }
        Ok(Op::Digits(digits.as_bytes()))
    }

    fn float(&mut self) -> Result<Op<'a>, BadPickle> {
        let digits = self.text_line()?;
        digits.parse().map(Op::Float).or_else(|_| self.bad("a float that is none"))
    }

    // As Python's repr of a string: in quotes, with escapes.
    fn quoted(&mut self) -> Result<Op<'a>, BadPickle> {
        let line = self.line()?;
        let inner = match line {
            [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
            _ => return self.bad("a string without its quotes"),
        };
        if !inner.contains(&b'\\') {
            return Ok(Op::Str(inner.into()));
        }
        match unescaped(inner) {
            Some(bytes) => Ok(Op::Str(bytes.into())),
            None => self.bad("a string with an escape that Python does not write"),
        }
    }

    fn memo_number(&mut self) -> Result<u32, BadPickle> {
        let digits = self.text_line()?;
        digits.parse().or_else(|_| self.bad("a memo number that is none"))
    }
}

// What repr writes of a string of bytes.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        out.push(match bytes.next()? {
            same @ (b'\\' | b'\'' | b'"') => *same,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => u8::try_from(hex(&mut bytes, 2)?).ok()?,
            _ => return None,
        });
    }
    Some(out)
}

fn hex(bytes: &mut std::slice::Iter<'_, u8>, digits: usize) -> Option<u32> {
    let (these, rest) = bytes.as_slice().split_at_checked(digits)?;
    *bytes = rest.iter();
    let text = std::str::from_utf8(these).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, 16).ok()
}

// Latin-1 with \uXXXX and \UXXXXXXXX. An escape that is none stands for itself, as anywhere in such a string.
fn raw_unicode(line: &[u8]) -> Cow<'_, [u8]> {
    if line.is_ascii() && !line.contains(&b'\\') {
        return line.into();
    }
    let mut out = Vec::with_capacity(line.len());
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        let escape = match (byte, bytes.as_slice().first()) {
            (b'\\', Some(b'u')) => Some(4),
            (b'\\', Some(b'U')) => Some(8),
            _ => None,
        };
        let mut ahead = bytes.clone();
        ahead.next();
        match escape.and_then(|digits| hex(&mut ahead, digits)) {
            Some(code) => {
                bytes = ahead;
                push_utf8(&mut out, code);
            }
            None => push_utf8(&mut out, u32::from(*byte)),
        }
    }
    out.into()
}

// As Python's "surrogatepass": a lone surrogate is three bytes like its neighbours.
fn push_utf8(out: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            out.extend([0xe0 | (code >> 12) as u8 & 0x0f, 0x80 | (code >> 6) as u8 & 0x3f, 0x80 | code as u8 & 0x3f])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(bytes: &[u8]) -> Result<Vec<Op<'_>>, BadPickle> {
        let mut reader = Reader::new(bytes);
        let mut ops = Vec::new();
        while reader.at() < bytes.len() {
            ops.push(reader.next_op()?);
        }
        Ok(ops)
    }

    #[test]
    fn numbers_of_every_protocol_are_read() {
        let bytes = b"I00\nI01\nI-7\nL12L\nL9223372036854775808L\nJ\xff\xff\xff\xffK\xffM\xff\xff\x8a\x00\x8a\x01\xff\x8a\x08\0\0\0\0\0\0\0\x80\x8a\x09\0\0\0\0\0\0\0\x80\0F1.5\nG?\xf8\0\0\0\0\0\0";
        let expected = [
            Op::Bool(false),
            Op::Bool(true),
            Op::Int(-7),
            Op::Int(12),
            Op::Digits(b"9223372036854775808"),
            Op::Int(-1),
            Op::Int(255),
            Op::Int(65535),
            Op::Int(0),
            Op::Int(-1),
            Op::Int(i64::MIN),
            Op::Long(b"\0\0\0\0\0\0\0\x80\0"),
            Op::Float(1.5),
            Op::Float(1.5),
        ];
        assert_eq!(ops(bytes).expect("reads"), expected);
    }

    #[test]
    fn strings_of_python_2_are_read_with_their_escapes() {
        let read =
            ops(b"S'a\\n\\x00\\'\"\\\\'\nS\"it's\"\nU\x02\xff\xfeT\x01\0\0\0zV\\u00e4\xe4\\U0001f600\\ud800\\q\n")
                .expect("reads");
        let expected: [&[u8]; 4] = [b"a\n\0'\"\\", b"it's", b"\xff\xfe", b"z"];
        assert_eq!(read[..4], expected.map(|text| Op::Str(text.into())));
        assert_eq!(
            read[4],
            Op::Text("ää😀".as_bytes().iter().copied().chain(*b"\xed\xa0\x80\\q").collect::<Vec<_>>().into())
        );
    }

    #[test]
    fn what_is_no_pickle_is_named() {
        for (bytes, word) in [
            (&b"\xff"[..], "0xff"),
            (b"\x97", "buffer"),
            (b"X\xff\xff\xff\xffabc", "ends"),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc", "ends"),
            (b"cmodule\nname", "line"),
            (b"Iseven\n", "integer"),
            (b"I-\n", "integer"),
            (b"S'a\n", "quotes"),
            (b"S'\\q'\n", "escape"),
            (b"g-1\n", "memo"),
        ] {
            let error = ops(bytes).expect_err("is refused");
            assert!(error.what.contains(word), "{bytes:?}: {error}");
        }
    }
}
