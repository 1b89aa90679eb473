//! Owns the identifiers: `Oid`, `Tid`, `Cell`, `CommitKey`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An object id, never reused. [`Oid::ROOT`] is where garbage collection starts. For serde it is its hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Oid(pub u64);

impl Oid {
    /// The root object: a collection whose entries name what the application starts from.
    pub const ROOT: Oid = Oid(0);
    /// Where a server keeps what it remembers of itself; never handed out.
    pub const SYSTEM: Oid = Oid(1);
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oid:{:x}", self.0)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl std::str::FromStr for Oid {
    type Err = std::num::ParseIntError;
    /// Reads the form that `Display` writes: hexadecimal, with or without `0x`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text.trim_start_matches("0x"), 16).map(Oid)
    }
}

impl From<Oid> for String {
    fn from(oid: Oid) -> String {
        oid.to_string()
    }
}

impl TryFrom<String> for Oid {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Oid, Self::Error> {
        text.parse()
    }
}

/// A commit id: strictly increasing, and a point in time in ZODB's TimeStamp encoding.
///
/// The high 32 bits count minutes since 1900-01-01 in a calendar of 31-day months and 12-month years
/// (`((((year-1900)*12 + month-1)*31 + day-1)*24 + hour)*60 + minute`, UTC); the low 32 bits count the seconds within
/// the minute in units of 60/2³² s. So the order of tids is the order of their times.
///
/// For serde it is its 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tid(#[serde(with = "crate::hex")] pub u64);

impl Tid {
    /// Older than every commit: the base of a cell that was never written.
    pub const NONE: Tid = Tid(0);
    /// Newer than every commit.
    pub const MAX: Tid = Tid(u64::MAX);

    /// The tid of a moment, in nanoseconds since 1970-01-01 UTC. Moments before 1970 are taken as 1970.
    pub fn from_unix_nanos(nanos: i128) -> Tid {
        let nanos = nanos.max(0);
        let days = (nanos / 86_400_000_000_000) as i64;
        let in_day = (nanos % 86_400_000_000_000) as u64;
        let (year, month, day) = civil_from_days(days);
        let minute_of_day = in_day / 60_000_000_000;
        let in_minute = in_day % 60_000_000_000;
        let months = (year - 1900) as u64 * 12 + u64::from(month) - 1;
        let minutes = (months * 31 + u64::from(day) - 1) * 24 * 60 + minute_of_day;
        let low = ((u128::from(in_minute) << 32) / 60_000_000_000) as u64;
        Tid((minutes << 32) | low)
    }

    /// The moment of a tid, in nanoseconds since 1970-01-01 UTC (rounded up to the next nanosecond, so that
    /// `from_unix_nanos` gives a tid not older than this one). Negative for tids before 1970.
    pub fn unix_nanos(self) -> i128 {
        let minutes = self.0 >> 32;
        let low = u128::from(self.0 & 0xffff_ffff);
        let minute_of_day = minutes % (24 * 60);
        let days = minutes / (24 * 60);
        let (months, day) = (days / 31, days % 31 + 1);
        let (year, month) = (1900 + (months / 12) as i64, (months % 12) as u32 + 1);
        let days = days_from_civil(year, month, day as u32);
        let in_minute = (low * 60_000_000_000).div_ceil(1 << 32) as i128;
        i128::from(days) * 86_400_000_000_000 + i128::from(minute_of_day) * 60_000_000_000 + in_minute
    }

    /// The moment of a tid as a text, to the second: `2026-01-31 23:59:59 UTC`.
    pub fn utc(self) -> String {
        let minutes = self.0 >> 32;
        let (days, minute) = (minutes / (24 * 60), minutes % (24 * 60));
        let (months, day) = (days / 31, days % 31 + 1);
        let (year, month) = (1900 + months / 12, months % 12 + 1);
        let second = ((self.0 & 0xffff_ffff) * 60) >> 32;
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{second:02} UTC", minute / 60, minute % 60)
    }

    /// The next tid.
    pub fn next(self) -> Tid {
        Tid(self.0.saturating_add(1))
    }

