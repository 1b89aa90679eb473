//! What both sides speak: the laws of the resolvers, and the bytes of the wire.

mod resolver_laws;
mod wire_fixtures;
