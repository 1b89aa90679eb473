//! Owns the keys of a fixed width that are no integers: arrays of bytes, characters, floating point, ids, times.
//!
//! ```text
//!   [u8; N]           its N bytes                                                      not for N = 0: no key is empty
//!   char              its code point, as a u32
//!   f32, f64          the bits; all of them turned below zero, the sign alone above    the order of `total_cmp`
//!   Uuid              its 16 bytes                                                     feature `uuid`
//!   jiff::Timestamp   (seconds, nanoseconds) as (i64, u32); the seconds round down     feature `jiff`
//!   civil::Date       (year, month, day) as (i16, u8, u8)                              feature `jiff`
//! ```
//!
//! Floating point is in total order: `-0.0` is another key than `0.0`, and before it; a NaN is a key like others, beyond the infinities.

use super::{AsKey, BadKey, Key, KeyKind, split};

impl<const N: usize> AsKey for [u8; N] {
    fn put_last(&self, out: &mut Vec<u8>) {
        const { assert!(N > 0, "an empty array is no key: the empty key is the object itself") };
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Key for [u8; N] {
    const KIND: KeyKind = KeyKind::Bytes(N);

    fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
        split(input, "array of bytes")
    }
}

impl AsKey for char {
    fn put_last(&self, out: &mut Vec<u8>) {
        u32::from(*self).put_last(out);
    }
}

impl Key for char {
    const KIND: KeyKind = KeyKind::Named("char");

    fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
        char::from_u32(u32::take_last(input)?).ok_or(BadKey { wanted: "char" })
    }
}

macro_rules! floats {
    ($($type:ident as $bits:ident;)*) => {$(
        impl AsKey for $type {
            fn put_last(&self, out: &mut Vec<u8>) {
                let bits = self.to_bits();
                let turned = if self.is_sign_negative() { !bits } else { bits ^ (1 << ($bits::BITS - 1)) };
                turned.put_last(out);
            }
        }
        impl Key for $type {
            const KIND: KeyKind = KeyKind::Named(stringify!($type));

            fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
                let turned = $bits::take_last(input)?;
                let positive = turned >> ($bits::BITS - 1) == 1;
                Ok($type::from_bits(if positive { turned ^ (1 << ($bits::BITS - 1)) } else { !turned }))
            }
        }
    )*};
}

floats! {
    f32 as u32;
    f64 as u64;
}

#[cfg(feature = "uuid")]
impl AsKey for uuid::Uuid {
    fn put_last(&self, out: &mut Vec<u8>) {
        self.as_bytes().put_last(out);
    }
}

#[cfg(feature = "uuid")]
impl Key for uuid::Uuid {
    const KIND: KeyKind = KeyKind::Named("uuid");

    fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
        split(input, "uuid").map(uuid::Uuid::from_bytes)
    }
}

#[cfg(feature = "jiff")]
mod times {
    use super::{AsKey, BadKey, Key, KeyKind};
    use jiff::Timestamp;
    use jiff::civil::Date;

    const NANOS: i128 = 1_000_000_000;

    impl AsKey for Timestamp {
        fn put_last(&self, out: &mut Vec<u8>) {
            // Both fit: a timestamp is within the years -9999 to 9999.
            let nanos = self.as_nanosecond();
            (nanos.div_euclid(NANOS) as i64, nanos.rem_euclid(NANOS) as u32).put_last(out);
        }
    }

    impl Key for Timestamp {
        const KIND: KeyKind = KeyKind::Named("timestamp");

        fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
            const BAD: BadKey = BadKey { wanted: "timestamp" };
            let (seconds, nanos) = <(i64, u32)>::take_last(input)?;
            if i128::from(nanos) >= NANOS {
                return Err(BAD);
            }
            Timestamp::from_nanosecond(i128::from(seconds) * NANOS + i128::from(nanos)).map_err(|_| BAD)
        }
    }

    impl AsKey for Date {
        fn put_last(&self, out: &mut Vec<u8>) {
            (self.year(), self.month() as u8, self.day() as u8).put_last(out);
        }
    }

    impl Key for Date {
        const KIND: KeyKind = KeyKind::Named("date");

        fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
            const BAD: BadKey = BadKey { wanted: "date" };
            let (year, month, day) = <(i16, u8, u8)>::take_last(input)?;
            let small = |number: u8| i8::try_from(number).map_err(|_| BAD);
            Date::new(year, small(month)?, small(day)?).map_err(|_| BAD)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::keeps_order;
    use super::super::{decode, encode};

    fn dice() -> fastrand::Rng {
        let seed = 12;
        println!("seed {seed}");
        fastrand::Rng::with_seed(seed)
    }

    #[test]
    fn the_order_of_bytes_is_the_order_of_values() {
        let mut dice = dice();
        keeps_order((0..500).map(|_| [dice.u8(0..3), dice.u8(..), dice.u8(254..)]).collect());
        keeps_order((0..500).map(|_| dice.char(..)).chain(['\0', char::MAX]).collect());
        let maybe = |dice: &mut fastrand::Rng| dice.bool().then(|| dice.i16(-3..3));
        keeps_order((0..500).map(|_| maybe(&mut dice)).collect());
        keeps_order((0..500).map(|_| (maybe(&mut dice), [dice.u8(0..2)], maybe(&mut dice))).collect());
        let text = |dice: &mut fastrand::Rng| dice.bool().then(|| "\0a".repeat(dice.usize(0..3)));
        keeps_order((0..500).map(|_| (text(&mut dice), text(&mut dice).map(Some))).collect());
    }

    #[test]
    fn floats_are_in_total_order() {
        let mut dice = dice();
        let special =
            [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN, f64::MIN, f64::MAX, f64::MIN_POSITIVE];
        let mut all: Vec<f64> = (0..2000).map(|_| f64::from_bits(dice.u64(..))).chain(special).collect();
        all.extend((0..500).map(|_| dice.f64() * 4.0 - 2.0));
        all.sort_by(f64::total_cmp);
        all.dedup_by_key(|float| float.to_bits());
        for pair in all.windows(2) {
            assert!(encode(&pair[0]) < encode(&pair[1]), "{pair:?}");
            assert_eq!(decode::<f64>(&encode(&pair[0])).map(f64::to_bits), Ok(pair[0].to_bits()));
        }
        let mut all: Vec<f32> = (0..2000).map(|_| f32::from_bits(dice.u32(..))).chain([0.0, -0.0]).collect();
        all.sort_by(f32::total_cmp);
        all.dedup_by_key(|float| float.to_bits());
        for pair in all.windows(2) {
            assert!(encode(&pair[0]) < encode(&pair[1]), "{pair:?}");
            assert_eq!(decode::<f32>(&encode(&pair[0])).map(f32::to_bits), Ok(pair[0].to_bits()));
        }
    }

    #[cfg(feature = "uuid")]
    #[test]
    fn ids_are_in_the_order_of_their_bytes() {
        let mut dice = dice();
        keeps_order((0..500).map(|_| uuid::Uuid::from_u128(dice.u128(..))).collect());
        keeps_order((0..500).map(|_| (uuid::Uuid::from_u128(dice.u128(0..9)), dice.bool())).collect());
    }

    #[cfg(feature = "jiff")]
    #[test]
    fn times_are_in_their_order() {
        use jiff::{Timestamp, civil::Date};
        let mut dice = dice();
        let (first, last) = (Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
        let at = |nanos: i128| Timestamp::from_nanosecond(nanos).expect("within");
        let near = (0..500).map(|_| dice.i128(-3_000_000_000..3_000_000_000)).collect::<Vec<_>>();
        let far = (0..500).map(|_| dice.i128(first..=last)).chain([first, last, -1, 0, 1]);
        keeps_order(near.into_iter().chain(far).map(at).collect());
        let day =
            |dice: &mut fastrand::Rng| Date::new(dice.i16(-9999..9999), dice.i8(1..13), dice.i8(1..29)).expect("a day");
        keeps_order((0..500).map(|_| day(&mut dice)).chain([Date::MIN, Date::MAX]).collect());
        assert!(
            decode::<Date>(&encode(&(2026i16, 13u8, 1u8))).is_err()
                && decode::<Date>(&encode(&(2026i16, 1u8, 200u8))).is_err()
        );
        assert!(decode::<Timestamp>(&encode(&(0i64, 1_000_000_000u32))).is_err(), "no timestamp is written that way");
        assert!(decode::<Timestamp>(&encode(&(i64::MAX, 0u32))).is_err());
    }

    #[test]
    fn bytes_that_are_no_such_key_are_refused() {
        assert!(decode::<char>(&encode(&0xd800u32)).is_err() && decode::<[u8; 3]>(b"ab").is_err());
        assert!(decode::<Option<u8>>(b"\x02a").is_err() && decode::<Option<u8>>(b"\0a").is_err());
        assert!(decode::<f64>(b"short").is_err());
    }
}
