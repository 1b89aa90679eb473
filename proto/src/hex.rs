//! Owns the form in which ids are shown to programs: 16 hexadecimal digits, since JSON's numbers lose the low bits of larger ones.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// For `serde(with)`: writes the digits.
pub fn serialize<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{id:016x}"))
}

/// For `serde(with)`: reads them.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let digits = String::deserialize(from)?;
    u64::from_str_radix(&digits, 16).map_err(D::Error::custom)
}
