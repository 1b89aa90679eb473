//! Owns the mode: who may write, what the site tells its users meanwhile, and until when.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When a mode ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ModeEnd {
    /// It does not.
    Never,
    /// At this time of the server's clock, in milliseconds since 1970.
    At(u64),
    /// After so many milliseconds, whatever the clock does meanwhile.
    After(u64),
}

impl ModeEnd {
    /// At a time.
    pub fn at(time: SystemTime) -> ModeEnd {
        // What was before 1970 is over, and 0 would be no end.
        ModeEnd::At(time.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_millis() as u64))
    }

    /// After a span, of a millisecond at least.
    pub fn after(span: Duration) -> ModeEnd {
        ModeEnd::After(u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1))
    }

    /// As the wire has it: the time and the span, one of them; 0 and 0: it does not end.
    pub fn parts(self) -> (u64, u64) {
        match self {
            ModeEnd::Never => (0, 0),
            // 0 would be no end.
            ModeEnd::At(until) => (until.max(1), 0),
            ModeEnd::After(span) => (0, span.max(1)),
        }
    }
}

/// Who may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ModeKind {
    /// Everybody.
    #[default]
    Normal,
    /// Nobody.
    ReadOnly,
    /// Sessions with the role `evolve`.
    EvolveOnly,
}

impl ModeKind {
    /// Every kind.
    pub const ALL: [ModeKind; 3] = [ModeKind::Normal, ModeKind::ReadOnly, ModeKind::EvolveOnly];

    /// The kind in words.
    pub fn text(self) -> &'static str {
        match self {
            ModeKind::Normal => "normal",
            ModeKind::ReadOnly => "read-only",
            ModeKind::EvolveOnly => "evolve-only",
        }
    }
}

impl fmt::Display for ModeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for ModeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<ModeKind, String> {
        let known = ModeKind::ALL.into_iter().find(|kind| kind.text() == text);
        known.ok_or_else(|| format!("{text:?} is no mode; use normal, read-only or evolve-only"))
    }
}

/// A mode in force.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Mode {
    /// Who may write.
    #[serde(rename = "mode")]
    pub kind: ModeKind,
    /// For the users of the site; may be empty.
    pub banner: String,
    /// Ends by itself then, in milliseconds since 1970.
    pub until_unix_ms: Option<u64>,
    /// Why the server set it itself (low disk, poisoned); `None`: an operator's mode, or normal.
    pub automatic: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
}

impl Mode {
    /// Whether a session may write; `evolve`: it has that role.
    pub fn lets_write(&self, evolve: bool) -> bool {
        match self.kind {
            ModeKind::Normal => true,
            ModeKind::ReadOnly => false,
            ModeKind::EvolveOnly => evolve,
        }
    }
}
