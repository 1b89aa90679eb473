//! Owns the settings of what a server does by itself from time to time: backups, packs.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Backups of every database.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupSettings {
    /// Where to: a directory that there is (one on a disk that is not mounted must not be made), or `s3://BUCKET/PREFIX`; empty: nowhere.
    pub to: String,
    /// How often, in seconds; 0: never.
    pub every_s: u64,
    /// A full one instead of what is new, when the last full one is older, in seconds.
    pub full_every_s: u64,
    /// What is kept: a time as in `7d` or `36h`, a number of backups, or `all`. What these need and the newest one always stay.
    pub keep: String,
    /// The file with the key that they are encrypted with; empty: they are not.
    pub key_file: PathBuf,
    /// The URL of a server that speaks S3; empty: AWS, or `AWS_ENDPOINT_URL`. Who one is comes from `AWS_ACCESS_KEY_ID` and
    /// `AWS_SECRET_ACCESS_KEY`, or from what AWS gives a machine.
    pub endpoint: String,
    /// Its region; empty: `AWS_REGION`, or `us-east-1`.
    pub region: String,
    /// Live commits may take this many times what they take without a backup (99th percentile).
    pub live_ratio_max: f64,
}

impl Default for BackupSettings {
    fn default() -> BackupSettings {
        BackupSettings {
            to: String::new(),
            every_s: 86_400,
            full_every_s: 7 * 86_400,
            keep: "30d".into(),
            key_file: PathBuf::new(),
            endpoint: String::new(),
            region: String::new(),
            live_ratio_max: 1.2,
        }
    }
}

impl BackupSettings {
    /// Whether there are to be any.
    pub fn is_on(&self) -> bool {
        !self.to.is_empty() && self.every_s > 0
    }

    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if self.live_ratio_max.is_nan() || self.live_ratio_max < 1.0 {
            problems.push(format!("backup.live_ratio_max = {} is below 1; use 1.2", self.live_ratio_max));
        }
    }
}

/// Packs of every database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PackSettings {
    /// How often, in seconds; 0: only when somebody asks.
    /// With several databases what nobody refers to stays: one may refer into another.
    pub every_s: u64,
    /// How much history stays, in seconds.
    pub keep_s: u64,
}

impl Default for PackSettings {
    fn default() -> PackSettings {
        PackSettings { every_s: 0, keep_s: 7 * 86_400 }
    }
}
