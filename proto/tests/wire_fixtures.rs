//! Frames of protocol 1, encoded once and kept: what is on the line today must be what was on it then.
//!
//! Each sample is checked both ways: the file decodes to the sample, and the sample encodes to the file. A new sample gets
//! its file by `ZEOLITE_WRITE_FIXTURES=1 cargo test -p zeolite-proto --test wire_fixtures`; a file that is there is never
//! written again.

use bytes::Bytes;
use prost::Message;
use std::collections::BTreeSet;
use std::path::PathBuf;
use zeolite_proto::wire::v1;
use zeolite_proto::wire::v1::client_frame::Request;
use zeolite_proto::wire::v1::draft_part::Purpose;
use zeolite_proto::wire::v1::server_frame::Reply;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/wire-1")
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

fn object() -> v1::Cell {
    v1::Cell { oid: 0x2a, key: Bytes::new() }
}

fn entry() -> v1::Cell {
    v1::Cell { oid: u64::MAX, key: Bytes::from_static(b"k\x00\xff") }
}

fn note() -> v1::Note {
    v1::Note { user: "ada".into(), description: "edit".into(), extension: bytes("ext") }
}

fn draft() -> v1::Draft {
    let write = |cell, change, stamped| v1::Write { cell: Some(cell), base: T1, change: Some(change), stamped };
    v1::Draft {
        commit_key: bytes("0123456789abcdef"),
        snapshot: T1,
        priority: v1::Priority::Batch.into(),
        read_cells: vec![v1::ReadCell { cell: Some(object()), base: 0 }],
        read_ranges: vec![v1::ReadRange { oid: 7, from: bytes("a"), to: bytes("b"), base: T1 }],
        writes: vec![
            write(object(), v1::write::Change::Put(bytes("record")), false),
            write(
                entry(),
                v1::write::Change::Apply(v1::Apply { class: "Counter".into(), operation: bytes("+1") }),
                false,
            ),
            write(object(), v1::write::Change::Delete(v1::Delete {}), true),
        ],
        note: Some(note()),
    }
}

fn revision() -> v1::Revision {
    v1::Revision { tid: T1, end: T2, record: Some(bytes("record")) }
}

fn receipt() -> v1::Receipt {
    let merged = |record| v1::MergedCell { cell: Some(entry()), record };
    v1::Receipt { tid: T2, merged: vec![merged(Some(bytes("merged"))), merged(None)], pressure: None }
}

/// Preparing, whole and in parts.
fn preparing() -> Vec<(&'static str, Request)> {
    vec![
        ("prepare", Request::Prepare(v1::PrepareRequest { draft: Some(draft()), time_limit_ms: 5000, hold: false })),
        ("hold", Request::Prepare(v1::PrepareRequest { draft: Some(draft()), time_limit_ms: 5000, hold: true })),
        (
            "amend",
            Request::Amend(v1::AmendRequest { prepared: 9, draft: Some(draft()), withdrawn: vec![object(), entry()] }),
        ),
        (
            "part_to_prepare",
            Request::Part(part(Some(Purpose::Prepare(v1::PrepareRequest {
                draft: None,
                time_limit_ms: 5000,
                hold: true,
            })))),
        ),
        (
            "part_to_amend",
            Request::Part(part(Some(Purpose::Amend(v1::AmendRequest {
                prepared: 9,
                draft: None,
                withdrawn: vec![object()],
            })))),
        ),
    ]
}

fn requests() -> Vec<(&'static str, Request)> {
    let key = bytes("0123456789abcdef");
    vec![
        (
            "hello",
            Request::Hello(v1::Hello {
                protocol: 1,
                client: "zeolite-client 0.1.0".into(),
                role: "evolve".into(),
                feed: true,
                resume_from: T1,
                cached_bytes: 1 << 33,
                store_id: u64::MAX - 1,
            }),
        ),
        ("load", Request::Load(v1::LoadRequest { snapshot: T1, cells: vec![object(), entry()], continued_from: 1 })),
        (
            "scan",
            Request::Scan(v1::ScanRequest {
                snapshot: T1,
                oid: 7,
                from: bytes("a"),
                to: bytes("z"),
                reverse: true,
                limit: 100,
                keys_only: true,
            }),
        ),
        ("commit", Request::Commit(draft())),
        ("finish", Request::Finish(v1::FinishRequest { prepared: 9, commit_key: key.clone() })),
        ("abort", Request::Abort(v1::AbortRequest { prepared: 9 })),
        ("outcome", Request::Outcome(v1::OutcomeRequest { commit_key: key.clone() })),
        ("new_oids", Request::NewOids(v1::NewOidsRequest { count: 100 })),
        ("pin", Request::Pin(v1::PinRequest { snapshot: T1, lease_ms: 60_000 })),
        ("renew", Request::Renew(v1::RenewRequest { pin: 3, lease_ms: 60_000 })),
        ("unpin", Request::Unpin(v1::UnpinRequest { pin: 3 })),
        (
            "history",
            Request::History(v1::HistoryRequest { cell: Some(entry()), before: T2, limit: 10, with_records: true }),
        ),
        ("undo", Request::Undo(v1::UndoRequest { tid: T1, commit_key: key.clone(), note: Some(note()) })),
        (
            "objects",
            Request::Objects(v1::ObjectsRequest {
                snapshot: T1,
                class: "Synset".into(),
                version_below: 2,
                after: 41,
                limit: 1000,
            }),
        ),
        ("kinds", Request::Kinds(v1::KindsRequest {})),
        ("part", Request::Part(part(None))),
        ("ping", Request::Ping(v1::Ping {})),
        ("heat", Request::Heat(v1::HeatRequest { oids: vec![1, 2, u64::MAX] })),
    ]
}

