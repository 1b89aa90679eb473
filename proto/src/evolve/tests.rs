//! The stored form stays what it is: jobs outlive the programs that planned them.

use super::samples;
use super::{
    Bad, JobRecord, KeysRecord, ListRecord, NotUndone, RangeRecord, Settings, Stored, bad_cell, list_cell,
    not_undone_cell, owed_cell, paid_cell, range_cell,
};
use crate::ids::{Cell, Oid, Tid};
use crate::record::BadRecord;
use std::fmt::Debug;

/// What the first released form looks like: a line per record, in hexadecimal.
const FIRST: &str = include_str!("../../../tests/fixtures/evolve-1.txt");
/// Only what has another form since.
const SECOND: &str = include_str!("../../../tests/fixtures/evolve-2.txt");

fn stored(fixture: &str, name: &str) -> Vec<Vec<u8>> {
    let lines = fixture.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(|hex| hex.as_bytes().chunks(2).map(byte).collect()).collect()
}

fn byte(digits: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(digits).expect("ascii"), 16).expect("hexadecimal")
}

fn same<T: Stored + PartialEq + Debug>(fixture: &str, name: &str, samples: &[T]) {
    let lines = stored(fixture, name);
    assert_eq!(lines.len(), samples.len(), "{name}");
    for (bytes, sample) in lines.iter().zip(samples) {
        assert_eq!(sample.encode().as_deref(), Ok(&bytes[..]), "{sample:?}");
        assert_eq!(T::decode(bytes).as_ref(), Ok(sample));
    }
}

fn jobs() -> Vec<JobRecord> {
    let mut jobs = samples::jobs();
    // The oids of a plan are in lists, not in the job: they are not stored here.
    for job in &mut jobs {
        if let super::Plan::Oids { oids } = &mut job.plan {
            oids.clear();
        }
    }
    jobs
}

#[test]
fn every_record_has_the_bytes_that_it_always_had() {
    same(SECOND, "job", &jobs());
    same(FIRST, "range", &samples::ranges());
    same(FIRST, "bad", &[samples::bad()]);
    same(FIRST, "not-undone", &[samples::not_undone()]);
    same(FIRST, "list", &[samples::list()]);
    same(SECOND, "keys", &[samples::keys()]);
    same(SECOND, "owed", &[samples::owed()]);
    same(SECOND, "course", &[samples::course()]);
}

#[test]
fn a_job_of_the_first_version_is_what_it_was() {
    let lines = stored(FIRST, "job");
    assert_eq!(lines.len(), jobs().len());
    for (bytes, mut job) in lines.iter().zip(jobs()) {
        (job.step, job.beside) = (String::new(), true);
        job.settings.step_timeout_ms = Settings::default().step_timeout_ms;
        assert_eq!(JobRecord::decode(bytes), Ok(job));
        let refused = (0..bytes.len()).filter(|cut| JobRecord::decode(&bytes[..*cut]).is_err()).count();
        assert_eq!(refused, bytes.len(), "every cut is refused");
    }
}

#[test]
fn what_is_no_such_record_is_refused() {
    let job = samples::jobs().swap_remove(0).encode().expect("encodes");
    assert_eq!(RangeRecord::decode(&job), Err(BadRecord("of another class")));
    assert_eq!(JobRecord::decode(&[&job[..], &[0]].concat()), Err(BadRecord("bytes are left over behind its value")));
    let refused = (0..job.len()).filter(|cut| JobRecord::decode(&job[..*cut]).is_err()).count();
    assert_eq!(refused, job.len(), "every cut is refused");
    let mut newer = job.to_vec();
    newer[2 + JobRecord::CLASS.len()] = 3;
    assert_eq!(JobRecord::decode(&newer), Err(BadRecord("of another schema version")));
}

#[test]
fn a_bit_that_turned_is_refused_or_decodes_to_something() {
    for record in samples::ranges() {
        let bytes = record.encode().expect("encodes").to_vec();
        let turned = (0..bytes.len() * 8).map(|bit| {
            let mut turned = bytes.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            RangeRecord::decode(&turned)
        });
        let (good, bad): (Vec<_>, Vec<_>) = turned.partition(Result::is_ok);
        assert!(!good.is_empty() && bad.len() > 8 * RangeRecord::CLASS.len(), "{} {}", good.len(), bad.len());
    }
}

#[test]
fn cells_are_where_they_always_were() {
    let job = Oid(9);
    let key = |cell: Cell| String::from_utf8_lossy(&cell.key).into_owned();
    assert_eq!(key(range_cell(job, 12)), "range/0012");
    assert_eq!(key(list_cell(job, 12)), "list/000012");
    assert_eq!(key(bad_cell(job, &Cell::object(Oid(255)))), "bad/00000000000000ff");
    assert_eq!(key(bad_cell(job, &Cell::entry(Oid(255), "k"))), "bad/00000000000000ff/k");
    assert_eq!(key(owed_cell(job, Tid(255), &Cell::object(Oid(255)))), "owed/00000000000000ff/00000000000000ff");
    let paid = paid_cell(job, Tid(255), &Cell::entry(Oid(255), "k"));
    assert_eq!(key(paid), "paid/00000000000000ff/00000000000000ff/k");
    assert_eq!(key(not_undone_cell(job, Tid(255), 3)), "undo/00000000000000ff/000003");
    let classes =
        [JobRecord::CLASS, RangeRecord::CLASS, Bad::CLASS, NotUndone::CLASS, ListRecord::CLASS, KeysRecord::CLASS];
    let names = ["Job", "Range", "Bad", "NotUndone", "List", "Keys"].map(|name| format!("zeolite.evolve.{name}"));
    assert_eq!(classes.map(str::to_owned), names);
}
