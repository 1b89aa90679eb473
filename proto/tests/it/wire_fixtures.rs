//! Frames of protocol 2, encoded once and kept: what is on the line today must be what was on it then.
//!
//! Each sample is checked both ways: the file decodes to the sample, and the sample encodes to the file. A new sample gets
//! its file by `ZEOLITE_WRITE_FIXTURES=1 cargo test -p zeolite-proto --test it wire_fixtures`; a file that is there is never
//! written again.

use bytes::Bytes;
use prost::Message;
use std::collections::BTreeSet;
use std::path::PathBuf;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::draft_part::Purpose;
use zeolite_proto::wire::v2::server_frame::Reply;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/wire-2")
}

fn check<M: Message + Default + PartialEq + std::fmt::Debug>(name: &str, sample: &M) {
    let path = directory().join(name).with_extension("bin");
    if std::env::var_os("ZEOLITE_WRITE_FIXTURES").is_some() && !path.exists() {
        std::fs::write(&path, sample.encode_to_vec()).expect("the fixture directory can be written");
    }
    let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(M::decode(stored.as_slice()).as_ref(), Ok(sample), "{name} decodes to its sample");
    assert_eq!(sample.encode_to_vec(), stored, "{name} is encoded as it was");
}

const T1: u64 = 0x03f2_a1b0_1234_5678;
const T2: u64 = 0x03f2_a1b0_1234_5679;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn object() -> v2::Cell {
    v2::Cell { oid: 0x2a, key: Bytes::new() }
}

fn entry() -> v2::Cell {
    v2::Cell { oid: u64::MAX, key: Bytes::from_static(b"k\x00\xff") }
}

fn note() -> v2::Note {
    v2::Note { user: "ada".into(), description: "edit".into(), extension: bytes("ext") }
}

fn draft() -> v2::Draft {
    let write = |cell, change, stamped| v2::Write {
        cell: Some(cell),
        base: Some(T1),
        change: Some(change),
        stamped,
        absent: true,
    };
    v2::Draft {
        commit_key: bytes("0123456789abcdef"),
        snapshot: Some(T1),
        priority: v2::Priority::Batch.into(),
        read_cells: vec![v2::ReadCell { cell: Some(object()), base: Some(0) }],
        read_ranges: vec![v2::ReadRange { oid: 7, from: bytes("a"), to: bytes("b"), base: Some(T1) }],
        writes: vec![
            write(object(), v2::write::Change::Put(bytes("record")), false),
            write(
                entry(),
                v2::write::Change::Apply(v2::Apply { class: "Counter".into(), operation: bytes("+1") }),
                false,
            ),
            write(object(), v2::write::Change::Delete(v2::Delete {}), true),
        ],
        note: Some(note()),
        key_since: Some(T1),
        timeline: u64::MAX - 2,
        take_oids: true,
    }
}

fn revision() -> v2::Revision {
    v2::Revision { tid: T1, end: T2, record: Some(bytes("record")) }
}

fn receipt() -> v2::Receipt {
    let merged = |record| v2::MergedCell { cell: Some(entry()), record };
    v2::Receipt { tid: T2, merged: vec![merged(Some(bytes("merged"))), merged(None)], pressure: None }
}

/// Preparing, whole and in parts.
fn preparing() -> Vec<(&'static str, Request)> {
    vec![
        ("prepare", Request::Prepare(prepare(Some(draft()), false))),
        ("hold", Request::Prepare(prepare(Some(draft()), true))),
        ("prepare_durable", Request::Prepare(v2::PrepareRequest { durable: true, ..prepare(Some(draft()), false) })),
        (
            "amend",
            Request::Amend(v2::AmendRequest { prepared: 9, draft: Some(draft()), withdrawn: vec![object(), entry()] }),
        ),
        ("part_to_prepare", Request::Part(part(Some(Purpose::Prepare(prepare(None, true)))))),
        (
            "part_to_amend",
            Request::Part(part(Some(Purpose::Amend(v2::AmendRequest {
                prepared: 9,
                draft: None,
                withdrawn: vec![object()],
            })))),
        ),
    ]
}

