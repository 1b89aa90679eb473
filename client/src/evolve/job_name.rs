//! Owns the length of an evolve's name, and how a name that is made of others is brought to it.
//!
//! ```text
//!   up to 200 bytes    as it is
//!   longer             its first bytes, `~`, and SipHash-2-4 of the whole (with the key 0) as sixteen hexadecimal digits: up to 200 in all
//! ```
//! So the same index always has the same name of a job, by which one that was interrupted is found again, and no two have one.

use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// Bytes of a name.
pub(super) const NAME_BYTES_MAX: usize = 200;
const DIGITS: usize = 16;

/// A name of that length at most.
pub(super) fn fitting(name: String) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    hasher.write(name.as_bytes());
    let most = NAME_BYTES_MAX - DIGITS - 1;
    let first = &name[..name.floor_char_boundary(most)];
    format!("{first}~{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_stays_its_own() {
        let long = |end: &str| format!("entries of {}{end}", "x".repeat(189));
        assert_eq!(fitting(long("")), long(""), "200 bytes");
        let (one, other) = (fitting(long("a")), fitting(long("b")));
        assert_eq!((one.len(), other.len()), (NAME_BYTES_MAX, NAME_BYTES_MAX));
        assert_ne!(one, other);
        assert_eq!(&one[..183], &long("")[..183]);
        assert_eq!(&one[183..], "~6dd3fda4fe918cba", "it never changes: a job that was interrupted is found by it");
        let wide = fitting("ä".repeat(150));
        assert_eq!(wide.len(), 199, "no character is cut in two");
    }
}
