//! Owns Python's order and equality of plain data, as far as they are the same wherever they are asked for.
//!
//! ```text
//!   numbers     by value, whatever their types (True is 1); exactly, also an integer and a float
//!   text        by code points;   bytes by bytes;   text and bytes are never equal and have no order
//!   sequences   by their first members that differ, then by length
//!   references  one object is equal to itself; to ask about two of them is an error in ZODB, and so it is here
//! ```
//!
//! C's BTrees ask `<` before `==`, of keys and of values, so what has no order has no equality there either.

use crate::plain::{Plain, left};
use std::cmp::Ordering;
use zeolite_proto::resolver::Unresolved;

/// As C's BTrees compare keys and values that are objects: `None` is before everything, then `<`, then `==`; what is neither
/// is greater.
pub(crate) fn compare(a: &Plain<'_>, b: &Plain<'_>) -> Result<Ordering, Unresolved> {
    Ok(match (a, b) {
        (Plain::None, Plain::None) => Ordering::Equal,
        (Plain::None, _) => Ordering::Less,
        (_, Plain::None) => Ordering::Greater,
        _ if is_less(a, b)? => Ordering::Less,
        _ if is_equal(a, b)? => Ordering::Equal,
        _ => Ordering::Greater,
    })
}

fn is_less(a: &Plain<'_>, b: &Plain<'_>) -> Result<bool, Unresolved> {
    if let Some(order) = numbers(a, b) {
        return Ok(order == Some(Ordering::Less));
    }
    match (a, b) {
        (Plain::Text(a), Plain::Text(b)) | (Plain::Bytes(a), Plain::Bytes(b)) => Ok(a < b),
        (Plain::Tuple(a), Plain::Tuple(b)) | (Plain::List(a), Plain::List(b)) => {
            for (a, b) in a.iter().zip(b) {
                if !is_equal(a, b)? {
                    return is_less(a, b);
                }
            }
            Ok(a.len() < b.len())
        }
        (Plain::Reference(..), _) | (_, Plain::Reference(..)) => is_equal(a, b).map(|_| false),
        _ => Err(left(format!("{a} and {b} have no order"))),
    }
}

fn is_equal(a: &Plain<'_>, b: &Plain<'_>) -> Result<bool, Unresolved> {
    if let Some(order) = numbers(a, b) {
        return Ok(order == Some(Ordering::Equal));
    }
    match (a, b) {
        (Plain::None, Plain::None) => Ok(true),
        (Plain::Text(a), Plain::Text(b)) | (Plain::Bytes(a), Plain::Bytes(b)) => Ok(a == b),
        (Plain::List(a), Plain::List(b)) if a.len() != b.len() => Ok(false),
        (Plain::Tuple(a), Plain::Tuple(b)) | (Plain::List(a), Plain::List(b)) => {
            for (a, b) in a.iter().zip(b) {
                if !is_equal(a, b)? {
                    return Ok(false);
                }
            }
            Ok(a.len() == b.len())
        }
        (Plain::Reference(a), Plain::Reference(b)) if a.oid == b.oid => Ok(true),
        (Plain::Reference(..), _) | (_, Plain::Reference(..)) => {
            Err(Unresolved(format!("{a} and {b} are compared, which ZODB does not do for different objects")))
        }
        (Plain::Class(..), _) | (_, Plain::Class(..)) => Err(left("a class that is compared")),
        _ => Ok(false),
    }
}

/// The order of two numbers (none within: there is a NaN); none: they are not both numbers.
fn numbers(a: &Plain<'_>, b: &Plain<'_>) -> Option<Option<Ordering>> {
    enum Number {
        Int(i128),
        Float(f64),
    }
    let number = |plain: &Plain<'_>| match plain {
        Plain::Bool(it) => Some(Number::Int((*it).into())),
        Plain::Int(it) => Some(Number::Int(*it)),
        Plain::Float(it) => Some(Number::Float(*it)),
        _ => None,
    };
    Some(match (number(a)?, number(b)?) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Int(a), Number::Float(b)) => int_and_float(a, b),
        (Number::Float(a), Number::Int(b)) => int_and_float(b, a).map(Ordering::reverse),
    })
}

fn int_and_float(int: i128, float: f64) -> Option<Ordering> {
    const BEYOND: f64 = 1.7014118346046923e38; // 2^127
    if float.is_nan() {
        None
    } else if float >= BEYOND {
        Some(Ordering::Less)
    } else if float < -BEYOND {
        Some(Ordering::Greater)
    } else {
        let whole = float.trunc();
        Some(int.cmp(&(whole as i128)).then(0.0_f64.total_cmp(&(float - whole + 0.0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(it: &str) -> Plain<'_> {
        Plain::Text(it.as_bytes().into())
    }

    #[test]
    fn numbers_are_compared_by_value() {
        use Ordering::{Equal, Greater, Less};
        let (int, float) = (Plain::Int, Plain::Float);
        for (a, b, order) in [
            (int(1), Plain::Bool(true), Equal),
            (int(1), float(1.0), Equal),
            (int((1 << 53) + 1), float(9007199254740992.0), Greater),
            (int(-1), float(-0.5), Less),
            (int(0), float(-0.5), Greater),
            (int(0), float(-0.0), Equal),
            (int(0), float(0.5), Less),
            (float(f64::INFINITY), int(i128::MAX), Greater),
            (float(f64::NEG_INFINITY), int(i128::MIN), Less),
            (float(f64::NAN), int(1), Greater),
            (float(f64::NAN), float(f64::NAN), Greater),
            (Plain::None, int(i128::MIN), Less),
        ] {
            assert_eq!(compare(&a, &b), Ok(order), "{a} {b}");
        }
    }

    #[test]
    fn what_python_does_not_order_is_left_to_it() {
        let pair = |a, b| Plain::Tuple(vec![a, b]);
        for (a, b) in [
            (text("a"), Plain::Int(1)),
            (text("a"), Plain::Bytes(b"a"[..].into())),
            (pair(Plain::Int(1), Plain::None), pair(Plain::Int(1), Plain::Int(2))),
            (pair(Plain::Int(1), text("a")), pair(Plain::Int(1), Plain::Int(2))),
        ] {
            assert!(compare(&a, &b).is_err_and(|why| why.0.contains("left to the client")), "{a} {b}");
        }
        assert_eq!(compare(&pair(Plain::Int(1), text("a")), &pair(Plain::Int(2), Plain::None)), Ok(Ordering::Less));
        assert_eq!(compare(&pair(Plain::None, text("a")), &pair(Plain::None, text("b"))), Ok(Ordering::Less));
    }
}