fn prepare(draft: Option<v2::Draft>, hold: bool) -> v2::PrepareRequest {
    v2::PrepareRequest { draft, time_limit_ms: 5000, hold, durable: false }
}

fn requests() -> Vec<(&'static str, Request)> {
    let key = bytes("0123456789abcdef");
    vec![
        (
            "hello",
            Request::Hello(v2::Hello {
                protocol: 2,
                client: "zeolite-client 0.1.0".into(),
                role: "evolve".into(),
                feed: true,
                resume_from: T1,
                cached_bytes: 1 << 33,
                store_id: u64::MAX - 1,
                database: String::new(),
                timeline: u64::MAX - 2,
                term: 0,
                // Newer than the fixture.
                interest: false,
                held: None,
                feed_with_answers: false,
            }),
        ),
        (
            "hello_interest",
            Request::Hello(v2::Hello {
                protocol: 2,
                feed: true,
                interest: true,
                held: Some(v2::Held { rows_log2: 6, rows: bytes("01234567"), cells: 12 }),
                ..Default::default()
            }),
        ),
        (
            "hello_feed_with_answers",
            Request::Hello(v2::Hello { protocol: 2, feed: true, feed_with_answers: true, ..Default::default() }),
        ),
        ("everything", Request::Everything(v2::Everything {})),
        (
            "load",
            Request::Load(v2::LoadRequest {
                snapshot: T1,
                cells: vec![object(), entry()],
                continued_from: 1,
                timeline: 6,
            }),
        ),
        (
            "scan",
            Request::Scan(v2::ScanRequest {
                snapshot: T1,
                oid: 7,
                from: bytes("a"),
                to: bytes("z"),
                reverse: true,
                limit: 100,
                keys_only: true,
                timeline: 6,
            }),
        ),
        ("commit", Request::Commit(draft())),
        ("finish", Request::Finish(v2::FinishRequest { prepared: 9, commit_key: key.clone(), key_since: Some(0) })),
        ("abort", Request::Abort(v2::AbortRequest { prepared: 9, ..Default::default() })),
        ("abort_by_key", Request::Abort(v2::AbortRequest { prepared: 0, commit_key: key.clone(), key_since: None })),
        ("outcome", Request::Outcome(v2::OutcomeRequest { commit_key: key.clone(), key_since: Some(T1) })),
        ("new_oids", Request::NewOids(v2::NewOidsRequest { count: 100 })),
    ]
}

/// The rest of them.
fn more_requests() -> Vec<(&'static str, Request)> {
    let key = bytes("0123456789abcdef");
    vec![
        ("pin", Request::Pin(v2::PinRequest { snapshot: T1, lease_ms: 60_000 })),
        ("renew", Request::Renew(v2::RenewRequest { pin: 3, lease_ms: 60_000, snapshot: T1 })),
        ("unpin", Request::Unpin(v2::UnpinRequest { pin: 3 })),
        (
            "history",
            Request::History(v2::HistoryRequest { cell: Some(entry()), before: T2, limit: 10, with_records: true }),
        ),
        (
            "undo",
            Request::Undo(v2::UndoRequest {
                tid: T1,
                commit_key: key.clone(),
                note: Some(note()),
                key_since: Some(T2),
            }),
        ),
        (
            "objects",
            Request::Objects(v2::ObjectsRequest {
                snapshot: T1,
                class: "Synset".into(),
                version_below: 2,
                after: 41,
                limit: 1000,
                with_records: true,
            }),
        ),
        ("kinds", Request::Kinds(v2::KindsRequest {})),
        ("part", Request::Part(part(None))),
        ("ping", Request::Ping(v2::Ping {})),
        ("heat", Request::Heat(v2::HeatRequest { oids: vec![1, 2, u64::MAX] })),
    ]
}

fn all_requests() -> impl Iterator<Item = (&'static str, Request)> {
    requests().into_iter().chain(more_requests()).chain(preparing())
}

fn part(purpose: Option<Purpose>) -> v2::DraftPart {
    v2::DraftPart { commit_key: bytes("0123456789abcdef"), data: bytes("piece"), last: true, purpose }
}

