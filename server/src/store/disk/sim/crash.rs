//! Owns what a crash leaves: the durable bytes of a file, what was done to it since, and which of that survives.

use super::BLOCK_BYTES;
use std::collections::{BTreeMap, BTreeSet};

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) path: String,
    pub(super) now: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) unsynced: Vec<Change>,
    pub(super) blocks: BTreeSet<u64>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone)]
pub(super) enum NameChange {
    Create { path: String, id: u64 },
    Rename { from: String, to: String },
    Remove { path: String },
}

impl Content {
    pub(super) fn survive(&self, dice: &mut fastrand::Rng) -> Content {
        let mut bytes = self.durable.clone();
        match dice.u8(0..4) {
            0 => {}
            1 => self.unsynced.iter().for_each(|change| change.apply(&mut bytes)),
            2 => {
                let kept = dice.usize(..=self.unsynced.len());
                self.unsynced[..kept].iter().for_each(|change| change.apply(&mut bytes));
                if let Some(Change::Write { offset, bytes: torn }) = self.unsynced.get(kept) {
                    let cut = torn.len().min(dice.usize(..=torn.len() / SECTOR_BYTES) * SECTOR_BYTES);
                    Change::Write { offset: *offset, bytes: torn[..cut].to_vec() }.apply(&mut bytes);
                }
            }
            _ => self.unsynced.iter().for_each(|change| change.apply_sectors(&mut bytes, dice)),
        }
        let blocks = (0..(bytes.len() as u64).div_ceil(BLOCK_BYTES)).collect();
        Content { path: self.path.clone(), now: bytes.clone(), durable: bytes, unsynced: Vec::new(), blocks }
    }
}

impl Change {
    pub(super) fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
            Change::SetLen(len) => to.resize(*len, 0),
        }
    }

    // Any of the sectors, in any combination; what lies before a surviving one is zeros, as in a file with a hole.
    fn apply_sectors(&self, to: &mut Vec<u8>, dice: &mut fastrand::Rng) {
        match self {
            Change::Write { offset, bytes } => {
                let mut at = 0;
                while at < bytes.len() {
                    let end = bytes.len().min(at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES);
                    if dice.bool() {
                        Change::Write { offset: offset + at, bytes: bytes[at..end].to_vec() }.apply(to);
                    }
                    at = end;
                }
            }
            Change::SetLen(_) => {
                if dice.bool() {
                    self.apply(to);
                }
            }
        }
    }
}

impl NameChange {
    pub(super) fn dir(&self) -> &str {
        let path = match self {
            NameChange::Create { path, .. } | NameChange::Remove { path } => path,
            NameChange::Rename { to, .. } => to,
        };
        dir_of(path)
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Create { path, id } => {
                names.insert(path.clone(), *id);
            }
            NameChange::Rename { from, to } => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            NameChange::Remove { path } => {
                names.remove(path);
            }
        }
    }
}

pub(super) fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
