//! Owns the trace context: the name under which somebody traces a request through several programs (W3C Trace Context, version 00).
//!
//! ```text
//!   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!      │ trace: the whole way             │ span: the caller's part of it   └─ bit 0: it is sampled, so its parts are kept
//! ```
//! What is not one is no error: a request is as good without it.

use std::fmt;

/// Who traces a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The whole way; not 0.
    pub trace: u128,
    /// The caller's part of it; not 0.
    pub span: u64,
    /// Whether its parts are kept.
    pub sampled: bool,
}

impl TraceContext {
    /// Of a header's text; `None`: it is none.
    pub fn parse(text: &str) -> Option<TraceContext> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may say more behind; this one does not, and "ff" is none.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        hex(version, 2)?;
        let (trace, span, flags) = (hex(trace, 32)?, hex(span, 16)?, hex(flags, 2)?);
        let span = u64::try_from(span).ok().filter(|span| *span != 0)?;
        (trace != 0).then_some(TraceContext { trace, span, sampled: flags & 1 == 1 })
    }
}

/// Digits in small letters, exactly so many.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex =
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// As the header's text.
impl fmt::Display for TraceContext {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_read_as_the_standard_says_and_nothing_else_is_one() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text).expect("the standard's example");
        assert_eq!((context.sampled, context.to_string().as_str()), (true, text));
        let later =
            TraceContext::parse(&text.replacen("00", "01", 1).replace("-01", "-03-more")).expect("a later version");
        assert_eq!(later, context);
        assert!(TraceContext::parse(&text.replace("b7-01", "b7-00")).is_some_and(|context| !context.sampled));
        for wrong in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }
}
