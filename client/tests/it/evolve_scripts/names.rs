//! Owns the names of a script: pages by name, and messages without what differs from run to run.

use std::collections::HashMap;
use zeolite_client::collections::Counter;
use zeolite_client::{Cell, Handle, Oid};

/// The pages of a script, in both directions.
pub(crate) struct Names {
    pages: HashMap<String, Oid>,
    by_oid: HashMap<Oid, String>,
}

impl Names {
    pub(crate) fn new(counter: Counter) -> Names {
        Names { pages: HashMap::new(), by_oid: HashMap::from([(counter.oid(), "counter".to_owned())]) }
    }

    pub(crate) fn name(&mut self, name: &str, oid: Oid) {
        self.pages.insert(name.to_owned(), oid);
        self.by_oid.insert(oid, name.to_owned());
    }

    pub(crate) fn page(&self, name: &str) -> Result<Oid, String> {
        self.pages.get(name).copied().ok_or_else(|| format!("there is no {name:?} so far"))
    }

    /// All pages, as they were made.
    pub(crate) fn pages(&self) -> Vec<(String, Oid)> {
        let mut all: Vec<(String, Oid)> = self.pages.iter().map(|(name, oid)| (name.clone(), *oid)).collect();
        all.sort_by_key(|(_, oid)| *oid);
        all
    }

    pub(crate) fn show(&self, oid: Oid) -> String {
        self.by_oid.get(&oid).cloned().unwrap_or_else(|| "another object".to_owned())
    }

    pub(crate) fn show_cell(&self, cell: &Cell) -> String {
        let object = self.show(cell.oid);
        if cell.key.is_empty() { object } else { format!("{object}/{}", cell.key.escape_ascii()) }
    }

    /// A message without tids, times and oids.
    pub(crate) fn tame(&self, message: &str) -> String {
        let mut tamed = String::new();
        for piece in message.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '.') {
            let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let rest = &piece[word.len()..];
            let is_tid = word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_time = word.len() >= 10 && word.bytes().all(|byte| byte.is_ascii_digit());
            let is_measured = tamed.ends_with("p99 ") || tamed.ends_with("low disk: ");
            let before = ["object ", "step of ", "cell "];
            let of_object = tamed.is_empty() || before.iter().any(|before| tamed.ends_with(before));
            match word.parse::<Oid>() {
                Ok(oid) if of_object && self.by_oid.contains_key(&oid) => tamed.push_str(&self.show(oid)),
                _ if is_tid => tamed.push('T'),
                _ if is_time || (is_measured && word.parse::<f64>().is_ok()) => tamed.push('N'),
                _ => tamed.push_str(word),
            }
            tamed.push_str(rest);
        }
        tamed
    }
}
