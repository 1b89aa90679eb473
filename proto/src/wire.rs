//! The wire: the generated protobuf types, and their translation to and from the crate's own types.
//!
//! Only the server's `rpc` and the client's `wire` name this module; everything else speaks in the crate's own types.

pub mod codec;
pub mod count;
pub mod fault;
pub mod operate;
pub mod status;
pub mod translate;

/// The types that tonic generates from `zeolite/v2/zeolite.proto`; the comments are the protocol's.
#[expect(missing_docs, clippy::allow_attributes, reason = "generated")]
pub mod v2 {
    tonic::include_proto!("zeolite.v2");
}

/// The encoded descriptor set, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zeolite.bin"));

/// The number of this protocol.
pub const PROTOCOL: u32 = 2;
