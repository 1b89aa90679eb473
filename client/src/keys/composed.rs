//! Owns the keys that are made of other keys: options and tuples. A derived key is the tuple of its fields.

use super::{AsKey, BadKey, Key, KeyKind};
use zeolite_proto::Oid;

impl<Q: AsKey> AsKey for Option<Q> {
    fn put_last(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(key) = self {
            key.put_last(out);
        }
    }

    fn put_inner(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(key) = self {
            key.put_inner(out);
        }
    }

    fn put_refs(&self, refs: &mut Vec<Oid>) {
        if let Some(key) = self {
            key.put_refs(refs);
        }
    }
}

impl<K: Key> Key for Option<K> {
    const KIND: KeyKind = KeyKind::Maybe(&K::KIND);

    fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
        bool::take_last(input)?.then(|| K::take_last(input)).transpose()
    }

    fn take_inner(input: &mut &[u8]) -> Result<Self, BadKey> {
        bool::take_last(input)?.then(|| K::take_inner(input)).transpose()
    }
}

macro_rules! tuples {
    ($(($($inner:ident)+; $last:ident))*) => {$(
        #[expect(non_snake_case, reason = "the parts are named like their types")]
        impl<$($inner: AsKey,)+ $last: AsKey> AsKey for ($($inner,)+ $last) {
            fn put_last(&self, out: &mut Vec<u8>) {
                let ($($inner,)+ $last) = self;
                $($inner.put_inner(out);)+
                $last.put_last(out);
            }
            fn put_inner(&self, out: &mut Vec<u8>) {
                let ($($inner,)+ $last) = self;
                $($inner.put_inner(out);)+
                $last.put_inner(out);
            }
            fn put_refs(&self, refs: &mut Vec<Oid>) {
                let ($($inner,)+ $last) = self;
                $($inner.put_refs(refs);)+
                $last.put_refs(refs);
            }
        }
        impl<$($inner: Key,)+ $last: Key> Key for ($($inner,)+ $last) {
            const KIND: KeyKind = KeyKind::Parts(&[$($inner::KIND,)+ $last::KIND]);

            fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
                Ok(($($inner::take_inner(input)?,)+ $last::take_last(input)?))
            }
            fn take_inner(input: &mut &[u8]) -> Result<Self, BadKey> {
                Ok(($($inner::take_inner(input)?,)+ $last::take_inner(input)?))
            }
        }
    )*};
}

tuples! { (A; B) (A B; C) (A B C; D) }
