//! Owns the stored form of a note: a protobuf message with the fields of the wire's `Note`, so that it can grow.

use bytes::Bytes;
use prost::Message;
use zeolite_proto::Note;

#[derive(Clone, PartialEq, Message)]
struct StoredNote {
    #[prost(bytes = "bytes", tag = "1")]
    user: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    description: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    extension: Bytes,
}

/// The bytes for the log; empty for an empty note.
pub(crate) fn encode(note: &Note) -> Bytes {
    if *note == Note::default() {
        return Bytes::new();
    }
    let stored = StoredNote {
        user: note.user.clone(),
        description: note.description.clone(),
        extension: note.extension.clone(),
    };
    stored.encode_to_vec().into()
}

/// Reads it back. Unreadable bytes (of a newer program) give a note that says so.
pub fn decode(bytes: &Bytes) -> Note {
    match StoredNote::decode(bytes.clone()) {
        Ok(stored) => Note { user: stored.user, description: stored.description, extension: stored.extension },
        Err(_) => Note { description: "(unreadable note)".into(), ..Note::default() },
    }
}
