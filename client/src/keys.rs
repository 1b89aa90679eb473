//! Owns the order-preserving encoding of collection keys.

use bytes::Bytes;

/// The first key after all that begin so; empty (no bound) if there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
    let mut end = prefix[..kept].to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}
