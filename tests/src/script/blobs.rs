//! Owns the blobs of a script: who uploads, how far one has come, what it holds. A blob's id is its name, so that nobody has to keep which is which.
//!
//! ```text
//!   upload NAME TEXT...          whole: begun, or gone on with from where it stands
//!   upload-part NAME BYTES       so many bytes of it, and no end
//!   blob NAME                    how far it is, and its bytes
//! ```
//! A record names blobs at its end: `put page File talk.mp4 with NAME NAME`.

use super::actor::Around;
use super::events::show_fault;
use zeolite_proto::{BlobId, BlobStanding, Fault};
use zeolite_server::engine::Caller;

type Lines = Result<Vec<String>, String>;

/// The id of a name.
pub(super) fn id(name: &str) -> Result<BlobId, String> {
    let mut id = [b'.'; 16];
    let fits = id.get_mut(..name.len()).ok_or("the name of a blob has 16 letters at most")?;
    fits.copy_from_slice(name.as_bytes());
    Ok(BlobId(id))
}

/// The name of an id.
pub(super) fn name(id: BlobId) -> String {
    String::from_utf8_lossy(&id.0).trim_end_matches('.').to_owned()
}

/// Runs one of these commands.
pub(super) fn run(caller: &Caller, words: &[&str], around: &mut Around<'_>) -> Lines {
    let told = match words {
        ["upload", name, text @ ..] => upload(caller, id(name)?, text.join(" ").as_bytes(), true, around),
        ["upload-part", name, bytes] => {
            let bytes = bytes.parse().map_err(|_| format!("{bytes:?} is not a number"))?;
            upload(caller, id(name)?, &vec![b'x'; bytes], false, around)
        }
        ["blob", name] => show(id(name)?, around),
        _ => return Err("upload NAME TEXT, upload-part NAME BYTES, or blob NAME".into()),
    };
    Ok(vec![told.unwrap_or_else(|fault| show_fault(&fault, around.names))])
}

fn upload(caller: &Caller, id: BlobId, bytes: &[u8], ends: bool, around: &Around<'_>) -> Result<String, Fault> {
    let engine = around.house.engine();
    let (Some(upload), BlobStanding::Begun(at)) = engine.upload(caller, id)? else {
        return Ok("it is whole already".into());
    };
    engine.append_blob(&upload, bytes.get(at as usize..).unwrap_or_default())?;
    if !ends {
        return Ok(format!("{} bytes came, from {at} on", bytes.len()));
    }
    engine.finish_blob(upload, bytes.len() as u64, crc32fast::hash(bytes))?;
    Ok(format!("whole, {} bytes", bytes.len()))
}

fn show(id: BlobId, around: &Around<'_>) -> Result<String, Fault> {
    let engine = around.house.engine();
    Ok(match engine.blob_standing(id)? {
        BlobStanding::Unknown => "there is none".into(),
        BlobStanding::Begun(at) => format!("it has come to byte {at}"),
        BlobStanding::Whole(length) => {
            let reader = engine.read_blob(id)?;
            match reader.read(0, length) {
                Ok(bytes) => format!("{length} bytes, \"{}\"", bytes.escape_ascii()),
                Err(error) => format!("{length} bytes, which cannot be read: {error}"),
            }
        }
    })
}
