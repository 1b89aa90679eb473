//! Owns the words for a database among its copies: who takes writes, who follows, how far behind.

use crate::ids::Tid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a database is among its copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seat {
    /// It takes writes; so does one that knows of no copies.
    #[default]
    Primary,
    /// A copy that follows a primary, or waits for one.
    Follower,
    /// It was the primary until another one was promoted.
    Fenced,
}

impl Seat {
    /// Every one.
    pub const ALL: [Seat; 3] = [Seat::Primary, Seat::Follower, Seat::Fenced];

    /// In a word.
    pub fn text(self) -> &'static str {
        match self {
            Seat::Primary => "primary",
            Seat::Follower => "follower",
            Seat::Fenced => "fenced",
        }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// How far a copy is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Behind {
    /// Transactions that it has not on its disk.
    pub transactions: u64,
    /// There are more than could be counted.
    pub more: bool,
    /// Their bytes in the log.
    pub bytes: u64,
}

impl Behind {
    /// So many transactions, perhaps more, and their bytes.
    pub fn new(transactions: u64, more: bool, bytes: u64) -> Behind {
        Behind { transactions, more, bytes }
    }
}

/// A database among its copies, as its server sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Replication {
    /// What it is.
    pub seat: Seat,
    /// The newest promotion that it knows; 0: there was none.
    pub term: u64,
    /// The store's identity, which all copies have.
    #[serde(with = "crate::hex")]
    pub store_id: u64,
    /// The newest transaction on its disk.
    pub newest: Tid,
    /// Of a follower: whom it follows; of a fenced one: who took its place. Empty: nobody, or it is not known.
    pub primary: String,
    /// Why it does not follow, and what to do; `None`: it does, or has nothing to follow.
    pub problem: Option<String>,
    /// A follower that hears its primary.
    pub connected: bool,
    /// How far a follower is behind.
    pub behind: Behind,
    /// For how long it has not had all that its primary had, in milliseconds.
    pub behind_ms: u64,
    /// So many followers have what is acknowledged.
    pub sync: u64,
    /// History stays for a follower that is away for so long, in seconds.
    pub keep_s: u64,
    /// The followers of a primary.
    pub followers: Vec<FollowerInfo>,
    /// Commits on this disk that wait for followers.
    pub waiting: u64,
    /// For how long the oldest of them has, in milliseconds.
    pub waiting_ms: u64,
}

/// A follower, as its primary sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct FollowerInfo {
    /// Which one, over all its restarts.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// It is there.
    pub connected: bool,
    /// Everything up to here is on its disk.
    pub have: Tid,
    /// How far it is behind.
    pub behind: Behind,
    /// How long ago it said something, in milliseconds.
    pub seen_ms: u64,
}

/// How a promotion went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Promoted {
    /// The new term.
    pub term: u64,
    /// Its first transaction.
    pub tid: Tid,
    /// Who was told that it is not the primary any more.
    pub told: Vec<String>,
    /// Who could not be told, and why.
    pub not_told: Vec<String>,
}
