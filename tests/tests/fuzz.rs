//! A bounded fuzz run: random damage to valid bytes, for everything that decodes bytes from outside.
//!
//! Each target is a function from bytes. It must not panic, and it must not allocate much more than it was given, whatever
//! lengths and counts the bytes claim. Inputs are samples of real messages, damaged by seeded dice; what a damaged input
//! was accepted as is damaged again, so that the run walks away from the samples.
//!
//! `FUZZ_SEED` and `FUZZ_ROUNDS` choose another or a longer run. A failed run prints seed and input.

#![expect(clippy::print_stdout, reason = "a failed test shows its seed and its input")]

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::{self, class, items::Item};
use zeolite_proto::wire::{count, fault, translate, v2};
use zeolite_proto::{
    Cell, Change, CommitKey, Draft, Fault, FaultKind, Limits, Note, Oid, Priority, ReadCell, ReadRange,
};
use zeolite_proto::{Record, Registry, Tid, Write};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The allocator counts for the whole process: one target at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How much a target may allocate at once, for an input of some length.
#[derive(Clone, Copy)]
struct Bound {
    per_byte: usize,
    constant: usize,
}

/// What the test harness itself may allocate meanwhile, and what any decoding may.
const NOISE_BYTES: usize = 64 << 10;
const SAMPLES_MAX: usize = 2000;
const INPUT_BYTES_MAX: usize = 4096;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Shows the input when the target panics.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("input: {}", self.0.escape_ascii());
        }
    }
}

/// Runs a target on damaged samples; it says whether it accepted the input. Both must happen.
fn fuzz(mut samples: Vec<Bytes>, bound: Bound, target: impl Fn(&Bytes) -> bool) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = from_environment("FUZZ_SEED", 1);
    let rounds = from_environment("FUZZ_ROUNDS", 40_000);
    println!("FUZZ_SEED={seed} FUZZ_ROUNDS={rounds}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let whole = samples.iter().all(&target);
    assert!(whole, "an undamaged sample is refused");
    let mut accepted = 0;
    for _ in 0..rounds {
        let input = damaged(&samples, &mut rng);
        let _shown = Shown(&input);
        ALLOCATED.reset_peak_usage();
        let before = ALLOCATED.current_usage();
        let ok = target(&input);
        let allocated = ALLOCATED.peak_usage().saturating_sub(before);
        let allowed = bound.per_byte * input.len() + bound.constant;
        assert!(allocated <= allowed, "{allocated} bytes allocated for {}, allowed are {allowed}", input.len());
        if ok {
            accepted += 1;
            let at = rng.usize(..SAMPLES_MAX);
            match samples.get_mut(at) {
                Some(sample) => *sample = input.clone(),
                None => samples.push(input.clone()),
            }
        }
    }
    assert!(accepted > rounds / 100 && accepted < rounds, "{accepted} of {rounds} were accepted: the run says little");
}

/// A sample with one to four kinds of damage.
fn damaged(samples: &[Bytes], rng: &mut fastrand::Rng) -> Bytes {
    let any = |rng: &mut fastrand::Rng| samples[rng.usize(..samples.len())].clone();
    let mut bytes = any(rng).to_vec();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..=bytes.len());
        let end = rng.usize(at..=bytes.len()).min(at + 64);
        match rng.u8(..9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.u8(..8)),
            3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.u8(..)),
            4 => bytes.insert(at, rng.u8(..)),
            5 => overwrite(&mut bytes, at, &[0xff; 8][..rng.usize(1..=8)]),
            6 => overwrite(&mut bytes, at, &[0xff, 0xff, 0xff, 0xff, 0x0f][rng.usize(..5)..]),
            7 => {
                let part = bytes[at..end].to_vec();
                (0..rng.usize(1..20)).for_each(|_| drop(bytes.splice(at..at, part.iter().copied())));
            }
            _ => {
                let other = any(rng);
                let from = rng.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes.into()
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes.iter_mut().skip(at).zip(with).for_each(|(byte, new)| *byte = *new);
}

fn a_record(refs: u64) -> Record {
    Record { refs: (0..refs).map(Oid).collect(), ..Record::new("app.Page", 3, "some data") }
}

fn a_draft() -> Draft {
    let put = Change::Put(a_record(3).encode().expect("encodes"));
    let apply = Change::Apply { class: class::COUNTER.into(), operation: resolvers::counter::add(7) };
    let write = |cell, change| Write { cell, base: Tid(17), change, stamped: false };
    Draft {
        key: CommitKey([9; 16]),
        key_since: Tid(16),
        priority: Priority::Batch,
        read_cells: vec![ReadCell { cell: Cell::entry(Oid(5), "key"), base: Tid(1 << 40) }],
        read_ranges: vec![ReadRange { oid: Oid(6), from: "a".into(), to: "b".into(), base: Tid(300) }],
        writes: vec![
            write(Cell::object(Oid(1)), put),
            write(Cell::entry(Oid(2), "k"), apply),
            write(Cell::object(Oid(u64::MAX)), Change::Delete),
        ],
        note: Note { user: "u".into(), description: "why".into(), extension: "x".into() },
    }
}

