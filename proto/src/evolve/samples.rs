//! Owns the records that the tests of the stored form encode: every variant and every field with a value of its own.

use super::{
    Bad, Certificate, Counts, CourseRecord, CourseSample, Cursor, JobRecord, KeysRecord, ListRecord, NotUndone, Owed,
    Part, Pause, Phase, Plan, RangeRecord, Settings, Target,
};

fn settings() -> Settings {
    Settings {
        workers: 3,
        ranges: 7,
        atomic: true,
        chunk_target_ms: 300,
        chunk_objects_start: 50,
        chunk_objects_max: 500,
        chunk_bytes_max: 70_000,
        chunk_ms_max: 1500,
        rounds_max: 11,
        lease_ms: 9000,
        live_ratio_max: 1.25,
        live_p99_us_max: 40_000,
        rate_max: 1234.5,
        rate_min: 0.5,
        queue_live_max: 65,
        disk_pause_percent: 14.5,
        disk_stop_percent: 4.5,
        bad_max: 999,
        pin_bytes_max: 1 << 33,
        heat_max: 5,
        step_timeout_ms: 1500,
    }
}

fn plans() -> Vec<Plan> {
    vec![
        Plan::Objects { class: "wiki.Page".into(), below_version: 3 },
        Plan::Collection { oid: 300, from: b"a".to_vec(), to: vec![0, 255] },
        Plan::Reachable { from: 1 << 40 },
        Plan::Oids { oids: vec![1, 2, 3] },
    ]
}

/// One job for each phase.
pub(super) fn jobs() -> Vec<JobRecord> {
    let phases = [
        Phase::Planned,
        Phase::Running,
        Phase::CatchingUp,
        Phase::Verifying,
        Phase::Done,
        Phase::Failed,
        Phase::Cancelled,
        Phase::Undoing,
        Phase::Undone,
    ];
    let job = |(number, phase): (usize, Phase)| JobRecord {
        name: format!("pages-{number}"),
        plan: plans()[number % 4].clone(),
        target: (number % 2 == 0).then(|| Target { class: "wiki.Page".into(), version: 3, gate: number % 4 == 0 }),
        settings: if number % 2 == 0 { settings() } else { Settings::default() },
        phase,
        pause: (number % 3 == 0).then(|| Pause { reason: "lunch".into(), until_unix_ms: 1_700_000_000_000 }),
        reason: if phase == Phase::Failed { "no room".into() } else { String::new() },
        snapshot: 0x040d_370e_2f1e_476e,
        planned: 0x040d_370e_0000_0001,
        started: 0x040d_370e_0000_0002,
        ended: 0,
        total: 19_610,
        ranges: 4,
        certificate: (phase == Phase::Done).then_some(Certificate {
            tid: 0x040d_370e_0000_0009,
            gate_tid: 0x040d_370e_0000_0008,
            objects: 19_610,
            changed: 19_600,
            verified: 19_609,
            duration_ms: 4100,
        }),
        step: if number == 0 { String::new() } else { "to version 3".into() },
        beside: number % 2 == 1,
    };
    phases.into_iter().enumerate().map(job).collect()
}

/// One range for each part and each cursor.
pub(super) fn ranges() -> Vec<RangeRecord> {
    let parts = [
        (Part::Objects { after: 1, last: 1 << 50 }, Cursor::Oid(77)),
        (Part::Entries { from: b"a".to_vec(), to: Vec::new() }, Cursor::Key(b"ab".to_vec())),
        (Part::Lists { first: 2, end: 400 }, Cursor::Listed(1000)),
        (Part::Finish, Cursor::Start),
        (Part::Undo, Cursor::Before(0x040d_370e_0000_0003)),
    ];
    let range = |(number, (part, cursor)): (usize, (Part, Cursor))| RangeRecord {
        part,
        cursor,
        total: 4864,
        counts: Counts {
            done: 1,
            changed: 200,
            kept: 3,
            found_done: 4,
            bad: 6,
            healed: 5,
            put_off: 7,
            stepped_again: 8,
            chunks: 9,
        },
        finished: number % 2 == 1,
        holder: "vm:28048/1".into(),
        nonce: u64::MAX - 3,
        beat: 130,
        deferred: vec![(9, Vec::new()), (10, b"key".to_vec())],
        pass: 2,
        rate: 4321.5,
        waits_for: "live p99".into(),
    };
    parts.into_iter().enumerate().map(range).collect()
}

pub(super) fn bad() -> Bad {
    Bad {
        oid: 7,
        key: b"k".to_vec(),
        class: "wiki.Page".into(),
        version: 2,
        tid: 0x040d_370e_0000_0004,
        error: "no title".into(),
    }
}

pub(super) fn not_undone() -> NotUndone {
    NotUndone { tid: 0x040d_370e_0000_0005, cells: vec![(7, Vec::new()), (8, b"k".to_vec())], reason: "edited".into() }
}

pub(super) fn list() -> ListRecord {
    ListRecord { oids: vec![1, 128, 1 << 60] }
}

pub(super) fn owed() -> Owed {
    Owed { chunk: 0x040d_370e_0000_0006, oid: 7, key: b"k".to_vec(), stands: true }
}

pub(super) fn keys() -> KeysRecord {
    KeysRecord { keys: vec![b"a".to_vec(), vec![0, 255]] }
}

pub(super) fn course() -> CourseRecord {
    let sample = CourseSample {
        tid: 0x040d_370e_0000_0007,
        counts: ranges()[0].counts,
        live_p99_us: 40_000,
        quiet_p99_us: 20_000,
        live_rate: 55.5,
        conflict_rate: 0.25,
        why: "live p99".into(),
    };
    CourseRecord { every_ms: 2000, samples: vec![CourseSample::default(), sample] }
}