fn fault() -> v2::Fault {
    v2::Fault {
        kind: v2::FaultKind::Conflict.into(),
        message: "cell 2a was read as of an older tid; run the transaction again".into(),
        retry_after_ms: 7,
        conflict: Some(v2::ConflictDetail {
            cell: Some(object()),
            class: "Synset".into(),
            base: T1,
            newest: T2,
            reason: "no resolver".into(),
            base_record: Some(bytes("base")),
            newest_record: Some(bytes("newest")),
        }),
        others: vec![v2::ConflictDetail { cell: Some(entry()), newest: T1, ..Default::default() }],
        ..Default::default()
    }
}

fn limits() -> v2::Limits {
    v2::Limits {
        message_bytes_max: 1,
        record_bytes_max: 2,
        draft_bytes_max: 3,
        draft_writes_max: 4,
        key_bytes_max: 5,
        load_cells_max: 6,
        scan_entries_max: 7,
        oids_max: 8,
        pin_ms_max: 9,
        prepare_ms_max: 10,
        // Newer than the fixture.
        blob_bytes_max: 0,
    }
}

fn feed() -> v2::FeedBatch {
    v2::FeedBatch {
        items: vec![
            v2::FeedItem { tid: T1, cells: vec![object(), entry()] },
            v2::FeedItem { tid: T2, cells: vec![object()] },
        ],
        more: false,
        timeline: 0,
        up_to: 0,
    }
}

fn held(reason: &str) -> Reply {
    let stale = vec![v2::StaleCell { cell: Some(entry()), newest: T2, reason: reason.into() }];
    Reply::Prepare(v2::PrepareReply { prepared: 9, merged: vec![], stale })
}

fn replies() -> Vec<(&'static str, Reply)> {
    vec![
        (
            "hello",
            Reply::Hello(v2::HelloReply {
                protocol: 2,
                server: "zeolite 0.1.0".into(),
                store_id: u64::MAX - 1,
                session_id: 12,
                visible: T2,
                replayed: true,
                limits: Some(limits()),
                mode: None,
                timeline: u64::MAX - 2,
                seat: 0,
                term: 0,
                interest: false,
            }),
        ),
        ("hello_interest", Reply::Hello(v2::HelloReply { protocol: 2, interest: true, ..Default::default() })),
        ("load", Reply::Load(v2::LoadReply { snapshot: T2, revisions: vec![revision(), v2::Revision::default()] })),
        (
            "scan",
            Reply::Scan(v2::ScanPage {
                snapshot: T2,
                entries: vec![v2::Entry { key: bytes("a"), tid: T1, record: bytes("record") }],
                next: bytes("b"),
                more: true,
            }),
        ),
        ("receipt", Reply::Receipt(receipt())),
        ("prepare", Reply::Prepare(v2::PrepareReply { prepared: 9, merged: receipt().merged, stale: vec![] })),
        ("held", held("")),
        ("held_why", held("both (reason 1)")),
        ("done", Reply::Done(v2::Done { tid: T2, pressure: None })),
        ("outcome", Reply::Outcome(v2::OutcomeReply { receipt: Some(receipt()), in_flight: true, forgotten: true })),
        ("new_oids", Reply::NewOids(v2::NewOidsReply { first: 1000, count: 100 })),
        ("pin", Reply::Pin(v2::PinReply { pin: 3, snapshot: T1, lease_ms: 60_000 })),
        ("history", Reply::History(v2::HistoryReply { revisions: vec![revision()], notes: vec![note()], more: true })),
        (
            "objects",
            Reply::Objects(v2::ObjectsReply {
                oids: vec![1, 2, u64::MAX],
                more: true,
                snapshot: T2,
                revisions: vec![revision()],
            }),
        ),
        (
            "kinds",
            Reply::Kinds(v2::KindsReply {
                kinds: vec![v2::Kind { class: "Synset".into(), version: 2, objects: 117_659 }],
                tid: T2,
            }),
        ),
        ("fault", Reply::Fault(fault())),
        ("feed", Reply::Feed(feed().encode_to_vec().into())),
        ("cut", Reply::Cut(v2::Cut { tid: T1, reason: "too slow".into() })),
        ("mode", Reply::Mode(mode())),
        ("heat", Reply::Heat(v2::HeatReply { heat: vec![0, 300, 7] })),
        ("pressure", Reply::Receipt(v2::Receipt { tid: T2, merged: Vec::new(), pressure: Some(pressure()) })),
    ]
}

