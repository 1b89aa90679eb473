//! Says what a scan and a merge of ZODB's records cost, in microseconds a call: `cargo run --release -p zeolite-zodb --example costs`.

use std::io::Write;
use std::time::Instant;
use zeolite_proto::Record;
use zeolite_zodb::oids::to_zeolite;
use zeolite_zodb::{Rules, resolvers, scan};

const CALLS: u32 = 50;
const ROUNDS: u32 = 400;

/// A bucket as ZODB pickles it: integers, or references to objects of one class.
fn bucket(class: &str, keys: impl Iterator<Item = u16>, references: bool) -> Record {
    let (module, name) = class.rsplit_once('.').expect("dotted");
    let mut data = format!("c{module}\n{name}\nq\u{0}.").into_bytes();
    data.extend(b"\x80\x03(");
    for (at, key) in keys.enumerate() {
        data.push(b'M');
        data.extend(key.to_le_bytes());
        if references {
            data.extend(b"C\x08\0\0\0\0\0\0");
            data.extend(key.to_be_bytes());
            let class: &[u8] = if at == 0 { b"cmy.pages\nPage\nq\x01" } else { b"h\x01" };
            data.extend(class);
            data.extend(b"\x86Q");
        } else {
            data.extend(b"K\x07");
        }
    }
    data.extend(b"t\x85.");
    let scanned = scan(&data).expect("a record");
    let refs = scanned.references.into_iter().map(|oid| to_zeolite(oid).expect("has one")).collect();
    Record { class: class.into(), version: 0, refs, blobs: Vec::new(), data: data.into() }
}

/// Of the best of many rounds: what else runs on the machine is not counted.
fn micros(call: impl Fn()) -> f64 {
    let round = || {
        let started = Instant::now();
        (0..CALLS).for_each(|_| call());
        started.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "class                       keys  bytes   scan µs  merge µs")?;
    for (class, references) in [("BTrees.IIBTree.IIBucket", false), ("BTrees.IOBTree.IOBucket", true)] {
        let resolver = resolvers(Rules::default()).find(|(name, _)| name == class).expect("is merged").1;
        for keys in [10, 30, 60, 120] {
            let old = bucket(class, (0..keys).map(|key| 300 + key * 10), references);
            let theirs = bucket(class, (0..keys + 1).map(|key| 300 + key * 10), references);
            let ours = bucket(class, (0..keys).map(|key| 300 + key * 10).chain([9999]), references);
            let scanned = micros(|| drop(scan(&old.data)));
            let merged = micros(|| {
                resolver.merge(Some(&old), Some(&theirs), Some(&ours)).expect("merges");
            });
            writeln!(out, "{class:27} {keys:4} {:6} {scanned:9.1} {merged:9.1}", old.data.len())?;
        }
    }
    Ok(())
}