    /// The tid before this one; that of [`Tid::NONE`] is itself.
    pub fn prev(self) -> Tid {
        Tid(self.0.saturating_sub(1))
    }
}

// The proleptic Gregorian calendar, after Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = (i64::from(month) + 9) % 12;
    let doy = (153 * mp + 2) / 5 + i64::from(day) - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tid:{:016x}", self.0)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Tid {
    type Err = std::num::ParseIntError;
    /// Reads the form that `Display` writes: hexadecimal, with or without `0x`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text.trim_start_matches("0x"), 16).map(Tid)
    }
}

/// The unit of versioning, of conflict and of locking: an object (empty key) or one entry of a collection.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The object.
    pub oid: Oid,
    /// The entry's key; empty for the object itself.
    pub key: Bytes,
}

impl Cell {
    /// The cell of a plain object, or of a collection's own record.
    pub fn object(oid: Oid) -> Cell {
        Cell { oid, key: Bytes::new() }
    }

    /// The cell of one entry of a collection.
    pub fn entry(oid: Oid, key: impl Into<Bytes>) -> Cell {
        Cell { oid, key: key.into() }
    }

    /// Whether this is the object itself rather than an entry.
    pub fn is_object(&self) -> bool {
        self.key.is_empty()
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// Of a key, in messages.
const KEY_BYTES_SHOWN: usize = 64;

impl fmt::Display for Cell {
    /// `2a` for an object, `2a/key` for an entry; bytes that are not printable are escaped, and a long key is cut: messages
    /// must fit where they are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.oid)?;
        if !self.key.is_empty() {
            let shown = &self.key[..self.key.len().min(KEY_BYTES_SHOWN)];
            write!(f, "/{}", shown.escape_ascii())?;
        }
        if self.key.len() > KEY_BYTES_SHOWN {
            write!(f, "... ({} bytes)", self.key.len())?;
        }
        Ok(())
    }
}

/// Names one commit for exactly-once: made by the client, the same key gives the same receipt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CommitKey(pub [u8; 16]);

impl CommitKey {
    /// Reads a key off the wire; it must have 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<CommitKey> {
        bytes.try_into().ok().map(CommitKey)
    }
}

impl fmt::Debug for CommitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key:{self}")
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for CommitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for CommitKey {
    type Err = String;

    fn from_str(text: &str) -> Result<CommitKey, String> {
        let digits = Some(text).filter(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        let wrong = || format!("{text:?} is no commit key; write its 16 bytes as 32 hexadecimal digits");
        number.map(|number| CommitKey(number.to_be_bytes())).ok_or_else(wrong)
    }
}

impl From<CommitKey> for String {
    fn from(key: CommitKey) -> String {
        key.to_string()
    }
}

impl TryFrom<String> for CommitKey {
    type Error = String;

    fn try_from(text: String) -> Result<CommitKey, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tid_is_a_zodb_timestamp() {
        // From the documentation of ZODB's TimeStamp: repr of 2007-04-24 15:43:20.5 UTC has these minutes.
        let minutes = ((((107u64 * 12 + 3) * 31 + 23) * 24) + 15) * 60 + 43;
        let nanos = 1_177_429_400_500_000_000i128;
        let tid = Tid::from_unix_nanos(nanos);
        assert_eq!(tid.0 >> 32, minutes);
        assert_eq!(tid.0 & 0xffff_ffff, ((20.5f64 / 60.0) * 4_294_967_296.0) as u64);
        assert_eq!(tid.utc(), "2007-04-24 15:43:20 UTC");
    }

    #[test]
    fn tid_and_time_agree_and_keep_order() {
        let mut last = Tid::NONE;
        for step in 0..200_000i128 {
            let nanos = step * 10_000_000_777_777;
            let tid = Tid::from_unix_nanos(nanos);
            assert!(tid > last, "{nanos}");
            assert!((tid.unix_nanos() - nanos).abs() < 20, "{nanos} {}", tid.unix_nanos());
            assert!(Tid::from_unix_nanos(tid.unix_nanos()) >= tid);
            last = tid;
        }
    }
}
