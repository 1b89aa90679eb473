//! Owns the token: what a program shows to prove which user it works for.
//!
//! ```text
//!   zlt_1f0c9a3e_5d41...(64 digits)          shown once, when it is made
//!       │        └── 256 random bits
//!       └── its short id: in lists, in the log; no secret
//!   kept: SHA-256 of the whole text
//! ```
//! A password is kept under a slow hash because it can be guessed. 256 random bits cannot, at any speed; so a fast hash is enough, and
//! a check costs a microsecond for each call. The comparison takes as long whatever differs.

use ring::digest::{SHA256, digest};
use std::fmt;
use subtle::ConstantTimeEq;
use zeolite_proto::TOKEN_PREFIX as PREFIX;

const ID_BYTES: usize = 4;
const SECRET_BYTES: usize = 32;

/// A token as its holder has it. It has no `Debug` and no `Display`: what is never shown is in no log.
pub struct Token {
    id: String,
    text: String,
}

impl Token {
    /// A new one.
    pub fn new() -> Result<Token, getrandom::Error> {
        let mut bytes = [0; ID_BYTES + SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        let (id, secret) = bytes.split_at(ID_BYTES);
        let (id, secret) = (hex(id), hex(secret));
        Ok(Token { text: format!("{PREFIX}{id}_{secret}"), id })
    }

    /// A token of a text that may be anything.
    pub(crate) fn of(text: &str) -> Option<Token> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_hex = |text: &str, bytes| text.len() == 2 * bytes && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES))
            .then(|| Token { id: id.to_owned(), text: text.to_owned() })
    }

    /// What it is called.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret itself: for whoever made it, once.
    pub fn secret(&self) -> &str {
        &self.text
    }

    /// What is kept of it.
    pub fn sha256(&self) -> Sha256 {
        let mut sum = [0; 32];
        sum.copy_from_slice(digest(&SHA256, self.text.as_bytes()).as_ref());
        Sha256(sum)
    }
}

/// What is kept of a token. Equal in constant time.
#[derive(Clone, Copy)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Of its 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Sha256> {
        let mut sum = [0; 32];
        if text.len() != 2 * sum.len() || !text.is_ascii() {
            return None;
        }
        for (at, byte) in sum.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Sha256(sum))
    }
}

impl PartialEq for Sha256 {
    fn eq(&self, other: &Sha256) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&hex(&self.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_and_nothing_else_is_one() {
        let (one, other) = (Token::new().expect("randomness"), Token::new().expect("randomness"));
        let again = Token::of(one.secret()).expect("a token");
        assert!(again.id() == one.id() && again.sha256() == one.sha256() && one.sha256() != other.sha256());
        let kept = Sha256::parse(&one.sha256().to_string()).expect("a sum");
        assert!(kept == one.sha256() && kept != other.sha256());
        let cut = &one.secret()[..one.secret().len() - 1];
        for text in ["", "zlt_", "Bearer", cut, &format!("{}0", one.secret()), &one.secret()[4..]] {
            assert!(Token::of(text).is_none(), "{text}");
        }
        for text in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert!(Sha256::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_sum_is_sha_256() {
        let token = Token { id: String::new(), text: "abc".into() };
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(token.sha256().to_string(), known);
    }
}
