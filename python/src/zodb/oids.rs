//! Owns oids and tids as ZODB has them: eight bytes, big endian. Zeolite's own numbers are told by `zeolite_zodb::oids`.

use crate::errors;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeolite_client::{Cell, Oid, Tid};
use zeolite_zodb::oids::{to_zeolite, to_zodb};

/// Eight bytes as ZODB has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Eight(pub(super) u64);

impl<'a, 'py> FromPyObject<'a, 'py> for Eight {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Eight> {
        let bytes: &[u8] = given.extract()?;
        match bytes.try_into() {
            Ok(eight) => Ok(Eight(u64::from_be_bytes(eight))),
            Err(_) => Err(errors::invalid(given.py(), format!("{} bytes where an oid or a tid has 8", bytes.len()))),
        }
    }
}

impl Eight {
    pub(super) fn tid(self) -> Tid {
        Tid(self.0)
    }

    /// The object's cell; an oid so large that Zeolite has none for it is refused.
    pub(crate) fn cell(self, py: Python<'_>) -> PyResult<Cell> {
        self.oid(py).map(Cell::object)
    }

    pub(crate) fn oid(self, py: Python<'_>) -> PyResult<Oid> {
        // The server keeps 63 bits.
        let oid = to_zeolite(self.0.to_be_bytes()).filter(|oid| oid.0 <= u64::MAX >> 1);
        oid.ok_or_else(|| errors::invalid(py, format!("oid {:#x} is too large: they have 63 bits", self.0)))
    }
}

/// ZODB's bytes for an object; none: it is Zeolite's own.
pub(crate) fn bytes_of(py: Python<'_>, oid: Oid) -> Option<Bound<'_, PyBytes>> {
    to_zodb(oid).map(|oid| PyBytes::new(py, &oid))
}
