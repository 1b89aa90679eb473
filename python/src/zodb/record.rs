//! Owns the making of records: the pickle as it is, and in the header what the server goes by: class, schema version, references.
//!
//! Class and references are found in the pickle itself, without Python; the version is asked of `zeolite.zodb.versions`, since the
//! class declares it. What cannot be scanned is refused: stored without its references, what it refers to would be collected.
//!
//! An undo keeps whose data it has put back in an entry beside the object, since ZODB's iterators tell that.

use crate::errors;
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use zeolite_client::{BlobId, Cell, Oid, Record, Tid};
use zeolite_zodb::oids::to_zeolite;

/// The key and the class of the entry that an undo leaves.
const UNDONE_KEY: &[u8] = b"undone";
const UNDONE_CLASS: &str = "zeolite.zodb.Undone";

/// Classes of the server and of the client library; nobody else stores such.
const OWN_CLASSES: &str = "zeolite.";

static VERSION_OF: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// An encoded record of a pickle with the blob that it names, and the pickle in it.
pub(crate) fn encoded(py: Python<'_>, oid: Oid, data: &[u8], blob: Option<BlobId>) -> PyResult<(Bytes, Bytes)> {
    let unscannable = |why: String| {
        let message = format!(
            "object {oid}: its class or its references cannot be found: {why}; what compresses or encrypts records cannot \
             be stored here"
        );
        errors::named(py, "unscannable", message)
    };
    let scanned = zeolite_zodb::scan(data).map_err(|error| unscannable(error.to_string()))?;
    if scanned.class.starts_with(OWN_CLASSES) {
        let message = format!(
            "object {oid} is of class {}: what begins with {OWN_CLASSES:?} is Zeolite's own, is merged as such and left out of \
             exports; give the module another name",
            scanned.class
        );
        return Err(errors::invalid(py, message));
    }
    let version_of = VERSION_OF
        .get_or_try_init(py, || PyResult::Ok(py.import("zeolite.zodb.versions")?.getattr("version_of")?.unbind()))?;
    let version: u32 = version_of.call1(py, (&scanned.class,))?.extract(py)?;
    let refs: Option<Vec<Oid>> = scanned.references.into_iter().map(to_zeolite).collect();
    let refs = refs.ok_or_else(|| unscannable("it refers to an oid of more than 63 bits".to_owned()))?;
    let (blobs, data_too) = (blob.into_iter().collect(), Bytes::copy_from_slice(data));
    let record = Record { class: scanned.class, version, refs, blobs, data: data_too };
    let record = record.encode().map_err(|bad| unscannable(bad.to_string()))?;
    let data = record.slice(record.len() - data.len()..);
    Ok((record, data))
}

/// The entry that tells whose data an undo has put back, with its record.
pub(super) fn undone(py: Python<'_>, oid: Oid, tid: Tid) -> PyResult<(Cell, Bytes)> {
    let record = Record::new(UNDONE_CLASS, 1, tid.0.to_be_bytes().to_vec());
    let record = record.encode().map_err(|bad| errors::invalid(py, bad.to_string()))?;
    Ok((Cell::entry(oid, Bytes::from_static(UNDONE_KEY)), record))
}

/// The tid of such an entry; none: it is another one.
pub(super) fn undone_tid(cell: &Cell, record: &Bytes) -> Option<Tid> {
    let record = Record::decode(record).ok().filter(|record| cell.key == UNDONE_KEY && record.class == UNDONE_CLASS)?;
    record.data.as_ref().try_into().ok().map(|tid| Tid(u64::from_be_bytes(tid)))
}

/// Whether the object is an application's and not one of Zeolite's own (jobs of evolves, for instance).
pub(super) fn is_zodb(record: &Record) -> bool {
    !record.class.starts_with(OWN_CLASSES)
}
