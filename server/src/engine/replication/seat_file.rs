//! Owns the file `seat` of a data directory: what its server has to remember of its place among the copies, and may not write into the
//! log, which is another one's then.
//!
//! ```text
//!   format = 2
//!   id = "9f…"                     which copy this is: 16 random bytes
//!   follows = true                 it was made a follower; only the log says when it was promoted
//!   met_term = 2                   the newest term of a primary that it has followed
//!   fenced_term = 3                it has met this term, which is not its own
//!   fenced_by = "10.0.0.2:7878"
//!   [heard]                        what its primary had when it was last heard, and whether this copy ever had it all
//!   [[followers]]                  of a primary: who follows it, what they have, when they were last heard of
//!   check = "1c291ca3"             CRC-32 of the lines before
//! ```
//! There is none where a database never had to do with copies. It is written beside, synced, and renamed. Format 1 had neither of the last
//! two.

use crate::storage::StoreError;
use crate::storage::disk::Disk;
use serde::{Deserialize, Serialize};
use std::io;
use zeolite_proto::{Behind, Tid};

const NAME: &str = "seat";
const BESIDE: &str = "seat.new";
const FORMAT: u64 = 2;
/// The oldest that is read.
const FORMAT_MIN: u64 = 1;
/// Of as many followers as there may be, with names as long as they may be.
const BYTES_MAX: u64 = 32 << 10;

/// What it says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeatFile {
    format: u64,
    #[serde(with = "id")]
    pub(super) id: [u8; 16],
    pub(super) follows: bool,
    /// Of a primary that it has followed, which may not be in its log yet: its own promotion is a later one.
    #[serde(default)]
    pub(super) met_term: u64,
    /// 0: none.
    #[serde(default)]
    pub(super) fenced_term: u64,
    #[serde(default)]
    pub(super) fenced_by: String,
    #[serde(default)]
    pub(super) heard: Heard,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) followers: Vec<Known>,
}

/// What a copy has heard its primary say to have: for the day on which that is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heard {
    /// The newest transaction there.
    #[serde(with = "tid")]
    pub newest: Tid,
    /// The copy had everything once.
    pub was_whole: bool,
    /// How far behind it was.
    #[serde(with = "behind")]
    pub behind: Behind,
}

/// A follower that a primary knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    #[serde(with = "id")]
    pub(super) id: [u8; 16],
    pub(super) name: String,
    #[serde(with = "tid")]
    pub(super) have: Tid,
    /// When it was last heard of, in milliseconds since 1970.
    pub(super) seen_unix_ms: u64,
}

impl SeatFile {
    pub(super) fn new(id: [u8; 16]) -> SeatFile {
        SeatFile {
            format: FORMAT,
            id,
            follows: false,
            met_term: 0,
            fenced_term: 0,
            fenced_by: String::new(),
            heard: Heard::default(),
            followers: Vec::new(),
        }
    }

    /// What there is in a data directory.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<SeatFile>, StoreError> {
        if !disk.list("").map_err(failed)?.iter().any(|name| name == NAME) {
            return Ok(None);
        }
        let file = disk.open(NAME, false).map_err(failed)?;
        let mut bytes = vec![0; file.len().map_err(failed)?.min(BYTES_MAX) as usize];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        parsed(&bytes).map(Some).map_err(|why| failed(io::Error::new(io::ErrorKind::InvalidData, why)))
    }

    /// Durable when this returns.
    pub(super) fn write(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let put = || {
            disk.remove(BESIDE)?;
            let file = disk.open(BESIDE, true)?;
            file.write_all_at(self.text().as_bytes(), 0)?;
            file.sync_data()?;
            disk.rename(BESIDE, NAME)?;
            disk.sync_dir("")
        };
        put().map_err(failed)
    }

    fn text(&self) -> String {
        let lines = toml::to_string(self).unwrap_or_default();
        let check = crc32fast::hash(lines.as_bytes());
        format!("{lines}check = \"{check:08x}\"\n")
    }
}