fn part(purpose: Option<Purpose>) -> v1::DraftPart {
    v1::DraftPart { commit_key: bytes("0123456789abcdef"), data: bytes("piece"), last: true, purpose }
}

fn fault() -> v1::Fault {
    v1::Fault {
        kind: v1::FaultKind::Conflict.into(),
        message: "cell 2a was read as of an older tid; run the transaction again".into(),
        retry_after_ms: 7,
        conflict: Some(v1::ConflictDetail {
            cell: Some(object()),
            class: "Synset".into(),
            base: T1,
            newest: T2,
            reason: "no resolver".into(),
            base_record: Some(bytes("base")),
            newest_record: Some(bytes("newest")),
        }),
    }
}

fn limits() -> v1::Limits {
    v1::Limits {
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
    }
}

fn feed() -> v1::FeedBatch {
    v1::FeedBatch {
        items: vec![
            v1::FeedItem { tid: T1, cells: vec![object(), entry()] },
            v1::FeedItem { tid: T2, cells: vec![object()] },
        ],
    }
}

fn replies() -> Vec<(&'static str, Reply)> {
    vec![
        (
            "hello",
            Reply::Hello(v1::HelloReply {
                protocol: 1,
                server: "zeolite 0.1.0".into(),
                store_id: u64::MAX - 1,
                session_id: 12,
                visible: T2,
                replayed: true,
                limits: Some(limits()),
                mode: None,
            }),
        ),
        ("load", Reply::Load(v1::LoadReply { snapshot: T2, revisions: vec![revision(), v1::Revision::default()] })),
        (
            "scan",
            Reply::Scan(v1::ScanPage {
                snapshot: T2,
                entries: vec![v1::Entry { key: bytes("a"), tid: T1, record: bytes("record") }],
                next: bytes("b"),
                more: true,
            }),
        ),
        ("receipt", Reply::Receipt(receipt())),
        ("prepare", Reply::Prepare(v1::PrepareReply { prepared: 9, merged: receipt().merged, stale: vec![] })),
        (
            "held",
            Reply::Prepare(v1::PrepareReply {
                prepared: 9,
                merged: vec![],
                stale: vec![v1::StaleCell { cell: Some(entry()), newest: T2 }],
            }),
        ),
        ("done", Reply::Done(v1::Done { tid: T2, pressure: None })),
        ("outcome", Reply::Outcome(v1::OutcomeReply { receipt: Some(receipt()), in_flight: true })),
        ("new_oids", Reply::NewOids(v1::NewOidsReply { first: 1000, count: 100 })),
        ("pin", Reply::Pin(v1::PinReply { pin: 3, snapshot: T1, lease_ms: 60_000 })),
        ("history", Reply::History(v1::HistoryReply { revisions: vec![revision()], notes: vec![note()], more: true })),
        ("objects", Reply::Objects(v1::ObjectsReply { oids: vec![1, 2, u64::MAX], more: true, snapshot: T2 })),
        (
            "kinds",
            Reply::Kinds(v1::KindsReply {
                kinds: vec![v1::Kind { class: "Synset".into(), version: 2, objects: 117_659 }],
                tid: T2,
            }),
        ),
        ("fault", Reply::Fault(fault())),
        ("feed", Reply::Feed(feed().encode_to_vec().into())),
        ("cut", Reply::Cut(v1::Cut { tid: T1, reason: "too slow".into() })),
        ("mode", Reply::Mode(mode())),
        ("heat", Reply::Heat(v1::HeatReply { heat: vec![0, 300, 7] })),
        ("pressure", Reply::Receipt(v1::Receipt { tid: T2, merged: Vec::new(), pressure: Some(pressure()) })),
    ]
}

fn mode() -> v1::Mode {
    v1::Mode {
        kind: v1::ModeKind::EvolveOnly.into(),
        banner: "back at five".into(),
        until_unix_ms: 1_800_000_000_000,
        automatic: "low disk".into(),
        since_unix_ms: 1_790_000_000_000,
    }
}

fn pressure() -> v1::Pressure {
    v1::Pressure {
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
    }
}

fn transaction() -> v1::Transaction {
    v1::Transaction {
        tid: T1,
        commit_key: bytes("0123456789abcdef"),
        note: Some(note()),
        writes: vec![v1::LoggedWrite {
            cell: Some(entry()),
            record: Some(bytes("rec")),
            merged: true,
            record_bytes: 6,
            deleted: false,
            record_more: true,
        }],
        more: true,
    }
}

#[test]
fn every_frame_is_as_it_was() {
    for (name, request) in requests().into_iter().chain(preparing()) {
        check(&format!("client-{name}"), &v1::ClientFrame { id: 300, request: Some(request) });
    }
    for (name, reply) in replies() {
        check(&format!("server-{name}"), &v1::ServerFrame { id: 300, reply: Some(reply) });
    }
    check("feed-batch", &feed());
    check("log-page", &v1::LogPage { transactions: vec![transaction()] });
}

#[test]
fn there_is_a_sample_for_every_file_and_for_every_kind_of_fault() {
    let requests = requests().into_iter().chain(preparing()).map(|(name, _)| format!("client-{name}.bin"));
    let replies = replies().into_iter().map(|(name, _)| format!("server-{name}.bin"));
    let samples: BTreeSet<String> =
        requests.chain(replies).chain(["feed-batch.bin", "log-page.bin", "faults.bin"].map(String::from)).collect();
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
