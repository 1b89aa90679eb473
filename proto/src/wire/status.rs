//! Owns the translation of the status and of upkeep between the wire and the crate's own types. On the wire 0 and the empty
//! text stand for what is not there.

use super::v2;
use crate::gate::Gate;
use crate::ids::{Oid, Tid};
use crate::replication::{Behind, FollowerInfo, Promoted, Replication, Seat};
use crate::role::Role;
use crate::status::{ClassCounts, Kind, Kinds, ResolverInfo, Schedule, Stage, Status};
use crate::upkeep::{PackOptions, PackProgress, Reference, VerifyProgress};

/// Both directions of a message whose fields are the same on both sides, but for a few that are written out.
macro_rules! translate {
    ($($own:ident = $wire:ident { $($field:ident)* } $({ $($special:ident: $to:expr, $from:expr;)* })?)*) => {
        $(
            impl From<$own> for v2::$wire {
                fn from(own: $own) -> v2::$wire {
                    v2::$wire { $($field: own.$field,)* $($($special: ($to)(own.$special),)*)? }
                }
            }

            impl From<v2::$wire> for $own {
                fn from(wire: v2::$wire) -> $own {
                    $own { $($field: wire.$field,)* $($($special: ($from)(wire.$special),)*)? }
                }
            }
        )*
    };
}

/// Nothing is packed.
const IDLE: &str = "idle";

fn tid(tid: Tid) -> u64 {
    tid.0
}

fn oid(oid: Oid) -> u64 {
    oid.0
}

fn tid_or_0(tid: Option<Tid>) -> u64 {
    tid.map_or(0, |tid| tid.0)
}

fn tid_unless_0(tid: u64) -> Option<Tid> {
    (tid != 0).then_some(Tid(tid))
}

fn all<T, U: From<T>>(all: Vec<T>) -> Vec<U> {
    all.into_iter().map(U::from).collect()
}

fn unless_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

translate! {
    Stage = Stage { name count total_ns p50_ns p99_ns }
    ClassCounts = ClassCounts { class conflicts merges }
    Kind = Kind { class version objects }
    Schedule = Schedule { work every_ms running done_unix_ms failed_unix_ms error next_unix_ms since_unix_ms }
    ResolverInfo = ResolverInfo { class description applies expensive }
    PackProgress = PackProgress {
        stage done_units total_units done revisions_removed objects_removed bytes_before bytes_after blobs_removed
        blob_bytes_removed
    } {
        packed_to: tid, Tid;
        held_back: Option::unwrap_or_default, unless_empty;
    }
    Reference = Reference {} { from: oid, Oid; to: oid, Oid; }
    VerifyProgress = VerifyProgress {
        stage done_units total_units done transactions revisions objects problems problems_total dangling_total blobs
    } {
        dangling: all, all;
    }
    Status = StatusReply {
        version store_id timeline uptime_ms index objects log_bytes index_bytes segments free_bytes disk_bytes sessions feeds pins
        pinned_bytes prepared prepared_durable oldest_prepared_ms commits batches conflicts merges loads queue_live
        queue_batch cache_bytes cache_hits cache_misses unsettled_bytes torn disk_errors ahead_ms unix_ms oldest_pin_ms blobs
        blob_bytes staged_blobs staged_bytes certificate_expires_unix_ms users databases
    } {
        visible: tid, Tid;
        packed_to: tid, Tid;
        poisoned: Option::unwrap_or_default, unless_empty;
        index_down: Option::unwrap_or_default, unless_empty;
        disk_error: Option::unwrap_or_default, unless_empty;
        security_problem: Option::unwrap_or_default, unless_empty;
        anonymous_role: |role: Option<Role>| role.map_or("", Role::text).into(), |role: String| role.parse().ok();
        oldest_pin: tid_or_0, tid_unless_0;
        pack: |pack: Option<String>| pack.unwrap_or_else(|| IDLE.into()), |pack| unless_empty(pack).filter(|pack| pack != IDLE);
        stages: all, all;
        mode: |mode: crate::Mode| Some((&mode).into()), |mode: Option<v2::Mode>| mode.unwrap_or_default().into();
        pressure: |pressure: crate::Pressure| Some(pressure.into()), |it: Option<v2::Pressure>| it.unwrap_or_default().into();
        classes: all, all;
        schedules: all, all;
        replication: |it: Replication| Some(it.into()), |it: Option<v2::Replication>| it.unwrap_or_default().into();
        gates: |gates: Vec<Gate>| gates.iter().map(v2::Gate::from).collect(), all;
    }
}

impl From<Seat> for v2::Seat {
    fn from(seat: Seat) -> v2::Seat {
        match seat {
            Seat::Primary => v2::Seat::Primary,
            Seat::Follower => v2::Seat::Follower,
            Seat::Fenced => v2::Seat::Fenced,
        }
    }
}

impl From<v2::Seat> for Seat {
    fn from(seat: v2::Seat) -> Seat {
        match seat {
            v2::Seat::Primary => Seat::Primary,
            v2::Seat::Follower => Seat::Follower,
            v2::Seat::Fenced => Seat::Fenced,
        }
    }
}

impl From<Replication> for v2::Replication {
    fn from(own: Replication) -> v2::Replication {
        v2::Replication {
            seat: v2::Seat::from(own.seat).into(),
            term: own.term,
            store_id: own.store_id,
            newest: own.newest.0,
            primary: own.primary,
            problem: own.problem.unwrap_or_default(),
            connected: own.connected,
            behind_transactions: own.behind.transactions,
            behind_more: own.behind.more,
            behind_bytes: own.behind.bytes,
            behind_ms: own.behind_ms,
            sync: own.sync,
            keep_s: own.keep_s,
            followers: all(own.followers),
            waiting: own.waiting,
            waiting_ms: own.waiting_ms,
        }
    }
}