#[test]
fn records_decode_or_are_refused() {
    let samples = [0, 1, 40].map(|refs| a_record(refs).encode().expect("encodes")).to_vec();
    fuzz(samples, Bound { per_byte: 4, constant: NOISE_BYTES }, |bytes| {
        let Ok(record) = Record::decode(bytes) else {
            assert!(Header::parse(bytes).is_err());
            return false;
        };
        assert_eq!(Header::parse(bytes).expect("the header of a record").refs().len(), record.refs.len());
        assert_eq!(record.encode().as_ref(), Ok(bytes), "decoded and encoded again");
        true
    });
}

#[test]
fn drafts_decode_or_are_refused() {
    let samples = vec![Bytes::from(v2::Draft::from(&a_draft()).encode_to_vec())];
    // An empty write takes 2 bytes on the wire and some hundred in memory; `count` bounds how many there may be.
    fuzz(samples, Bound { per_byte: 256, constant: NOISE_BYTES }, |bytes| {
        let limits = Limits { draft_writes_max: 100, ..Limits::default() };
        let decoded = translate::decode_draft(bytes.clone(), &limits).and_then(Draft::try_from);
        let Ok(draft) = decoded else { return false };
        let parts = draft.writes.len() + draft.read_cells.len() + draft.read_ranges.len();
        assert!(parts <= 100);
        let again = v2::Draft::from(&draft).encode_to_vec();
        assert_eq!(count::check_draft(&again, &limits), Ok(parts));
        let again = Draft::try_from(v2::Draft::decode(again.as_slice()).expect("what was encoded")).expect("a draft");
        // A base of 0 stands for the draft's snapshot, which translation has filled in.
        assert_eq!(again, draft, "decoded, encoded and decoded again");
        true
    });
}

/// Every request that a client can send in a session.
fn client_frames() -> Vec<Bytes> {
    use v2::client_frame::Request;
    let cell = || v2::Cell::from(&Cell::entry(Oid(77), "key"));
    let draft = || v2::Draft::from(&a_draft());
    let requests = [
        Request::Hello(v2::Hello { protocol: 2, client: "c".into(), resume_from: 5, feed: true, ..Default::default() }),
        Request::Load(v2::LoadRequest { snapshot: 9, cells: vec![cell(); 5], continued_from: 1, timeline: 7 }),
        Request::Scan(v2::ScanRequest { oid: 3, from: "a".into(), to: "z".into(), limit: 10, ..Default::default() }),
        Request::Commit(draft()),
        Request::Prepare(v2::PrepareRequest { draft: Some(draft()), time_limit_ms: 1000, ..Default::default() }),
        Request::Prepare(v2::PrepareRequest { draft: Some(draft()), time_limit_ms: 1000, hold: true, durable: false }),
        Request::Amend(v2::AmendRequest { prepared: 1, draft: Some(draft()), withdrawn: vec![cell()] }),
        Request::Finish(v2::FinishRequest { prepared: 4, commit_key: vec![1; 16].into(), key_since: Some(3) }),
        Request::Outcome(v2::OutcomeRequest { commit_key: vec![1; 16].into(), key_since: None }),
        Request::History(v2::HistoryRequest { cell: Some(cell()), limit: 3, ..Default::default() }),
        Request::Objects(v2::ObjectsRequest { class: "app.Page".into(), version_below: 2, ..Default::default() }),
        Request::Part(v2::DraftPart {
            commit_key: vec![1; 16].into(),
            data: vec![2; 100].into(),
            last: true,
            purpose: None,
        }),
        Request::Ping(v2::Ping {}),
    ];
    let frame = |request| v2::ClientFrame { id: 300, request: Some(request), ..Default::default() };
    requests.into_iter().map(|request| frame(request).encode_to_vec().into()).collect()
}

#[test]
fn what_clients_send_decodes_or_is_refused() {
    fuzz(client_frames(), Bound { per_byte: 256, constant: NOISE_BYTES }, |bytes| {
        let Ok(frame) = v2::ClientFrame::decode(bytes.clone()) else { return false };
        if let Some(v2::client_frame::Request::Commit(draft)) = frame.request {
            drop(Draft::try_from(draft));
        }
        true
    });
}

