//! The demo's parts.

#[cfg_attr(not(test), expect(dead_code, reason = "the demo that loads it follows"))]
pub(crate) mod wordnet;
