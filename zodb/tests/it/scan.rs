//! Class and references of real records are those that ZODB itself finds.

use crate::python::{Python, seed, text};

#[test]
fn class_and_references_are_those_that_zodb_finds() {
    let seed = seed();
    let mut python = Python::run("records.py", &[seed.to_string()]);
    let (mut records, mut references) = (0, 0);
    while let Some(parts) = python.hear() {
        let [record, class, refs] = parts.as_slice() else { panic!("{} parts", parts.len()) };
        let scanned = zeolite_zodb::scan(record)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}: {}", record.escape_ascii()));
        assert_eq!(scanned.class, text(class), "seed {seed}: {}", record.escape_ascii());
        let expected: Vec<[u8; 8]> = refs.chunks_exact(8).map(|oid| oid.try_into().expect("8 bytes")).collect();
        assert_eq!(scanned.references, expected, "seed {seed}: {}", record.escape_ascii());
        records += 1;
        references += expected.len();
    }
    python.end();
    assert!(records > 2_000 && references > 10_000, "{records} records with {references} references are too few");
}
