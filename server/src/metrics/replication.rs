//! Owns the numbers of a database among its copies.

use super::families::Families;
use std::fmt::Error;
use zeolite_proto::{FollowerInfo, Replication, Seat};

/// Writes them.
pub(super) fn replication(now: &Replication, to: &mut Families<'_>) -> Result<(), Error> {
    let seats = Seat::ALL.map(|seat| (("seat", seat.text()), u64::from(seat == now.seat)));
    to.gauges("zeolite_seat", "1 for what the database is among its copies: only a primary takes writes", seats)?;
    to.gauge("zeolite_term", "The newest promotion that it knows; greater with each", now.term)?;
    let help = "1: something is to be done about it, which zeolite status says";
    to.gauge("zeolite_replication_problem", help, u64::from(now.problem.is_some()))?;
    if now.seat == Seat::Follower {
        to.gauge("zeolite_follower_connected", "1: this follower hears its primary", u64::from(now.connected))?;
        let help = "Transactions that the primary has and this follower has not";
        to.gauge("zeolite_follower_behind_transactions", help, now.behind.transactions)?;
        to.gauge("zeolite_follower_behind_bytes", "The same in bytes of the log", now.behind.bytes)?;
        let help = "For how long this follower has not had all that its primary had";
        to.gauge("zeolite_follower_behind_seconds", help, now.behind_ms as f64 / 1e3)?;
    }
    let connected = now.followers.iter().filter(|one| one.connected).count();
    to.gauge("zeolite_followers", "Followers of this primary that are there", connected)?;
    let of = |value: fn(&FollowerInfo) -> u64| {
        now.followers.iter().map(move |one| (("follower", one.name.as_str()), value(one))).collect::<Vec<_>>()
    };
    let help = "Transactions that a follower has not said to have";
    to.gauges("zeolite_followers_behind_transactions", help, of(|one| one.behind.transactions))?;
    to.gauges("zeolite_followers_behind_bytes", "The same in bytes of the log", of(|one| one.behind.bytes))?;
    to.gauge("zeolite_replication_sync", "So many followers have what is acknowledged", now.sync)?;
    to.gauge("zeolite_replication_waiting", "Commits on this disk that wait for followers", now.waiting)?;
    let help = "For how long the oldest of them waits";
    to.gauge("zeolite_replication_waiting_seconds", help, now.waiting_ms as f64 / 1e3)
}
