//! Owns the reading of little-endian fields from record data and operations: every read is checked, nothing is copied.

use crate::record::BadRecord;

/// What is left to read.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Begins after the format byte, which must be the one given.
    pub(super) fn of(data: &'a [u8], format: u8) -> Result<Fields<'a>, BadRecord> {
        match data {
            [first, rest @ ..] if *first == format => Ok(Fields { rest }),
            [] => Err(BadRecord("no format byte")),
            _ => Err(BadRecord("unknown data format")),
        }
    }

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], BadRecord> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(BadRecord("shorter than its fields"))?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(BadRecord("shorter than its fields"))?;
        self.rest = tail;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, BadRecord> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, BadRecord> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BadRecord> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BadRecord> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, BadRecord> {
        self.array().map(i64::from_le_bytes)
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may follow.
    pub(super) fn end(self) -> Result<(), BadRecord> {
        if self.rest.is_empty() { Ok(()) } else { Err(BadRecord("longer than its fields")) }
    }
}