/// Every kind of reply that carries more than numbers.
fn server_frames() -> Vec<Bytes> {
    use v2::server_frame::Reply;
    let cell = v2::Cell::from(&Cell::entry(Oid(77), "key"));
    let record = Some(a_record(2).encode().expect("encodes"));
    let revision = v2::Revision { tid: 5, end: 9, record: record.clone() };
    let merged = v2::MergedCell { cell: Some(cell.clone()), record };
    let item = v2::FeedItem { tid: 12, cells: vec![cell] };
    let feed = v2::FeedBatch { items: vec![item.clone(), item], more: true, timeline: 7, up_to: 0 }.encode_to_vec();
    let replies = [
        Reply::Hello(v2::HelloReply { limits: Some((&Limits::default()).into()), ..Default::default() }),
        Reply::Load(v2::LoadReply { snapshot: 9, revisions: vec![revision.clone(); 3] }),
        Reply::Scan(v2::ScanPage {
            entries: vec![v2::Entry { key: "k".into(), ..Default::default() }; 3],
            ..Default::default()
        }),
        Reply::Receipt(v2::Receipt { tid: 4, merged: vec![merged], pressure: None }),
        Reply::History(v2::HistoryReply { revisions: vec![revision], notes: vec![v2::Note::default()], more: true }),
        Reply::Fault((&Fault::new(FaultKind::Busy, "come back").after_ms(50)).into()),
        Reply::Feed(feed.into()),
        Reply::Cut(v2::Cut { tid: 3, reason: "too slow".into() }),
    ];
    let frame = |reply| v2::ServerFrame { id: 300, reply: Some(reply), feed_before: Default::default() };
    replies.into_iter().map(|reply| frame(reply).encode_to_vec().into()).collect()
}

#[test]
fn what_servers_send_decodes_or_is_refused() {
    fuzz(server_frames(), Bound { per_byte: 256, constant: NOISE_BYTES }, |bytes| {
        let Ok(frame) = v2::ServerFrame::decode(bytes.clone()) else { return false };
        use v2::server_frame::Reply;
        match frame.reply {
            Some(Reply::Feed(batch)) => drop(v2::FeedBatch::decode(batch)),
            Some(Reply::Receipt(receipt)) => drop(zeolite_proto::Receipt::from(receipt)),
            Some(Reply::Fault(wire)) => {
                // Each kind that is not of the list becomes one that is.
                let known = Fault::from(wire);
                assert!(FaultKind::ALL.contains(&known.kind));
                drop(fault::to_status(&known));
            }
            Some(Reply::Hello(hello)) => drop(hello.limits.map(Limits::from)),
            _ => {}
        }
        true
    });
}

/// One record or operation for each resolver: the class name, a zero, and the bytes.
fn resolver_inputs() -> Vec<Bytes> {
    let items = [Item { bytes: "a".into(), refs: vec![Oid(1), Oid(2)] }, Item::new("b")];
    let members: BTreeSet<Item> = items.iter().cloned().collect();
    let record = |record: Record| (record.class.clone(), record.encode().expect("encodes"));
    let inputs = [
        record(resolvers::counter::record(5)),
        record(
            resolvers::bounded::record(resolvers::bounded::Bounded { value: 1, low: 0, high: 2 }).expect("in bounds"),
        ),
        record(resolvers::extreme::max_record(5)),
        record(resolvers::set::record(&members).expect("small")),
        record(resolvers::list::record(&items).expect("small")),
        record(resolvers::unique::record(b"v", vec![Oid(1)])),
        (class::COUNTER.into(), resolvers::counter::add(3)),
        (class::SET.into(), resolvers::set::add(items[0].clone()).expect("small")),
        (class::LIST.into(), resolvers::list::append(&items).expect("small")),
        (class::UNIQUE.into(), resolvers::unique::insert(&resolvers::unique::record(b"v", vec![])).expect("encodes")),
    ];
    inputs.into_iter().map(|(class, bytes)| [class.as_bytes(), b"\0", &bytes].concat().into()).collect()
}

#[test]
fn resolvers_merge_or_refuse() {
    let registry = Registry::built_in();
    let current: Vec<Record> = resolver_inputs()[..6]
        .iter()
        .filter_map(|input| {
            input.iter().position(|byte| *byte == 0).and_then(|at| Record::decode(&input.slice(at + 1..)).ok())
        })
        .collect();
    fuzz(resolver_inputs(), Bound { per_byte: 64, constant: NOISE_BYTES }, |input| {
        let Some(at) = input.iter().position(|byte| *byte == 0) else { return false };
        let (class, bytes) = (String::from_utf8_lossy(&input[..at]), input.slice(at + 1..));
        let Some(resolver) = registry.get(&class) else { return false };
        let theirs = current.iter().find(|record| record.class == class);
        let mut made = vec![resolver.apply(&class, theirs, &bytes), resolver.apply(&class, None, &bytes)];
        if let Ok(ours) = Record::decode(&bytes) {
            made.push(resolver.merge(None, theirs, Some(&ours)));
            made.push(resolver.merge(Some(&ours), theirs, None));
            made.push(resolver.merge(Some(&ours), theirs, Some(&ours)));
        }
        let made: Vec<Record> = made.into_iter().flatten().flatten().collect();
        made.iter().for_each(|record| drop(record.encode().expect("what a resolver makes can be stored")));
        !made.is_empty()
    });
}
