//! Owns which records are Zeolite's own: the root, jobs with their ledgers, and what the server keeps of itself. No plan covers them,
//! however it is made: a step that deletes all that it is given would take the job's own ledger away.
//!
//! ```text
//!   by place   the root and the system object; root entries `zeolite.…`; the map of all jobs
//!   by class   `zeolite.…`, but for what an application's collections and counters are made of
//! ```

use super::job::ROOT_NAME;
use crate::errors::{Error, Result};
use crate::tx::{View, damaged};
use zeolite_proto::evolve::Plan;
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::built_in;
use zeolite_proto::{Cell, Oid};

const PREFIX: &str = "zeolite.";

/// Zeolite's own records in one database.
pub(crate) struct OwnRecords {
    /// The map of all jobs.
    jobs: Option<Oid>,
}

impl OwnRecords {
    pub(crate) async fn of(view: &View) -> Result<OwnRecords> {
        let cell = Cell::entry(Oid::ROOT, ROOT_NAME);
        let Some(entry) = view.get_encoded(&cell).await? else { return Ok(OwnRecords { jobs: None }) };
        let header = Header::parse(&entry).map_err(|bad| damaged(&cell, &bad))?;
        Ok(OwnRecords { jobs: header.refs().next() })
    }

    pub(crate) fn is_object(&self, oid: Oid) -> bool {
        oid == Oid::ROOT || oid == Oid::SYSTEM || self.jobs == Some(oid)
    }

    /// Whether an entry of the root is.
    pub(crate) fn is_entry(oid: Oid, key: &[u8]) -> bool {
        oid == Oid::ROOT && key.starts_with(PREFIX.as_bytes())
    }

    /// Whether all records of a class are.
    pub(crate) fn is_class(name: &str) -> bool {
        name.starts_with(PREFIX) && !built_in().any(|(of_applications, _)| of_applications == name)
    }

    /// Refuses a plan that would cover nothing else.
    pub(crate) async fn check(&self, view: &View, plan: &Plan) -> Result<()> {
        let own = match plan {
            // Their version is the library's: there is none to reach.
            Plan::Objects { class, below_version: 1.. } => class.starts_with(PREFIX),
            Plan::Objects { class, .. } => Self::is_class(class),
            Plan::Collection { oid, .. } => Oid(*oid) != Oid::ROOT && self.is_own(view, Oid(*oid)).await?,
            Plan::Reachable { from } => Oid(*from) != Oid::ROOT && self.is_own(view, Oid(*from)).await?,
            _ => false,
        };
        if !own {
            return Ok(());
        }
        Err(Error::invalid(format!("{}: these are Zeolite's own records, which no evolve changes", plan.text())))
    }

    async fn is_own(&self, view: &View, oid: Oid) -> Result<bool> {
        if self.is_object(oid) {
            return Ok(true);
        }
        let cell = Cell::object(oid);
        let record = view.get_many(std::slice::from_ref(&cell)).await?.pop().flatten();
        Ok(record.is_some_and(|record| Header::parse(&record).is_ok_and(|header| Self::is_class(header.class))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::resolvers::class;

    #[test]
    fn what_applications_are_made_of_is_not_zeolites_own() {
        for own in ["zeolite.evolve.Job", "zeolite.evolve.Range", "zeolite.Gate", "zeolite.Mode"] {
            assert!(OwnRecords::is_class(own), "{own}");
        }
        for of_applications in ["wiki.Page", class::COUNTER, class::MAP, class::ENTRY, class::SEQUENCE] {
            assert!(!OwnRecords::is_class(of_applications), "{of_applications}");
        }
        assert!(OwnRecords::is_entry(Oid::ROOT, b"zeolite.evolves"));
        assert!(!OwnRecords::is_entry(Oid(7), b"zeolite.evolves") && !OwnRecords::is_entry(Oid::ROOT, b"pages"));
    }
}
