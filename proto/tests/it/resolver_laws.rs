//! The laws that every built-in resolver keeps, on random records of its class and on random bytes.
//!
//! Every run prints its seed; set `SEED` to run with another.

use bytes::Bytes;
use std::collections::BTreeSet;
use zeolite_proto::resolvers::{
    bounded, class, collection, counter, entry, extreme, items, last, list, queue, set, unique,
};
use zeolite_proto::{Oid, Record, Registry};

#[expect(clippy::print_stdout, reason = "a failed test shows its seed")]
fn dice() -> fastrand::Rng {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    println!("SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn item(rng: &mut fastrand::Rng) -> items::Item {
    let bytes: Vec<u8> = (0..rng.usize(..3)).map(|_| rng.u8(b'a'..b'e')).collect();
    items::Item { bytes: bytes.into(), refs: (0..rng.usize(..3)).map(|_| Oid(rng.u64(..4))).collect() }
}

fn some_items(rng: &mut fastrand::Rng) -> Vec<items::Item> {
    (0..rng.usize(..6)).map(|_| item(rng)).collect()
}

/// A random record of the class; small domains, so that sides are often equal.
fn record(rng: &mut fastrand::Rng, of: &str) -> Record {
    let value = [rng.u8(b'a'..b'd')];
    let refs: Vec<Oid> = (0..rng.usize(..2)).map(|_| Oid(rng.u64(..3))).collect();
    match of {
        class::COUNTER => counter::record(rng.i64(-3..3)),
        class::BOUNDED => {
            let (low, high) = (rng.i64(-2..1), rng.i64(3..5));
            bounded::record(bounded::Bounded { value: rng.i64(low..=high), low, high }).expect("within bounds")
        }
        class::MIN => extreme::min_record(rng.i64(-3..3)),
        class::MAX => extreme::max_record(rng.i64(-3..3)),
        class::LAST => last::record(&value, refs),
        class::SET => set::record(&some_items(rng).into_iter().collect::<BTreeSet<_>>()).expect("small"),
        class::LIST => list::record(&some_items(rng)).expect("small"),
        class::ENTRY => entry::record(&value, refs),
        class::UNIQUE => unique::record(&value, refs),
        class::QUEUE_ITEM => queue::record(&value, refs),
        other => collection::record(other),
    }
}

fn side(rng: &mut fastrand::Rng, of: &str) -> Option<Record> {
    (rng.u8(..5) > 0).then(|| record(rng, of))
}

fn operation(rng: &mut fastrand::Rng, of: &str) -> Bytes {
    match of {
        class::COUNTER | class::BOUNDED => counter::add(rng.i64(-2..3)),
        class::MIN | class::MAX => extreme::offer(rng.i64(-3..3)),
        class::LAST => last::put(&record(rng, of)).expect("encodes"),
        class::SET if rng.bool() => set::add(item(rng)).expect("small"),
        class::SET => set::remove(item(rng)).expect("small"),
        class::LIST => list::append(&some_items(rng)).expect("small"),
        class::UNIQUE => unique::insert(&record(rng, of)).expect("encodes"),
        class::QUEUE_ITEM => queue::take(),
        _ => Bytes::new(),
    }
}

/// The classes in which a side that changed nothing has nothing to say; what is written in the others says what is to be there.
fn is_number_or_items(of: &str) -> bool {
    [class::COUNTER, class::BOUNDED, class::MIN, class::MAX, class::SET, class::LIST].contains(&of)
}

#[test]
fn an_unchanged_side_yields_to_the_other() {
    let mut rng = dice();
    for (of, resolver) in Registry::built_in().list() {
        for _ in 0..2000 {
            let (base, other) = (side(&mut rng, of), side(&mut rng, of));
            let (base, other) = (base.as_ref(), other.as_ref());
            let ours_unchanged = resolver.merge(base, other, base);
            match of {
                class::LAST => assert_eq!(ours_unchanged, Ok(base.cloned()), "the last one counts"),
                _ if is_number_or_items(of) || other == base => {
                    assert_eq!(ours_unchanged, Ok(other.cloned()), "{of}: ours is unchanged, base {base:?}");
                }
                _ => assert!(ours_unchanged.is_err(), "{of}: what was there is asserted, base {base:?}"),
            }
            assert_eq!(
                resolver.merge(base, base, other),
                Ok(other.cloned()),
                "{of}: theirs is unchanged, base {base:?}"
            );
        }
    }
}

#[test]
fn merges_commute_where_they_say_so() {
    let mut rng = dice();
    let registry = Registry::built_in();
    let commuting =
        registry.list().into_iter().filter(|(of, _)| ![class::LAST, class::LIST, class::QUEUE_ITEM].contains(of));
    for (of, resolver) in commuting {
        let mut merged = 0;
        for _ in 0..2000 {
            let sides = [side(&mut rng, of), side(&mut rng, of), side(&mut rng, of)];
            let [base, a, b] = sides.each_ref().map(Option::as_ref);
            if !is_number_or_items(of) && (a == base || b == base) {
                continue;
            }
            let (one, other) = (resolver.merge(base, a, b), resolver.merge(base, b, a));
            assert_eq!(one.clone().ok(), other.ok(), "{of}: {base:?} {a:?} {b:?}");
            merged += usize::from(one.is_ok());
        }
        assert!(merged > 40, "{of}: only {merged} of 2000 merged, the law is hardly tested");
    }
}

#[test]
fn concurrent_additions_sum_exactly_in_any_order_of_commits() {
    let mut rng = dice();
    for (of, start) in [
        (class::COUNTER, counter::record(10)),
        (
            class::BOUNDED,
            bounded::record(bounded::Bounded { value: 10, low: -9999, high: 9999 }).expect("within bounds"),
        ),
    ] {
        let registry = Registry::built_in();
        let resolver = registry.get(of).expect("registered");
        for _ in 0..50 {
            let differences: Vec<i64> = (0..256).map(|_| rng.i64(-20..20)).collect();
            // Half of the writers put what they computed from the base, half apply.
            let sum = differences.iter().fold(start.clone(), |theirs, difference| {
                let applied = |to: &Record| resolver.apply(of, Some(to), &counter::add(*difference)).expect("applies");
                let merged = match rng.bool() {
                    true => applied(&theirs),
                    false => {
                        let ours = applied(&start);
                        resolver.merge(Some(&start), Some(&theirs), ours.as_ref()).expect("merges")
                    }
                };
                merged.expect("exists")
            });
            let expected = 10 + differences.iter().sum::<i64>();
            let value = counter::value(&sum).or_else(|_| bounded::read(&sum).map(|bounded| bounded.value));
            assert_eq!(value, Ok(expected), "{of}");
        }
    }
}

#[test]
fn merging_a_put_equals_applying_its_operation() {
    let mut rng = dice();
    let registry = Registry::built_in();
    for of in [class::COUNTER, class::MIN, class::MAX, class::LIST, class::SET] {
        let resolver = registry.get(of).expect("registered");
        for _ in 0..2000 {
            let base = record(&mut rng, of);
            let (first, second) = (operation(&mut rng, of), operation(&mut rng, of));
            let apply = |to: &Record, operation| resolver.apply(of, Some(to), operation).expect("applies");
            let (theirs, ours) = (apply(&base, &first), apply(&base, &second));
            let merged = resolver.merge(Some(&base), theirs.as_ref(), ours.as_ref()).expect("merges");
            let applied = apply(&theirs.expect("exists"), &second);
            let contradicting = of == class::SET && ours.as_ref() == Some(&base);
            assert!(merged == applied || contradicting, "{of}: {base:?} {first:?} {second:?}: {merged:?} {applied:?}");
        }
    }
}

#[test]
fn random_and_damaged_bytes_are_refused_without_panic() {
    let mut rng = dice();
    let registry = Registry::built_in();
    for (of, resolver) in registry.list() {
        for _ in 0..3000 {
            let mut sides = [side(&mut rng, of), side(&mut rng, of), side(&mut rng, of)];
            for record in sides.iter_mut().flatten() {
                if rng.u8(..3) > 0 {
                    record.data = damage(&mut rng, &record.data);
                    record.refs.truncate(rng.usize(..4));
                }
            }
            let operation = operation(&mut rng, of);
            let operation = damage(&mut rng, &operation);
            let [base, theirs, ours] = sides.each_ref().map(Option::as_ref);
            let results = [resolver.merge(base, theirs, ours), resolver.apply(of, theirs, &operation)];
            for made in results.into_iter().flatten().flatten() {
                made.encode().expect("what a resolver makes can be stored");
            }
        }
    }
}

/// A copy with some bytes changed, cut off or added; sometimes with a huge number in it.
fn damage(rng: &mut fastrand::Rng, bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            2 => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xff),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.u8(..)),
        }
    }
    bytes.into()
}
