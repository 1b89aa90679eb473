//! Owns the two numberings of objects. Zeolite keeps the oids 1 to 15 for itself, ZODB begins to count at 1; the root is 0 in both.
//!
//! ```text
//!   ZODB       0   1   2   3 ...
//!   Zeolite    0  16  17  18 ...        n <-> n + 15
//! ```

use crate::errors;
use pyo3::prelude::*;
use zeolite_client::{Cell, Oid, Record, Tid};

/// What Zeolite keeps for itself.
const OWN: u64 = 15;

/// Eight bytes as ZODB has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Eight(pub(super) u64);

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
    pub(super) fn cell(self, py: Python<'_>) -> PyResult<Cell> {
        self.oid(py).map(Cell::object)
    }

    pub(super) fn oid(self, py: Python<'_>) -> PyResult<Oid> {
        match self.0 {
            0 => Ok(Oid::ROOT),
            n if n < u64::MAX >> 1 => Ok(Oid(n + OWN)),
            n => Err(errors::invalid(py, format!("oid {n:#x} is too large: they have 63 bits"))),
        }
    }
}

/// ZODB's number of an object; none: Zeolite's own.
pub(super) fn of_zodb(oid: Oid) -> Option<u64> {
    match oid.0 {
        0 => Some(0),
        n => n.checked_sub(OWN).filter(|n| *n > 0),
    }
}

/// Whether the object is an application's and not one of Zeolite's own (jobs of evolves, for instance).
pub(super) fn is_zodb(record: &Record) -> bool {
    !record.class.starts_with("zeolite.")
}
