//! Owns what helps where the system has refused: whoever reads an error in the night knows what "os error 28" is, and not what he is to do.
//!
//! Errors that know better what helps say it where they are made. This is for all the others: files of every kind are written and read, here and
//! in what others have written, and their errors come as the system's words with its number.

/// The system's numbers, and what helps.
const KNOWN: [(&str, &str); 5] = [
    ("(os error 28)", "the disk is full: free some of it, or name a place on another one"),
    ("(os error 122)", "this user may have no more on that disk: free some, or have the quota raised"),
    ("(os error 30)", "it is mounted read-only: mount it so that it can be written to, or name another place"),
    ("(os error 13)", "run this as the user whom it belongs to, or give this one the right to it"),
    ("(os error 24)", "this process has too many open files: raise its limit (ulimit -n)"),
];

/// What helps against an error, if it does not say so itself.
pub(crate) fn against(error: &str) -> Option<&'static str> {
    // What stands behind a semicolon is advice, in all of our errors.
    let (_, rest) = error.split_once("(os error ")?;
    KNOWN.iter().find(|(number, _)| error.contains(number) && !rest.contains("; ")).map(|(_, helps)| *helps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_told_once() {
        let full = std::io::Error::from_raw_os_error(28).to_string();
        assert!(against(&full).is_some_and(|helps| helps.contains("free some")), "{full}");
        assert_eq!(against(&format!("{full}; look there")), None, "it says what helps");
        assert!(against(&std::io::Error::from_raw_os_error(30).to_string()).is_some());
        assert!(against(&std::io::Error::from_raw_os_error(13).to_string()).is_some());
        assert_eq!(against("anything else"), None);
    }
}
