//! What a server takes for each thing that it keeps, measured on the process: the constants of docs/capacity.md, each below a bound.

use crate::served::Served;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;
use zeolite_client::{Cell, Db, Options, Record};

const SESSIONS: usize = 300;
const PINS: usize = 1000;
const PREPARED: usize = 300;

fn resident(served: &Served) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.pid())).expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("told");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_each_session_pin_and_prepared_draft_is_what_the_page_says() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start_with(
        dir.path(),
        &["engine.pins_max=20000", "sessions.connection_share_percent=100", "sessions.sessions_max=2000"],
    );
    let idle = resident(&served);
    let options = || Options::new().cache_bytes(0);
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Db::connect_with(&served.address, options()).await.expect("connects"));
    }
    let with_sessions = resident(&served);
    let db = &sessions[0];
    let cell = Cell::object(db.new_oid().await.expect("an oid"));
    db.run(async |tx| tx.put(cell.clone(), &Record::new("Thing", 1, "x"))).await.expect("commits");
    let before = resident(&served);
    let mut pins = Vec::new();
    for _ in 0..PINS {
        pins.push(db.pin().await.expect("pins"));
    }
    let with_pins = resident(&served);
    let mut prepared = Vec::new();
    for _ in 0..PREPARED {
        let tx = db.begin().await.expect("begins");
        tx.put(Cell::object(db.new_oid().await.expect("an oid")), &Record::new("Thing", 1, vec![1; 100]))
            .expect("encodes");
        prepared.push(tx.prepare(Duration::from_secs(60)).await.expect("prepares"));
    }
    let with_prepared = resident(&served);
    let each = |after: f64, before: f64, count: usize| (after - before).max(0.0) / count as f64;
    let (session, pin) = (each(with_sessions, idle, SESSIONS), each(with_pins, before, PINS));
    let draft = each(with_prepared, with_pins, PREPARED);
    println!(
        "idle {:.1} MiB; each session {:.0} KiB, each pin {pin:.0} B, each prepared draft of one object of 100 bytes {draft:.0} B",
        idle / 1_048_576.0,
        session / 1024.0
    );
    assert!(idle < 128e6 && session < 100e3 && pin < 1000.0 && draft < 10e3);
}