fn parsed(bytes: &[u8]) -> Result<SeatFile, String> {
    let told = "it says whether this copy may take writes: restore it, or remove it if this is the only copy";
    let text = std::str::from_utf8(bytes).map_err(|_| format!("it is not text; {told}"))?;
    let at = text.rfind("check = ").ok_or_else(|| format!("it is not whole; {told}"))?;
    let (lines, check) = text.split_at(at);
    if check != format!("check = \"{:08x}\"\n", crc32fast::hash(lines.as_bytes())) {
        return Err(format!("its bytes are not what was written; {told}"));
    }
    let file: SeatFile = toml::from_str(lines).map_err(|error| format!("{}; {told}", error.message()))?;
    match file.format {
        FORMAT_MIN..=FORMAT => Ok(SeatFile { format: FORMAT, ..file }),
        other => Err(format!("it has the format {other}, and this program knows {FORMAT}; use a newer program")),
    }
}

fn failed(error: io::Error) -> StoreError {
    StoreError::Io { what: format!("the file `{NAME}` of the data directory"), error }
}

mod id {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(id))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(number.to_be_bytes())
    }
}

mod tid {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeolite_proto::Tid;

    pub(super) fn serialize<S: Serializer>(tid: &Tid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:016x}", tid.0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tid, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Tid).map_err(serde::de::Error::custom)
    }
}

mod behind {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use zeolite_proto::Behind;

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Kept {
        transactions: u64,
        more: bool,
        bytes: u64,
    }

    pub(super) fn serialize<S: Serializer>(behind: &Behind, serializer: S) -> Result<S::Ok, S::Error> {
        let Behind { transactions, more, bytes } = *behind;
        Kept { transactions, more, bytes }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Behind, D::Error> {
        let Kept { transactions, more, bytes } = Kept::deserialize(deserializer)?;
        Ok(Behind { transactions, more, bytes })
    }
}

/// A copy's id, for people.
pub(crate) fn hex(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::SimDisk;

    #[test]
    fn the_formats_that_there_have_been_are_read_and_the_newest_is_written() {
        let (one, two) =
            (include_str!("../../../tests/fixtures/seat-1.toml"), include_str!("../../../tests/fixtures/seat-2.toml"));
        let id = 0x75bb_8b44_de36_4b79_50d4_8f16_efc1_d959_u128.to_be_bytes();
        let file =
            SeatFile { follows: true, met_term: 2, fenced_term: 3, fenced_by: "db2:7878".into(), ..SeatFile::new(id) };
        assert_eq!(parsed(one.as_bytes()), Ok(file.clone()));
        let behind = Behind { transactions: 30, more: true, bytes: 1 << 30 };
        let heard = Heard { newest: Tid(0x040d_5ab7_e57a_07ec), was_whole: true, behind };
        let id = 7_u128.to_be_bytes();
        let (name, have, seen_unix_ms) = ("db3:7878".into(), Tid(0x040d_5ab7_e57a_07eb), 1_764_460_800_000);
        let file = SeatFile { heard, followers: vec![Known { id, name, have, seen_unix_ms }], ..file };
        assert_eq!((parsed(two.as_bytes()), file.text().as_str()), (Ok(file.clone()), two));
        let most = vec![Known { id, name: "\u{1F600}".repeat(64), have, seen_unix_ms }; 32];
        assert!(SeatFile { followers: most, ..file }.text().len() < BYTES_MAX as usize);
    }

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_named() {
        let disk = SimDisk::new();
        assert_eq!(SeatFile::read(&disk).expect("reads"), None);
        let said = SeatFile { follows: true, fenced_term: 3, fenced_by: "b:1".into(), ..SeatFile::new([7; 16]) };
        said.write(&disk).expect("writes");
        assert_eq!(SeatFile::read(&disk).expect("reads"), Some(said.clone()));
        let text = said.text().into_bytes();
        for at in 0..text.len() {
            let mut flipped = text.clone();
            flipped[at] ^= 1;
            assert!(parsed(&flipped).is_err(), "{}", String::from_utf8_lossy(&flipped));
        }
        for len in 0..text.len() {
            assert!(parsed(&text[..len]).is_err(), "{len}");
        }
    }
}
