//! Owns what Zeolite knows of ZODB's records. No Python runs here: records are read by their bytes alone.
//!
//! A record of ZODB is two pickles, the class and the state. [`scan()`] says which class it is and which objects it refers to;
//! [`resolvers`] merge what two transactions wrote of one node of a BTree; [`routes`] judge read checks of the nodes above;
//! [`replay`] makes on the newest tree what only a split has refused.

pub mod btrees;
pub mod length;
#[cfg(test)]
mod made;
pub mod mapping;
pub mod oids;
mod order;
pub mod pickle;
mod plain;
pub mod replay;
pub mod routes;
pub mod scan;
pub mod undone;
mod values;
mod write;

pub use btrees::Rules;
pub use scan::{ScanError, Scanned, scan};

use std::sync::Arc;
use zeolite_proto::Resolver;

/// The classes of ZODB that a server can merge, with their resolvers.
pub fn resolvers(rules: Rules) -> impl Iterator<Item = (String, Arc<dyn Resolver>)> {
    let length: Arc<dyn Resolver> = Arc::new(length::Length);
    let undone: Arc<dyn Resolver> = Arc::new(undone::Undone);
    btrees::resolvers(rules).chain([(length::CLASS.to_owned(), length), (undone::CLASS.to_owned(), undone)])
}
