//! Owns the key of encrypted backups: a file of one line, and what each object is encrypted with.
//!
//! ```text
//!   zbk_ + 64 hex digits     32 random bytes, in a file that its owner alone may read
//! ```
//! The key itself encrypts nothing: each object has 32 random bytes of salt, and HKDF-SHA-256 makes a key of both that is used for
//! this one object, once. So no nonce is ever used twice, however many objects there are. Eight bytes that HKDF makes of the key
//! alone are its *mark*: they stand in each object, so that a wrong key is told from damage.

use crate::errors::{Error, Result};
use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use std::fmt;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const BEGINS: &str = "zbk_";

/// The key of a place's backups.
#[derive(Clone)]
pub struct Key {
    secret: [u8; 32],
    mark: [u8; 8],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    pub(crate) fn of(secret: [u8; 32]) -> Key {
        let mut mark = [0; 8];
        derived(&Salt::new(HKDF_SHA256, b"").extract(&secret), b"zeolite backup mark 1", &mut mark);
        Key { secret, mark }
    }

    /// Writes a new key into a file that is not there yet.
    pub fn make(path: &Path) -> Result<()> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| Error::Key(format!("no randomness: {error}")))?;
        let wrong = |error: std::io::Error| {
            let helps = match error.kind() {
                std::io::ErrorKind::AlreadyExists => "; name a file that is not there",
                std::io::ErrorKind::NotFound => "; make its directory first",
                _ => "",
            };
            Error::Key(format!("the key cannot be written to {}: {error}{helps}", path.display()))
        };
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(wrong)?;
        writeln!(file, "{BEGINS}{hex}").and_then(|()| file.sync_all()).map_err(wrong)
    }

    /// Reads the key of a file; one that others may read is refused.
    pub fn read(path: &Path) -> Result<Key> {
        let named = |why: &str| Error::Key(format!("the key file {}: {why}", path.display()));
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                named("it is not there; name the one that the backups were made with, or make one (zeolite backup key)")
            }
            _ => named(&error.to_string()),
        })?;
        if metadata.mode() & 0o077 != 0 {
            return Err(named("others may read it; chmod 600 it, and make a new key if they did"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| named(&error.to_string()))?;
        let secret = text.trim().strip_prefix(BEGINS).and_then(from_hex);
        let secret = secret.ok_or_else(|| named("it holds no key; `zeolite backup key FILE` makes one"))?;
        Ok(Key::of(secret))
    }

    /// What tells it from other keys.
    pub(crate) fn mark(&self) -> [u8; 8] {
        self.mark
    }

    /// The key of the one object with this salt.
    pub(crate) fn for_object(&self, salt: &[u8; 32]) -> LessSafeKey {
        let mut secret = [0; 32];
        derived(&Salt::new(HKDF_SHA256, salt).extract(&self.secret), b"zeolite backup object 1", &mut secret);
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &secret).expect("32 bytes are a key"))
    }
}

fn derived(from: &Prk, what: &[u8], into: &mut [u8]) {
    let what = [what];
    let made = from.expand(&what, Len(into.len())).expect("shorter than what HKDF can make");
    made.fill(into).expect("as long as was asked for");
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_is_its_owners_alone_and_never_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        Key::make(&path).expect("made");
        let (one, again) = (Key::read(&path).expect("reads"), Key::read(&path).expect("reads"));
        assert_eq!(one.secret, again.secret);
        assert!(Key::make(&path).is_err(), "there is one");
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, open).expect("set");
        assert!(Key::read(&path).is_err_and(|error| error.to_string().contains("chmod 600")));
        let wrong = dir.path().join("wrong");
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&wrong).expect("made");
        assert!(Key::read(&wrong).is_err_and(|error| error.to_string().contains("zeolite backup key")));
        assert_eq!(format!("{one:?}"), "Key", "nothing of it is shown");
    }
}