impl From<v2::Replication> for Replication {
    fn from(wire: v2::Replication) -> Replication {
        Replication {
            seat: wire.seat().into(),
            term: wire.term,
            store_id: wire.store_id,
            newest: Tid(wire.newest),
            primary: wire.primary,
            problem: unless_empty(wire.problem),
            connected: wire.connected,
            behind: Behind::new(wire.behind_transactions, wire.behind_more, wire.behind_bytes),
            behind_ms: wire.behind_ms,
            sync: wire.sync,
            keep_s: wire.keep_s,
            followers: all(wire.followers),
            waiting: wire.waiting,
            waiting_ms: wire.waiting_ms,
        }
    }
}

impl From<v2::KindsReply> for Kinds {
    fn from(wire: v2::KindsReply) -> Kinds {
        Kinds { tid: Tid(wire.tid), kinds: all(wire.kinds) }
    }
}

impl From<Promoted> for v2::PromoteReply {
    fn from(own: Promoted) -> v2::PromoteReply {
        v2::PromoteReply { term: own.term, tid: own.tid.0, told: own.told, not_told: own.not_told }
    }
}

impl From<v2::PromoteReply> for Promoted {
    fn from(wire: v2::PromoteReply) -> Promoted {
        Promoted { term: wire.term, tid: Tid(wire.tid), told: wire.told, not_told: wire.not_told }
    }
}

impl From<FollowerInfo> for v2::FollowerInfo {
    fn from(own: FollowerInfo) -> v2::FollowerInfo {
        v2::FollowerInfo {
            id: own.id,
            name: own.name,
            connected: own.connected,
            have: own.have.0,
            behind_transactions: own.behind.transactions,
            behind_more: own.behind.more,
            behind_bytes: own.behind.bytes,
            seen_ms: own.seen_ms,
        }
    }
}

impl From<v2::FollowerInfo> for FollowerInfo {
    fn from(wire: v2::FollowerInfo) -> FollowerInfo {
        FollowerInfo {
            id: wire.id,
            name: wire.name,
            connected: wire.connected,
            have: Tid(wire.have),
            behind: Behind::new(wire.behind_transactions, wire.behind_more, wire.behind_bytes),
            seen_ms: wire.seen_ms,
        }
    }
}

impl From<PackOptions> for v2::PackRequest {
    fn from(options: PackOptions) -> v2::PackRequest {
        let PackOptions { to, keep_garbage, dry_run } = options;
        v2::PackRequest { tid: tid_or_0(to), keep_garbage, dry_run }
    }
}

impl From<v2::PackRequest> for PackOptions {
    fn from(request: v2::PackRequest) -> PackOptions {
        let v2::PackRequest { tid, keep_garbage, dry_run } = request;
        PackOptions { to: tid_unless_0(tid), keep_garbage, dry_run }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Pressure};

    #[test]
    fn what_a_server_says_of_itself_survives_the_wire() {
        let status = Status {
            version: "1".into(),
            visible: Tid(9),
            poisoned: Some("disk".into()),
            index_down: Some("a page".into()),
            torn: 2,
            disk_errors: 13,
            disk_error: Some("a read".into()),
            ahead_ms: 5,
            unix_ms: 6,
            oldest_pin: Some(Tid(4)),
            oldest_pin_ms: 8,
            blobs: 3,
            blob_bytes: 9,
            staged_blobs: 4,
            staged_bytes: 11,
            certificate_expires_unix_ms: 12,
            security_problem: Some("a file".into()),
            users: Some(3),
            anonymous_role: Some(Role::Read),
            pack: Some("copying".into()),
            sessions: 3,
            prepared: 2,
            prepared_durable: 1,
            oldest_prepared_ms: 7,
            feeds: 2,
            stages: vec![Stage { name: "fsync".into(), count: 1, total_ns: 2, p50_ns: 3, p99_ns: 4 }],
            mode: Mode { banner: "back at five".into(), ..Mode::default() },
            pressure: Pressure { live_p99_us: 7, ..Pressure::default() },
            classes: vec![ClassCounts { class: "C".into(), conflicts: 1, merges: 2 }],
            schedules: vec![Schedule {
                work: "backup".into(),
                every_ms: 1,
                running: true,
                done_unix_ms: 2,
                failed_unix_ms: 3,
                error: "no room".into(),
                next_unix_ms: 4,
                since_unix_ms: 5,
            }],
            databases: vec!["main".into()],
            gates: vec![Gate { class: "C".into(), min_version: 2, job: "j".into(), tid: Tid(8) }],
            ..Status::default()
        };
        assert_eq!(Status::from(v2::StatusReply::from(status.clone())), status);
        assert_eq!(Status::from(v2::StatusReply::default()), Status::default());
        let dangling = vec![Reference { from: Oid(1), to: Oid(2) }];
        let verified = VerifyProgress { done: true, dangling, dangling_total: 5, ..VerifyProgress::default() };
        assert_eq!(VerifyProgress::from(v2::VerifyProgress::from(verified.clone())), verified);
        for to in [None, Some(Tid(5))] {
            let options = PackOptions { to, keep_garbage: true, dry_run: false };
            assert_eq!(PackOptions::from(v2::PackRequest::from(options)), options);
        }
    }
}