fn mode() -> v2::Mode {
    v2::Mode {
        kind: v2::ModeKind::EvolveOnly.into(),
        banner: "back at five".into(),
        until_unix_ms: 1_800_000_000_000,
        automatic: "low disk".into(),
        since_unix_ms: 1_790_000_000_000,
    }
}

fn pressure() -> v2::Pressure {
    v2::Pressure {
        live_p50_us: 1,
        live_p99_us: 2,
        live_commits: 3,
        window_ms: 4,
        quiet_p99_us: 5,
        queue_live: 6,
        queue_batch: 7,
        fsync_p99_us: 8,
        free_bytes: 9,
        disk_bytes: 10,
        apart_p99_us: 0,
        live_conflicts: 0,
    }
}

fn transaction() -> v2::Transaction {
    v2::Transaction {
        tid: T1,
        commit_key: bytes("0123456789abcdef"),
        note: Some(note()),
        writes: vec![v2::LoggedWrite {
            cell: Some(entry()),
            record: Some(bytes("rec")),
            merged: true,
            record_bytes: 6,
            deleted: false,
            record_more: true,
        }],
        more: true,
        packed_to: T1,
        draft_digest: 77,
        own: true,
    }
}

#[test]
fn every_frame_is_as_it_was() {
    for (name, request) in all_requests() {
        check(&format!("client-{name}"), &v2::ClientFrame { id: 300, request: Some(request), ..Default::default() });
    }
    for (name, reply) in replies() {
        check(
            &format!("server-{name}"),
            &v2::ServerFrame { id: 300, reply: Some(reply), feed_before: Default::default() },
        );
    }
    let done = v2::Done { tid: T2, ..Default::default() };
    let feed_before = feed().encode_to_vec().into();
    check("feed-before", &v2::ServerFrame { id: 300, reply: Some(Reply::Done(done)), feed_before });
    check("feed-batch", &feed());
    check("feed-piece", &v2::FeedBatch { more: true, timeline: 0x0123_4567_89ab_cdef, ..feed() });
    check("feed-up_to", &v2::FeedBatch { items: vec![], timeline: 5, up_to: T2, ..feed() });
    check("log-page", &v2::LogPage { transactions: vec![transaction()], packed_to: T2, timeline: 5 });
}

#[test]
fn there_is_a_sample_for_every_file_and_for_every_kind_of_fault() {
    let requests = all_requests().map(|(name, _)| format!("client-{name}.bin"));
    let replies = replies().into_iter().map(|(name, _)| format!("server-{name}.bin"));
    let samples: BTreeSet<String> = requests
        .chain(replies)
        .chain(
            ["feed-before.bin", "feed-batch.bin", "feed-piece.bin", "feed-up_to.bin", "log-page.bin", "faults.bin"]
                .map(String::from),
        )
        .collect();
    let files = std::fs::read_dir(directory()).expect("the fixtures are there");
    let files: BTreeSet<String> =
        files.map(|file| file.expect("a name").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(files, samples);
}

#[test]
fn fault_kinds_keep_their_numbers() {
    let path = directory().join("faults.bin");
    let numbers: Vec<u8> = zeolite_proto::wire::fault::TABLE.iter().map(|row| i32::from(row.1) as u8).collect();
    if std::env::var_os("ZEOLITE_WRITE_FIXTURES").is_some() && !path.exists() {
        std::fs::write(&path, &numbers).expect("the fixture directory can be written");
    }
    let stored = std::fs::read(&path).expect("the fixture is there");
    assert!(numbers.starts_with(&stored), "kinds are added at the end, never renumbered: {numbers:?} {stored:?}");
}
