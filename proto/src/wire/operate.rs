//! Owns the translation of modes, gates and pressure between the wire and the crate's own types.

use super::v1;
use crate::gate::Gate;
use crate::ids::Tid;
use crate::mode::{Mode, ModeKind};
use crate::pressure::Pressure;

impl From<ModeKind> for v1::ModeKind {
    fn from(kind: ModeKind) -> v1::ModeKind {
        match kind {
            ModeKind::Normal => v1::ModeKind::Normal,
            ModeKind::ReadOnly => v1::ModeKind::ReadOnly,
            ModeKind::EvolveOnly => v1::ModeKind::EvolveOnly,
        }
    }
}

impl From<v1::ModeKind> for ModeKind {
    fn from(kind: v1::ModeKind) -> ModeKind {
        match kind {
            v1::ModeKind::Normal => ModeKind::Normal,
            v1::ModeKind::ReadOnly => ModeKind::ReadOnly,
            v1::ModeKind::EvolveOnly => ModeKind::EvolveOnly,
        }
    }
}

impl From<&Mode> for v1::Mode {
    fn from(mode: &Mode) -> v1::Mode {
        v1::Mode {
            kind: v1::ModeKind::from(mode.kind).into(),
            banner: mode.banner.clone(),
            until_unix_ms: mode.until_unix_ms.unwrap_or(0),
            automatic: mode.automatic.clone().unwrap_or_default(),
            since_unix_ms: mode.since_unix_ms,
        }
    }
}

impl From<v1::Mode> for Mode {
    /// A kind that this code does not know counts as read-only: the careful guess.
    fn from(mode: v1::Mode) -> Mode {
        Mode {
            kind: v1::ModeKind::try_from(mode.kind).map_or(ModeKind::ReadOnly, ModeKind::from),
            banner: mode.banner,
            until_unix_ms: (mode.until_unix_ms != 0).then_some(mode.until_unix_ms),
            automatic: (!mode.automatic.is_empty()).then_some(mode.automatic),
            since_unix_ms: mode.since_unix_ms,
        }
    }
}

impl From<&Gate> for v1::Gate {
    fn from(gate: &Gate) -> v1::Gate {
        v1::Gate { class: gate.class.clone(), min_version: gate.min_version, job: gate.job.clone(), tid: gate.tid.0 }
    }
}

impl From<v1::Gate> for Gate {
    fn from(gate: v1::Gate) -> Gate {
        Gate { class: gate.class, min_version: gate.min_version, job: gate.job, tid: Tid(gate.tid) }
    }
}

macro_rules! same_fields {
    ($($field:ident)*) => {
        impl From<Pressure> for v1::Pressure {
            fn from(pressure: Pressure) -> v1::Pressure {
                v1::Pressure { $($field: pressure.$field,)* }
            }
        }

        impl From<v1::Pressure> for Pressure {
            fn from(pressure: v1::Pressure) -> Pressure {
                Pressure { $($field: pressure.$field,)* }
            }
        }
    };
}

same_fields! {
    live_p50_us live_p99_us live_commits window_ms quiet_p99_us queue_live queue_batch fsync_p99_us free_bytes disk_bytes
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
            assert_eq!(Mode::from(v1::Mode::from(&mode)), mode);
            let plain = Mode { kind, ..Mode::default() };
            assert_eq!(Mode::from(v1::Mode::from(&plain)), plain);
        }
        assert_eq!(Mode::from(v1::Mode { kind: 99, ..Default::default() }).kind, ModeKind::ReadOnly);
        let gate = Gate { class: "Page".into(), min_version: 3, job: "titles".into(), tid: Tid(9) };
        assert_eq!(Gate::from(v1::Gate::from(&gate)), gate);
        let pressure = Pressure { live_p99_us: 3, disk_bytes: 10, free_bytes: 4, ..Pressure::default() };
        assert_eq!(Pressure::from(v1::Pressure::from(pressure)), pressure);
        assert_eq!(pressure.free_percent(), Some(40.0));
    }
}
