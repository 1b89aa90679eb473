//! Owns the translation of modes, gates, prepared drafts and pressure between the wire and the crate's own types.

use super::v2;
use crate::gate::Gate;
use crate::ids::{CommitKey, Tid};
use crate::mode::{Mode, ModeKind};
use crate::prepared::PreparedDraft;
use crate::pressure::Pressure;
use crate::role::Role;
use crate::session_info::SessionInfo;

impl From<ModeKind> for v2::ModeKind {
    fn from(kind: ModeKind) -> v2::ModeKind {
        match kind {
            ModeKind::Normal => v2::ModeKind::Normal,
            ModeKind::ReadOnly => v2::ModeKind::ReadOnly,
            ModeKind::EvolveOnly => v2::ModeKind::EvolveOnly,
        }
    }
}

impl From<v2::ModeKind> for ModeKind {
    fn from(kind: v2::ModeKind) -> ModeKind {
        match kind {
            v2::ModeKind::Normal => ModeKind::Normal,
            v2::ModeKind::ReadOnly => ModeKind::ReadOnly,
            v2::ModeKind::EvolveOnly => ModeKind::EvolveOnly,
        }
    }
}

impl From<&Mode> for v2::Mode {
    fn from(mode: &Mode) -> v2::Mode {
        v2::Mode {
            kind: v2::ModeKind::from(mode.kind).into(),
            banner: mode.banner.clone(),
            until_unix_ms: mode.until_unix_ms.unwrap_or(0),
            automatic: mode.automatic.clone().unwrap_or_default(),
            since_unix_ms: mode.since_unix_ms,
        }
    }
}

impl From<v2::Mode> for Mode {
    /// A kind that this code does not know counts as read-only: the careful guess.
    fn from(mode: v2::Mode) -> Mode {
        Mode {
            kind: v2::ModeKind::try_from(mode.kind).map_or(ModeKind::ReadOnly, ModeKind::from),
            banner: mode.banner,
            until_unix_ms: (mode.until_unix_ms != 0).then_some(mode.until_unix_ms),
            automatic: (!mode.automatic.is_empty()).then_some(mode.automatic),
            since_unix_ms: mode.since_unix_ms,
        }
    }
}

impl From<PreparedDraft> for v2::PreparedDraft {
    fn from(prepared: PreparedDraft) -> v2::PreparedDraft {
        let PreparedDraft { key, owner, since_unix_ms, cells, bytes, durable } = prepared;
        let (commit_key, owner) = (key.0.to_vec().into(), owner.unwrap_or_default());
        v2::PreparedDraft { commit_key, owner, since_unix_ms, cells, bytes, durable }
    }
}

impl From<SessionInfo> for v2::SessionInfo {
    fn from(session: SessionInfo) -> v2::SessionInfo {
        let SessionInfo { id, client, principal, address, role, since_unix_ms, in_flight, reply_bytes, feed_bytes } =
            session;
        let (principal, role) = (principal.unwrap_or_default(), role.map_or("", Role::text).into());
        v2::SessionInfo { id, client, principal, address, role, since_unix_ms, in_flight, reply_bytes, feed_bytes }
    }
}

impl From<v2::SessionInfo> for SessionInfo {
    fn from(wire: v2::SessionInfo) -> SessionInfo {
        let v2::SessionInfo { id, client, principal, address, role, since_unix_ms, in_flight, reply_bytes, feed_bytes } =
            wire;
        let (principal, role) = (Some(principal).filter(|name| !name.is_empty()), role.parse().ok());
        SessionInfo { id, client, principal, address, role, since_unix_ms, in_flight, reply_bytes, feed_bytes }
    }
}

impl From<v2::PreparedDraft> for PreparedDraft {
    /// A key of another length than a key's is none.
    fn from(wire: v2::PreparedDraft) -> PreparedDraft {
        let v2::PreparedDraft { commit_key, owner, since_unix_ms, cells, bytes, durable } = wire;
        let key = CommitKey::from_slice(&commit_key).unwrap_or_default();
        let owner = (!owner.is_empty()).then_some(owner);
        PreparedDraft { key, owner, since_unix_ms, cells, bytes, durable }
    }
}

impl From<&Gate> for v2::Gate {
    fn from(gate: &Gate) -> v2::Gate {
        v2::Gate { class: gate.class.clone(), min_version: gate.min_version, job: gate.job.clone(), tid: gate.tid.0 }
    }
}

impl From<v2::Gate> for Gate {
    fn from(gate: v2::Gate) -> Gate {
        Gate { class: gate.class, min_version: gate.min_version, job: gate.job, tid: Tid(gate.tid) }
    }
}

macro_rules! same_fields {
    ($($field:ident)*) => {
        impl From<Pressure> for v2::Pressure {
            fn from(pressure: Pressure) -> v2::Pressure {
                v2::Pressure { $($field: pressure.$field,)* }
            }
        }

        impl From<v2::Pressure> for Pressure {
            fn from(pressure: v2::Pressure) -> Pressure {
                Pressure { $($field: pressure.$field,)* }
            }
        }
    };
}

same_fields! {
    live_p50_us live_p99_us live_commits window_ms quiet_p99_us queue_live queue_batch fsync_p99_us free_bytes disk_bytes
    apart_p99_us live_conflicts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_gates_and_pressure_survive_the_wire() {
        for kind in ModeKind::ALL {
            assert_eq!(kind.text().parse(), Ok(kind));
            let mode = Mode {
                kind,
                banner: "back at five".into(),
                until_unix_ms: Some(7),
                automatic: Some("low disk".into()),
                since_unix_ms: 5,
            };
            assert_eq!(Mode::from(v2::Mode::from(&mode)), mode);
            let plain = Mode { kind, ..Mode::default() };
            assert_eq!(Mode::from(v2::Mode::from(&plain)), plain);
        }
        assert_eq!(Mode::from(v2::Mode { kind: 99, ..Default::default() }).kind, ModeKind::ReadOnly);
        let gate = Gate { class: "Page".into(), min_version: 3, job: "titles".into(), tid: Tid(9) };
        assert_eq!(Gate::from(v2::Gate::from(&gate)), gate);
        let pressure = Pressure { live_p99_us: 3, disk_bytes: 10, free_bytes: 4, ..Pressure::default() };
        assert_eq!(Pressure::from(v2::Pressure::from(pressure)), pressure);
        assert_eq!(pressure.free_percent(), Some(40.0));
    }
}
