//! Owns the board of schedules: when backups and packs were last done, for whoever looks at the server: status, metrics, `zeolite check`.
//!
//! The program that keeps the server does the work, and writes here; the server only tells it.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use zeolite_proto::Schedule;

/// What every schedule has come to, by database and work.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<(String, String), Schedule>>);

impl Board {
    /// What a schedule of a database has come to.
    pub fn tell(&self, database: &str, schedule: Schedule) {
        self.0.lock().insert((database.to_owned(), schedule.work.clone()), schedule);
    }

    /// All of a database, by their names.
    pub fn of(&self, database: &str) -> Vec<Schedule> {
        self.0.lock().iter().filter(|((of, _), _)| of == database).map(|(_, schedule)| schedule.clone()).collect()
    }
}
