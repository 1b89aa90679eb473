//! Owns the note: who made a transaction and why, kept in the log with it.
//!
//! Its parts are bytes, which this system never interprets: histories that are taken over from elsewhere have names in
//! encodings of their own. Whoever writes text writes UTF-8; whoever shows it shows what is not as U+FFFD.

use crate::fault::Fault;
use bytes::Bytes;
use std::borrow::Cow;

/// The most bytes that each part may have: as many as ZODB's FileStorage keeps.
pub const NOTE_PART_BYTES_MAX: usize = 65_535;

/// Who did it and why; kept in the log with the transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Note {
    /// The user, as the application names it.
    pub user: Bytes,
    /// What the transaction was for.
    pub description: Bytes,
    /// The application's own bytes.
    pub extension: Bytes,
}

impl Note {
    /// A note of a user and a description; text or bytes.
    pub fn new(user: impl AsRef<[u8]>, description: impl AsRef<[u8]>) -> Note {
        let own = Bytes::copy_from_slice;
        Note { user: own(user.as_ref()), description: own(description.as_ref()), extension: Bytes::new() }
    }

    /// The user for people to read: what is no UTF-8 is shown as U+FFFD.
    pub fn user_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.user)
    }

    /// The description for people to read: what is no UTF-8 is shown as U+FFFD.
    pub fn description_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.description)
    }

    /// How many bytes it has in all.
    pub fn bytes(&self) -> usize {
        self.user.len() + self.description.len() + self.extension.len()
    }

    /// Refuses a note with a part that is too long.
    pub fn check(&self) -> Result<(), Fault> {
        let parts = [
            ("user of a note", &self.user),
            ("description of a note", &self.description),
            ("extension of a note", &self.extension),
        ];
        match parts.into_iter().find(|(_, part)| part.len() > NOTE_PART_BYTES_MAX) {
            Some((what, part)) => Err(Fault::too_large(what, part.len(), NOTE_PART_BYTES_MAX)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_a_bound_of_its_own() {
        let full = Bytes::from(vec![0xff; NOTE_PART_BYTES_MAX]);
        let note = Note { user: full.clone(), description: full.clone(), extension: full };
        assert_eq!((note.check(), note.bytes()), (Ok(()), 3 * NOTE_PART_BYTES_MAX));
        let long = Bytes::from(vec![b'x'; NOTE_PART_BYTES_MAX + 1]);
        let notes = [
            ("user", Note { user: long.clone(), ..note.clone() }),
            ("description", Note { description: long.clone(), ..note.clone() }),
            ("extension", Note { extension: long, ..note }),
        ];
        for (part, note) in notes {
            let fault = note.check().expect_err("a byte too long");
            assert!(fault.message.contains(part) && fault.message.contains("65536"), "{fault}");
        }
    }

    #[test]
    fn what_is_no_text_is_shown_and_kept() {
        let note = Note::new(b"J\xfcrgen", "why");
        assert_eq!((note.user_text(), note.description_text()), ("J\u{fffd}rgen".into(), "why".into()));
        assert_eq!(note.user, b"J\xfcrgen".as_slice());
    }
}
