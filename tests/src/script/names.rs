//! Owns the names of a transcript: objects, commits, prepared drafts and keys get the same name in every run.

use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use zeolite_proto::{Cell, CommitKey, Oid, Tid};

/// Names given so far, in both directions.
#[derive(Default)]
pub(super) struct Names {
    objects: BTreeMap<String, Oid>,
    by_oid: HashMap<Oid, String>,
    /// Handed out by the engine, not yet used for a name.
    free_oids: std::collections::VecDeque<Oid>,
    tids: Vec<Tid>,
    numbers: HashMap<u64, usize>,
    keys: HashMap<String, CommitKey>,
}

impl Names {
    /// More oids to give names to.
    pub(super) fn add_oids(&mut self, first: Oid, count: u64) {
        self.free_oids.extend((first.0..first.0 + count).map(Oid));
    }

    /// The object of this name; a new name takes a free oid, `oid:2a` is that one.
    pub(super) fn oid(&mut self, name: &str) -> Oid {
        if name == "root" {
            return Oid::ROOT;
        }
        if let Some(oid) = name.strip_prefix("oid:").and_then(|digits| digits.parse().ok()) {
            return oid;
        }
        if let Some(oid) = self.objects.get(name) {
            return *oid;
        }
        let oid = self.free_oids.pop_front().expect("a script has fewer objects than the oids that were taken for it");
        self.objects.insert(name.to_owned(), oid);
        self.by_oid.insert(oid, name.to_owned());
        oid
    }

    /// Names an object that is there already.
    pub(super) fn name(&mut self, name: &str, oid: Oid) {
        self.objects.insert(name.to_owned(), oid);
        self.by_oid.insert(oid, name.to_owned());
    }

    /// All named objects.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&str, Oid)> {
        self.objects.iter().map(|(name, oid)| (name.as_str(), *oid))
    }

    /// The name of an object.
    pub(super) fn object(&self, oid: Oid) -> String {
        match self.by_oid.get(&oid) {
            Some(name) => name.clone(),
            None if oid == Oid::ROOT => "root".into(),
            None => format!("oid:{oid}"),
        }
    }

    /// Reads `page` or `map/key`; a stamped key is `queue/prefix@t3.0`.
    pub(super) fn cell(&mut self, text: &str) -> Result<Cell, String> {
        let (name, key) = text.split_once('/').unwrap_or((text, ""));
        let oid = self.oid(name);
        let Some((prefix, stamp)) = key.split_once('@') else {
            return Ok(Cell { oid, key: Bytes::copy_from_slice(key.as_bytes()) });
        };
        let bad = || format!("{text}: a stamp is a commit and a position, such as @t3.0");
        let (tid, position) = stamp.split_once('.').ok_or_else(bad)?;
        let (tid, position) = (self.tid(tid)?, position.parse::<u32>().map_err(|_| bad())?);
        let key = [prefix.as_bytes(), &tid.0.to_be_bytes(), &position.to_be_bytes()].concat();
        Ok(Cell::entry(oid, key))
    }

    /// The name of a cell.
    pub(super) fn show_cell(&self, cell: &Cell) -> String {
        let object = self.object(cell.oid);
        if cell.key.is_empty() { object } else { format!("{object}/{}", self.key(&cell.key)) }
    }

    /// The text of an entry's key.
    pub(super) fn key(&self, key: &[u8]) -> String {
        if let Some(at) = key.len().checked_sub(12) {
            let (prefix, stamp) = key.split_at(at);
            let (tid, position) = stamp.split_at(8);
            let tid = Tid(tid.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
            if let Some(known) = self.tids.iter().position(|other| *other == tid) {
                return format!("{}@t{}.{}", prefix.escape_ascii(), known + 1, position[3]);
            }
        }
        key.escape_ascii().to_string()
    }

    /// Gives a commit the next name, if it has none.
    pub(super) fn learn(&mut self, tid: Tid) {
        if tid != Tid::NONE && tid != Tid::MAX && !self.tids.contains(&tid) {
            self.tids.push(tid);
        }
    }

    /// The name of a commit.
    pub(super) fn show_tid(&mut self, tid: Tid) -> String {
        self.learn(tid);
        match self.tids.iter().position(|other| *other == tid) {
            Some(at) => format!("t{}", at + 1),
            None if tid == Tid::NONE => "none".into(),
            None => "max".into(),
        }
    }

    /// The newest known commit that is not newer.
    pub(super) fn up_to(&self, tid: Tid) -> String {
        let at = (0..self.tids.len()).filter(|at| self.tids[*at] <= tid).max_by_key(|at| self.tids[*at]);
        at.map_or("none".into(), |at| format!("t{}", at + 1))
    }

    /// Reads `t3`, `t3-1` (the tid before it), `none`, `max`.
    pub(super) fn tid(&self, text: &str) -> Result<Tid, String> {
        let unknown = || format!("{text} is not a commit of this script so far");
        match text {
            "none" => return Ok(Tid::NONE),
            "max" => return Ok(Tid::MAX),
            _ => {}
        }
        let (name, before) = text.strip_suffix("-1").map_or((text, false), |name| (name, true));
        let number: usize = name.strip_prefix('t').and_then(|digits| digits.parse().ok()).ok_or_else(unknown)?;
        let tid = *number.checked_sub(1).and_then(|at| self.tids.get(at)).ok_or_else(unknown)?;
        Ok(if before { tid.prev() } else { tid })
    }

    /// A small number for a prepared draft or a pin.
    pub(super) fn number(&mut self, id: u64) -> usize {
        let next = self.numbers.len() + 1;
        *self.numbers.entry(id).or_insert(next)
    }

    /// The id behind such a number.
    pub(super) fn id(&self, number: &str) -> Result<u64, String> {
        let number: usize = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
        let found = self.numbers.iter().find(|(_, given)| **given == number);
        found.map(|(id, _)| *id).ok_or_else(|| format!("nothing has the number {number} so far"))
    }

    /// The commit key of this name; `key:7` is that of the fixtures' commit 7.
    pub(super) fn commit_key(&mut self, name: &str) -> CommitKey {
        if let Some(number) = name.strip_prefix("key:").and_then(|digits| digits.parse().ok()) {
            return crate::support::work::key(number);
        }
        let next = 1_000_000 + self.keys.len() as u64;
        *self.keys.entry(name.to_owned()).or_insert_with(|| crate::support::work::key(next))
    }

    /// The name of a commit key.
    pub(super) fn key_name(&self, key: CommitKey) -> String {
        let found = self.keys.iter().find(|(_, known)| **known == key);
        found.map_or_else(|| key.to_string(), |(name, _)| name.clone())
    }

    /// A message without tids in it: each that is known is named, others are left out.
    pub(super) fn tame(&mut self, message: &str) -> String {
        let is_tid = |word: &str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let words = message.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        let tame = |piece: &str| {
            let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if !is_tid(word) {
                return piece.to_owned();
            }
            let tid: Tid = word.parse().unwrap_or_default();
            format!("{}{}", self.show_tid(tid), &piece[word.len()..])
        };
        words.map(tame).collect()
    }
}
