//! Owns what Zeolite knows of ZODB's records. No Python runs here: records are read by their bytes alone.
//!
//! A record of ZODB is two pickles, the class and the state. [`scan`] says which class it is and which objects it refers to.

pub mod oids;
pub mod pickle;
pub mod scan;
mod values;

pub use scan::{ScanError, Scanned, scan};
