//! Owns the rule against rings: among the files of a crate no imports lead back to where they began, arrows between a parent
//! and its children aside.
//!
//! An import is a path that begins with `crate`, `super` or `self`, or a name that a `use` of such a path brings in; it leads to
//! the file whose module is the longest beginning of the path. A parent may name its children and they it: they are one room.

use super::rules::Finding;
use super::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// A module's path within its crate; the crate's root is empty.
type Module = Vec<String>;

/// The files of one crate by module, without tests.
struct Files<'a> {
    by_module: BTreeMap<Module, &'a Source>,
}

/// One finding for each ring: its files, each naming the next.
pub(crate) fn rings(sources: &[Source]) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test(0)) {
        if let Some((name, _)) = source.path.split_once("/src/") {
            crates.entry(name).or_default().push(source);
        }
    }
    crates.into_values().flat_map(|files| Files::new(&files).rings()).collect()
}

impl<'a> Files<'a> {
    fn new(files: &[&'a Source]) -> Files<'a> {
        Files { by_module: files.iter().map(|source| (module(&source.path), *source)).collect() }
    }

    fn rings(&self) -> Vec<Finding> {
        let mut arrows: BTreeMap<&Module, BTreeMap<Module, usize>> =
            self.by_module.iter().map(|(from, source)| (from, self.arrows(from, source))).collect();
        let mut findings = Vec::new();
        while let Some(ring) = shortest_ring(&arrows) {
            let from = &ring[0];
            let source = self.by_module[from];
            let at = arrows[from][&ring[1 % ring.len()]];
            let files: Vec<&str> =
                ring.iter().chain([from]).map(|module| self.by_module[module].path.as_str()).collect();
            findings.push(Finding {
                rule: "ring",
                path: source.path.clone(),
                line: source.line(at),
                text: format!("{}: move what is named to a file below both", files.join(" > ")),
            });
            for from in &ring {
                arrows.get_mut(from).into_iter().for_each(|arrows| arrows.retain(|to, _| !ring.contains(to)));
            }
        }
        findings
    }

    /// The files that a file names, and where first.
    fn arrows(&self, from: &Module, source: &Source) -> BTreeMap<Module, usize> {
        let mut arrows = BTreeMap::new();
        for (at, path) in paths(source) {
            if source.is_test(at) {
                continue;
            }
            let Some(to) = self.file_of(from, &path) else { continue };
            if !to.starts_with(from) && !from.starts_with(&to) {
                arrows.entry(to).or_insert(at);
            }
        }
        arrows
    }

    fn file_of(&self, from: &Module, path: &[String]) -> Option<Module> {
        let mut module = match path.first().map(String::as_str) {
            Some("crate") => Module::new(),
            Some("super") => from[..from.len().checked_sub(1)?].to_vec(),
            _ => from.clone(),
        };
        for name in &path[1..] {
            if name == "super" {
                module.pop()?;
                continue;
            }
            module.push(name.clone());
            if !self.by_module.contains_key(&module) {
                module.pop();
                break;
            }
        }
        Some(module)
    }
}

/// The module of a file.
fn module(path: &str) -> Module {
    let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside).trim_end_matches(".rs");
    let mut names: Module = inside.split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|name| ["lib", "main", "mod"].contains(&name.as_str())) {
        names.pop();
    }
    names
}

/// Every path of the code that begins in the crate, with its place; a `use` of several things is as many paths.
fn paths(source: &Source) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for root in ["crate", "super", "self"] {
        for at in source.places_of(root) {
            // `super::super` begins once.
            if !source.code[..at].ends_with("::") && source.code[at + root.len()..].starts_with("::") {
                let mut rest = &source.code[at..];
                tree(&mut rest, &mut Vec::new(), &mut |path| found.push((at, path.to_vec())));
            }
        }
    }
    found
}

/// Reads a path with its groups: `a::b::{c, d::{e}}` is three.
fn tree(rest: &mut &str, before: &mut Vec<String>, found: &mut dyn FnMut(&[String])) {
    let depth = before.len();
    loop {
        *rest = rest.trim_start();
        if let Some(inside) = rest.strip_prefix('{') {
            *rest = inside;
            while !rest.is_empty() && !rest.starts_with('}') {
                tree(rest, before, found);
                *rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            }
            *rest = rest.strip_prefix('}').unwrap_or(rest);
            break;
        }
        let len = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        if len == 0 {
            *rest = rest.get(1..).unwrap_or_default();
            found(before);
            break;
        }
        before.push(rest[..len].to_owned());
        *rest = &rest[len..];
        match rest.strip_prefix("::") {
            Some(more) => *rest = more,
            None => {
                found(before);
                let renamed = rest
                    .trim_start()
                    .strip_prefix("as ")
                    .map(|name| name.trim_start_matches(|c: char| c != ',' && c != '}' && c != ';'));
                *rest = renamed.unwrap_or(rest);
                break;
            }
        }
    }
    before.truncate(depth);
}

/// The shortest way from a file back to itself.
fn shortest_ring(arrows: &BTreeMap<&Module, BTreeMap<Module, usize>>) -> Option<Vec<Module>> {
    let mut shortest: Option<Vec<Module>> = None;
    for start in arrows.keys() {
        let (mut came_from, mut waiting) =
            (BTreeMap::<Module, Module>::new(), std::collections::VecDeque::from([*start]));
        let mut seen = BTreeSet::from([*start]);
        'search: while let Some(at) = waiting.pop_front() {
            for to in arrows.get(at).into_iter().flat_map(BTreeMap::keys) {
                if to == *start {
                    let mut ring = vec![at.clone()];
                    while let Some(before) = came_from.get(&ring[ring.len() - 1]) {
                        ring.push(before.clone());
                    }
                    ring.reverse();
                    if shortest.as_ref().is_none_or(|shortest| ring.len() < shortest.len()) {
                        shortest = Some(ring);
                    }
                    break 'search;
                }
                if seen.insert(to) {
                    came_from.insert(to.clone(), at.clone());
                    waiting.push_back(to);
                }
            }
        }
    }
    shortest
}
