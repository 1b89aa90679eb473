//! Owns the one-to-one map between ZODB's object ids and Zeolite's.
//!
//! ZODB gives its objects the ids from 1 on, and Zeolite keeps 1 to 15 for itself. The root is 0 for both.
//!
//! ```text
//!   ZODB      0   1   2   ...  n
//!   Zeolite   0  16  17   ...  n + 15
//! ```
//!
//! References inside of a pickle stay as ZODB wrote them; in the header of a record, and as the oid of a cell, they are mapped.

use zeolite_proto::ids::Oid;

/// An object id of ZODB: 8 bytes, big endian.
pub type ZodbOid = [u8; 8];

const APART: u64 = 15;

/// Zeolite's id of an object of ZODB. The last 15 ids of ZODB have none.
pub fn to_zeolite(oid: ZodbOid) -> Option<Oid> {
    match u64::from_be_bytes(oid) {
        0 => Some(Oid::ROOT),
        n => n.checked_add(APART).map(Oid),
    }
}

/// ZODB's id of an object of Zeolite. What Zeolite keeps for itself has none.
pub fn to_zodb(oid: Oid) -> Option<ZodbOid> {
    match oid {
        Oid::ROOT => Some([0; 8]),
        Oid(n) => n.checked_sub(APART).filter(|n| *n > 0).map(u64::to_be_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_goes_both_ways() {
        for n in [0, 1, 2, 255, 1 << 40, u64::MAX - APART] {
            let there = to_zeolite(u64::to_be_bytes(n)).expect("has one");
            assert!(there.0 == 0 || there.0 >= 16, "{there}");
            assert_eq!(to_zodb(there), Some(n.to_be_bytes()));
        }
        assert_eq!(to_zeolite(u64::to_be_bytes(u64::MAX - 14)), None);
        assert_eq!([1, 7, 15].map(|n| to_zodb(Oid(n))), [None; 3]);
    }
}
