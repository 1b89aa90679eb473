//! Owns a job's settings: all of them can be changed while it runs, by name, and each is checked.
//!
//! They are stored in the order in which they stand here. Later ones stand behind `since 2`, which is the first version of a job's
//! record that has them; an older record gets their defaults.

use crate::fault::Fault;
use serde::{Deserialize, Serialize};

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $least:expr => $most:expr;)*
     since 2: $($(#[doc = $later_doc:literal])+
        $later:ident: $later_type:ty = $later_default:expr, $later_least:expr => $later_most:expr;)*) => {
        settings! { all $($(#[doc = $doc])+ $name: $type = $default, $least => $most;)*
            $($(#[doc = $later_doc])+ $later: $later_type = $later_default, $later_least => $later_most;)* }

        /// As the first version of a job's record has them.
        #[derive(Deserialize)]
        pub(super) struct SettingsV1 {
            $($name: $type,)*
        }

        impl From<SettingsV1> for Settings {
            fn from(old: SettingsV1) -> Settings {
                Settings { $($name: old.$name,)* ..Settings::default() }
            }
        }
    };
    (all $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $least:expr => $most:expr;)*) => {
        /// How a job is run. Workers read it again before each chunk.
        #[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
        #[non_exhaustive]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $type,)*
        }

        impl Default for Settings {
            fn default() -> Settings {
                Settings { $($name: $default,)* }
            }
        }

        crate::setters! { Settings { $($name: $type,)* } }

        impl Settings {
            /// The names, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// Names and values, for showing.
            pub fn list(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($name), self.$name.to_string()),)*]
            }

            /// Changes one, by its name.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
                match name {
                    $(stringify!($name) => {
                        let parsed: $type = value.parse().map_err(|_| bad(name, value, stringify!($type)))?;
                        within(name, &parsed, &$least, &$most)?;
                        self.$name = parsed;
                    })*
                    _ => {
                        let known = Settings::NAMES.join(", ");
                        return Err(Fault::invalid(format!("there is no setting {name:?}; use one of {known}")));
                    }
                }
                Ok(())
            }

            /// Refuses what is out of bounds.
            pub fn check(&self) -> Result<(), Fault> {
                $(within(stringify!($name), &self.$name, &$least, &$most)?;)*
                Ok(())
            }
        }
    };
}

settings! {
    /// How many workers are expected: the plan is split accordingly.
    workers: u32 = 1, 1 => 1000;
    /// Ranges that the plan is split into; 0: four for each worker expected. Later changes have no effect.
    ranges: u32 = 0, 0 => 4000;
    /// The whole plan in one commit. Later changes have no effect.
    atomic: bool = false, false => true;
    /// How long a chunk should take.
    chunk_target_ms: u64 = 250, 1 => 60_000;
    /// Objects of a worker's first chunk.
    chunk_objects_start: u32 = 100, 1 => 100_000;
    /// Objects of a chunk, at most.
    chunk_objects_max: u32 = 1000, 1 => 100_000;
    /// Bytes that a chunk writes, at most (one object may be larger).
    chunk_bytes_max: u64 = 1 << 20, 1 => 256 << 20;
    /// A chunk ends after this time, however few objects it has.
    chunk_ms_max: u64 = 2_000, 1 => 600_000;
    /// After so many refusals because of live writes an object is left for later.
    rounds_max: u32 = 20, 1 => 10_000;
    /// A worker whose range shows no change for so long has lost it.
    lease_ms: u64 = 10_000, 50 => 3_600_000;
    /// Live commits may take this many times as long (99th percentile) as in quiet seconds.
    live_ratio_max: f64 = 1.5, 1.0 => 1000.0;
    /// An absolute bound for the same instead; 0: the ratio.
    live_p99_us_max: u64 = 0, 0 => u64::MAX;
    /// Objects a second, each worker, at most; 0: no bound.
    rate_max: f64 = 0.0, 0.0 => 1e12;
    /// A throttled worker goes on at least this fast, in objects a second.
    rate_min: f64 = 20.0, 0.01 => 1e12;
    /// Live drafts that wait on the server; more, and the worker slows down.
    queue_live_max: u64 = 64, 0 => u64::MAX;
    /// Below this percentage of free disk the job pauses.
    disk_pause_percent: f64 = 15.0, 0.0 => 100.0;
    /// Below this one it fails.
    disk_stop_percent: f64 = 5.0, 0.0 => 100.0;
    /// Objects that may go to the quarantine; one more, and the job fails.
    bad_max: u64 = 1000, 0 => u64::MAX;
    /// What the pinned snapshot may keep from pack before the job pins a newer one; 0: no bound.
    pin_bytes_max: u64 = 4 << 30, 0 => u64::MAX;
    /// Objects that live traffic has written more often than this lately are left for last; 0: all the same.
    heat_max: u32 = 4, 0 => u32::MAX;

    since 2:
    /// A step that takes longer is given up, and its object goes to the quarantine. A program (`--exec`) has a limit of its own.
    step_timeout_ms: u64 = 30_000, 1 => 3_600_000;
}

fn bad(name: &str, value: &str, wanted: &str) -> Fault {
    Fault::invalid(format!("setting {name} cannot be {value:?}; give a value of type {wanted}"))
}

fn within<T: PartialOrd + std::fmt::Display>(name: &str, value: &T, least: &T, most: &T) -> Result<(), Fault> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(Fault::invalid(format!("setting {name} cannot be {value}; give a value from {least} to {most}")))
}

impl Settings {
    /// The ranges to split a plan into.
    pub fn ranges_wanted(&self) -> usize {
        let ranges = if self.ranges == 0 { self.workers.saturating_mul(4) } else { self.ranges };
        ranges.clamp(1, 4000) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_by_name_within_bounds() {
        let mut settings = Settings::default();
        settings.check().expect("the defaults are right");
        settings.set("chunk_target_ms", "100").expect("a number");
        settings.set("live_ratio_max", "1.2").expect("a number");
        assert_eq!((settings.chunk_target_ms, settings.live_ratio_max), (100, 1.2));
        for (name, value) in
            [("chunk_target_ms", "0"), ("chunk_target_ms", "soon"), ("speed", "1"), ("rate_max", "NaN")]
        {
            let before = settings.clone();
            let refused = settings.set(name, value).expect_err("refused").to_string();
            assert!(refused.contains(name), "{refused}");
            assert_eq!(settings, before);
        }
        assert!(settings.list().contains(&("chunk_target_ms", "100".to_owned())));
        assert_eq!(Settings { workers: 4, ..Settings::default() }.ranges_wanted(), 16);
    }
}
