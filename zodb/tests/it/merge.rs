//! Merges of BTrees' nodes are those of BTrees' C code: on random triples of all families. Those that go further are what the keys say.

use crate::python::{Python, seed, text};
use std::collections::HashMap;
use std::sync::Arc;
use zeolite_proto::resolver::Resolver;
use zeolite_proto::{Oid, Record};
use zeolite_zodb::Rules;

const TRIPLES: usize = 100_000;

const ALIKE: Rules = Rules { same_changes: true };

/// A record as an adapter stores it: class and references in the header are those of the pickle.
fn record(class: &str, data: &[u8]) -> Record {
    let scanned = zeolite_zodb::scan(data).unwrap_or_else(|error| panic!("{error}: {}", data.escape_ascii()));
    assert_eq!(scanned.class, class);
    Record { class: class.into(), version: 0, refs: refs(&scanned), blobs: Vec::new(), data: data.to_vec().into() }
}

fn refs(scanned: &zeolite_zodb::Scanned) -> Vec<Oid> {
    scanned.references.iter().map(|oid| zeolite_zodb::oids::to_zeolite(*oid).expect("has one")).collect()
}

fn answer(resolver: &Arc<dyn Resolver>, class: &str, sides: &[Vec<u8>]) -> Vec<u8> {
    let [old, committed, new] = [0, 1, 2].map(|side| record(class, &sides[side]));
    match resolver.merge(Some(&old), Some(&committed), Some(&new)) {
        Ok(merged) => {
            let merged = merged.expect("is not deleted");
            assert_eq!(merged, record(class, &merged.data), "the header is that of the data");
            [b"M", merged.data.as_ref()].concat()
        }
        Err(why) => format!("R{}", why.0).into_bytes(),
    }
}

#[test]
fn random_triples_of_all_families_are_merged_as_c_merges_them() {
    judged_by("merges.py", zeolite_zodb::resolvers(Rules::default()).collect(), false);
}

#[test]
fn what_both_did_alike_is_done_once_where_it_may_be() {
    judged_by("merges.py", zeolite_zodb::resolvers(ALIKE).collect(), true);
}

#[test]
fn random_triples_of_mappings_are_merged_by_their_keys() {
    judged_by("mappings.py", zeolite_zodb::mapping::resolvers(Rules::default()).collect(), false);
    judged_by("mappings.py", zeolite_zodb::mapping::resolvers(ALIKE).collect(), true);
}

fn judged_by(program: &str, resolvers: HashMap<String, Arc<dyn Resolver>>, alike: bool) {
    let seed = seed();
    let mut args = vec![seed.to_string(), TRIPLES.to_string()];
    args.extend(alike.then(|| "alike".to_owned()));
    let mut python = Python::run(program, &args);
    let mut triples = 0;
    while let Some(parts) = python.hear() {
        let answers: Vec<Vec<u8>> = parts
            .chunks_exact(4)
            .map(|triple| answer(&resolvers[&text(&triple[0])], &text(&triple[0]), &triple[1..]))
            .collect();
        triples += answers.len();
        python.say(&answers);
    }
    python.end();
    assert_eq!(triples, TRIPLES, "seed {seed}");
}
